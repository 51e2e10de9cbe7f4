"""IAM roles under a target's path that belong to no stack, because a build created them and its branch is gone."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from deployer.model.environments import Environment, Kind, Repository, from_tag_value
from deployer.model.errors import PayloadError
from deployer.model.targets import Target

_NEW_ROLE_SECONDS = 600.0  # a role that CloudFormation is creating may not be among its stack's resources yet


@dataclass(frozen=True, slots=True)
class Role:
    """An IAM role.

    Attributes:
        name: unique in its account.
        created_at: epoch seconds.
        tags: empty if they were not read.
    """

    name: str
    arn: str
    created_at: float
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OrphanedRole:
    """A role under a target's path that is a resource of no stack.

    Attributes:
        kind: the kind of environments whose target has the role.
        regions: the regions in which no stack has the role.
        repository: by the role's tags; None without deployer's tags. Whoever created the role may have set any tags.
        environment: by the role's tags, as `repository`.
    """

    kind: Kind
    role: Role
    regions: tuple[str, ...]
    repository: Repository | None
    environment: Environment | None


class RoleDirectory(Protocol):
    """What IAM and CloudFormation say about roles."""

    def target(self, kind: Kind) -> Target:
        """The target of a kind of environments; its `regions` are never empty."""

    def roles(self, kind: Kind, path: str) -> Iterable[Role]:
        """The roles under an IAM path of the target's account, without their tags."""

    def stack_of_role(self, kind: Kind, region: str, name: str) -> str:
        """The ARN of the stack in a region that has the role as a resource; empty if none has."""

    def role_tags(self, kind: Kind, name: str) -> Mapping[str, str]:
        """A role's tags; empty if the role is gone."""


def orphaned_roles(directory: RoleDirectory, kind: Kind, now: float) -> Iterator[OrphanedRole]:
    """The roles of a kind that belong to no stack. Costs one AWS call for each role and region.

    Tags alone cannot tell, because the build that creates a role chooses its tags and could name any environment.

    Args:
        directory: IAM and CloudFormation.
        kind: the kind whose target is searched; a target without `role_path` has no roles to search.
        now: epoch seconds. Roles that were created within the last ten minutes are left out.

    Raises:
        TransientError: AWS is away, or deployer's role lacks the rights.
    """
    target = directory.target(kind)
    if not target.role_path:
        return
    for role in directory.roles(kind, target.role_path):
        if now - role.created_at < _NEW_ROLE_SECONDS:
            continue
        if any(directory.stack_of_role(kind, region, role.name) for region in target.regions):
            continue
        tagged = replace(role, tags=directory.role_tags(kind, role.name))
        repository = _tagged_repository(tagged.tags)
        environment = Environment.of_tags(repository, tagged.tags) if repository else None
        yield OrphanedRole(kind, tagged, target.regions, repository, environment)


def _tagged_repository(tags: Mapping[str, str]) -> Repository | None:
    try:
        return Repository.parse(from_tag_value(tags.get("deployer:repository", "")) or "")
    except PayloadError:
        return None
