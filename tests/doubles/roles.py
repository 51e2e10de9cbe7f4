"""A double of IAM's roles in memory."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from deployer.model.environments import Kind
from deployer.model.targets import Target
from deployer.resync.orphaned_roles import Role
from tests.doubles.failing import Failing


class FakeRoles(Failing):
    """The port `RoleDirectory` in memory; every kind has its own account.

    Args:
        targets: the target of each kind.
    """

    def __init__(self, targets: Mapping[Kind, Target]) -> None:
        super().__init__(service="aws")
        self.targets = dict(targets)
        self._roles: dict[
            tuple[Kind, str], tuple[str, Role, dict[str, str]]
        ] = {}  # path, role, stack by region

    def add(
        self,
        kind: Kind,
        name: str,
        path: str,
        tags: Mapping[str, str],
        *,
        stack: str = "",
        region: str = "us-east-1",
        age: float = 0,
    ) -> None:
        """Add a role, perhaps as a resource of a stack; `age` is in seconds."""
        arn = f"arn:aws:iam::123456789012:role{path}{name}"
        role = Role(name, arn, time.time() - age, dict(tags))
        self._roles[kind, name] = (path, role, {region: stack} if stack else {})

    def forget_stack(self, stack: str) -> None:
        """Delete a stack that retains its roles."""
        for _, _, stacks in self._roles.values():
            for region in [region for region, arn in stacks.items() if arn == stack]:
                del stacks[region]

    # the port

    def target(self, kind: Kind) -> Target:
        return self.targets[kind]

    def roles(self, kind: Kind, path: str) -> Iterator[Role]:
        self._note("roles", kind, path)
        for (of, _), (under, role, _) in self._roles.items():
            if of is kind and under.startswith(path):
                yield replace(role, tags={})

    def stack_of_role(self, kind: Kind, region: str, name: str) -> str:
        self._note("stack_of_role", kind, region, name)
        _, _, stacks = self._roles.get((kind, name), ("", None, {}))
        return stacks.get(region, "")

    def role_tags(self, kind: Kind, name: str) -> Mapping[str, str]:
        self._note("role_tags", kind, name)
        found = self._roles.get((kind, name))
        return dict(found[1].tags) if found else {}
