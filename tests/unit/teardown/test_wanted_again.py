"""An environment that is wanted again after its teardown began, was ended or failed: its pipeline runs again."""

import pytest

from tests.unit.world import HELLO, TEMPLATE, World, environment, sha

X = "refs/heads/x"
ENV = environment(X)
APP, OTHER = f"{ENV.stack_name}-app", f"{ENV.stack_name}-data"
ALL = {ENV.stack_name, APP, OTHER}
BUILT = (sha(1), "succeeded")


@pytest.fixture
def world() -> World:
    """A branch that is deployed, with two stacks of its own."""
    made = World()
    made.cloud.applications[ENV.stack_name] = [OTHER, APP]
    made.push(X, sha(1))
    made.run()
    assert statuses(made) == dict.fromkeys(ALL, "CREATE_COMPLETE")
    return made


def statuses(world: World) -> dict[str, str]:
    return {each.name: each.status for each in world.cloud.stacks()}


def fail_deletions(world: World, times: int) -> None:
    for _ in range(times):
        world.cloud.fail_next_delete("in use")


def run_until_status(world: World, name: str, status: str) -> None:
    for _ in range(60):
        world.tasks()
        world.step()
        if statuses(world).get(name) == status:
            return
    raise AssertionError(f"{name} is never {status}: {statuses(world)}")


def stop_teardown(world: World) -> None:
    """Delete the branch; the teardown stops at a stack whose deletion fails."""
    world.lanes_note(ENV, teardown="stop")
    fail_deletions(world, 4)
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "failed"
    assert statuses(world)[APP] == "DELETE_FAILED"


def test_after_a_teardown_that_stopped_the_failure_is_reported_again(world: World) -> None:
    stop_teardown(world)
    fail_deletions(world, 9)
    delivery = world.push(X, sha(1))
    world.run()
    outcome, reason = world.outcome(delivery)
    assert (outcome, "in use" in reason) == ("failed", True)
    assert world.record(ENV).status.state == "failed"
    assert world.built(ENV) == [BUILT]


def test_after_a_teardown_that_stopped_the_pipeline_runs_once_nothing_is_in_use(world: World) -> None:
    stop_teardown(world)
    delivery = world.push(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(ENV) == [BUILT, BUILT]
    assert statuses(world) == dict.fromkeys(ALL, "CREATE_COMPLETE")
    report = world.record(ENV).status.receipt
    assert (report.outcome, [each.what for each in report.removed], report.retained) == (
        "cancelled", [f"stack {APP}"], [],
    )  # fmt: skip


def test_a_resync_runs_the_pipeline_of_a_restored_branch_whose_teardown_stopped(world: World) -> None:
    stop_teardown(world)
    world.host.push(HELLO, X, sha(1), files={"pipeline.yml": TEMPLATE})
    world.resync(HELLO)
    assert world.built(ENV) == [BUILT, BUILT]
    assert world.record(ENV).status.outcome == "deployed"
    assert statuses(world) == dict.fromkeys(ALL, "CREATE_COMPLETE")


def test_a_resync_tries_it_again_as_long_as_it_fails(world: World) -> None:
    stop_teardown(world)
    world.host.push(HELLO, X, sha(1), files={"pipeline.yml": TEMPLATE})
    fail_deletions(world, 3)
    world.resync(HELLO)
    assert world.record(ENV).status.outcome == "failed"
    world.resync(HELLO)
    assert world.record(ENV).status.outcome == "deployed"
    assert world.built(ENV) == [BUILT, BUILT]


def test_a_deletion_that_has_failed_is_finished_before_the_pipeline_runs(world: World) -> None:
    """A push ends the teardown between the first deletion of a stack, which fails, and the second."""
    fail_deletions(world, 1)
    world.remove(X, sha(1))
    run_until_status(world, APP, "DELETE_FAILED")
    delivery = world.push(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(ENV)[-1] == BUILT
    assert statuses(world) == dict.fromkeys(ALL, "CREATE_COMPLETE")


def test_resources_that_stay_do_not_keep_the_pipeline_from_running(world: World) -> None:
    fail_deletions(world, 1)
    world.remove(X, sha(1))
    run_until_status(world, APP, "DELETE_FAILED")
    fail_deletions(world, 2)
    world.push(X, sha(1))
    world.run()
    assert statuses(world) == dict.fromkeys(ALL, "CREATE_COMPLETE")
    left = {each.what: each.why for each in world.record(ENV).status.receipt.retained}
    assert left == {f"AWS::Test::Thing {APP}-thing": "in use"}


def test_a_foreign_stack_on_the_receipt_is_let_alone(world: World) -> None:
    world.cloud.add_stack("theirs", {"team": "x"})
    world.cloud.applications[ENV.stack_name] = [OTHER, "theirs", APP]
    world.remove(X, sha(1))
    world.run()
    world.cloud.set_status("theirs", "DELETE_FAILED")
    world.push(X, sha(1))
    world.run()
    stack = world.cloud.stack("theirs")
    assert stack is not None
    assert stack.status == "DELETE_FAILED"
    assert world.record(ENV).status.receipt.outcome == "partly"


@pytest.mark.parametrize("what", ["gone", "DELETE_FAILED"])
def test_after_a_loss_of_redis_a_stack_that_is_gone_is_deployed_again(world: World, what: str) -> None:
    """A teardown was half done when Redis lost its data, and the branch exists again."""
    if what == "gone":
        world.cloud.remove(APP)
    else:
        world.cloud.set_status(APP, what)
    world.forget()
    world.resync(HELLO)
    assert world.built(ENV) == [BUILT, BUILT]


def test_after_a_loss_of_redis_what_runs_stays_as_it_is(world: World) -> None:
    world.forget()
    world.resync(HELLO)
    assert world.built(ENV) == [BUILT]
    assert world.record(ENV).status.outcome == "deployed"
