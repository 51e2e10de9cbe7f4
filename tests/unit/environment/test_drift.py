"""What deployer itself changes in a stack is no drift, whoever sees its end; what somebody else changes is."""

from typing import Any

import pytest
from world import HELLO, TEMPLATE, World, environment, sha

BRANCH = "refs/heads/x"
DEV = environment(BRANCH)
CHANGED = TEMPLATE.replace("Default: hi", "Default: ho")


@pytest.fixture
def world() -> World:
    made = World()
    made.push(BRANCH, sha(1))
    made.run()
    return made


@pytest.mark.parametrize("template", [CHANGED, TEMPLATE])
@pytest.mark.parametrize("fails", [False, True])
def test_an_update_that_the_next_push_overtakes_is_no_drift(
    world: World, template: str, *, fails: bool
) -> None:
    if fails:
        world.cloud.fail_next_update("AWS is out of it")
    world.push(BRANCH, sha(2), before=sha(1), template=CHANGED)
    world.tasks()
    assert under_way(world) == "UPDATE_IN_PROGRESS"
    world.push(BRANCH, sha(3), before=sha(2), template=template)
    world.run()
    assert (world.record(DEV).status.state, world.record(DEV).status.stack.drift) == ("deployed", "")


def test_an_update_that_a_resync_goes_on_with_after_a_dead_letter_is_no_drift(world: World) -> None:
    world.push(BRANCH, sha(2), before=sha(1), template=CHANGED)
    world.tasks()
    world.cloud.fail_next(RuntimeError("a bug"), method="stack")
    world.run()
    assert world.record(DEV).status.outcome == "dead-lettered"
    world.resync(HELLO)
    assert (world.record(DEV).status.state, world.record(DEV).status.stack.drift) == ("deployed", "")


def test_what_somebody_else_changes_afterwards_is_drift(world: World) -> None:
    world.push(BRANCH, sha(2), before=sha(1), template=CHANGED)
    world.tasks()
    world.push(BRANCH, sha(3), before=sha(2), template=CHANGED)
    world.run()
    world.cloud.tamper(DEV.stack_name, Greeting="changed by hand")
    world.resync(HELLO)
    assert "parameters changed outside deployer" in world.record(DEV).status.stack.drift


def under_way(world: World) -> Any:
    stack = world.cloud.stack(DEV.stack_name)
    return stack and stack.status
