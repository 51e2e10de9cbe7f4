"""Compares what should exist with what does, for a whole repository, and says what is to be done: pure."""

import shlex
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from deployer.environment.drift import drift
from deployer.model.environments import Environment, Kind, Repository, ref_from_tags
from deployer.model.records import EnvironmentRecord, Outcome, is_over
from deployer.model.refs import Ref, skip_reason
from deployer.model.stacks import Phase, Stack

ACTIONS = ("provision", "update", "trigger", "check", "delete")
_SETTLED = {str(Outcome.DEPLOYED), str(Outcome.FAILED), str(Outcome.SKIPPED)}
REMEMBERED_SECONDS = 30 * 86400.0  # as long as what became of a delivery
_MOVES = {Phase.BUSY, Phase.DELETING}
# what a stack that nobody is to wait for needs, where the table says more than that it stands
_MENDS = {Phase.WEDGED: "provision", Phase.UNDELETED: "provision", Phase.STUCK: "update"}


@dataclass(frozen=True, slots=True)
class Planned:
    """One environment that needs a look.

    Attributes:
        action: one of `ACTIONS`, as far as can be said without asking more: `check` is an update or a trigger,
            whichever the commit's files call for, or none.
        reason: why, in words for people.
        ref: the ref to deploy, empty for a deletion.
        due: when it is to be done (epoch seconds); 0 for at once.
        tag_object: of a tag that no webhook told of and that is to be judged, what it points to.
    """

    environment: Environment
    action: str
    reason: str
    ref: str = ""
    due: float = 0
    tag_object: str = ""


@dataclass(frozen=True, slots=True)
class Orphan:
    """An environment that has stacks, or a record, and no ref.

    Attributes:
        stacks: the pipeline's stack and those that it deployed, as far as they bear the environment's tags.
        reason: what is gone.
        mine: whether a resync removes it: it is a development environment.
    """

    environment: Environment
    stacks: tuple[Stack, ...]
    reason: str
    mine: bool


@dataclass(frozen=True, slots=True)
class Known:
    """All that a plan is made from.

    Attributes:
        default_branch: the short name of the repository's default branch.
        refs: every live branch and tag with the object it points to.
        stacks: the repository's stacks with deployer's tags; those of others are passed over.
        records: what the ledger knows of this repository.
        listed_at: when the stacks were looked at (epoch seconds). What the ledger learnt later counts more.
        missed_tag: a tag newer than what production should run, that no webhook told of; or its own if that was moved.
        regions: where the stacks of each kind were looked for; None for wherever there are any. Nothing is planned
            for a kind that is not among them.
        away: why that is so; empty where it is not.
        never_deployed: see `Seen.never_deployed`.
    """

    repository: Repository
    default_branch: str
    refs: Mapping[Ref, str]
    stacks: Iterable[Stack]
    records: Iterable[EnvironmentRecord]
    listed_at: float = float("inf")
    missed_tag: Ref | None = None
    regions: Mapping[Kind, Collection[str]] | None = None
    away: str = ""
    never_deployed: str = ""


def plan(known: Known, orphaned: Mapping[str, float], now: float, grace: float) -> list[Planned]:
    """What a resync has to do for a repository; empty if all is as it should be.

    An environment whose commit is the live one and whose end was told needs no look while its stack stands. A
    production that was never seen is not made from a guess at its tag.

    Args:
        known: what is known of the repository.
        orphaned: since when development environments have been seen without a ref, by key (epoch seconds).
        now: epoch seconds.
        grace: how long such an environment is left, in seconds.
    """
    records = {record.environment: record for record in known.records}
    standing, unknown = _standing(known), unclear(known)
    found: list[Planned] = []
    for ref in sorted(known.refs, key=lambda each: each.name):
        if ref.is_tag:
            continue
        environment = Environment.of_ref(known.repository, ref, known.default_branch)
        record = records.get(environment.key)
        stack = _stack_of(environment, record, standing)
        if environment in unknown or (stack and not stack.is_known):
            continue
        if planned := _branch(known, environment, ref, record, stack):
            found.append(planned)
    if Environment(known.repository, Kind.PRODUCTION) not in unknown:
        found += filter(None, (_production(known, records, standing), _missed(known, records)))
    for orphan in doomed(known):
        due = orphaned.get(orphan.environment.key, now) + grace
        found.append(Planned(orphan.environment, "delete", orphan.reason, due=due if due > now else 0))
    return [each for each in found if known.regions is None or each.environment.kind in known.regions]


