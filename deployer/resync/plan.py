"""What the environments of a repository need, decided from a snapshot without I/O."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from deployer.environment.drift import describe_drift
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, ref_from_tags
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref, skip_reason
from deployer.model.stacks import Phase, Stack
from deployer.resync.orphans import orphans_to_delete
from deployer.resync.snapshot import RepositorySnapshot, environments_with_unknown_status, pipeline_stack

ACTIONS = ("provision", "update", "trigger", "check", "delete")
_ENDED_OUTCOMES = {str(Outcome.DEPLOYED), str(Outcome.FAILED), str(Outcome.SKIPPED)}
_CHANGING = {Phase.BUSY, Phase.DELETING}
# how to repair a stack that is broken and that no operation changes at present
_REPAIRS = {Phase.WEDGED: "provision", Phase.UNDELETED: "provision", Phase.STUCK: "update"}


@dataclass(frozen=True, slots=True)
class Planned:
    """One environment that needs work.

    Attributes:
        action: one of `ACTIONS`, as far as the snapshot tells: `check` means an update, a trigger or nothing, which
            the commit's files decide.
        reason: why, as a sentence for people.
        ref: the ref to deploy, empty for a deletion.
        due: when to do it (epoch seconds); 0 for at once.
        asked: whether a person asks for it: then it is queued as a redeployment.
        tag_object: for a missed tag, the object that the tag points to.
    """

    environment: Environment
    action: str
    reason: str
    ref: str = ""
    due: float = 0
    asked: bool = False
    tag_object: str = ""


def plan(
    snapshot: RepositorySnapshot,
    orphaned: Mapping[str, float],
    now: float,
    grace: float,
    *,
    recreate: bool = False,
) -> list[Planned]:
    """What a resync has to do for a repository; empty if everything is as it should be.

    An environment whose branch did not move and whose result was reported needs nothing while its stack exists. A
    production that has neither record nor stack is not created, because no one knows which tag it should run.

    Args:
        snapshot: what is known of the repository.
        orphaned: since when resyncs have seen environments without a ref, by key (epoch seconds).
        now: epoch seconds.
        grace: how long such an environment is kept, in seconds.
        recreate: whether to create what people deleted although its branch exists.
    """
    left_out = environments_with_unknown_status(snapshot)
    found = _plan_branches(snapshot, left_out, recreate=recreate)
    if Environment(snapshot.repository, Kind.PRODUCTION) not in left_out:
        found += filter(None, (_plan_production(snapshot), _plan_missed_tag(snapshot)))
    for orphan in orphans_to_delete(snapshot):
        due = orphaned.get(orphan.environment.key, now) + grace
        found.append(Planned(orphan.environment, "delete", orphan.reason, due=due if due > now else 0))
    listed = snapshot.regions
    return [each for each in found if listed is None or each.environment.kind in listed]


# --- branches ---------------------------------------------------------------------------------------------------------


def _plan_branches(
    snapshot: RepositorySnapshot, left_out: Collection[Environment], *, recreate: bool
) -> list[Planned]:
    records, existing = snapshot.records_by_key, snapshot.existing_stacks
    found = []
    for ref in sorted(snapshot.refs, key=lambda each: each.name):
        if ref.is_tag:
            continue
        environment = Environment.of_ref(snapshot.repository, ref, snapshot.default_branch)
        record = records.get(environment.key)
        stack = pipeline_stack(environment, record, existing)
        if environment in left_out or (stack and not stack.is_known):
            continue
        head = snapshot.refs[ref]
        if record and _is_deleted_by_person(environment, record, head, stack, recreate=recreate):
            planned = _plan_deleted(snapshot, environment, ref, record, recreate=recreate)
        else:
            planned = _plan_branch(snapshot, environment, ref, record, stack)
        found += [planned] if planned else []
    return found


def deleted_by_people(snapshot: RepositorySnapshot) -> list[Environment]:
    """The environments that a resync leaves deleted, because a person deleted them and their branch did not move."""
    records, found = snapshot.records_by_key, []
    for ref, head in snapshot.refs.items():
        environment = Environment.of_ref(snapshot.repository, ref, snapshot.default_branch)
        record = None if ref.is_tag else records.get(environment.key)
        if record and _is_deleted_by_person(environment, record, head, None, recreate=False):
            found.append(environment)
    return found


def _is_deleted_by_person(
    environment: Environment, record: EnvironmentRecord, head: str, stack: Stack | None, *, recreate: bool
) -> bool:
    """Whether a person deleted an environment and nobody has asked for it since.

    Args:
        environment: development or staging.
        record: its record.
        head: where its branch is. A branch that has moved asks for its environment again.
        stack: its stack, if that exists.
        recreate: whether to ask for the deletion alone.
    """
    if deletion := record.spec.deletion:
        # the settings or the message of a later head may have asked for no deployment
        return recreate or head in {deletion.head, record.spec.held_at}
    # version 0.1.0 recorded it of staging only, by these two fields
    is_head = recreate or record.spec.commit == head
    return is_head and stack is None and _was_deleted_by_person(environment, record)


def _plan_deleted(
    snapshot: RepositorySnapshot,
    environment: Environment,
    ref: Ref,
    record: EnvironmentRecord,
    *,
    recreate: bool,
) -> Planned | None:
    """What an environment needs that a person deleted: creation, if a person asks for it, or the deletion's end."""
    if recreate:
        return Planned(environment, "provision", "a person deleted it", ref.name, asked=True)
    is_newer = record.updated_at > snapshot.listed_at
    if is_newer or environment.branch is None or not record.status.receipt.is_running:
        return None
    return Planned(environment, "delete", "its deletion by a person has not ended")


