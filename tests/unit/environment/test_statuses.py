"""No status of a commit stays pending for good, whatever becomes of what it tells of."""

from dataclasses import replace

import pytest
from world import HELLO, World, environment, sha

from deployer.environment.capacity import RegionCapacity

MAIN, BRANCH = "refs/heads/main", "refs/heads/x"
DEV = environment(BRANCH)


@pytest.fixture
def world() -> World:
    made = World()
    made.push(MAIN, sha(9))
    made.run()
    return made


def said(world: World, commit: str, context: str) -> tuple[str, str]:
    status = world.host.statuses[HELLO, commit][f"deployer/{context}"]
    return status.state, status.description


def begin(world: World, steps: int) -> None:
    world.push(BRANCH, sha(1))
    world.tasks()
    for _ in range(steps):
        world.step()
        world.tasks()


def summary(world: World, commit: str) -> tuple[str, str]:
    status = world.host.statuses[HELLO, commit]["deployer"]
    return status.state, status.description


def test_a_commit_that_is_overtaken_while_its_pipeline_is_made_waits_no_longer(world: World) -> None:
    begin(world, 0)
    assert world.statuses(sha(1)) == {"deployer": "pending"}
    world.push(BRANCH, sha(2), before=sha(1))
    world.run()
    assert world.statuses(sha(1)) == {"deployer": "error"}
    assert summary(world, sha(1))[1] == f"x: superseded: overtaken by {sha(2)[:12]}"
    assert set(world.statuses(sha(2)).values()) == {"success"}


def test_a_commit_whose_successor_is_not_deployed_waits_no_longer(world: World) -> None:
    begin(world, 0)
    world.push(BRANCH, sha(2), before=sha(1), files={"deployer.yml": "branches: [y]"})
    world.run()
    assert summary(world, sha(1)) == ("error", f"x: superseded: overtaken by {sha(2)[:12]}")
    assert summary(world, sha(2))[0] == "success"


@pytest.mark.parametrize("steps", range(6))
def test_a_commit_whose_environment_is_deleted_at_any_moment_waits_no_longer(
    world: World, steps: int
) -> None:
    begin(world, steps)
    before = world.statuses(sha(1))
    world.remove(BRANCH, sha(1))
    world.run()
    after = world.statuses(sha(1))
    assert "pending" not in after.values()
    assert after == {
        "deployer/teardown": "success",
        **{context: "error" if state == "pending" else state for context, state in before.items()},
    }


def test_a_commit_that_waits_for_room_and_whose_branch_goes_waits_no_longer(world: World) -> None:
    room = RegionCapacity("us-east-1", 2000, 2000, 10, 1000, 0)
    world.cloud.room_left = replace(room)
    begin(world, 0)
    assert summary(world, sha(1))[0] == "pending"
    assert "waiting: no room" in summary(world, sha(1))[1]
    world.remove(BRANCH, sha(1))
    world.run()
    assert summary(world, sha(1)) == ("error", "x: superseded: its environment was deleted")


def with_pending(world: World, *contexts: str) -> None:
    """Have the record say that version 0.1.0 left these statuses pending on the first commit."""
    pending = tuple(f"{sha(1)} {context}" for context in contexts)
    world.lanes_note(DEV, pending=pending)


def test_what_an_earlier_version_left_pending_ends_with_its_pipeline(world: World) -> None:
    begin(world, 2)
    with_pending(world, "deployer/Build")
    world.cloud.pipelines.pop(DEV.stack_name)
    world.event(DEV)
    world.tasks()
    assert said(world, sha(1), "Build") == ("error", "x: Build ended because its pipeline was deleted")


def test_what_an_earlier_version_left_pending_ends_when_another_commit_is_deployed(world: World) -> None:
    begin(world, 2)
    with_pending(world, "deployer/prepare")
    world.push(BRANCH, sha(2), before=sha(1))
    world.run()
    assert said(world, sha(1), "prepare") == ("error", f"x: overtaken by {sha(2)[:12]}")


def test_the_oldest_of_many_executions_that_run_at_a_time_is_followed_no_longer(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    for number in range(2, 8):  # no time passes, so that none of them ends
        world.push(BRANCH, sha(number), before=sha(number - 1))
        world.tasks()
    assert len(world.record(DEV).status.pipeline.open) == 5
    assert summary(world, sha(2)) == ("error", f"x: superseded: overtaken by {sha(3)[:12]}")


def test_progress_is_shown_in_one_place(world: World) -> None:
    world.cloud.stages = ("Source", "Build", "Test", "Deploy")
    world.push(BRANCH, sha(1))
    world.run()
    assert len(world.posted(sha(1))) == len(world.cloud.stages) + 3, "the results, and the beginning"
    count = len(world.posted(sha(1)))
    world.redeploy(DEV)
    world.run()
    assert len(world.posted(sha(1))[count:]) == len(world.cloud.stages) + 2, "each stage has a new page"


@pytest.mark.parametrize("seen", [True, False])
def test_a_stage_that_a_person_has_tried_again_is_told_as_it_ends(world: World, *, seen: bool) -> None:
    world.cloud.fail_next_execution("tests are red")
    world.push(BRANCH, sha(1))
    world.run()
    assert said(world, sha(1), "Build")[0] == "failure"
    execution = world.cloud.pipelines[DEV.stack_name][-1]
    execution.status, execution.fails_in = "running", ""
    if not seen:  # the event of its beginning was lost
        world.cloud.settle()
    world.event(DEV)
    world.run()
    assert set(world.statuses(sha(1)).values()) == {"success"}
    assert (world.record(DEV).status.state, world.record(DEV).status.outcome) == ("deployed", "deployed")
    posted = len(world.posted(sha(1)))
    world.event(DEV)
    world.run()
    assert len(world.posted(sha(1))) == posted


def test_a_first_execution_that_fails_before_it_knows_its_commit_is_told_on_it(world: World) -> None:
    world.cloud.fail_next_execution("the connection is not authorized", stage="Source")
    world.push(BRANCH, sha(1))
    world.run()
    assert world.record(DEV).status.state == "failed"
    why = "x: Source failed: the connection is not authorized"
    assert said(world, sha(1), "Source") == ("failure", why)


@pytest.mark.parametrize("name", ["Prepare", "teardown", "AGE"])
def test_a_stage_called_as_one_of_deployers_own_has_a_context_of_its_own(world: World, name: str) -> None:
    world.cloud.stages = ("Source", name, "Deploy")
    world.push(BRANCH, sha(1))
    world.run()
    assert {context.lower() for context in world.statuses(sha(1))} == {
        "deployer",
        "deployer/prepare",
        "deployer/source",
        f"deployer/stage/{name.lower()}",
        "deployer/deploy",
    }
