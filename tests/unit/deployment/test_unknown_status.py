"""A stack whose status this version of deployer does not know: no step is guessed, and no other stack waits for it."""

import logging
from collections.abc import Callable

import pytest
from world import HELLO, World, environment, sha

from deployer.model.environment_status import AppliedStack
from deployer.model.environments import Environment
from deployer.model.outcomes import Outcome

UNHEARD_OF = "REBUILD_COMPLETE"
MAIN, X, Y = (f"refs/heads/{name}" for name in ("main", "x", "y"))


@pytest.fixture
def world() -> World:
    """Two branches are deployed, and the stack of the first has the new status."""
    found = World()
    found.rules()
    for number, ref in enumerate((X, Y), 1):
        found.push(ref, sha(number))
    found.run()
    found.cloud.set_status(environment(X).stack_name, UNHEARD_OF)
    found.deployer.inventory.forget()
    return found


def letters(world: World) -> list[tuple[str, str]]:
    return [(letter.arguments.environment, letter.kind) for letter in world.lanes.dead_letters()]


def test_a_resync_leaves_the_stack_out_with_a_warning_and_continues(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.cloud.remove(environment(Y).stack_name)
    with caplog.at_level(logging.WARNING):
        world.resync(HELLO)
    assert letters(world) == []
    assert world.built(environment(Y)) == [(sha(2), "succeeded")]
    told = next(each.reason for each in world.lanes.activity(HELLO) if each.outcome == Outcome.RESYNCED)
    for text in (caplog.text, told):
        assert f"x is left out: its stack {environment(X).stack_name} has the status {UNHEARD_OF}" in text


def test_an_environment_with_an_unknown_status_is_no_orphan(world: World) -> None:
    world.host.remove(HELLO, X)
    world.resync(HELLO)
    assert world.deployer.resyncer.orphans(HELLO) == []
    assert world.cloud.holds(environment(X).stack_name)
    world.cloud.set_status(environment(X).stack_name, "UPDATE_COMPLETE")
    world.lanes.clock_offset_ms += 3_600_000
    world.deployer.inventory.forget()
    world.resync(HELLO)
    assert not world.cloud.holds(environment(X).stack_name)


def push(world: World) -> None:
    world.push(X, sha(3), sha(1))


def delete(world: World) -> None:
    world.remove(X, sha(1))


def redeploy(world: World) -> None:
    world.redeploy(environment(X))


@pytest.mark.parametrize("ask", [push, delete, redeploy])
def test_a_task_for_the_stack_becomes_a_dead_letter_that_names_the_status(
    world: World, ask: Callable[[World], None]
) -> None:
    ask(world)
    world.run()
    assert letters(world) == [(environment(X).key, "UnknownStatusError")]
    (letter,) = world.lanes.dead_letters()
    assert letter.public_reason == (
        f"stack {environment(X).stack_name} has the status {UNHEARD_OF}, which this version of deployer does not know;"
        " update deployer, then replay"
    )
    assert world.cloud.holds(environment(X).stack_name)


def test_another_environments_teardown_continues(world: World) -> None:
    """Though the ledger does not tell what the other's pipeline deploys, so that AWS is asked."""
    world.lanes_note(environment(X), applications=[], applied=AppliedStack())
    world.cloud.applications[environment(Y).stack_name] = ["y-app"]
    world.cloud.add_stack("y-app", environment(Y).tags)
    world.remove(Y, sha(2))
    world.run()
    assert letters(world) == []
    assert not world.cloud.holds(environment(Y).stack_name)


def test_a_deleted_repository_with_an_unknown_status_is_not_over(world: World) -> None:
    world.host.delete(HELLO)
    world.tell("repository deleted", HELLO, word="deleted")
    assert world.standing(HELLO) == {environment(X)}
    assert letters(world) == []
    world.cloud.set_status(environment(X).stack_name, "UPDATE_COMPLETE")
    world.deployer.inventory.forget()
    world.resync(HELLO)
    assert world.standing(HELLO) == set[Environment]()