def unclear(known: Known) -> dict[Environment, str]:
    """The environments that are left out of every plan, and why.

    One of their stacks has a status that this version of deployer does not know: whatever was planned could be wrong.
    """
    found: dict[Environment, str] = {}
    for stack in known.stacks:
        environment = None if stack.is_known else Environment.of_tags(known.repository, stack.tags)
        if environment:
            found[environment] = (
                f"{environment} is left out: its stack {stack.name} has the status {stack.status}, which this version"
                " of deployer does not know; update deployer"
            )
    return found


def _standing(known: Known) -> list[Stack]:
    return [stack for stack in known.stacks if not stack.is_gone]


def doomed(known: Known) -> list[Orphan]:
    """The orphans that a resync removes: development environments of which not all that stands was left on purpose."""
    records = {record.environment: record for record in known.records}
    return [
        each
        for each in orphans(known)
        if each.mine and not _was_left(each, records.get(each.environment.key))
    ]


def bygone(known: Known, now: float) -> list[EnvironmentRecord]:
    """The records of development environments of which nothing is left but a record that nobody asks for any more.

    A record that tells of resources which a teardown left behind is kept: nothing else does.

    Args:
        known: what is known of the repository.
        now: epoch seconds.
    """
    tagged = {ref_from_tags(stack.tags) for stack in _standing(known)}
    found = []
    for record in known.records:
        environment = Environment.from_key(known.repository, record.environment)
        branch = environment.branch
        if branch is None or not is_ended(record, min(now, known.listed_at) - REMEMBERED_SECONDS):
            continue
        if branch not in known.refs and branch.name not in tagged:
            found.append(record)
    return found


def is_ended(record: EnvironmentRecord, latest: float) -> bool:
    """Whether an environment left nothing behind and nothing has happened to it since `latest` (epoch seconds)."""
    return is_over(record) and record.updated_at <= latest and not record.receipt.get("retained")


def _stack_of(
    environment: Environment, record: EnvironmentRecord | None, standing: Iterable[Stack]
) -> Stack | None:
    """An environment's stack, by the rule of `deployment.placement`; of several that in the region on record."""
    recorded = (record.stack_name if record else "") or environment.former_stack_name
    found = [each for each in standing if each.name in {recorded, environment.stack_name}]
    found = [each for each in found if each.name == environment.stack_name or environment.owns(each.tags)]
    region = record.region if record else ""
    return min(found, key=lambda each: (each.region != region, each.name != recorded), default=None)


def _was_left(orphan: Orphan, record: EnvironmentRecord | None) -> bool:
    """Whether all that stands was left by a teardown, which said why: it is left to people."""
    left = {each["id"] for each in record.receipt.get("retained", [])} if record else set()
    return bool(orphan.stacks) and all(stack.arn in left for stack in orphan.stacks)