def _plan_branch(
    snapshot: RepositorySnapshot,
    environment: Environment,
    ref: Ref,
    record: EnvironmentRecord | None,
    stack: Stack | None,
) -> Planned | None:
    """What an environment of a branch needs: its stack repaired, or its branch's head deployed."""
    head = snapshot.refs[ref]
    if record and _is_finished(record, ref, head):
        return _plan_finished_branch(snapshot, environment, ref, record, stack)
    if stack is None and not _may_be_in_former_region(snapshot, environment, record):
        if skip_reason(ref, ""):
            return None
        return Planned(environment, "provision", f"{ref.short} has no pipeline", ref.name)
    if stack and stack.phase in _REPAIRS:
        return _plan_repair(environment, ref, stack)
    is_made_of_head = bool(stack and stack.phase is Phase.READY and stack.tags.get("deployer:commit") == head)
    reason = f"{ref.short} is at {head[:12]}; {_unfinished_reason(record, head)}"
    return Planned(environment, "trigger" if is_made_of_head else "check", reason, ref.name)


def _is_finished(record: EnvironmentRecord, ref: Ref, head: str) -> bool:
    """Whether a record says how the deployment of a branch's head ended, or that a person pinned another commit.

    The record must name the branch: the new default branch may have the same head as the former one.
    """
    if record.spec.held_at == head:
        return True
    return (
        record.spec.commit == head
        and record.status.outcome in _ENDED_OUTCOMES
        and record.spec.ref in {"", ref.name}
    )


def _plan_finished_branch(
    snapshot: RepositorySnapshot,
    environment: Environment,
    ref: Ref,
    record: EnvironmentRecord,
    stack: Stack | None,
) -> Planned | None:
    if record.comes_back and record.spec.commit:
        return Planned(environment, "provision", f"{ref.short} has no pipeline any more", ref.name)
    if record.updated_at > snapshot.listed_at:
        return None  # the listing may show the stack as it was before the deployment ended
    if _was_teardown_stopped(record) and record.spec.commit:
        return Planned(environment, "trigger", f"{ref.short} exists, and its teardown failed", ref.name)
    if stack is None and _may_be_in_former_region(snapshot, environment, record):
        return None
    if (
        stack
        and record.status.state == "skipped"
        and not record.status.stack.stack_arn
        and environment.owns(stack.tags)
    ):
        return Planned(environment, "check", "no record says which commit it runs", ref.name)
    if not record.spec.commit:
        return None  # no commit is recorded that could be deployed again
    return _plan_finished(environment, ref, record, stack)


def _was_teardown_stopped(record: EnvironmentRecord) -> bool:
    """Whether the last teardown failed and the pipeline has not run since: a part of what it deployed may be gone.

    An expired environment is not wanted. Its age asks for its deletion again.
    """
    is_failed = record.status.receipt.outcome == "partly" and record.status.outcome == Outcome.FAILED
    return is_failed and not record.status.pipeline.execution and not record.spec.expiry.aged


def _unfinished_reason(record: EnvironmentRecord | None, head: str) -> str:
    if record is None or not record.spec.commit:
        return "no commit is recorded for it"
    if record.spec.commit == head:
        return "its deployment has not finished"
    return f"its recorded commit is {record.spec.commit[:12]}"


# --- production -------------------------------------------------------------------------------------------------------


