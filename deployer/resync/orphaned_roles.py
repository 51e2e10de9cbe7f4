"""IAM roles under the target's path that no stack has: a build may have made them, and they outlive its branch."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from deployer.model.environments import Environment, Kind, Repository, from_tag_value
from deployer.model.errors import PayloadError
from deployer.model.targets import Target

_SETTLING_SECONDS = 600.0  # a role that CloudFormation is creating may not be among its stack's resources yet


@dataclass(frozen=True, slots=True)
class Role:
    """An IAM role.

    Attributes:
        name: unique in its account.
        created_at: epoch seconds.
        tags: empty where nobody has read them.
    """

    name: str
    arn: str
    created_at: float
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OrphanedRole:
    """A role under the target's path that no stack has.

    Attributes:
        kind: whose target it was found in.
        regions: where stacks were asked for it.
        repository: by the role's tags, None where it has none of deployer's. Whoever made the role may have set them.
        environment: likewise.
    """

    kind: Kind
    role: Role
    regions: tuple[str, ...]
    repository: Repository | None
    environment: Environment | None


class RoleDirectory(Protocol):
    """IAM and CloudFormation as far as they say whose a role is."""

    def target(self, kind: Kind) -> Target:
        """Where environments of a kind live; its `regions` are never empty."""

    def roles(self, kind: Kind, path: str) -> Iterable[Role]:
        """The roles under an IAM path of the target's account, without their tags."""

    def stack_of_role(self, kind: Kind, region: str, name: str) -> str:
        """The ARN of the stack in that region whose resource the role is; empty for none."""

    def role_tags(self, kind: Kind, name: str) -> Mapping[str, str]:
        """A role's tags; empty where the role is gone."""


def orphaned_roles(directory: RoleDirectory, kind: Kind, now: float) -> Iterator[OrphanedRole]:
    """The roles of a kind that no stack has. Costs a call for each role and region.

    Tags alone would not do: a build that makes a role chooses the tags, and so could pass for any environment.

    Args:
        directory: IAM and CloudFormation.
        kind: whose target is looked at; one without `role_path` has nothing to look at.
        now: epoch seconds. A role that was created within the last ten minutes is passed over.

    Raises:
        TransientError: AWS is away, or deployer's role lacks the rights.
    """
    target = directory.target(kind)
    if not target.role_path:
        return
    for role in directory.roles(kind, target.role_path):
        if now - role.created_at < _SETTLING_SECONDS:
            continue
        if any(directory.stack_of_role(kind, region, role.name) for region in target.regions):
            continue
        tagged = replace(role, tags=directory.role_tags(kind, role.name))
        repository = _repository(tagged.tags)
        environment = Environment.of_tags(repository, tagged.tags) if repository else None
        yield OrphanedRole(kind, tagged, target.regions, repository, environment)


def _repository(tags: Mapping[str, str]) -> Repository | None:
    try:
        return Repository.parse(from_tag_value(tags.get("deployer:repository", "")) or "")
    except PayloadError:
        return None
