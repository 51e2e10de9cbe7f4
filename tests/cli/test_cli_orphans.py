"""Tests of `orphans`: roles without a stack. test_cli_look.py tests orphaned stacks."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from cli_world import REPOSITORY, World

from deployer.model.environments import Environment, Kind
from deployer.model.errors import TransientError
from deployer.model.refs import Ref

PATH = "/deployer/development/"
GONE = Environment(REPOSITORY, Kind.DEVELOPMENT, Ref.of_branch("gone"))
HOUR = 3600.0


@pytest.fixture(autouse=True)
def path(world: World) -> None:
    """An installation whose development has a path and two regions."""
    development = world.roles.target(Kind.DEVELOPMENT)
    regions = ("us-east-1", "eu-west-1")
    world.roles.targets[Kind.DEVELOPMENT] = replace(development, role_path=PATH, regions=regions)


def role(world: World, name: str, tags: Mapping[str, str] = GONE.tags, **more: Any) -> str:
    """A role under the path, an hour old; gives its ARN."""
    world.roles.add(Kind.DEVELOPMENT, name, more.pop("path", PATH), tags, **{"age": HOUR, **more})
    return f"arn:aws:iam::123456789012:role{PATH}{name}"


def listed(world: World, *arguments: str) -> list[str]:
    return [each["name"] for entry in world.json("orphans", *arguments) for each in entry["roles"]]


def test_a_role_that_a_build_made_outlives_its_branch_and_is_listed(world: World) -> None:
    arn = role(world, "left-by-a-build")
    role(world, "of-a-stack", stack="arn:of-some-stack")
    role(world, "of-a-stack-elsewhere", stack="arn:of-another", region="eu-west-1")
    role(world, "made-just-now", age=60)
    role(world, "of-people", path="/people/")

    (found,) = world.json("orphans")
    assert found == {
        "repository": "acme/api",
        "environment": "development:refs/heads/gone",
        "environment_id": GONE.stack_name,
        "reason": "no stack in us-east-1, eu-west-1 has the role",
        "due": None,
        "stacks": [],
        "roles": [{"name": "left-by-a-build", "arn": arn, "kind": "development", **_made(found)}],
    }
    result = world.run("orphans")
    assert result.exit_code == 0
    heading, row = result.stdout.splitlines()
    assert heading.startswith("ROLE WITHOUT A STACK")
    assert row.split() == [arn, "development", "acme/api", "gone", "1", "h", "ago"]
    assert "never deleted automatically" in result.stderr


def _made(found: dict[str, Any]) -> dict[str, str]:
    return {"created_at": found["roles"][0]["created_at"]}


def test_tags_hide_no_role(world: World) -> None:
    """A build chooses the tags of what it makes: those of a branch that lives, of nothing, or of nonsense."""
    world.push("refs/heads/lives", "a" * 40)
    lives = Environment(REPOSITORY, Kind.DEVELOPMENT, Ref.of_branch("lives"))
    role(world, "tagged-as-one-that-lives", lives.tags)
    role(world, "without-tags", {})
    role(world, "nonsense", {"deployer:repository": "%%", "deployer:environment": "production"})

    assert listed(world) == ["tagged-as-one-that-lives", "without-tags", "nonsense"]
    assert listed(world, "acme/api") == ["tagged-as-one-that-lives"]
    world.deployer.submitter.resync(REPOSITORY)
    assert listed(world, "ACME/api") == ["tagged-as-one-that-lives"]


def test_stacks_and_roles_are_listed_together(world: World) -> None:
    world.push("refs/heads/gone", "a" * 40)
    world.host.remove(REPOSITORY, "refs/heads/gone")
    role(world, "left-by-a-build")
    assert [(len(each["stacks"]), len(each["roles"])) for each in world.json("orphans")] == [(1, 0), (0, 1)]
    heading, stack, _, _, found = world.run("orphans").stdout.splitlines()
    assert heading.startswith("REPOSITORY")
    assert GONE.stack_name in stack
    assert "left-by-a-build" in found


def test_roles_that_cannot_be_read_do_not_hide_the_stacks(world: World) -> None:
    world.push("refs/heads/gone", "a" * 40)
    world.host.remove(REPOSITORY, "refs/heads/gone")
    world.roles.fail_next(TransientError("AWS refuses it: deployer's own rights lack it"))
    result = world.run("orphans")
    assert result.exit_code == 1
    assert GONE.stack_name in result.stdout
    assert "roles of development: AWS refuses it" in result.stderr
    assert result.stderr.splitlines()[-1] == "deployer: the roles of development could not be read"


def test_without_a_path_no_role_is_looked_at(world: World) -> None:
    world.roles.targets[Kind.DEVELOPMENT] = replace(world.roles.target(Kind.DEVELOPMENT), role_path="")
    role(world, "left-by-a-build")
    assert world.run("orphans").stdout == "no orphans\n"
    assert world.roles.calls == []
