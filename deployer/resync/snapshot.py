"""What GitHub, AWS and the stored records say of one repository, read once for a resync."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.refs import Ref
from deployer.model.stacks import Stack


@dataclass(frozen=True, slots=True)
class RepositorySnapshot:
    """All that a plan is made from.

    Attributes:
        default_branch: the short name of the repository's default branch.
        refs: every branch and tag on GitHub, with the object that it points to.
        stacks: the stacks with deployer's tags for this repository; other stacks are ignored.
        records: the stored records of the repository's environments.
        listed_at: when AWS's stacks were listed (epoch seconds). A record that is newer counts more than the listing.
        missed_tag: the tag that production should judge although no webhook delivery reported it; None without one.
        regions: the regions whose stacks were listed, by kind; None if the listing holds every region that matters.
            No environment of a kind without an entry is planned.
        unlisted: why some regions were not listed; empty if all were.
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
    unlisted: str = ""
    never_deployed: str = ""

    @property
    def existing_stacks(self) -> list[Stack]:
        """The stacks that are not deleted."""
        return [stack for stack in self.stacks if not stack.is_gone]

    @property
    def records_by_key(self) -> dict[str, EnvironmentRecord]:
        """Each environment's record by the environment's key."""
        return {record.environment: record for record in self.records}


def environments_with_unknown_status(snapshot: RepositorySnapshot) -> dict[Environment, str]:
    """The environments that every plan leaves out, each with the reason as a sentence.

    One of their stacks has a status that this version of deployer does not know, so any step could be wrong.
    """
    found: dict[Environment, str] = {}
    for stack in snapshot.stacks:
        environment = None if stack.is_known else Environment.of_tags(snapshot.repository, stack.tags)
        if environment:
            found[environment] = (
                f"{environment} is left out: its stack {stack.name} has the status {stack.status}, which this version"
                " of deployer does not know; update deployer"
            )
    return found


def pipeline_stack(
    environment: Environment, record: EnvironmentRecord | None, existing: Iterable[Stack]
) -> Stack | None:
    """The stack of an environment's pipeline, by the rule of `deployment.placement`.

    If several stacks have the name, the one in the recorded region is the environment's.

    Args:
        environment: whose stack.
        record: the environment's record, or None.
        existing: the repository's stacks that are not deleted.
    """
    recorded = (record.stack_name if record else "") or environment.former_stack_name
    found = [each for each in existing if each.name in {recorded, environment.stack_name}]
    found = [each for each in found if each.name == environment.stack_name or environment.owns(each.tags)]
    region = record.spec.region if record else ""
    return min(found, key=lambda each: (each.region != region, each.name != recorded), default=None)
