"""Decides whether the promises held, from git's refs, the simulators' logs or the delivery outcomes."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.refs import Ref
from tests.chaos.team import SHORT, TTL, Move

SOMEBODY = "somebody"  # the user in AWS who acts outside deployer
OUTCOMES = {"deployed", "deleted", "superseded", "skipped", "ignored", "failed", "dead-lettered", "resynced"}
MUTATING = {
    "CreateStack", "UpdateStack", "DeleteStack", "ContinueUpdateRollback", "StartPipelineExecution",
    "StopPipelineExecution", "DeleteObjects",
}  # fmt: skip
_LEAD = TTL / 4  # how long before the expiry deployer warns
_IDLE_LIMIT = TTL + 20.0  # seconds within which deployer warns of an idle branch, whatever faults happen
_GOING = 40.0  # seconds after a deletion within which the teardown may still begin
# seconds between the sending of a call and its time in the log of a busy AWS; a struck worker sends nothing later
_NOTED_LATE = 1.0


@dataclass(frozen=True)
class Violation:
    """A broken promise, with the records that show it in the order of time.

    Attributes:
        about: the environment or repository; other violations about it most likely have the same cause. Empty if no
            other violation can have the same cause.
        also: the other violations about it, in words.
        promises: the promises that all of them break.
    """

    promise: str
    what: str
    timeline: Sequence[tuple[float, str]] = ()
    about: str = ""
    also: Sequence[str] = ()
    promises: Sequence[str] = ()


@dataclass(frozen=True)
class Wound:
    """A worker was killed, stopped or restarted; or Redis or the machine paused, which affects all workers.

    Attributes:
        worker: its mark in the user agent of its calls to AWS; empty for all workers.
        since, until: epoch seconds between which it was affected, or woke up.
    """

    worker: str
    since: float
    until: float

    def affected(self, call: Mapping[str, Any], since: float, until: float) -> bool:
        """Whether it affected the worker that made a call, between two times."""
        return self.worker in {"", _worker_mark(call)} and self.since <= until and since <= self.until


@dataclass(frozen=True)
class Life:
    """The changes of one repository.

    Attributes:
        names: all its names, the present one last.
        default: its present default branch.
        moved_default: whether another branch was the default branch before.
    """

    names: Sequence[str]
    default: str = "refs/heads/main"
    moved_default: bool = False


@dataclass
class Records:
    """Everything that is known from outside deployer.

    Attributes:
        moves: the pushes, in order.
        lives: the changes of each repository.
        refs: git's refs at the end: repository (by its last name) to ref to commit.
        deliveries: GitHub's attempts: `guid`, `repository`, `event`, `ref`, `code`, `outcome`, `at`.
        events: ids and types of AWS's acknowledged events.
        ledger: the outcome, the reason and the time of each delivery or event.
        calls: AWS's log of calls.
        executions: AWS's log of executions, in the order of their start.
        stacks: stacks at the end, by name.
        gone: `id` and `name` of stacks that were deleted.
        statuses: GitHub's log of commit statuses.
        wounds: interruptions of workers; a call that a worker had sent continues at AWS.
        wakes: when a stopped worker woke up; it then sends the call that it was about to send.
        mended: when drifted environments were deployed again (which runs their commit once more), or 0.
        wiped: when Redis was wiped (earlier deliveries are lost), or 0.
    """

    moves: Sequence[Move]
    lives: Sequence[Life]
    refs: Mapping[str, Mapping[str, str]]
    deliveries: Sequence[Mapping[str, Any]]
    events: Sequence[tuple[str, str]]
    ledger: Mapping[str, Mapping[str, Any]]
    calls: Sequence[Mapping[str, Any]]
    executions: Sequence[Mapping[str, Any]]
    stacks: Mapping[str, Mapping[str, Any]]
    gone: Sequence[Mapping[str, Any]]
    statuses: Sequence[Mapping[str, Any]]
    wounds: Sequence[Wound] = ()
    wakes: Sequence[Wound] = ()
    wiped: float = 0
    mended: float = 0
    names: dict[str, Environment] = field(init=False)
    ended: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self._lives = {name: life for life in self.lives for name in life.names}
        moved = {(self.first_name(move.repository), move.ref) for move in self.moves}
        found = [
            Environment.of_ref(Repository.parse(name), Ref.parse(ref), default)
            for first, ref in moved
            for name in self._lives[first].names
            for default in (
                "",
                ref.removeprefix("refs/heads/"),
            )  # a branch may have been the default branch for a while
        ]
        self.names = {each.stack_name: each for each in found}

    def first_name(self, name: str) -> str:
        """The first name of the repository that has or had this name."""
        return self._lives[name].names[0]

    def life_of(self, owner: Environment) -> Life:
        """The changes of an environment's repository."""
        return self._lives[owner.repository.full_name]

    @property
    def known_names(self) -> frozenset[str]:
        """Every name that a repository has or had."""
        return frozenset(self._lives)

    def life_names(self, name: str) -> Sequence[str]:
        """All names of the repository that has or had this name, the present one last."""
        return self._lives[name].names

    def was_renamed(self, owner: Environment) -> bool:
        """Whether its repository has another name now."""
        return owner.repository.full_name != self.life_of(owner).names[-1]

    def environment_of(self, repository: str, ref: str) -> Environment:
        """The environment that a ref deploys at the end."""
        default = self._lives[repository].default.removeprefix("refs/heads/")
        return Environment.of_ref(Repository.parse(repository), Ref.parse(ref), default)


