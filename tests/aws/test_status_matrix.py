"""Every status of a stack is handled without a person, tested with pushes or deletions against the simulated AWS."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from aws_world import AwsWorld, Simulation, pipeline_template

from deployer.model.stacks import TABLE, Phase
from tests.unit.world import environment

# only a person can resolve this status
_FOR_PEOPLE = {"IMPORT_ROLLBACK_FAILED"}
_LONG = (
    20.0  # duration of a simulated operation in seconds, so that the next call finds the stack in progress
)
_Met = tuple[AwsWorld, dict[str, str]]


def branch_of(status: str) -> str:
    return f"refs/heads/{status.lower().replace('_', '-')}"


def act_in_each_status(simulation: Simulation, how: Callable[[AwsWorld, str], str]) -> _Met:
    """Deploy a branch for each status, force its stack into the status and act at once; return the deliveries."""
    simulation.reset()
    world = AwsWorld(simulation, simulation.with_service_role())
    world.create_commits(*map(branch_of, TABLE))
    for status in TABLE:
        world.push_commit(branch_of(status), 0)
    world.run()
    deliveries = {}
    for status in TABLE:
        simulation.force_status(
            environment(branch_of(status)).stack_name, status, reason="as it is", seconds=_LONG
        )
        deliveries[status] = how(world, branch_of(status))
        world.tasks()
    world.run()
    return world, deliveries


@pytest.fixture(scope="module")
def pushed(simulation: Simulation) -> _Met:
    return act_in_each_status(simulation, lambda world, name: world.push_commit(name, 1))


@pytest.mark.parametrize("status", TABLE)
def test_a_push_ends_deployed(pushed: _Met, status: str) -> None:
    world, deliveries = pushed
    outcome, reason = world.outcome(deliveries[status])
    stack = world.stack(branch_of(status))
    assert stack is not None
    if status in _FOR_PEOPLE:
        assert (outcome, stack["status"]) == ("failed", status)
        assert "only a person" in reason
        return
    assert outcome == "deployed", reason
    assert world.execution_results(branch_of(status))[-1] == (
        world.commits[branch_of(status)][1],
        "Succeeded",
    )
    assert TABLE[stack["status"]].phase is Phase.READY
    application = world.stack(branch_of(status), "-app")
    assert application is not None
    assert TABLE[application["status"]].phase is Phase.READY


@pytest.fixture(scope="module")
def dropped(simulation: Simulation) -> _Met:
    return act_in_each_status(simulation, AwsWorld.delete_ref)


@pytest.mark.parametrize("status", TABLE)
def test_a_deletion_leaves_nothing(dropped: _Met, simulation: Simulation, status: str) -> None:
    world, deliveries = dropped
    assert world.outcome(deliveries[status])[0] == "deleted"
    left = simulation.resources_of(environment(branch_of(status)))
    assert left == {"stacks": [], "pipelines": [], "roles": [], "leftovers": []}
    receipt = world.record(environment(branch_of(status))).status.receipt
    assert (receipt.outcome, receipt.retained) == ("removed", [])


# --- statuses reached by failures ---------------------------------------------------------------------------

_X = "refs/heads/x"
_NAME = environment(_X).stack_name
_LATE = {"Type": "AWS::SNS::Topic", "DependsOn": "Pipeline"}


@pytest.fixture
def world(simulation: Simulation) -> AwsWorld:
    """A world with one branch before its first push."""
    simulation.reset()
    made = AwsWorld(simulation)
    made.create_commits(_X)
    return made


def inject_failure(world: AwsWorld, on: str, resource: str, **how: int) -> None:
    order = {"stack": _NAME, "resource": resource, "on": on, "reason": f"no {on} today", "count": 1, **how}
    world.simulation.simulator.faults.add({"fail_resources": order})


def stack_status(world: AwsWorld) -> str:
    found = world.stack(_X)
    return str(found["status"]) if found else ""


def assert_deployed(world: AwsWorld, number: int, **how: str) -> None:
    """Push a commit; check that it is deployed."""
    delivery = world.push_commit(_X, number, **how)
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "deployed", reason
    assert world.execution_results(_X)[-1] == (world.commits[_X][number], "Succeeded")
    assert TABLE[stack_status(world)].phase is Phase.READY


def assert_failed(world: AwsWorld, number: int, **how: str) -> str:
    """Push a commit; check that it fails and return the reason."""
    delivery = world.push_commit(_X, number, **how)
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    return reason


def topic_resource(tag: str) -> dict[str, object]:
    return {**_LATE, "Properties": {"DisplayName": tag}}


def test_a_failed_creation_is_kept_until_the_next_push(world: AwsWorld) -> None:
    inject_failure(world, "create", "Pipeline")
    assert "Pipeline (AWS::CodePipeline::Pipeline): no create today" in assert_failed(world, 0)
    assert stack_status(world) == "ROLLBACK_COMPLETE"
    assert_deployed(world, 1)


def test_a_failed_rollback_of_a_creation_is_replaced_by_the_next_push(world: AwsWorld) -> None:
    inject_failure(world, "create", "Pipeline")
    inject_failure(world, "delete", "AppRole")
    assert_failed(world, 0)
    assert stack_status(world) == "ROLLBACK_FAILED"
    assert_deployed(world, 1)


def wedge_an_update(world: AwsWorld, rollbacks: int) -> str:
    """Make an update fail, and its rollback fail this many times; return the reason."""
    assert_deployed(world, 0, template=pipeline_template(Note=topic_resource("one")))
    inject_failure(world, "update", "Note", skip=1, count=rollbacks)  # the update itself succeeds
    inject_failure(world, "create", "Other")
    return assert_failed(
        world, 1, template=pipeline_template(Note=topic_resource("two"), Other={**_LATE, "DependsOn": "Note"})
    )


def test_a_failed_rollback_is_continued(world: AwsWorld) -> None:
    reason = wedge_an_update(world, 1)
    assert reason == "its stack could not be updated: Other (AWS::SNS::Topic): no create today"
    assert stack_status(world) == "UPDATE_ROLLBACK_COMPLETE"
    assert_deployed(world, 2)


def test_a_rollback_that_always_fails_reports_the_remedy(world: AwsWorld) -> None:
    reason = wedge_an_update(world, 2)
    assert stack_status(world) == "UPDATE_ROLLBACK_FAILED"
    assert "no update today" in reason
    assert "continue its rollback in the console" in reason
    assert_deployed(world, 2)


def test_a_failed_update_with_rollback_disabled_is_rolled_back(world: AwsWorld) -> None:
    assert_deployed(world, 0)
    inject_failure(world, "create", "Late")
    client = world.simulation.client("cloudformation")
    kept = [{"ParameterKey": name, "UsePreviousValue": True} for name in ("PipelineName", "RepoBranch")]
    client.update_stack(
        StackName=_NAME, TemplateBody=pipeline_template(Late=_LATE), Parameters=kept, DisableRollback=True,
        Capabilities=["CAPABILITY_IAM"],
    )  # fmt: skip
    world.run_until(lambda: stack_status(world) == "UPDATE_FAILED")
    assert_deployed(world, 1)


def test_a_stack_of_an_unexecuted_change_set_is_left_alone(world: AwsWorld) -> None:
    """Before the change set is executed its stack has no tags, so deployer must not delete it."""
    client = world.simulation.client("cloudformation")
    client.create_change_set(
        StackName=_NAME, ChangeSetName="mine", ChangeSetType="CREATE", TemplateBody=pipeline_template(),
        Parameters=[
            {"ParameterKey": "PipelineName", "ParameterValue": _NAME},
            {"ParameterKey": "RepoBranch", "ParameterValue": "x"},
        ],
        Capabilities=["CAPABILITY_IAM"],
        Tags=[{"Key": key, "Value": value} for key, value in environment(_X).tags.items()],
    )  # fmt: skip
    assert "exists without deployer's tags" in assert_failed(world, 0)
    assert stack_status(world) == "REVIEW_IN_PROGRESS"
    client.delete_stack(StackName=_NAME)
    world.run_until(lambda: not stack_status(world))
    assert_deployed(world, 1)


# --- simultaneous operations --------------------------------------------------------------------------------


@contextmanager
def at_work(world: AwsWorld) -> Iterator[None]:
    """Make AWS operations take longer inside the block, so that the next call finds them in progress."""
    scheduler = world.simulation.simulator.scheduler
    usual, scheduler.speed = scheduler.speed, 0.5
    try:
        yield
    finally:
        scheduler.speed = usual


def is_gone(world: AwsWorld) -> None:
    left = world.simulation.resources_of(environment(_X))
    assert left == {"stacks": [], "pipelines": [], "roles": [], "leftovers": []}


def test_a_branch_is_deleted_while_its_stack_is_being_created(world: AwsWorld) -> None:
    world.push_commit(_X, 0)
    with at_work(world):
        world.tasks()
    assert stack_status(world) == "CREATE_IN_PROGRESS"
    delivery = world.delete_ref(_X)
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    is_gone(world)


def test_a_branch_is_deleted_while_its_stack_is_being_updated(world: AwsWorld) -> None:
    assert_deployed(world, 0)
    world.push_commit(_X, 1, template=pipeline_template(Late=_LATE))
    with at_work(world):
        world.tasks()
    assert stack_status(world) == "UPDATE_IN_PROGRESS"
    delivery = world.delete_ref(_X)
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    is_gone(world)


def test_a_branch_pushed_again_during_its_deletion_gets_a_new_stack(world: AwsWorld) -> None:
    assert_deployed(world, 0)
    before = world.stack(_X)
    world.delete_ref(_X)
    with at_work(world):
        world.run_until(lambda: stack_status(world) == "DELETE_IN_PROGRESS")
    assert_deployed(world, 1)
    after = world.stack(_X)
    assert before is not None
    assert after is not None
    assert after["id"] != before["id"]
    assert world.record(environment(_X)).status.stack.stack_arn == after["id"]
