"""A pipeline that another execution changes by an update of its stack is brought back to the wanted release."""

import pytest

from deployer.environment.cloud_region import Execution
from deployer.model.environments import Environment, Repository
from tests.unit.world import World, environment, sha

MAIN, X, V1 = "refs/heads/main", "refs/heads/x", "refs/tags/v1"
_STEPS = 60
CANCELLED = "AWS cancelled the execution, because its pipeline was changed while it ran; redeploy it"


@pytest.fixture
def world() -> World:
    return World()


def start(world: World, ref: str) -> Environment:
    """Push a commit, and wait until its execution runs; return the environment."""
    world.push(MAIN, sha(1))
    world.run()
    world.push(ref, sha(1))
    wait_until_running(world, environment(ref))
    return environment(ref)


def wait_until_running(world: World, place: Environment) -> None:
    for _ in range(_STEPS):
        if world.built(place)[-1:] == [(sha(1), "running")]:
            return
        world.tasks()
        world.step()
    raise AssertionError(f"no execution runs: {world.built(place)}")


def update_by_another(world: World, place: Environment) -> None:
    world.cloud.update_from_outside(place.stack_name)
    world.event(place)


@pytest.mark.parametrize("ref", [X, V1])
def test_a_deployment_that_another_execution_cancelled_is_started_again(world: World, ref: str) -> None:
    place = start(world, ref)
    release = world.cloud.release(place.stack_name)
    update_by_another(world, place)
    world.run()
    assert world.built(place) == [(sha(1), "cancelled"), (sha(1), "succeeded")]
    assert world.record(place).status.outcome == "deployed"
    assert world.cloud.release(place.stack_name) == release, "the pipeline is the commit's again"


def test_a_deployment_that_is_cancelled_twice_has_failed(world: World) -> None:
    place = start(world, X)
    update_by_another(world, place)
    wait_until_running(world, place)
    update_by_another(world, place)
    world.run()
    assert world.built(place) == [(sha(1), "cancelled")] * 2
    status = world.record(place).status
    assert (status.outcome, status.reason) == ("failed", CANCELLED)
    world.redeploy(place)
    world.run()
    assert world.record(place).status.outcome == "deployed"


def test_a_deployment_that_cancelled_itself_has_failed(world: World) -> None:
    place = start(world, X)
    own = world.cloud.pipelines[place.stack_name][-1].id
    world.cloud.add_self_update(place.stack_name, own)
    update_by_another(world, place)
    world.run()
    assert world.built(place) == [(sha(1), "cancelled")]
    status = world.record(place).status
    assert (status.outcome, status.reason) == ("failed", CANCELLED)


def test_a_pipeline_that_its_first_execution_has_changed_is_corrected_before_the_start(world: World) -> None:
    """The first execution, which the creation starts, may build another commit and update its own pipeline."""
    world.push(MAIN, sha(1))
    world.run()
    place = environment(V1)
    listed = world.cloud.executions

    def change_first(pipeline: str, repository: Repository | None = None) -> list[Execution]:
        found = listed(pipeline, repository)
        if pipeline == place.stack_name and found and found[-1].automatic and not found[-1].ended:
            world.cloud.add_self_update(pipeline, found[-1].id)
            world.cloud.update_from_outside(pipeline)
        return found

    world.cloud.executions = change_first  # type: ignore[method-assign]
    world.push(V1, sha(1))
    world.run()
    assert world.built(place) == [(sha(1), "succeeded")]
    assert world.record(place).status.outcome == "deployed"
    assert world.cloud.release(place.stack_name) is not None, "deployer's own release is applied"