def started_by_deployer(execution: Mapping[str, Any]) -> bool:
    """Whether deployer started an execution, and neither AWS by itself nor somebody else."""
    requested = execution["trigger"] == "StartPipelineExecution"
    return requested and not str(execution["trigger_detail"]).endswith(f"/{SOMEBODY}")


def violations(records: Records) -> list[Violation]:
    """Every broken promise that the records show, one violation for each cause."""
    return by_cause(
        [
            *one_outcome(records),
            *no_overlap(records),
            *nothing_twice_or_late(records),
            *state_as_desired(records),
            *nothing_left_or_lost(records),
            *expiry_is_announced(records),
        ]
    )


def by_cause(found: Sequence[Violation]) -> list[Violation]:
    """The violations, with those about one environment or repository combined.

    A stuck push breaks several promises: its delivery has no outcome, its pipeline does not exist, its commit is not
    deployed. The first violation, in the order of the checks, is closest to the cause.
    """
    groups: dict[str, list[Violation]] = {}
    for number, each in enumerate(found):
        groups.setdefault(each.about or f"#{number}", []).append(each)
    return [
        replace(
            first,
            also=[f"{each.promise}: {each.what}" for each in rest],
            promises=list(dict.fromkeys(each.promise for each in (first, *rest))),
        )
        for first, *rest in groups.values()
    ]


def one_outcome(records: Records) -> Iterable[Violation]:
    """Every acknowledged delivery (202) and every acknowledged event of AWS has exactly one outcome."""
    acknowledged = [
        (
            each["guid"],
            f"delivery {each['guid']} of {each['repository']} {each['ref']}",
            each["at"],
            _subject(records, each),
        )
        for each in records.deliveries
        if each["code"] == 202 and each["at"] > records.wiped
    ]
    if not records.wiped:  # the simulator's log of events has no times
        acknowledged += [(id_, f"event {id_}, {kind}", 0.0, "events of AWS") for id_, kind in records.events]
    for identity, name, at, about in acknowledged:
        outcome = records.ledger.get(identity, {}).get("outcome", "none")
        if outcome not in OUTCOMES:
            what = f"{name} was acknowledged; its outcome: {outcome}"
            timeline = [(at, "202")] if at else []
            yield Violation("every acknowledged delivery has an outcome", what, timeline, about)


def _subject(records: Records, delivery: Mapping[str, Any]) -> str:
    """The environment of a delivery, or its repository if the delivery has no ref."""
    name, ref = str(delivery["repository"]), str(delivery["ref"] or "")
    if name not in records.known_names or not ref.startswith("refs/"):
        return name
    return str(records.environment_of(records.life_names(name)[-1], ref))


