"""Counts the calls to GitHub and AWS of each task, and limits those to GitHub for the sake of other repositories."""

import random
from typing import Protocol

from deployer.model.environments import Kind, Repository
from deployer.model.records import Cause, Work
from deployer.queue.call_counter import Tally

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


def call_counters(tally: Tally) -> dict[str, int]:
    """The counters that a task's calls add to, each with what it grows by.

    They are stored together with the task's result, so no call is counted twice. Those of a lost worker are not known.

    Args:
        tally: the calls of this task.
    """
    counts = {
        "calls:aws": tally.aws,
        "calls:github": tally.github,
        "calls:aws_stages": tally.aws_stages,
        "calls:github_stages": tally.github_stages,
    }
    return {name: number for name, number in counts.items() if number}
