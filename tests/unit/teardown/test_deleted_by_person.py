"""An environment that a person deletes although its branch exists: what brings it back, and what does not."""

from collections.abc import Callable

import pytest

from deployer.model.environment_record import Deletion
from deployer.model.environments import Environment
from deployer.model.errors import TransientError
from deployer.model.refs import ZERO_SHA
from deployer.views.sentences import held_words
from tests.unit.world import HELLO, TEMPLATE, World, environment, sha

MAIN, X, V1 = "refs/heads/main", "refs/heads/x", "refs/tags/v1"
ENV, STAGING, PRODUCTION = environment(X), environment(MAIN), environment(V1)
APP = f"{ENV.stack_name}-app"
KEPT = "; it stays deleted until a push, a redeploy, or a resync with --recreate"


@pytest.fixture
def world() -> World:
    """A branch whose environment a person has deleted."""
    made = World()
    made.cloud.applications[ENV.stack_name] = [APP]
    made.push(X, sha(1))
    made.run()
    delete(made, ENV)
    return made


def delete(world: World, of: Environment) -> None:
    world.teardown(of)
    world.run()
    assert names(world, of) == set()


def names(world: World, of: Environment = ENV) -> set[str]:
    return {each.name for each in world.cloud.stacks() if of.owns(each.tags)}


def resync(world: World, *, recreate: bool = False) -> str:
    accepted = world.deployer.submitter.resync(HELLO, recreate=recreate)
    world.run()
    return next(line.reason for line in world.lanes.activity(HELLO, 50) if line.goal == accepted.goal)


def test_resyncs_leave_it_deleted_and_say_so(world: World) -> None:
    assert world.record(ENV).status.reason.endswith(KEPT)
    for _ in range(2):
        assert resync(world) == "nothing to do; a person deleted x; --recreate creates them again"
        assert names(world) == set()
    assert world.record(ENV).status.state == "deleted"
    assert "a person deleted it at" in held_words(world.record(ENV))
    assert "deployer resync acme/hello --recreate" in held_words(world.record(ENV))


def push_again(world: World) -> None:
    world.push(X, sha(2), sha(1))


def redeploy(world: World) -> None:
    world.redeploy(ENV)


def recreate(world: World) -> None:
    resync(world, recreate=True)


def restore(world: World) -> None:
    """The branch is deleted, and created again at the same commit."""
    world.remove(X, sha(1))
    world.run()
    world.push(X, sha(1))


@pytest.mark.parametrize("act", [push_again, redeploy, recreate, restore])
def test_what_brings_it_back(world: World, act: Callable[[World], None]) -> None:
    act(world)
    world.run()
    assert names(world) == {ENV.stack_name, APP}
    assert world.record(ENV).status.outcome == "deployed"
    assert not world.record(ENV).spec.deletion
    assert "a person deleted" not in resync(world)
    assert names(world) == {ENV.stack_name, APP}


def test_a_push_whose_webhook_was_lost_brings_it_back(world: World) -> None:
    world.host.push(HELLO, X, sha(2), files={"pipeline.yml": TEMPLATE})
    resync(world)
    assert world.record(ENV).spec.commit == sha(2)
    assert names(world) == {ENV.stack_name, APP}


def test_a_branch_that_was_deleted_and_restored_without_webhooks_comes_back(world: World) -> None:
    world.remove(X, sha(1))
    world.run()
    world.host.push(HELLO, X, sha(1), files={"pipeline.yml": TEMPLATE})
    resync(world)
    assert names(world) == {ENV.stack_name, APP}


def test_a_delivery_of_an_older_push_does_not_bring_it_back(world: World) -> None:
    at = world.record(ENV).spec.deletion.at
    delivery = world.deliver(X, sha(1), ZERO_SHA, pushed_at=at - 100)
    world.run()
    assert world.outcome(delivery) == ("skipped", "a person deleted it, and its branch has not moved since")
    assert names(world) == set()
    world.deliver(X, sha(1), ZERO_SHA, pushed_at=at + 100)
    world.run()
    assert names(world) == {ENV.stack_name, APP}


def test_a_skipped_push_does_not_bring_it_back_and_recreate_does(world: World) -> None:
    world.push(X, sha(2), sha(1), message="x [skip ci]")
    world.run()
    for _ in range(2):
        resync(world)
    assert names(world) == set()
    resync(world, recreate=True)
    assert names(world) == {ENV.stack_name, APP}


def test_a_loss_of_redis_forgets_it(world: World) -> None:
    world.forget()
    resync(world)
    assert names(world) == {ENV.stack_name, APP}


def test_the_head_on_record_counts_while_github_does_not_answer() -> None:
    world = World()
    world.push(X, sha(1))
    world.run()
    world.host.fail_next(TransientError("GitHub is away"), method="head")
    delete(world, ENV)
    assert world.record(ENV).spec.deletion.head == sha(1)
    resync(world)
    assert names(world) == set()


def test_staging_stays_deleted_too_and_production_is_no_matter_of_recreate() -> None:
    world = World()
    world.rules()
    world.push(MAIN, sha(1))
    world.run()
    world.push(V1, sha(1))
    world.run()
    for each in (STAGING, PRODUCTION):
        delete(world, each)
    resync(world)
    assert names(world, STAGING) == names(world, PRODUCTION) == set()
    resync(world, recreate=True)
    assert names(world, STAGING) == {STAGING.stack_name}
    assert names(world, PRODUCTION) == set()


def test_staging_that_an_earlier_version_deleted_comes_back_by_recreate() -> None:
    world = World()
    world.push(MAIN, sha(1))
    world.run()
    delete(world, STAGING)
    world.lanes_note(STAGING, deletion=Deletion())
    resync(world)
    assert names(world, STAGING) == set()
    resync(world, recreate=True)
    assert names(world, STAGING) == {STAGING.stack_name}


def test_it_stays_deleted_at_the_end_of_its_sleep(world: World) -> None:
    world.push(X, sha(2), sha(1))
    world.run()
    world.lanes_note(ENV, state="snoozed_keys", aged="night", sleep="20:00-07:00")
    delete(world, ENV)
    assert world.record(ENV).spec.expiry.aged == ""


def test_a_resync_finishes_a_deletion_that_ended_as_a_dead_letter() -> None:
    world = World()
    world.cloud.applications[ENV.stack_name] = [APP]
    world.push(X, sha(1))
    world.run()
    world.teardown(ENV)
    world.cloud.fail_next(RuntimeError("a bug"), times=9, method="delete_stack")
    world.run()
    assert world.record(ENV).status.outcome == "dead-lettered"
    world.cloud.clear_failures()
    resync(world)
    assert names(world) == set()
    assert world.record(ENV).status.outcome == "deleted"
