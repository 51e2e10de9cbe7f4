"""What an environment leaves outside its stacks: log groups of builds, images, StackSets."""

import pytest

from deployer.environment.cloud_region import BuildLogs
from deployer.model.errors import PermanentError
from tests.unit.world import HELLO, World, environment, sha

X, MAIN = "refs/heads/x", "refs/heads/main"
ENV, STAGING = environment(X), environment(MAIN)
APP = f"{ENV.stack_name}-app"
BUILD = f"/aws/codebuild/{ENV.stack_name}-build"


@pytest.fixture
def world() -> World:
    """A branch that is deployed; its pipeline's stack has a build project."""
    made = World()
    made.cloud.applications[ENV.stack_name] = [APP]
    made.cloud.logs[ENV.stack_name] = [BuildLogs(BUILD)]
    made.push(X, sha(1))
    made.run()
    return made


def retained(world: World) -> dict[str, str]:
    return {each.what: each.why for each in world.record(ENV).status.receipt.retained}


def test_the_logs_of_builds_go_and_the_receipt_names_them(world: World) -> None:
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert world.cloud.logs[ENV.stack_name] == []
    report = world.record(ENV).status.receipt
    assert f"log group {BUILD}" in [each.what for each in report.removed]
    assert (report.outcome, report.retained) == ("removed", [])
    text = world.host.statuses[HELLO, sha(1)]["deployer/teardown"].description
    assert text == "x: removed 2 stacks with 3 resources and deleted 1 log group"


def test_logs_that_may_not_be_deleted_are_listed(world: World) -> None:
    world.cloud.log_refusals[BUILD] = "AccessDenied: not authorized"
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert retained(world) == {f"log group {BUILD}": "AccessDenied: not authorized"}
    assert world.record(ENV).status.receipt.outcome == "partly"


def test_logs_of_others_are_listed_and_stay(world: World) -> None:
    world.cloud.logs[ENV.stack_name] = [BuildLogs(BUILD, "it is older than the project")]
    world.remove(X, sha(1))
    world.run()
    assert retained(world) == {f"log group {BUILD}": "it is older than the project"}
    assert world.cloud.called("delete_build_logs") == []


@pytest.mark.parametrize("method", ["build_logs", "delete_build_logs"])
def test_an_error_about_logs_does_not_end_the_teardown(world: World, method: str) -> None:
    world.cloud.fail_next(PermanentError("no such operation"), method=method)
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert list(retained(world).values()) == ["no such operation"]


def test_the_logs_of_staging_are_listed(world: World) -> None:
    world.cloud.logs[STAGING.stack_name] = [BuildLogs("/aws/codebuild/staging")]
    world.push(MAIN, sha(2))
    world.run()
    world.teardown(STAGING)
    world.run()
    (left,) = world.record(STAGING).status.receipt.retained
    assert (left.what, left.why) == (
        "log group /aws/codebuild/staging", "deployer deletes the logs of builds in development only",
    )  # fmt: skip


def test_a_stack_set_is_on_the_receipt_and_nothing_else_happens_to_it(world: World) -> None:
    world.cloud.sets[ENV.stack_name] = ["everywhere"]
    world.remove(X, sha(1))
    world.run()
    (left,) = world.record(ENV).status.receipt.retained
    assert (left.what, left.id) == ("StackSet everywhere", "stackset/everywhere")
    assert "only a person deletes a StackSet" in left.why
    assert not list(world.cloud.stacks())


def test_a_stack_set_that_an_earlier_definition_deployed_is_on_the_receipt(world: World) -> None:
    world.cloud.sets[ENV.stack_name] = ["everywhere"]
    world.redeploy(ENV)
    world.run()
    world.cloud.sets[ENV.stack_name] = []
    world.cloud.remove(ENV.stack_name)
    world.remove(X, sha(1))
    world.run()
    assert list(retained(world)) == ["StackSet everywhere"]
    assert world.record(ENV).status.stack.stack_sets == []