def _plan_production(snapshot: RepositorySnapshot) -> Planned | None:
    """What production needs to run the tag that its record names."""
    environment = Environment(snapshot.repository, Kind.PRODUCTION)
    record = snapshot.records_by_key.get(environment.key)
    stack = pipeline_stack(environment, record, snapshot.existing_stacks)
    if stack and not stack.is_known:
        return None
    if stack and (record is None or _is_unrecorded(environment, record, stack, snapshot)):
        reason = "no record says which tag it runs" if record else "it has no record"
        return Planned(environment, "check", reason, _existing_tag(snapshot, stack))
    if record is None or (stack is None and _was_deleted_by_person(environment, record)):
        return None
    if not record.spec.ref or Ref.parse(record.spec.ref) not in snapshot.refs:
        return None
    if record.updated_at > snapshot.listed_at:
        return None  # the listing may show the stack as it was before the deployment ended
    return _plan_recorded_production(snapshot, environment, record, stack)


def _plan_recorded_production(
    snapshot: RepositorySnapshot, environment: Environment, record: EnvironmentRecord, stack: Stack | None
) -> Planned | None:
    if record.status.outcome not in _ENDED_OUTCOMES and not record.spec.held_at:
        return Planned(
            environment, "check", f"the deployment of {record.spec.ref} has not finished", record.spec.ref
        )
    if stack is None and _may_be_in_former_region(snapshot, environment, record):
        return None
    planned = _plan_finished(environment, Ref.parse(record.spec.ref), record, stack)
    return replace(planned, reason=f"production: {planned.reason}") if planned else None


def _existing_tag(snapshot: RepositorySnapshot, stack: Stack) -> str:
    """The tag that a stack's tags name; empty if they name none or if GitHub no longer has the tag."""
    tag = ref_from_tags(stack.tags)
    return tag if tag and Ref.parse(tag) in snapshot.refs else ""


def _is_unrecorded(
    environment: Environment, record: EnvironmentRecord, stack: Stack, snapshot: RepositorySnapshot
) -> bool:
    """Whether production's record was written after Redis lost the earlier one, before a resync read the stack.

    A stack in which no pipeline can run and that names no existing tag tells nothing.
    """
    if record.spec.commit or record.status.stack.stack_arn or not environment.owns(stack.tags):
        return False
    return bool(_existing_tag(snapshot, stack)) or stack.phase not in _REPAIRS


def _plan_missed_tag(snapshot: RepositorySnapshot) -> Planned | None:
    """Have a tag that no webhook delivery reported judged as if it had been pushed now."""
    tag, environment = snapshot.missed_tag, Environment(snapshot.repository, Kind.PRODUCTION)
    if tag is None:
        return None
    own = snapshot.records_by_key[environment.key].spec.ref
    what = "was moved" if tag.name == own else f"is newer than {own or 'what production should run'}"
    reason = f"{tag.short} {what}, and no webhook delivery reported it"
    return Planned(environment, "check", reason, tag.name, tag_object=snapshot.refs[tag])


# --- any environment --------------------------------------------------------------------------------------------------


def _plan_finished(
    environment: Environment, ref: Ref, record: EnvironmentRecord, stack: Stack | None
) -> Planned | None:
    """What an environment needs whose deployment has ended: its stack created, repaired or checked."""
    is_deployed = record.status.outcome == Outcome.DEPLOYED
    if stack is None:
        if not is_deployed:
            return None  # skipped, or failed for a reason that only a new commit can change
        return Planned(environment, "provision", f"{ref.short} has no pipeline", ref.name)
    if stack.phase in _CHANGING:
        return Planned(environment, "check", f"its stack is {stack.status}", ref.name)
    if stack.phase in _REPAIRS and is_deployed:
        return _plan_repair(environment, ref, stack)
    if is_deployed and (stack.arn, stack.region) != (record.status.stack.stack_arn, record.spec.region):
        return Planned(environment, "check", "its stack is not the recorded one", ref.name)
    changed = describe_drift(stack, record.status.stack.applied)
    if changed != record.status.stack.drift:
        return Planned(environment, "check", changed or "its drift is gone", ref.name)
    return None


def _plan_repair(environment: Environment, ref: Ref, stack: Stack) -> Planned:
    return Planned(environment, _REPAIRS[stack.phase], f"its stack is {stack.status}", ref.name)


def _was_deleted_by_person(environment: Environment, record: EnvironmentRecord) -> bool:
    """Whether a person had staging or production deleted; only a push or a redeploy creates them again."""
    return (
        environment.kind is not Kind.DEVELOPMENT and record.status.state == "deleted" == record.status.outcome
    )


def _may_be_in_former_region(
    snapshot: RepositorySnapshot, environment: Environment, record: EnvironmentRecord | None
) -> bool:
    """Whether the stack may exist in a region that was not listed, because the settings no longer name it."""
    if snapshot.regions is None or record is None or not record.spec.region:
        return False
    return record.spec.region not in snapshot.regions.get(environment.kind, ())
