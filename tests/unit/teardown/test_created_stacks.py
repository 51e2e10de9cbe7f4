"""Teardown of stacks without deployer's tags: those that the pipeline created go by their ARN, all others stay."""

import pytest

from deployer.model.environments import Environment
from deployer.model.errors import PermanentError
from deployer.model.outcomes import Outcome
from tests.unit.world import HELLO, World, environment, sha

X, Y = "refs/heads/x", "refs/heads/y"
ENV, OTHER = environment(X), environment(Y)
APP = f"{ENV.stack_name}-app"
OWN_TAGS = {"team": "a"}


@pytest.fixture
def world() -> World:
    """A branch whose pipeline has created an application's stack without tags."""
    made = World()
    made.cloud.untagged = {APP}
    made.cloud.applications[ENV.stack_name] = [APP]
    made.push(X, sha(1))
    made.run()
    assert tags(made, APP) == {}
    return made


def tags(world: World, name: str) -> dict[str, str]:
    stack = world.cloud.stack(name)
    assert stack is not None
    return stack.tags


def retained(world: World, of: Environment = ENV) -> dict[str, str]:
    return {each.what: each.why for each in world.record(of).status.receipt.retained}


def deletions(world: World) -> list[str]:
    """The names of the stacks whose deletion was ordered, in this order."""
    return [arn.split("/")[1] for arn, *_ in world.cloud.called("delete_stack")]


# --- stacks without tags ----------------------------------------------------------------------------------------


def test_a_stack_that_the_pipeline_created_is_deleted_before_the_pipeline(world: World) -> None:
    arn = world.cloud.stack(APP)
    assert arn is not None
    assert [(each.arn, each.created) for each in world.record(ENV).status.stack.deployed] == [(arn.arn, True)]
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery) == ("deleted", "its pipeline and all that it deployed are gone")
    assert deletions(world) == [APP, ENV.stack_name]
    assert not world.cloud.holds(APP)
    assert retained(world) == {}
    assert world.record(ENV).status.stack.deployed == []


def test_its_tags_are_never_changed(world: World) -> None:
    world.remove(X, sha(1))
    world.run()
    assert world.cloud.called("restore_tags") == []
    assert all(call[0] != APP for call in world.cloud.called("update_stack"))


def test_an_older_stack_stays_and_the_report_says_so() -> None:
    world = World()
    world.cloud.add_stack("theirs", OWN_TAGS)
    world.lanes.clock_offset_ms += 10_000
    world.cloud.applications[ENV.stack_name] = ["theirs"]
    world.push(X, sha(1))
    world.run()
    delivery = world.remove(X, sha(1))
    world.run()
    assert tags(world, "theirs") == OWN_TAGS
    assert "theirs" not in deletions(world)
    why = "it does not bear deployer's tags for this environment, and its pipeline did not create it"
    assert retained(world) == {"stack theirs": why}
    assert world.outcome(delivery)[0] == "deleted"


def test_a_stack_of_somebody_else_in_its_place_stays(world: World) -> None:
    """Somebody deleted the pipeline's stack and created another one of its name."""
    world.cloud.remove(APP)
    world.lanes.clock_offset_ms += 600_000
    world.cloud.add_stack(APP, {})
    world.remove(X, sha(1))
    world.run()
    assert world.cloud.holds(APP)
    assert f"stack {APP}" in retained(world)


def test_it_is_deleted_by_the_record_when_the_pipeline_is_gone(world: World) -> None:
    world.cloud.remove(ENV.stack_name)
    world.remove(X, sha(1))
    world.run()
    assert deletions(world) == [APP]
    assert not world.cloud.holds(APP)


def test_it_is_deleted_by_the_pipelines_history_when_redis_was_lost(world: World) -> None:
    world.forget()
    world.remove(X, sha(1))
    world.run()
    assert deletions(world) == [APP, ENV.stack_name]


def test_a_stack_that_a_running_execution_creates_is_deleted(world: World) -> None:
    late = f"{ENV.stack_name}-late"
    world.cloud.untagged.add(late)
    world.cloud.applications[ENV.stack_name] = [APP, late]
    world.push(X, sha(2), sha(1))
    for _ in range(20):
        world.tasks()
        if world.cloud.holds(late):
            break
        world.step()
    assert world.cloud.holds(late)
    world.remove(X, sha(2))
    world.run()
    assert deletions(world) == [late, APP, ENV.stack_name]


def test_a_stack_that_another_pipeline_deploys_too_stays_until_its_own_teardown(world: World) -> None:
    world.lanes.clock_offset_ms += 60_000
    world.cloud.applications[OTHER.stack_name] = [APP]
    world.push(Y, sha(2))
    world.run()
    world.remove(X, sha(1))
    world.run()
    assert world.cloud.holds(APP)
    assert "refs/heads/y deploys it as well" in retained(world)[f"stack {APP}"]
    world.remove(Y, sha(2))
    world.run()
    assert world.cloud.holds(APP), "the pipeline of y did not create it"
    assert f"stack {APP}" in retained(world, OTHER)


