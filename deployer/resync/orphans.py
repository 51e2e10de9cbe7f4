"""Environments whose ref is gone from GitHub: which of them a resync deletes, which records it forgets."""

from collections.abc import Iterable
from dataclasses import dataclass

from deployer.model.environment_record import EnvironmentRecord, is_over
from deployer.model.environments import Environment, Kind, Repository, ref_from_tags
from deployer.model.refs import Ref
from deployer.model.stacks import Stack
from deployer.resync.snapshot import RepositorySnapshot, environments_with_unknown_status, pipeline_stack

REMEMBERED_SECONDS = 30 * 86400.0  # as long as delivery records are kept


@dataclass(frozen=True, slots=True)
class Orphan:
    """An environment that has stacks, or a record, but no ref.

    Attributes:
        stacks: the pipeline's stack and the stacks that the pipeline deployed, if they have the environment's tags.
        reason: what is gone, as a sentence without a full stop.
        mine: whether a resync deletes the environment; only development environments are.
    """

    environment: Environment
    stacks: tuple[Stack, ...]
    reason: str
    mine: bool


def find_orphans(snapshot: RepositorySnapshot) -> list[Orphan]:
    """The environments without a ref: development whose branch is gone, production whose tag is gone.

    A second stack with the environment's tags is an orphan too. Staging never is, because a default branch goes only if
    a person replaces it with another branch.
    """
    records, existing = snapshot.records_by_key, snapshot.existing_stacks
    left_out = environments_with_unknown_status(snapshot)
    found: dict[str, Orphan] = {}
    for stack in existing:
        environment = _environment_of_stack(snapshot.repository, stack)
        if environment is None or environment in left_out:
            continue
        record = records.get(environment.key)
        if _was_deleted_after(record, snapshot.listed_at):
            continue
        if reason := _missing_ref(snapshot, environment, _ref_of_stack(environment, record, stack)):
            before = found[environment.key].stacks if environment.key in found else ()
            is_development = environment.kind is Kind.DEVELOPMENT
            found[environment.key] = Orphan(environment, (*before, stack), reason, mine=is_development)
        elif _is_second_stack(environment, record, stack, existing):
            reason = (
                f"a second stack, {stack.name}, exists in {stack.region}; a person must delete one of the two"
            )
            found[environment.key] = Orphan(environment, (stack,), reason, mine=False)
    for record in records.values():
        environment = Environment.from_key(snapshot.repository, record.environment)
        if environment in left_out or environment.key in found:
            continue
        if orphan := _orphan_of_record(snapshot, environment, record):
            found[environment.key] = orphan
    return list(found.values())


def orphans_to_delete(snapshot: RepositorySnapshot) -> list[Orphan]:
    """The orphans that a resync deletes: development environments, unless a teardown retained all their stacks."""
    records = snapshot.records_by_key
    return [
        each
        for each in find_orphans(snapshot)
        if each.mine and not _left_by_teardown(each, records.get(each.environment.key))
    ]


def records_to_forget(snapshot: RepositorySnapshot, now: float) -> list[EnvironmentRecord]:
    """The records of development environments whose branch and stacks are gone and that ended 30 days ago.

    A record that lists resources which a teardown retained is kept, because nothing else lists them.

    Args:
        snapshot: what is known of the repository.
        now: epoch seconds.
    """
    tagged = {ref_from_tags(stack.tags) for stack in snapshot.existing_stacks}
    latest = min(now, snapshot.listed_at) - REMEMBERED_SECONDS
    found = []
    for record in snapshot.records:
        branch = Environment.from_key(snapshot.repository, record.environment).branch
        if branch is None or not is_ended(record, latest):
            continue
        if branch not in snapshot.refs and branch.name not in tagged:
            found.append(record)
    return found


def is_ended(record: EnvironmentRecord, latest: float) -> bool:
    """Whether all of an environment is gone and its record has not changed since `latest` (epoch seconds)."""
    return is_over(record) and record.updated_at <= latest and not record.status.receipt.retained


def _left_by_teardown(orphan: Orphan, record: EnvironmentRecord | None) -> bool:
    """Whether a teardown retained every stack of an orphan. The teardown reported why, so people decide about them."""
    retained = {each.id for each in record.status.receipt.retained} if record else set()
    return bool(orphan.stacks) and all(stack.arn in retained for stack in orphan.stacks)


def _was_deleted_after(record: EnvironmentRecord | None, listed_at: float) -> bool:
    return record is not None and record.updated_at > listed_at and record.status.state == "deleted"


def _environment_of_stack(repository: Repository, stack: Stack) -> Environment | None:
    """The development or production environment whose tags a stack has; None for any other stack."""
    kind, ref = stack.tags.get("deployer:environment"), ref_from_tags(stack.tags) or ""
    if kind == Kind.PRODUCTION and ref.startswith("refs/tags/"):
        environment = Environment(repository, Kind.PRODUCTION)
    elif kind == Kind.DEVELOPMENT and ref.startswith("refs/heads/"):
        environment = Environment(repository, Kind.DEVELOPMENT, Ref.parse(ref))
    else:
        return None
    return environment if environment.owns(stack.tags) else None


def _ref_of_stack(environment: Environment, record: EnvironmentRecord | None, stack: Stack) -> Ref:
    """The ref that a stack with deployer's tags runs."""
    if environment.kind is Kind.PRODUCTION and record and record.spec.ref:
        # the stack's tags name the tag that changed the stack last; a later tag may only have started the pipeline
        return Ref.parse(record.spec.ref)
    return Ref.parse(ref_from_tags(stack.tags) or "")


def _is_second_stack(
    environment: Environment, record: EnvironmentRecord | None, stack: Stack, existing: Iterable[Stack]
) -> bool:
    return stack.name in environment.stack_names and stack != pipeline_stack(environment, record, existing)


def _orphan_of_record(
    snapshot: RepositorySnapshot, environment: Environment, record: EnvironmentRecord
) -> Orphan | None:
    """An orphan that only its record shows; None if the branch exists or nothing is left of the environment."""
    if environment.branch is None or is_over(record):
        return None
    reason = _missing_ref(snapshot, environment, environment.branch)
    if not reason:
        return None
    return Orphan(environment, (), reason, mine=environment.kind is Kind.DEVELOPMENT)


def _missing_ref(snapshot: RepositorySnapshot, environment: Environment, ref: Ref) -> str:
    """Why an environment is an orphan; empty if its ref exists."""
    if ref in snapshot.refs or (not ref.is_tag and ref.branch == snapshot.default_branch):
        return ""
    if environment.kind is Kind.PRODUCTION:
        return f"its tag {ref.short} is gone from GitHub; only a person deletes production"
    return f"{ref.short} is gone from GitHub"
