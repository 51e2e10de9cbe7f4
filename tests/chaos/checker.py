"""Decides from independent records whether the promises held: git's refs, the simulators' logs, the ledger."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from deployer.environments import Environment, Kind, Repository
from deployer.refs import Ref
from tests.chaos.team import Move

OUTCOMES = {"deployed", "deleted", "superseded", "skipped", "ignored", "failed", "dead-lettered"}
MUTATING = {
    "CreateStack", "UpdateStack", "DeleteStack", "ContinueUpdateRollback", "StartPipelineExecution",
    "StopPipelineExecution", "DeleteObjects",
}  # fmt: skip
_MAIN = "refs/heads/main"
_MOMENT = 0.05  # seconds between a worker's last look at its lane and its call to AWS


@dataclass(frozen=True)
class Violation:
    """A broken promise, and the records that show it, in the order of time."""

    promise: str
    what: str
    timeline: Sequence[tuple[float, str]] = ()


@dataclass
class Records:
    """All that is known from outside.

    Attributes:
        moves: what was pushed, in its order.
        refs: what git holds at the end: repository to ref to commit.
        deliveries: GitHub's attempts: `guid`, `repository`, `event`, `ref`, `code`, `outcome`, `at`.
        ledger: delivery to its record, as the API tells it.
        calls: AWS's log of calls.
        executions: AWS's log of executions, in the order of their start.
        stacks: stacks at the end, by name.
        gone: `id` and `name` of stacks that were deleted.
        wounds: when a worker or Redis was killed, or a worker stopped: a call that was under way goes on at AWS.
        wakes: when a stopped worker woke up: a call that it was about to send goes out then.
    """

    moves: Sequence[Move]
    refs: Mapping[str, Mapping[str, str]]
    deliveries: Sequence[Mapping[str, Any]]
    ledger: Mapping[str, Mapping[str, Any]]
    calls: Sequence[Mapping[str, Any]]
    executions: Sequence[Mapping[str, Any]]
    stacks: Mapping[str, Mapping[str, Any]]
    gone: Sequence[Mapping[str, Any]]
    wounds: Sequence[float] = ()
    wakes: Sequence[float] = ()
    names: dict[str, Environment] = field(init=False)

    def __post_init__(self) -> None:
        refs = {(move.repository, move.ref) for move in self.moves}
        found = [environment(repository, ref) for repository, ref in refs]
        self.names = {each.stack_name: each for each in found}


def environment(repository: str, ref: str) -> Environment:
    """The environment that a ref drives."""
    return Environment.of_ref(Repository.parse(repository), Ref.parse(ref), "main")


def violations(records: Records) -> list[Violation]:
    """Every broken promise that the records show."""
    return [
        *one_outcome(records),
        *no_overlap(records),
        *nothing_twice_or_late(records),
        *state_as_desired(records),
        *nothing_left_or_lost(records),
    ]


def one_outcome(records: Records) -> Iterable[Violation]:
    """Every delivery that got 202 has exactly one outcome."""
    for each in records.deliveries:
        if each["code"] != 202:
            continue
        found = records.ledger.get(each["guid"])
        outcome = found["outcome"] if found else "none"
        if outcome not in OUTCOMES:
            name = f"delivery {each['guid']} of {each['repository']} {each['ref']}"
            told = f"{name} was acknowledged; its outcome: {outcome}"
            yield Violation(
                "every acknowledged delivery has an outcome", told, [(each["at"], f"202 {each['outcome']}")]
            )


def no_overlap(records: Records) -> Iterable[Violation]:
    """No two steps of one repository overlapped, but for what a killed or stopped worker had already sent."""
    lanes = defaultdict(list)
    for call in records.calls:
        if call["operation"] in MUTATING and (owner := _owner(records, call["name"])):
            lanes[owner.repository.key].append(call)
    for name, calls in lanes.items():
        for first, second in pairwise(sorted(calls, key=lambda call: call["time"])):
            end = first["time"] + first["seconds"]
            sent_before = any(first["time"] - _MOMENT <= at <= end for at in records.wounds)
            sent_on_waking = any(0 <= second["time"] - at <= _MOMENT for at in records.wakes)
            if second["time"] < end and not (sent_before or sent_on_waking):
                yield Violation(
                    "the steps of a repository never overlap",
                    f"two calls of {name} at once",
                    [_told(first), _told(second)],
                )


def nothing_twice_or_late(records: Records) -> Iterable[Violation]:
    """No commit of an environment ran twice, and none after a newer one."""
    order: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for number, move in enumerate(records.moves):
        if move.sha:
            order[move.repository, move.ref].setdefault(move.sha, number)
    pipelines = defaultdict(list)
    for each in records.executions:
        automatic = each["trigger"] == "CreatePipeline"
        if automatic and each["status"] in {"Stopped", "Stopping", "Cancelled"}:
            continue  # AWS starts one by itself, at whatever the branch's head is; it was stopped
        pipelines[each["pipeline"], each["pipeline_created"]].append(each)
    for (name, _), started in pipelines.items():
        owner = records.names.get(name)
        if owner is None:
            continue
        timeline = [_ran(each) for each in started]
        ref = owner.branch.name if owner.branch else _MAIN
        known = order[owner.repository.full_name, ref]
        executions = started[1:] if _ran_ahead(records, started, known) else started
        seen: dict[str, Mapping[str, Any]] = {}
        for each in executions:
            sha = each["pinned"] or each["sha"]
            if sha in seen and seen[sha]["status"] not in {"Stopped", "Cancelled", "Superseded", "Failed"}:
                yield Violation("no commit runs twice", f"{owner} ran {sha} twice", timeline)
            seen[sha] = each
        if owner.kind is Kind.PRODUCTION:
            continue  # which tag came last is told by the deliveries, in whatever order they came
        numbers = [known[sha] for each in executions if (sha := each["pinned"] or each["sha"]) in known]
        if numbers != sorted(numbers):
            yield Violation("no older commit runs after a newer one", f"{owner} went backwards", timeline)


def _ran_ahead(records: Records, executions: Sequence[Mapping[str, Any]], order: Mapping[str, int]) -> bool:
    """Whether the execution that AWS starts with a pipeline built what was pushed after the commit wanted then.

    It builds whatever the branch's head is by then. Where that is not the wanted commit it is stopped, which may come
    too late, and the wanted one is started; when its own push is told of, the template may have to be brought to it
    first, and it runs anew with that.
    """
    if len(executions) < 2 or executions[0]["trigger"] != "CreatePipeline":
        return False
    built, wanted = executions[0]["sha"], executions[1]["pinned"]
    if built == wanted:
        start, end = _ran(executions[0])[0], _ran(executions[1])[0]
        named = {"UpdateStack": executions[0]["pipeline"]}
        return any(named.get(c["operation"]) == c["name"] and start < c["time"] < end for c in records.calls)
    return order.get(built, 0) >= order.get(wanted, 0)


def state_as_desired(records: Records) -> Iterable[Violation]:
    """Every ref has its stack, at its commit."""
    newest = {each["pipeline"]: each for each in records.executions}
    for repository, refs in records.refs.items():
        tags = {sha for ref, sha in refs.items() if ref.startswith("refs/tags/")}
        for ref, sha in refs.items():
            owner = environment(repository, ref)
            wanted = tags if owner.kind is Kind.PRODUCTION else {sha}
            stack, ran = records.stacks.get(owner.stack_name), newest.get(owner.stack_name)
            if owner.kind is Kind.PRODUCTION and not _acknowledged(records, repository):
                continue  # a resync never guesses which tag should be live
            told = [*_history(records, repository, ref), *([_ran(ran)] if ran else [])]
            if stack is None or not stack["status"].endswith("_COMPLETE") or "ROLLBACK" in stack["status"]:
                state = stack["status"] if stack else "not there"
                yield Violation(
                    "every ref has its pipeline", f"{owner} ({owner.stack_name}) is {state}", told
                )
            elif ran is None or (ran["pinned"] or ran["sha"]) not in wanted or ran["status"] != "Succeeded":
                found = f"{ran['status']} at {ran['pinned'] or ran['sha']}" if ran else "nothing ran"
                yield Violation("every ref is deployed", f"{owner} should be at {sha}; {found}", told)


def nothing_left_or_lost(records: Records) -> Iterable[Violation]:
    """No stack without a ref; staging and production were never deleted."""
    wanted = {
        environment(repository, ref).stack_name for repository, refs in records.refs.items() for ref in refs
    }
    for name, stack in records.stacks.items():
        if name in records.names and name not in wanted:
            owner = records.names[name]
            told = _history(records, owner.repository.full_name, owner.branch.name if owner.branch else "")
            yield Violation("no stack is left without a ref", f"{owner} ({name}) is {stack['status']}", told)
    for stack in records.gone:
        gone = records.names.get(stack["name"])
        if gone and gone.kind is not Kind.DEVELOPMENT:
            yield Violation("only development is ever deleted", f"{gone} was deleted")


def _acknowledged(records: Records, repository: str) -> bool:
    return any(
        each["code"] == 202 and each["repository"] == repository and str(each["ref"]).startswith("refs/tags/")
        for each in records.deliveries
    )


def _history(records: Records, repository: str, ref: str) -> list[tuple[float, str]]:
    moves = [m for m in records.moves if (m.repository, m.ref) == (repository, ref)][-3:]
    told = [(m.at, f"pushed {m.sha[:12] or 'a deletion'}") for m in moves]
    sent = [d for d in records.deliveries if (d["repository"], d["ref"]) == (repository, ref)][-4:]
    for each in sent:
        ended = records.ledger.get(each["guid"], {})
        what = f"{each['code']}, {ended.get('outcome')}: {ended.get('reason')}"
        told.append((each["at"], f"delivery {each['guid']}: {what}"))
    return sorted(told)


def _owner(records: Records, name: str | None) -> Environment | None:
    text = str(name)
    if text.startswith("arn:"):
        text = text.split("/")[1]
    return records.names.get(text)


def _told(call: Mapping[str, Any]) -> tuple[float, str]:
    return call[
        "time"
    ], f"{call['operation']} {call['name']} {call['token']} {call['code']} for {call['seconds']:.2f} s"


def _ran(each: Mapping[str, Any]) -> tuple[float, str]:
    at = datetime.fromisoformat(each["start"]).timestamp()
    return at, f"{each['trigger']} {(each['pinned'] or each['sha'] or '?')[:12]} {each['status']}"