def orphans(known: Known) -> list[Orphan]:
    """Environments that stand without a ref, branches that are gone and production whose tag is, or that stand twice.

    Staging is none: a default branch does not go without a person's doing, and another takes its place.
    """
    records = {record.environment: record for record in known.records}
    standing, unknown = _standing(known), unclear(known)
    found: dict[str, Orphan] = {}

    def note(environment: Environment, reason: str, *stacks: Stack) -> None:
        before = found.get(environment.key)
        mine = environment.kind is Kind.DEVELOPMENT
        all_ = (*(before.stacks if before else ()), *stacks)
        found[environment.key] = Orphan(environment, all_, reason, mine)

    for stack in standing:
        name = ref_from_tags(stack.tags)
        if not name:
            continue
        environment = _of_stack(known, stack, name)
        record = records.get(environment.key) if environment else None
        if (
            not environment
            or environment in unknown
            or (record and record.updated_at > known.listed_at and record.state == "deleted")
        ):
            continue
        if environment.kind is Kind.PRODUCTION and record and record.ref:
            # the stack's own is the tag that changed it last: later ones may only have started it
            name = record.ref
        if reason := _without_ref(known, environment, Ref.parse(name)):
            note(environment, reason, stack)
        elif stack.name in environment.stack_names and stack != _stack_of(environment, record, standing):
            twice = (
                f"it stands in {stack.region} as {stack.name} as well; a person must delete one of the two"
            )
            found[environment.key] = Orphan(environment, (stack,), twice, mine=False)
    for record in records.values():
        environment = Environment.from_key(known.repository, record.environment)
        over = is_over(record) or environment in unknown
        if environment.branch is None or over or environment.key in found:
            continue
        if reason := _without_ref(known, environment, environment.branch):
            note(environment, reason)
    return list(found.values())


def _of_stack(known: Known, stack: Stack, ref: str) -> Environment | None:
    """Whose stack it is, if it bears every tag of an environment of this repository."""
    kind = stack.tags.get("deployer:environment")
    if kind == Kind.PRODUCTION and ref.startswith("refs/tags/"):
        environment = Environment(known.repository, Kind.PRODUCTION)
    elif kind == Kind.DEVELOPMENT and ref.startswith("refs/heads/"):
        environment = Environment(known.repository, Kind.DEVELOPMENT, Ref.parse(ref))
    else:
        return None
    return environment if environment.owns(stack.tags) else None


def _without_ref(known: Known, environment: Environment, ref: Ref) -> str:
    if ref in known.refs or (not ref.is_tag and ref.branch == known.default_branch):
        return ""
    if environment.kind is Kind.PRODUCTION:
        return f"its tag {ref.short} is gone from GitHub; only a person deletes production"
    return f"{ref.short} is gone from GitHub"


def _is_unseen(known: Known, environment: Environment, record: EnvironmentRecord | None) -> bool:
    """Whether its stack may stand where nobody looked: the settings name the region on record no longer."""
    if known.regions is None or record is None or not record.region:
        return False
    return record.region not in known.regions.get(environment.kind, ())


def _branch(
    known: Known, environment: Environment, ref: Ref, record: EnvironmentRecord | None, stack: Stack | None
) -> Planned | None:
    live, unseen = known.refs[ref], stack is None and _is_unseen(known, environment, record)
    ended = record is not None and record.commit == live and record.outcome in _SETTLED
    # another default branch may be at the very commit of the former one
    settled = record is not None and ((ended and record.ref in {"", ref.name}) or record.held_at == live)
    if settled and record:
        if record.comes_back and record.commit:
            return Planned(environment, "provision", f"{ref.short} has no pipeline any more", ref.name)
        if record.updated_at > known.listed_at or unseen:
            return None  # what the listing shows of it may be older than its end, or nobody looked
        if stack and record.state == "skipped" and not record.stack_arn and environment.owns(stack.tags):
            return Planned(environment, "check", "what it runs is not known", ref.name)
        if not record.commit:
            return None  # there is nothing to go back to
        return _settled(environment, ref, record, stack)
    if stack is None and not unseen:
        if (record and record.commit == live and _was_deleted(environment, record)) or skip_reason(ref, ""):
            return None
        return Planned(environment, "provision", f"{ref.short} has no pipeline", ref.name)
    if stack and stack.phase in _MENDS:
        return Planned(environment, _MENDS[stack.phase], f"its stack is {stack.status}", ref.name)
    why = "nothing is known of it"
    if record and record.commit:
        on_its_way = record.commit == live
        why = "it has not come to its end" if on_its_way else f"its last known commit is {record.commit[:12]}"
    same = stack is not None and stack.phase is Phase.READY and stack.tags.get("deployer:commit") == live
    action = "trigger" if same else "check"
    return Planned(environment, action, f"{ref.short} is at {live[:12]}; {why}", ref.name)


