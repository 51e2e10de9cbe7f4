"""A worker is killed just before or just after an order to AWS: the repeat orders once, or recognizes the order."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from world import TEMPLATE, World, environment, sha

from deployer.model.environment_record import EnvironmentRecord
from deployer.queue.items import Task, Work

X = "refs/heads/x"
CHANGED = TEMPLATE.replace("Default: hi", "Default: ho")
ENVIRONMENT = environment(X)


class Killed(BaseException):
    """The process ends here; nothing of the product catches it."""


@dataclass
class Death:
    """Kills the worker once, around the first call of one method of AWS.

    Attributes:
        after: whether AWS has carried out the order when the worker dies.
        orders: the arguments of every call that reached AWS.
        stored: the queue item and the record that Redis had when the worker was killed.
    """

    world: World
    method: str
    after: bool
    orders: list[tuple[Any, ...]] = field(default_factory=list)
    stored: tuple[Work, EnvironmentRecord] | None = None

    def __post_init__(self) -> None:
        order: Callable[..., Any] = getattr(self.world.cloud, self.method)
        begin, items = self.world.lanes.begin, []

        def remember(*arguments: Any) -> Work | None:
            items.append(item := begin(*arguments))
            return item

        def dies(*arguments: Any, **how: Any) -> Any:
            if self.stored is None and not self.after:
                self.stored = (items[-1], self.world.record(ENVIRONMENT))
                raise Killed
            self.orders.append(arguments)
            answer = order(*arguments, **how)
            if self.stored is None:
                self.stored = (items[-1], self.world.record(ENVIRONMENT))
                raise Killed
            return answer

        self.world.lanes.begin = remember  # type: ignore[method-assign]
        setattr(self.world.cloud, self.method, dies)

    def run(self) -> None:
        """Let the worker die, and let another one continue."""
        with pytest.raises(Killed):
            self.world.run()
        self.world.run()


@pytest.fixture(params=["before the order", "after the order"])
def after(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "after the order")


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def live(world: World) -> World:
    """The environment is deployed at the first commit."""
    world.push(X, sha(1))
    world.run()
    return world


def tokens(death: Death, position: int) -> set[str]:
    """The idempotency tokens of the orders."""
    return {arguments[position] for arguments in death.orders}


def test_a_creation_is_stored_and_ordered_once(world: World, after: bool) -> None:
    delivery = world.push(X, sha(1))
    death = Death(world, "create_stack", after)
    death.run()
    assert death.stored is not None
    item, record = death.stored
    assert (item.task, item.progress.created, record.spec.region) == (Task.PROVISION, True, "us-east-1")
    assert len(tokens(death, 2)) == 1
    assert world.outcome(delivery)[0] == "deployed"
    assert len(list(world.cloud.stacks())) == 1
    assert world.built(ENVIRONMENT) == [(sha(1), "succeeded")]


def test_an_update_is_stored_and_ordered_once(live: World, after: bool) -> None:
    delivery = live.push(X, sha(2), sha(1), CHANGED)
    death = Death(live, "update_stack", after)
    death.run()
    assert death.stored is not None
    item, record = death.stored
    assert (item.task, item.progress.updated, record.status.state) == (Task.UPDATE, True, "updating")
    assert len(tokens(death, 2)) == 1
    assert live.outcome(delivery)[0] == "deployed"
    assert live.built(ENVIRONMENT) == [(sha(1), "succeeded"), (sha(2), "succeeded")]


def test_an_execution_is_started_once(live: World, after: bool) -> None:
    delivery = live.push(X, sha(2), sha(1))
    death = Death(live, "start", after)
    death.run()
    assert death.stored is not None
    item, record = death.stored
    assert (item.task, item.spec.sha, record.spec.commit) == (Task.TRIGGER, sha(2), sha(2))
    assert len(tokens(death, 2)) == 1
    assert live.outcome(delivery)[0] == "deployed"
    assert live.built(ENVIRONMENT) == [(sha(1), "succeeded"), (sha(2), "succeeded")]


def test_an_execution_is_stopped_once(live: World, after: bool) -> None:
    live.push(X, sha(2), sha(1))
    live.tasks()  # the execution runs
    live.remove(X, sha(2))
    death = Death(live, "stop", after)
    advance = live.cloud.advance
    live.cloud.advance = lambda: advance() if death.orders else None  # type: ignore[method-assign]
    death.run()
    assert death.stored is not None
    item, record = death.stored
    assert (item.task, record.status.state) == (Task.DELETE, "deleting")
    assert [arguments[1] for arguments in death.orders] == [record.status.pipeline.execution]
    assert live.record(ENVIRONMENT).status.outcome == "deleted"
    assert list(live.cloud.stacks()) == []


def test_a_deletion_is_stored_and_ordered_once(live: World, after: bool) -> None:
    arn = live.record(ENVIRONMENT).status.stack.stack_arn
    delivery = live.remove(X, sha(1))
    death = Death(live, "delete_stack", after)
    death.run()
    assert death.stored is not None
    item, record = death.stored
    assert (item.task, record.status.receipt.plan.arn) == (Task.DELETE, arn)
    assert len(tokens(death, 1)) == 1
    assert live.outcome(delivery)[0] == "deleted"
    assert [each.id for each in live.record(ENVIRONMENT).status.receipt.removed] == [arn]


def test_a_rollback_is_stored_and_continued_once(live: World, after: bool) -> None:
    live.cloud.set_status(ENVIRONMENT.stack_name, "UPDATE_ROLLBACK_FAILED", "no rights")
    delivery = live.push(X, sha(2), sha(1))
    death = Death(live, "continue_rollback", after)
    death.run()
    assert death.stored is not None
    item, record = death.stored
    assert (item.task, item.progress.recovered, record.status.state) == (Task.UPDATE, True, "updating")
    assert len(tokens(death, 1)) == 1
    assert live.outcome(delivery)[0] == "deployed"
    assert live.built(ENVIRONMENT)[-1] == (sha(2), "succeeded")
