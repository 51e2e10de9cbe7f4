"""Whose a role is: IAM and CloudFormation before the simulated AWS, and the double that tests of the core use."""

import json
import time
from typing import Any, Protocol

import boto3
import pytest
from cloud_kit import SandboxKit, clouds, named, settled, small

from deployer.aws import roles as aws_roles
from deployer.aws.roles import AwsRoles
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import TransientError
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.resync.orphaned_roles import RoleDirectory, orphaned_roles
from tests.doubles import FakeRoles

PATH = "/deployer/development/"
TARGET = Target(Kind.DEVELOPMENT, regions=("us-east-1",), artifact_bucket="b", role_path=PATH)


class Kit(Protocol):
    """A directory, and what a test may make in it."""

    directory: RoleDirectory

    def role(self, name: str, path: str, **tags: str) -> None:
        """Make a role that no stack has."""
        ...

    def stack_with_role(self, name: str, role: str) -> str:
        """Make a stack with a role of this name under the path; gives the stack's ARN."""
        ...

    def delete_stack(self, name: str) -> None:
        """Delete a stack that leaves its role behind."""
        ...


class DoubleKit:
    """The double."""

    def __init__(self) -> None:
        self.fake = FakeRoles({Kind.DEVELOPMENT: TARGET})
        self.directory: RoleDirectory = self.fake

    def role(self, name: str, path: str, **tags: str) -> None:
        self.fake.add(Kind.DEVELOPMENT, name, path, tags)

    def stack_with_role(self, name: str, role: str) -> str:
        self.fake.add(Kind.DEVELOPMENT, role, PATH, {}, stack=f"arn:{name}")
        return f"arn:{name}"

    def delete_stack(self, name: str) -> None:
        self.fake.forget_stack(f"arn:{name}")


class SandboxKitOfRoles:
    """The adapter before the simulator."""

    def __init__(self, aws: SandboxKit) -> None:
        self._aws = aws
        self._iam = boto3.client("iam", region_name="us-east-1", endpoint_url=aws.url)
        self.directory: RoleDirectory = AwsRoles(clouds(aws.url, TARGET))

    def role(self, name: str, path: str, **tags: str) -> None:
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        self._iam.create_role(RoleName=name, Path=path, AssumeRolePolicyDocument="{}", Tags=listed)

    def stack_with_role(self, name: str, role: str) -> str:
        properties = {"RoleName": role, "Path": PATH, "AssumeRolePolicyDocument": {}}
        made = {"Type": "AWS::IAM::Role", "DeletionPolicy": "Retain", "Properties": properties}
        arn = self._aws.cloud.create_stack(name, small(Role=made), f"create-{name}")
        assert settled(self._aws, name) == "CREATE_COMPLETE"
        return arn

    def delete_stack(self, name: str) -> None:
        self._aws.cloud.delete_stack(name, f"delete-{name}")
        assert settled(self._aws, name) == ""


@pytest.fixture(params=["double", "adapter"])
def kit(request: pytest.FixtureRequest) -> Kit:
    return DoubleKit() if request.param == "double" else SandboxKitOfRoles(request.getfixturevalue("aws"))


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return named(request.node.name)[:50].strip("-")


def found(kit: Kit) -> dict[str, Any]:
    return {role.name: role for role in kit.directory.roles(Kind.DEVELOPMENT, PATH)}


def test_the_roles_under_a_path_and_no_others(kit: Kit, name: str) -> None:
    kit.role(f"{name}-in", PATH)
    kit.role(f"{name}-deeper", f"{PATH}more/")
    kit.role(f"{name}-other", "/deployer/production/")
    kit.role(f"{name}-none", "/")
    roles = {role: each for role, each in found(kit).items() if role.startswith(name)}
    assert set(roles) == {f"{name}-in", f"{name}-deeper"}
    assert roles[f"{name}-in"].arn.endswith(f":role{PATH}{name}-in")
    assert abs(roles[f"{name}-in"].created_at - time.time()) < 60