def _was_deleted(environment: Environment, record: EnvironmentRecord) -> bool:
    """Whether a person had staging or production deleted; only a push, or a person, makes them anew."""
    return environment.kind is not Kind.DEVELOPMENT and record.state == "deleted" == record.outcome


def _settled(
    environment: Environment, ref: Ref, record: EnvironmentRecord, stack: Stack | None
) -> Planned | None:
    """What an environment needs whose live commit came to its end."""
    if stack is None:
        if record.outcome != Outcome.DEPLOYED:
            return None  # skipped, or refused for a reason that only a new commit can change
        return Planned(environment, "provision", f"{ref.short} has no pipeline", ref.name)
    if stack.phase in _MOVES:
        return Planned(environment, "check", f"its stack is {stack.status}", ref.name)
    if stack.phase in _MENDS and record.outcome == Outcome.DEPLOYED:
        return Planned(environment, _MENDS[stack.phase], f"its stack is {stack.status}", ref.name)
    known_as = (record.stack_arn, record.region)
    if (stack.arn, stack.region) != known_as and record.outcome == Outcome.DEPLOYED:
        return Planned(environment, "check", "its stack is not the one on record", ref.name)
    changed = drift(stack, record.applied)
    if changed != record.drift:
        return Planned(environment, "check", changed or "its drift is gone", ref.name)
    return None


def _production(
    known: Known, records: Mapping[str, EnvironmentRecord], standing: Iterable[Stack]
) -> Planned | None:
    environment = Environment(known.repository, Kind.PRODUCTION)
    record = records.get(environment.key)
    stack = _stack_of(environment, record, standing)
    if stack and not stack.is_known:
        return None
    tag = ref_from_tags(stack.tags) if stack else None
    live = tag if tag and Ref.parse(tag) in known.refs else ""
    if record is None:
        return Planned(environment, "check", "nothing is known of it", live) if stack else None
    if stack and _is_unlearnt(environment, record, stack, live):
        return Planned(environment, "check", "what it runs is not known", live)
    if stack is None and _was_deleted(environment, record):
        return None
    if not record.ref or Ref.parse(record.ref) not in known.refs or record.updated_at > known.listed_at:
        return None
    if record.outcome not in _SETTLED and not record.held_at:
        return Planned(environment, "check", f"{record.ref} has not come to its end", record.ref)
    if stack is None and _is_unseen(known, environment, record):
        return None
    planned = _settled(environment, Ref.parse(record.ref), record, stack)
    return replace(planned, reason=f"production: {planned.reason}") if planned else None


def _missed(known: Known, records: Mapping[str, EnvironmentRecord]) -> Planned | None:
    """The tag that no webhook told of: it is judged as if it had been pushed."""
    tag, environment = known.missed_tag, Environment(known.repository, Kind.PRODUCTION)
    if tag is None:
        return None
    own = records[environment.key].ref
    what = "was moved" if tag.name == own else f"is newer than {own or 'what production should run'}"
    why = f"{tag.short} {what}, and no webhook told of it"
    return Planned(environment, "check", why, tag.name, tag_object=known.refs[tag])


def _is_unlearnt(environment: Environment, record: EnvironmentRecord, stack: Stack, live: str) -> bool:
    """Whether something came after the ledger was lost, and deployed nothing, before a resync learnt what stands.

    Of one in which nothing ran, and of which no tag tells, there is nothing to learn.
    """
    if record.commit or record.stack_arn or not environment.owns(stack.tags):
        return False
    return bool(live) or stack.phase not in _MENDS


def never_deployed_words(repository: Repository, tag: str) -> str:
    """What people are told of a tag that only they may deploy; empty where there is none.

    Args:
        repository: whose.
        tag: its full name, or empty.
    """
    if not tag:
        return ""
    redeploy = f"deployer redeploy {repository} {shlex.quote(tag)}"
    return (
        f"the newest tag {Ref.parse(tag).short} of {repository} was never deployed; to deploy it: {redeploy}"
    )
