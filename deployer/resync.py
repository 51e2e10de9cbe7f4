"""Compares what should exist with what does, for a whole repository, and says what is to be done: pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from deployer.environments import Environment, Kind, Repository, ref_from_tags
from deployer.ledger import EnvironmentRecord, Outcome
from deployer.refs import Ref
from deployer.stacks import Phase, Stack

_SETTLED = {str(Outcome.DEPLOYED), str(Outcome.FAILED), str(Outcome.SKIPPED)}


@dataclass(frozen=True, slots=True)
class Planned:
    """One environment that needs a look.

    Attributes:
        action: `provision`, `check`, or `delete`, as far as can be said without asking more.
        reason: why, in words for people.
        ref: the ref to deploy, empty for a deletion.
    """

    environment: Environment
    action: str
    reason: str
    ref: str = ""


def plan(
    repository: Repository,
    default_branch: str,
    refs: Mapping[Ref, str],
    stacks: Iterable[Stack],
    records: Iterable[EnvironmentRecord],
) -> list[Planned]:
    """What a resync has to do for a repository; empty if all is as it should be.

    An environment whose commit is the live one and whose end was told needs no look while its stack stands. A
    production that exists is never moved by a resync, and one that never was is not made from a guess at its tag.

    Args:
        repository: the repository.
        default_branch: the short name of its default branch.
        refs: every live branch and tag with the object it points to.
        stacks: stacks with deployer's tags; those of other repositories are passed over.
        records: what the ledger knows of this repository.
    """
    known = {record.environment: record for record in records}
    standing = {stack.name: stack for stack in stacks if stack.phase is not Phase.GONE}
    found: list[Planned] = []
    for ref, live in sorted(refs.items(), key=lambda item: item[0].name):
        if ref.is_tag:
            continue
        environment = Environment.of_ref(repository, ref, default_branch)
        record = known.get(environment.key)
        if planned := _branch(environment, ref, live, record, standing.get(environment.stack_name)):
            found.append(planned)
    if planned := _production(Environment(repository, Kind.PRODUCTION), refs, known, standing):
        found.append(planned)
    found.extend(_orphans(repository, default_branch, refs, standing.values(), known))
    return found


def _branch(
    environment: Environment, ref: Ref, live: str, record: EnvironmentRecord | None, stack: Stack | None
) -> Planned | None:
    settled = record is not None and (
        (record.commit == live and record.outcome in _SETTLED) or record.held_at == live
    )
    if stack is None:
        if settled and record and record.outcome != Outcome.DEPLOYED:
            return None  # skipped, or refused for a reason that only a new commit can change
        return Planned(environment, "provision", f"{ref.short} has no pipeline", ref.name)
    if settled:
        return None
    why = (
        f"its last known commit is {record.commit[:12]}"
        if record and record.commit
        else "nothing is known of it"
    )
    return Planned(environment, "check", f"{ref.short} is at {live[:12]}; {why}", ref.name)


def _production(
    environment: Environment,
    refs: Mapping[Ref, str],
    known: Mapping[str, EnvironmentRecord],
    standing: Mapping[str, Stack],
) -> Planned | None:
    record = known.get(environment.key)
    stack = standing.get(environment.stack_name)
    if record and record.ref and stack is None and record.outcome == Outcome.DEPLOYED:
        if Ref.parse(record.ref) in refs:
            return Planned(
                environment, "provision", f"production is gone; its tag was {record.ref}", record.ref
            )
        return None
    if record is None and stack is not None:
        tag = ref_from_tags(stack.tags)
        return Planned(
            environment, "check", "nothing is known of it", tag if tag and Ref.parse(tag) in refs else ""
        )
    return None


def _orphans(
    repository: Repository,
    default_branch: str,
    refs: Mapping[Ref, str],
    stacks: Iterable[Stack],
    known: Mapping[str, EnvironmentRecord],
) -> Iterable[Planned]:
    """Branches that are gone while a stack bears their tags: the pipeline's, or one that it deployed.

    What a teardown left, and said why, is left.
    """
    found: dict[str, Planned] = {}
    for stack in stacks:
        name = ref_from_tags(stack.tags)
        if not name or not name.startswith("refs/heads/"):
            continue
        ref = Ref.parse(name)
        environment = Environment(repository, Kind.DEVELOPMENT, ref)
        record = known.get(environment.key)
        left = {each["id"] for each in record.receipt.get("retained", [])} if record else set()
        mine = environment.owns(stack.tags) and stack.arn not in left
        if mine and ref not in refs and ref.branch != default_branch:
            found[environment.key] = Planned(environment, "delete", f"{ref.short} is gone from GitHub")
    return found.values()