def test_a_roles_tags_and_none_of_one_that_is_gone(kit: Kit, name: str) -> None:
    kit.role(name, PATH, **{"deployer:environment": "development"})
    assert kit.directory.role_tags(Kind.DEVELOPMENT, name) == {"deployer:environment": "development"}
    assert kit.directory.role_tags(Kind.DEVELOPMENT, f"{name}-gone") == {}


def test_a_role_is_the_stacks_as_long_as_the_stack_lives(kit: Kit, name: str) -> None:
    role = f"{name}-role"
    kit.role(f"{name}-stray", PATH)
    arn = kit.stack_with_role(name, role)
    ask = kit.directory.stack_of_role
    assert ask(Kind.DEVELOPMENT, "us-east-1", role) == arn
    assert ask(Kind.DEVELOPMENT, "us-east-1", f"{name}-stray") == ""
    assert ask(Kind.DEVELOPMENT, "us-east-1", f"{name}-gone") == ""
    kit.delete_stack(name)
    assert role in found(kit)
    assert ask(Kind.DEVELOPMENT, "us-east-1", role) == ""


def test_a_role_of_a_branch_that_is_gone_is_an_orphan_whatever_its_tags_say(kit: Kit, name: str) -> None:
    branch = Environment(Repository("acme", "shop"), Kind.DEVELOPMENT, Ref.of_branch("gone"))
    kit.role(f"{name}-stray", PATH, **branch.tags)
    kit.role(f"{name}-nobodys", PATH)
    kit.stack_with_role(name, f"{name}-role")
    later = time.time() + 3600
    orphans = orphaned_roles(kit.directory, Kind.DEVELOPMENT, later)
    own = {each.role.name: each for each in orphans if each.role.name.startswith(name)}
    assert set(own) == {f"{name}-stray", f"{name}-nobodys"}
    assert own[f"{name}-stray"].environment == branch
    assert own[f"{name}-nobodys"].repository is None
    fresh = orphaned_roles(kit.directory, Kind.DEVELOPMENT, time.time())
    assert not [each for each in fresh if each.role.name.startswith(name)]


# --- the adapter alone ---------------------------------------------------------------------------------------------


def test_a_resource_of_another_type_does_not_hide_a_role_of_its_name(aws: SandboxKit, name: str) -> None:
    kit = SandboxKitOfRoles(aws)
    kit.role(name, PATH)
    parameter = {"Type": "AWS::SSM::Parameter", "Properties": {"Name": name, "Type": "String", "Value": "x"}}
    aws.cloud.create_stack(f"{name}-stack", small(Same=parameter), f"create-{name}")
    assert settled(aws, f"{name}-stack") == "CREATE_COMPLETE"
    assert kit.directory.stack_of_role(Kind.DEVELOPMENT, "us-east-1", name) == ""


def test_a_role_of_a_stack_with_more_resources_than_are_described_is_found(
    aws: SandboxKit, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = SandboxKitOfRoles(aws)
    arn = kit.stack_with_role(name, f"{name}-role")
    monkeypatch.setattr(aws_roles, "_DESCRIBED_AT_MOST", 1)
    with aws.calls() as calls:
        assert kit.directory.stack_of_role(Kind.DEVELOPMENT, "us-east-1", f"{name}-role") == arn
    assert calls == ["DescribeStackResources", "ListStackResources"]


def test_rights_that_are_lacking_are_told(aws: SandboxKit) -> None:
    aws.simulator.faults.add(
        {"errors": {"service": "iam", "error": "AccessDenied", "status": 403, "message": json.dumps("no")}}
    )
    with pytest.raises(
        TransientError, match=r"^listing the roles under /deployer/development/: AWS refuses it"
    ):
        found(SandboxKitOfRoles(aws))


def test_deployers_own_account_is_that_of_its_own_credentials(aws: SandboxKit) -> None:
    role = "arn:aws:iam::210987654321:role/deployer"
    assumed = Target(Kind.DEVELOPMENT, regions=("us-east-1",), role_arn=role)
    with aws.calls() as calls:
        assert clouds(aws.url, assumed).own_account() == "123456789012"
    assert calls == ["GetCallerIdentity"]