def no_overlap(records: Records) -> Iterable[Violation]:
    """No two steps of one repository overlap, except for calls that an interrupted worker had already sent."""
    lanes = defaultdict(list)
    for call in records.calls:
        is_step = call["operation"] in MUTATING and "deployer" in call["user_agent"]
        if is_step and (owner := _environment_of_stack(records, call["name"])):
            lanes[owner.repository.key].append(call)
    for name, calls in lanes.items():
        under_way: list[Mapping[str, Any]] = []
        calls.sort(key=lambda call: call["time"])
        waking = _on_waking(records, calls)
        for call in calls:
            under_way = [each for each in under_way if call["time"] < each["time"] + each["seconds"]]
            for earlier in under_way:
                end = earlier["time"] + earlier["seconds"]
                span = earlier["time"] - _NOTED_LATE, end
                excused = id(call) in waking or id(earlier) in waking
                if not excused and not any(each.affected(earlier, *span) for each in records.wounds):
                    what = f"two simultaneous calls for {name}"
                    timeline = [
                        _call_entry(earlier),
                        _call_entry(call),
                        *_struck_near(records, earlier["time"], end),
                    ]
                    yield Violation("the steps of a repository never overlap", what, sorted(timeline), name)
            under_way.append(call)


def _on_waking(records: Records, calls: Sequence[Mapping[str, Any]]) -> set[int]:
    """The ids of calls that a stopped worker was about to send when it stopped: one for each waking.

    Before that call the worker had checked its lease; before any later call it has to check again.
    """
    return {
        id(first)
        for wake in records.wakes
        if (first := next((each for each in calls if wake.affected(each, wake.until, each["time"])), None))
        and first["time"] < wake.until + _NOTED_LATE
    }


def _struck_near(records: Records, since: float, until: float) -> list[tuple[float, str]]:
    """The interruptions shortly before or during a span of time, which most likely include the cause."""
    near = [
        (
            each.since,
            f"{what} {each.worker or 'Redis, and so all'} until {each.until - each.since:.3f} s later",
        )
        for what, every in (("struck", records.wounds), ("woke", records.wakes))
        for each in every
        if each.until > since - 5 and each.since < until
    ]
    return sorted(near)


def nothing_twice_or_late(records: Records) -> Iterable[Violation]:
    """No commit of an environment runs twice, and none runs after a newer one."""
    order: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for number, move in enumerate(records.moves):
        if move.sha:
            order[records.first_name(move.repository), move.ref].setdefault(move.sha, number)
    pipelines = defaultdict(list)
    for each in records.executions:
        if not started_by_deployer(each):
            continue  # deployer does not report it as a deployment
        pipelines[each["pipeline"], each["pipeline_created"]].append(each)
    for (name, _), every in pipelines.items():
        owner = records.names.get(name)
        if owner is None:
            continue
        timeline = [_execution_entry(each) for each in every]
        started = [each for each in every if not 0 < records.mended < _execution_entry(each)[0]]
        if owner.kind is Kind.PRODUCTION:
            yield from _tags_in_order(records, owner, started)
            continue
        if owner.kind is Kind.STAGING and records.life_of(owner).moved_default:
            continue  # the default branch changed, and may have changed back
        ref = owner.branch.name if owner.branch else records.life_of(owner).default
        known = order[records.first_name(owner.repository.full_name), ref]
        seen: dict[str, Mapping[str, Any]] = {}
        for each in started:
            sha = each["pinned"] or each["sha"]
            if sha in seen and seen[sha]["status"] not in {"Stopped", "Cancelled", "Superseded", "Failed"}:
                yield Violation("no commit runs twice", f"{owner} ran {sha} twice", timeline, str(owner))
            seen[sha] = each
        numbers = [known[sha] for each in started if (sha := each["pinned"] or each["sha"]) in known]
        if numbers != sorted(numbers):
            yield Violation(
                "no older commit runs after a newer one", f"{owner} ran an older commit", timeline, str(owner)
            )


