"""The task that posts, and the message that calls for it."""

from typing import Any

import pytest
from celery import Celery
from kombu.exceptions import OperationalError
from world import World, environment, sha

from deployer.model.errors import UnavailableError
from workers.outbox import TASK, call_sender, register_sender

BRANCH = "refs/heads/x"


class Messages:
    """Stands for Celery: the messages that were sent."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.error: Exception | None = None

    def send_task(self, name: str, **_options: Any) -> None:
        if self.error:
            raise self.error
        self.sent.append(name)


@pytest.fixture
def world() -> World:
    """A branch that is deployed and of which GitHub shows nothing yet."""
    made = World()
    made.deployer.__dict__["celery"] = Messages()
    made.post = lambda: None  # type: ignore[method-assign]
    made.push(BRANCH, sha(1))
    made.run()
    assert made.record(environment(BRANCH)).status.state == "deployed"
    assert made.statuses(sha(1)) == {}
    return made


def test_one_message_is_sent_until_a_worker_has_posted(world: World) -> None:
    messages: Any = world.deployer.celery
    for _ in range(3):
        call_sender(world.deployer)
    assert messages.sent == [TASK]
    task = register_sender(Celery("test"), world.deployer)
    assert task.name == TASK
    assert task.run() == "6 posted, 0 left"
    assert set(world.statuses(sha(1)).values()) == {"success"}
    call_sender(world.deployer)
    assert messages.sent == [TASK], "nothing is due"


def test_a_message_that_cannot_be_sent_or_is_lost_is_sent_again(world: World) -> None:
    messages: Any = world.deployer.celery
    messages.error = OperationalError("the broker is away")
    call_sender(world.deployer)
    messages.error = None
    world.redis.delete("deployer:outbox:message")  # it expires
    call_sender(world.deployer)
    assert messages.sent == [TASK]


def test_the_task_survives_an_unavailable_redis(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: Any) -> Any:
        raise UnavailableError("Redis does not answer")

    monkeypatch.setattr(world.deployer.outbox, "take_due", unavailable)
    task = register_sender(Celery("test"), world.deployer)
    assert task.run() == "failed: Redis does not answer"
