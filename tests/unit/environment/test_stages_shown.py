"""Which stages a record shows: all of the pipeline's, and never those of an execution before the present state."""

from collections.abc import Callable

import pytest

from deployer.model.errors import TransientError
from deployer.queue.items import Cause
from tests.unit.world import World, environment, sha

X = "refs/heads/x"


@pytest.fixture
def world() -> World:
    return World()


def shown(world: World) -> dict[str, str]:
    return {stage.name: stage.status for stage in world.record(environment(X)).status.pipeline.stages}


def history(world: World) -> list[tuple[str, tuple[str, ...]]]:
    """State and stages after each task until all is quiet, each change once."""
    seen: list[tuple[str, tuple[str, ...]]] = []
    for _ in range(200):
        if world.sent:
            each = world.sent.pop(0)
            world.runner.carry_out(each.task, each.repository, each.environment, each.token)
        elif world.lanes.lanes():
            world.step()
        else:
            return seen
        record = world.lanes.environment(environment(X))
        now = (
            (record.status.state, tuple(stage.status for stage in record.status.pipeline.stages))
            if record
            else ("", ())
        )
        if not seen or seen[-1] != now:
            seen.append(now)
    raise AssertionError(f"not quiet: {seen[-5:]}")


def test_stages_that_are_not_reached_are_pending_until_the_end(world: World) -> None:
    world.push(X, sha(1))
    assert history(world)[-3:] == [
        ("running", ("succeeded", "running", "pending")),
        ("running", ("succeeded", "succeeded", "running")),
        ("deployed", ("succeeded", "succeeded", "succeeded")),
    ]


def test_stages_after_one_that_failed_are_not_reached(world: World) -> None:
    world.cloud.fail_next_execution("2 tests failed")
    world.push(X, sha(1))
    world.run()
    assert shown(world) == {"Source": "succeeded", "Build": "failed", "Deploy": "not-reached"}
    assert set(world.statuses(sha(1))) == {
        "deployer",
        "deployer/prepare",
        "deployer/Source",
        "deployer/Build",
    }


def test_no_status_is_posted_for_a_stage_that_is_not_reached(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    assert not any("waits" in text for text in world.posted(sha(1)))


def drifted(world: World) -> None:
    world.cloud.tamper(environment(X).stack_name, Greeting="changed")
    world.resync(environment(X).repository)
    world.redeploy(environment(X))


def stuck(world: World) -> None:
    world.cloud.tamper(environment(X).stack_name, Greeting="changed")
    world.resync(environment(X).repository)
    world.cloud.fail_next_update("no such role")
    world.redeploy(environment(X))


def torn_down(world: World) -> None:
    world.teardown(environment(X))


def gone(world: World) -> None:
    world.remove(X, sha(1))


def dead(world: World) -> None:
    world.redeploy(environment(X))
    world.host.fail_next(TransientError("GitHub is away"), times=50, method="head")


def pushed(world: World) -> None:
    world.push(X, sha(2), sha(1))


def broken(world: World) -> None:
    world.push(X, sha(2), sha(1), template="Resources: [")


@pytest.mark.parametrize("happens", [drifted, stuck, torn_down, gone, dead, pushed, broken])
def test_stages_of_the_execution_before_are_not_shown_beside_a_new_state(
    world: World, happens: Callable[[World], None]
) -> None:
    world.push(X, sha(1))
    world.run()
    assert shown(world)
    happens(world)
    before = world.record(environment(X)).status.changed_at
    for state, stages in history(world):
        now = world.record(environment(X))
        if state in {"pending", "provisioning", "updating", "waiting", "deleting", "deleted"}:
            assert stages == (), state
        if state == "failed":
            assert stages == (), now.status.reason
        if state == "running" and now.status.changed_at != before:
            assert "pending" in stages or "running" in stages or now.status.state == "deployed", stages
    if happens in {stuck, dead, broken}:
        assert world.record(environment(X)).status.state == "failed"
        assert shown(world) == {}


def test_an_execution_that_still_runs_is_not_shown_beside_an_update_under_way(world: World) -> None:
    world.push(X, sha(1))
    while world.lanes.environment(environment(X)) is None or "running" not in shown(world).values():
        world.tasks()
        world.step()
    world.cloud.tamper(environment(X).stack_name, Greeting="changed")
    world.lanes_note(environment(X), state="updating", stages=[])
    world.event(environment(X))
    world.tasks()
    assert (world.record(environment(X)).status.state, shown(world)) == ("updating", {})


def test_a_stage_that_a_person_tries_again_is_shown(world: World) -> None:
    world.cloud.fail_next_execution("2 tests failed")
    world.push(X, sha(1))
    world.run()
    tried_again = world.cloud.pipelines[environment(X).stack_name][-1]
    tried_again.status, tried_again.fails_in, tried_again.reason = "running", "", ""
    world.event(environment(X))
    assert history(world)[-1] == ("deployed", ("succeeded", "succeeded", "succeeded"))


def test_a_repeat_of_the_same_commit_begins_with_pending_stages(world: World) -> None:
    world.push(X, sha(1))
    world.run()
    world.deployer.submitter.request_environment(environment(X), cause=Cause.REDEPLOY)
    seen = history(world)
    assert ("running", ("running", "pending", "pending")) in seen
    assert seen[-1] == ("deployed", ("succeeded",) * 3)