def _tags_in_order(
    records: Records, owner: Environment, started: Sequence[Mapping[str, Any]]
) -> Iterable[Violation]:
    """No tag is deployed after a tag that was pushed at least a second later, instead of a newer one, or twice."""
    pushed = _acknowledged_tags(records, owner.repository.full_name)
    runs = [
        each for each in started if each["pinned"] in pushed and _execution_entry(each)[0] > records.wiped
    ]
    timeline = sorted([*_tag_timeline(records, owner.repository.full_name), *map(_execution_entry, runs)])
    for sha, times in Counter(each["pinned"] for each in runs).items():
        if times > len(pushed[sha]):
            yield Violation(
                "no tag is deployed twice", f"{owner} ran {sha} {times} times", timeline, str(owner)
            )
    for first, second in pairwise(runs):
        if max(pushed[second["pinned"]].values()) < min(pushed[first["pinned"]].values()):
            what = f"{owner} went back to {second['pinned']}"
            yield Violation("no older tag is deployed after a newer one", what, timeline, str(owner))
    # the last deployed tag must be as new as the newest tag with a delivery
    newest = max((max(times.values()) for times in pushed.values()), default=0)
    last = bool(runs) and not records.wiped and not records.was_renamed(owner)
    if last and max(pushed[runs[-1]["pinned"]].values()) < newest:
        what = f"{owner} ended with {runs[-1]['pinned']}"
        yield Violation("the newest tag is deployed", what, timeline, str(owner))


