"""The record of the stacks that a pipeline deploys: which of them it created."""

from typing import Any

import pytest

from deployer.environment.cloud_region import StackAction
from deployer.environment.context import ReconcileContext
from deployer.environment.deployed_stacks import is_elsewhere, record_deployed_stacks
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import DeployedStack
from deployer.model.stacks import Stack
from deployer.queue.items import Work
from tests.doubles import FakeCloud
from tests.unit.world import HELLO, environment

ENV = environment("refs/heads/x")
OTHER = environment("refs/heads/y")
APP = f"{ENV.stack_name}-app"


def made_at(at: float, **tags: str) -> Stack:
    return Stack(
        "arn:aws:cloudformation:us-east-1:123456789012:stack/app/1",
        "app",
        "CREATE_COMPLETE",
        tags,
        created_at=at,
    )


@pytest.mark.parametrize(
    ("began", "ended", "created", "own"),
    [
        (10, 20, 9, False),  # it existed before the action
        (10, 20, 10, True),
        (10, 20, 15, True),
        (10, 20, 75, True),  # AWS carried out the order of an action that was stopped
        (10, 20, 81, False),  # somebody else created it afterwards
        (10, 0, 9, False),
        (10, 0, 5000, True),  # the action runs
    ],
)
def test_which_action_created_a_stack(began: float, ended: float, created: float, *, own: bool) -> None:
    assert StackAction("a", "app", began_at=began, ended_at=ended).created_stack(made_at(created)) == own


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


def context(cloud: FakeCloud, *recorded: DeployedStack, **fields: Any) -> ReconcileContext:
    record = EnvironmentRecord.of(HELLO.full_name, ENV.key, ENV.stack_name, deployed=list(recorded), **fields)
    return ReconcileContext(ENV, Work(ENV.key), record, lambda: None, cloud, 1, lambda: False, 0)


def deployed(found: ReconcileContext) -> dict[str, bool]:
    return {each.arn: each.created for each in found.record.status.stack.deployed}


def add_stack(cloud: FakeCloud, at: float, **tags: str) -> str:
    cloud.clock = lambda: at
    return cloud.add_stack(APP, tags)


def test_a_stack_that_an_action_created_is_recorded_by_its_arn(cloud: FakeCloud) -> None:
    arn = add_stack(cloud, 15)
    found = record_deployed_stacks(context(cloud), [StackAction("a", APP, began_at=10, ended_at=20)])
    assert deployed(found) == {arn: True}
    assert found.owns_stack(cloud.stack(APP) or made_at(0))


def test_an_older_stack_is_recorded_as_not_created(cloud: FakeCloud) -> None:
    arn = add_stack(cloud, 5, team="a")
    found = record_deployed_stacks(context(cloud), [StackAction("a", APP, began_at=10, ended_at=20)])
    assert deployed(found) == {arn: False}
    assert not found.owns_stack(cloud.stack(APP) or made_at(0))


def test_another_stack_of_the_same_name_is_not_the_recorded_one(cloud: FakeCloud) -> None:
    add_stack(cloud, 15)
    found = record_deployed_stacks(context(cloud), [StackAction("a", APP, began_at=10, ended_at=20)])
    cloud.remove(APP)
    add_stack(cloud, 500)
    stack = cloud.stack(APP)
    assert stack is not None
    assert not found.owns_stack(stack)
    later = record_deployed_stacks(found, [StackAction("a", APP, began_at=10, ended_at=20)], again=True)
    assert not later.owns_stack(stack)


def test_a_stack_with_another_environments_tags_is_never_ours(cloud: FakeCloud) -> None:
    arn = add_stack(cloud, 15, **OTHER.tags)
    found = record_deployed_stacks(context(cloud), [StackAction("a", APP, began_at=10, ended_at=20)])
    assert deployed(found) == {arn: False}
    claimed = context(cloud, DeployedStack(arn=arn, created=True))
    assert not claimed.owns_stack(cloud.stack(APP) or made_at(0))


def test_the_pipelines_own_stack_is_known_by_its_recorded_arn(cloud: FakeCloud) -> None:
    arn = cloud.add_stack(ENV.stack_name, {"team": "a"})
    stack = cloud.stack(arn)
    assert stack is not None
    assert context(cloud, stack_arn=arn).owns_stack(stack)
    assert not context(cloud, stack_arn=f"{arn}0").owns_stack(stack)
    assert not context(cloud).owns_stack(stack)


def test_a_recorded_stack_costs_no_call(cloud: FakeCloud) -> None:
    arn = add_stack(cloud, 15)
    run = StackAction("a", arn, began_at=10, ended_at=20)
    found = record_deployed_stacks(context(cloud), [run])
    calls = len(cloud.called("stack"))
    by_name = StackAction("a", APP, began_at=10, ended_at=20)
    assert record_deployed_stacks(found, [run, by_name]) is found
    assert len(cloud.called("stack")) == calls


def test_a_longer_history_finds_the_action_that_created_a_stack(cloud: FakeCloud) -> None:
    """After an upgrade or the loss of Redis the record knows only an execution that found the stack."""
    arn = add_stack(cloud, 15)
    late = StackAction("b", arn, began_at=100, ended_at=110)
    found = record_deployed_stacks(context(cloud), [late])
    assert deployed(found) == {arn: False}
    first = StackAction("a", arn, began_at=10, ended_at=20)
    assert deployed(record_deployed_stacks(found, [late, first], again=True)) == {arn: True}


def test_the_own_stack_and_stacks_elsewhere_are_not_recorded(cloud: FakeCloud) -> None:
    cloud.add_stack(ENV.stack_name, ENV.tags)
    own = "arn:aws:cloudformation:us-east-1:123456789012:stack/own/1"
    found = context(cloud, stack_arn=own)
    runs = [
        StackAction("a", ENV.stack_name),
        StackAction("b", APP, region="eu-west-1"),
        StackAction("c", APP, account="210987654321"),
    ]
    assert record_deployed_stacks(found, runs) is found
    assert [is_elsewhere(found, each) for each in runs] == [False, True, True]
    assert not is_elsewhere(found, StackAction("d", APP, region="us-east-1", account="123456789012"))


def test_the_number_of_recorded_stacks_is_bounded(cloud: FakeCloud) -> None:
    cloud.clock = lambda: 15
    found = context(cloud)
    for number in range(60):
        arn = cloud.add_stack(f"app-{number}", {})
        run = StackAction(f"a{number}", arn, began_at=10 if number % 2 else 100, ended_at=110)
        found = record_deployed_stacks(found, [run])
    kept = found.record.status.stack.deployed
    assert len(kept) == 50
    assert sum(each.created for each in kept) == 30, "those that the pipeline created are kept first"
