"""What a task costs in calls to GitHub and AWS: counted for people, and bounded for the other repositories."""

import random
from dataclasses import replace
from typing import Protocol

from deployer.environments import Kind, Repository
from deployer.ledger import Cause, Outcome, Work
from deployer.step_results import Dead, Done, Verdict
from deployer.tally import Tally

# whoever asks for these wants something done; what only looks costs something only once it has ordered something
_ASKING = {Cause.PUSH, Cause.DELETION, Cause.REDEPLOY, Cause.TEARDOWN, Cause.AGE}
_COSTLY = {Outcome.DEPLOYED, Outcome.DELETED, Outcome.FAILED}
# what is counted -> the field of work that sums it up
_FIELDS = {
    "aws": "aws_calls",
    "github": "github_calls",
    "aws_stages": "aws_stage_calls",
    "github_stages": "github_stage_calls",
}
# calls to GitHub that one task may make. All tasks of a deployment make some ten together, most of them statuses of
# stages, of which a pipeline may have fifty; a resync reads the refs in pages of a hundred, of which there may be 500
MOST_CALLS = {False: 200, True: 700}
# seconds that work rests at least. A repository's share brings some sixteen calls a minute, which are two or three
# tasks; a thousand branches that rest must not all ask again each minute because a resync wants them
_LEAST_REST = {False: 60.0, True: 600.0}


class Allowance(Protocol):
    """How many calls to GitHub each repository may make: a share of the hour's quota that all of them have together."""

    def wait(self, repository: Repository, *, reserved: bool = False) -> float:
        """In how many seconds the repository may make its next call; 0 for now.

        Args:
            repository: which.
            reserved: whether it may use what is kept for production and for what people ask for.
        """

    def spend(self, repository: Repository, calls: int, quota: int) -> None:
        """Count calls that were made for a repository.

        Args:
            repository: which.
            calls: how many.
            quota: how many all repositories may make in an hour; 0 where GitHub names no limit, and nothing is counted.
        """


def allowance_wait(allowance: Allowance, repository: Repository, work: Work) -> float:
    """How long a repository that has used its share of GitHub's calls waits; 0 where it may go on."""
    reserved = work.environment == Kind.PRODUCTION or work.cause in {Cause.REDEPLOY, Cause.TEARDOWN}
    seconds = allowance.wait(repository, reserved=reserved)
    if not seconds:
        return 0
    # not all that rest are to ask again at the same moment
    return max(seconds, _LEAST_REST[work.cause == Cause.RESYNC]) * random.uniform(1, 1.5)  # noqa: S311  no secret


def accounted(verdict: Verdict, work: Work, tally: Tally) -> tuple[Verdict, dict[str, int]]:
    """A verdict that bears what its goal has cost so far or in the end, and what that adds to the counters.

    A task's own calls are counted with its verdict, so whatever becomes of the work they are counted once. Those of a
    worker that was lost are not known.

    Args:
        verdict: how the task ended.
        work: as it was handed out, with the calls of the goal's tasks before.
        tally: the task's own calls.
    """
    counts = {f"calls:{name}": getattr(tally, name) for name in _FIELDS}
    match verdict:
        case Done():
            if verdict.record and _has_cost(verdict, work):
                calls = {name: getattr(work, field) + getattr(tally, name) for name, field in _FIELDS.items()}
                verdict = replace(verdict, record=verdict.record.but(calls=calls))
                if verdict.outcome == Outcome.DEPLOYED:
                    counts |= {f"deployment-calls:{name}": number for name, number in calls.items()}
                    counts["deployment-calls:count"] = 1
        case Dead():
            letter = verdict.letter
            verdict = replace(
                verdict, letter=replace(letter, work=_charged(letter.arguments, tally).to_json())
            )
        case _:
            verdict = replace(verdict, work=_charged(verdict.work, tally))
    return verdict, {name: number for name, number in counts.items() if number}


def _charged(work: Work, tally: Tally) -> Work:
    return work.but(**{field: getattr(work, field) + getattr(tally, name) for name, field in _FIELDS.items()})


def _has_cost(verdict: Done, work: Work) -> bool:
    """Whether a goal was a deployment or a teardown, and not one more look at what was told before."""
    if verdict.outcome not in _COSTLY:
        return False
    ordered = work.created or work.updated or work.recovered or work.replacing or bool(work.stack_arn)
    return work.cause in _ASKING or ordered or bool(work.execution and work.cause != Cause.EVENT)