def _acknowledged_tags(records: Records, repository: str) -> dict[str, dict[str, float]]:
    """The tags with an acknowledged delivery by commit, each with the second of its push."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for each in records.deliveries:
        is_tag = each["repository"] == repository and str(each["ref"]).startswith("refs/tags/")
        if is_tag and each["code"] == 202 and each["at"] > records.wiped:
            found[each["after"]][each["ref"]] = each["pushed_at"]
    return found


def _tag_timeline(records: Records, repository: str) -> list[tuple[float, str]]:
    return [
        (each["at"], f"{each['ref']} at {each['after'][:12]}, pushed at {each['pushed_at']}: {each['code']}")
        for each in records.deliveries
        if each["repository"] == repository and str(each["ref"]).startswith("refs/tags/")
    ]


def state_as_desired(records: Records) -> Iterable[Violation]:
    """Every ref has its stack at its commit."""
    newest = {each["pipeline"]: each for each in records.executions if started_by_deployer(each)}
    for repository, refs in records.refs.items():
        tags = {sha for ref, sha in refs.items() if ref.startswith("refs/tags/")}
        for ref, sha in refs.items():
            owner = records.environment_of(repository, ref)
            wanted = tags if owner.kind is Kind.PRODUCTION else {sha}
            stack, ran = records.stacks.get(owner.stack_name), newest.get(owner.stack_name)
            if owner.kind is Kind.PRODUCTION and not _acknowledged_tags(records, repository):
                continue  # a resync does not choose a tag for production
            timeline = [*_push_timeline(records, repository, ref), *([_execution_entry(ran)] if ran else [])]
            if owner.branch and ref.startswith(SHORT) and _is_going(stack):
                continue  # `expiry_is_announced` checks idle branches
            if stack is None or not stack["status"].endswith("_COMPLETE") or "ROLLBACK" in stack["status"]:
                state = stack["status"] if stack else "missing"
                what = f"{owner} ({owner.stack_name}) is {state}"
                yield Violation("every ref has its pipeline", what, timeline, str(owner))
            elif ran is None or (ran["pinned"] or ran["sha"]) not in wanted or ran["status"] != "Succeeded":
                found = f"{ran['status']} at {ran['pinned'] or ran['sha']}" if ran else "nothing ran"
                what = f"{owner} should be at {sha}; {found}"
                yield Violation("every ref is deployed", what, timeline, str(owner))


def nothing_left_or_lost(records: Records) -> Iterable[Violation]:
    """No stack exists without a ref; staging and production are never deleted."""
    wanted = {
        records.environment_of(repository, ref).stack_name
        for repository, refs in records.refs.items()
        for ref in refs
    }
    for name, stack in records.stacks.items():
        owner = records.names.get(name)
        if owner is None or name in wanted:
            continue
        if owner.kind is not Kind.DEVELOPMENT and records.was_renamed(owner):
            continue  # a person has to delete it
        timeline = _push_timeline(
            records, owner.repository.full_name, owner.branch.name if owner.branch else ""
        )
        what = f"{owner} ({name}) is {stack['status']}"
        yield Violation("no stack is left without a ref", what, timeline, str(owner))
    for stack in records.gone:
        gone = records.names.get(stack["name"])
        if gone and gone.kind is not Kind.DEVELOPMENT:
            yield Violation(
                "only development environments are deleted", f"{gone} was deleted", about=str(gone)
            )


def expiry_is_announced(records: Records) -> Iterable[Violation]:
    """No idle environment is deleted before its time or without a warning, and each idle one gets a warning."""
    warned: dict[str, float] = {}
    for each in records.statuses:
        if each["context"] == "deployer/age" and "will be taken down" in each["description"]:
            warned.setdefault(each["sha"], datetime.fromisoformat(each["created_at"]).timestamp())
    moves: dict[Environment, list[Move]] = {}
    for owner in records.names.values():
        ref = owner.branch.name if owner.branch else ""
        if ref.startswith(SHORT):
            first = records.first_name(owner.repository.full_name)
            mine = [m for m in records.moves if (records.first_name(m.repository), m.ref) == (first, ref)]
            moves[owner] = mine
    for call in records.calls:
        owner_, at = _environment_of_stack(records, call["name"]), call["time"]
        if call["operation"] != "DeleteStack" or owner_ not in moves or records.was_renamed(owner_):
            continue
        before = [move for move in moves[owner_] if move.at <= at]
        if any(not move.sha and move.at > at - _GOING for move in before) or not (before and before[-1].sha):
            continue  # the branch was deleted
        if not any(warned.get(move.sha, at) <= at - _LEAD + 1 for move in before):
            pushes = [(m.at, f"pushed {m.sha[:12] or 'a deletion'}") for m in before[-3:]]
            timeline = [
                *pushes,
                *((warned[m.sha], "warned") for m in before[-3:] if m.sha in warned),
                _call_entry(call),
            ]
            yield Violation(
                "no environment expires without a warning", str(owner_), sorted(timeline), str(owner_)
            )
    gone = {each["name"] for each in records.gone}
    for owner, mine in moves.items():
        name = owner.stack_name
        runs = [each for each in records.executions if each["pipeline"] == name]
        ref = owner.branch.name if owner.branch else ""
        # A redelivered push counts as use from its outcome on, because it may wait until GitHub's API has caught up.
        pushed = [
            max(d["at"], records.ledger.get(d["guid"], {}).get("at", 0))
            for d in records.deliveries
            if (d["repository"], d["ref"]) == (owner.repository.full_name, ref)
        ]
        used = max([_execution_entry(runs[-1])[0], *pushed]) if runs else 0.0
        idle = bool(runs) and records.ended - used > _IDLE_LIMIT and not records.wiped
        if idle and name in records.stacks and name not in gone and not any(m.sha in warned for m in mine):
            yield Violation(
                "an idle environment gets a warning", str(owner), [_execution_entry(runs[-1])], str(owner)
            )


def _is_going(stack: Mapping[str, Any] | None) -> bool:
    return stack is None or stack["status"] == "DELETE_IN_PROGRESS"


def _push_timeline(records: Records, repository: str, ref: str) -> list[tuple[float, str]]:
    moves = [m for m in records.moves if (m.repository, m.ref) == (repository, ref)][-3:]
    entries = [(m.at, f"pushed {m.sha[:12] or 'a deletion'}") for m in moves]
    sent = [d for d in records.deliveries if (d["repository"], d["ref"]) == (repository, ref)][-4:]
    for each in sent:
        ended = records.ledger.get(each["guid"], {})
        what = f"{each['code']}, {ended.get('outcome')}: {ended.get('reason')}"
        entries.append((each["at"], f"delivery {each['guid']}: {what}"))
    return sorted(entries)


def _environment_of_stack(records: Records, name: str | None) -> Environment | None:
    text = str(name)
    if text.startswith("arn:"):
        text = text.split("/")[1]
    return records.names.get(text)


def _call_entry(call: Mapping[str, Any]) -> tuple[float, str]:
    what = f"{call['operation']} {call['name']} {call['token']} {call['code']} for {call['seconds']:.2f} s"
    return call["time"], f"{what} by {_worker_mark(call)}"


def _worker_mark(call: Mapping[str, Any]) -> str:
    """The mark of the worker in the user agent of a call."""
    return str(call["user_agent"]).partition("app/")[2].partition(" ")[0]


def _execution_entry(each: Mapping[str, Any]) -> tuple[float, str]:
    at = datetime.fromisoformat(each["start"]).timestamp()
    return at, f"{each['trigger']} {(each['pinned'] or each['sha'] or '?')[:12]} {each['status']}"