def test_what_could_not_be_deleted_is_still_known_afterwards(world: World) -> None:
    stack = world.cloud.stack(APP)
    assert stack is not None
    world.cloud.protect(stack.arn, on=True)
    world.remove(X, sha(1))
    world.run()
    assert retained(world) == {f"stack {APP}": "it has termination protection"}
    world.cloud.protect(stack.arn, on=False)
    world.teardown(ENV)
    world.run()
    assert not world.cloud.holds(APP)


# --- the pipeline's own stack -----------------------------------------------------------------------------------


def self_updating(*applications: str, tags: dict[str, str] | None = None) -> World:
    """A branch whose pipeline deploys its own stack as well, perhaps with tags of its own."""
    world = World()
    world.cloud.applications[ENV.stack_name] = list(applications)
    if tags is not None:
        world.cloud.self_tags[ENV.stack_name] = tags
    world.push(X, sha(1))
    world.run()
    return world


@pytest.mark.parametrize(
    "applications", [(ENV.stack_name, APP), (APP, ENV.stack_name)], ids=["first", "last"]
)
def test_the_own_stack_goes_last_also_if_the_pipeline_updates_it(applications: tuple[str, ...]) -> None:
    world = self_updating(*applications)
    delivery = world.remove(X, sha(1))
    world.run()
    assert deletions(world) == [APP, ENV.stack_name]
    assert world.outcome(delivery)[0] == "deleted"


def test_tags_that_a_self_update_removed_are_restored() -> None:
    world = self_updating(APP, tags=OWN_TAGS)
    world.cloud.settle()
    record = world.record(ENV)
    assert record.status.outcome == Outcome.DEPLOYED
    assert "removed deployer's tags" in record.status.reason
    assert tags(world, ENV.stack_name) == {**record.status.stack.own_tags, **OWN_TAGS}
    assert ENV.owns(tags(world, ENV.stack_name))
    assert world.built(ENV)[-1] == (sha(1), "succeeded")


def test_a_resync_after_a_self_update_starts_nothing() -> None:
    world = self_updating(APP, tags=OWN_TAGS)
    world.cloud.settle()
    built = world.built(ENV)
    world.resync(HELLO)
    assert world.built(ENV) == built
    assert world.record(ENV).status.outcome == Outcome.DEPLOYED


def test_a_resync_restores_tags_that_nobody_has_restored() -> None:
    """A person started the execution, and no event came."""
    world = self_updating(APP, tags=OWN_TAGS)
    world.cloud.settle()
    world.cloud.start(ENV.stack_name, sha(1), "by a person")
    world.cloud.settle()
    assert tags(world, ENV.stack_name) == OWN_TAGS
    built = world.built(ENV)
    world.resync(HELLO)
    assert ENV.owns(tags(world, ENV.stack_name))
    assert world.built(ENV) == built, "only a push or a redeployment starts an execution"


def test_the_next_push_deploys_again() -> None:
    world = self_updating(APP, tags=OWN_TAGS)
    world.push(X, sha(2), sha(1))
    world.run()
    assert world.record(ENV).status.outcome == Outcome.DEPLOYED
    assert world.built(ENV)[-1] == (sha(2), "succeeded")
    world.cloud.settle()
    assert ENV.owns(tags(world, ENV.stack_name))


def test_a_stack_without_its_tags_is_taken_down() -> None:
    world = self_updating(APP, tags=OWN_TAGS)
    world.cloud.settle()
    world.cloud.start(ENV.stack_name, sha(1), "by a person")
    world.cloud.settle()
    assert tags(world, ENV.stack_name) == OWN_TAGS
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert deletions(world) == [APP, ENV.stack_name]
    assert not world.cloud.holds(ENV.stack_name)


def test_tags_that_cannot_be_restored_are_reported_and_never_end_as_deleted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermanentError("AccessDenied: no")

    world = World()
    monkeypatch.setattr(world.cloud, "restore_tags", refused)
    world.cloud.self_tags[ENV.stack_name] = OWN_TAGS
    world.push(X, sha(1))
    world.run()
    assert "could not be restored: AccessDenied: no" in world.record(ENV).status.reason
    monkeypatch.setattr(world.cloud, "delete_stack", refused)
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "failed"
    assert world.record(ENV).status.state == "failed"
    assert retained(world) == {f"stack {ENV.stack_name}": "AccessDenied: no"}


def test_an_own_stack_with_another_environments_tags_stays_and_the_teardown_fails() -> None:
    world = self_updating(tags=OTHER.tags)
    world.cloud.settle()
    assert world.cloud.called("restore_tags") == []
    delivery = world.remove(X, sha(1))
    world.run()
    assert world.cloud.holds(ENV.stack_name)
    assert world.outcome(delivery)[0] == "failed"


def test_a_foreign_stack_of_the_environments_name_stays(world: World) -> None:
    """Its ARN is not the recorded one."""
    world.cloud.remove(ENV.stack_name)
    world.cloud.add_stack(ENV.stack_name, OWN_TAGS)
    world.remove(X, sha(1))
    world.run()
    assert tags(world, ENV.stack_name) == OWN_TAGS
    assert f"stack {ENV.stack_name}" in retained(world)
