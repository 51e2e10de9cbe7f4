"""Real workers that take several items of a queue for one message."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from ops_kit import CELERY, WORKER, Process

from deployer.model.environments import Repository
from deployer.queue.items import OUT_OF_TIME, Work
from deployer.redis_store.celery_dispatch import make_celery
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from sandbox.installation import wait_for

HELLO = Repository.parse("acme/hello")
KEYS = [f"development:refs/heads/b{number}" for number in range(4)]
# carries out steps: each writes its environment and its process, and the third one waits
PLANTED = """
import os, time
from pathlib import Path
import workers.celery
from deployer.queue.step_results import Finished

workers.celery.deployer.evaluator.start = lambda: None

def carry_out(repository, work, guard):
    with open("ran", "a") as file:
        file.write(f"{work.environment} {os.getpid()}\\n")
    while work.environment.endswith("b2") and not Path("go").exists():
        time.sleep(0.01)
    return Finished("skipped", work.environment)

workers.celery.deployer.carry_out = carry_out
"""


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with connect(redis_url) as server:
        server.flushall()
        yield server


@pytest.fixture
def lanes(client: Any) -> RedisQueueStore:
    return RedisQueueStore(client, lease_seconds=60, grace_seconds=600, sends_messages=True)


@pytest.fixture
def worker(start: Start, tmp_path: Path, redis_url: str, lanes: RedisQueueStore) -> Process:
    """A worker of one process that runs the third of four items; one message was sent."""
    for number, key in enumerate(KEYS):
        lanes.accept(HELLO, Work.of(key), f"d{number}", "push")
    (tmp_path / "planted.py").write_text(PLANTED)
    settings = {
        **WORKER, "DEPLOYER_REDIS_URL": redis_url, "DEPLOYER_LEASE_SECONDS": "60", "DEPLOYER_GRACE_SECONDS": "600",
        "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path.cwd())]),
    }  # fmt: skip
    running = start([*CELERY, "worker", "--concurrency=1", "--include=planted"], settings)
    wait_for("the third item runs", lambda: len(ran(tmp_path)) == 3, 60)
    return running


def ran(directory: Path) -> list[str]:
    file = directory / "ran"
    return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def events(redis_url: str) -> Iterator[list[dict[str, Any]]]:
    """What Flower gets."""
    app, found, listening = make_celery(redis_url), list[dict[str, Any]](), threading.Event()
    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": found.append})
        receiver.on_consume_ready = lambda *_arguments, **_options: listening.set()
        thread = threading.Thread(target=lambda: receiver.capture(limit=None, timeout=None, wakeup=False))
        thread.start()
        assert listening.wait(60)
        yield found
        receiver.should_stop = True
        thread.join()
    app.close()


def test_flower_sees_every_item_as_a_task(
    events: list[dict[str, Any]], worker: Process, tmp_path: Path
) -> None:
    def of(kind: str) -> list[dict[str, Any]]:
        return [each for each in events if each["type"] == f"task-{kind}"]

    wait_for("the running item is shown", lambda: len(of("started")) == 3)
    assert len(of("succeeded")) == 2, "those before it have ended"
    (tmp_path / "go").touch()
    wait_for("all have ended", lambda: len(of("succeeded")) == 4)
    assert worker.popen.poll() is None
    assert ran(tmp_path) == KEYS
    ids = [each["uuid"] for each in of("received")]
    assert len(set(ids)) == 4
    assert [each["uuid"] for each in of("started")] == ids
    assert [each["uuid"] for each in of("succeeded")] == ids, "once each"
    assert [each["result"] for each in of("succeeded")] == [repr(f"skipped: {key}") for key in KEYS]
    for received, key in zip(of("received"), KEYS, strict=True):
        assert received["name"] == "deployer.sync"
        assert json.loads(received["args"])[:2] == ["acme/hello", key]
    assert {each["hostname"] for each in events if each["type"].startswith("task-")} == {
        each["hostname"] for each in events if each["type"].startswith("worker-")
    }


def test_a_worker_that_is_stopped_leaves_the_next_item_to_another_one(
    worker: Process, tmp_path: Path, client: Any
) -> None:
    worker.send(signal.SIGTERM)
    worker.says("Warm shutdown")
    (tmp_path / "go").touch()
    assert worker.ends() == 0
    assert ran(tmp_path) == KEYS[:3]
    (message,) = client.lrange("deployer", 0, -1)
    assert KEYS[3] in json.loads(message)["headers"]["argsrepr"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGALRM])
def test_a_killed_process_costs_its_running_item_an_attempt(
    worker: Process, tmp_path: Path, lanes: RedisQueueStore, client: Any, number: signal.Signals
) -> None:
    """SIGALRM means that the item ran out of time, which the worker's main process reports."""
    pid = int((tmp_path / "ran").read_text().split()[-1])
    os.kill(pid, number)
    state = "deployer:{acme/hello}:state"
    if number == signal.SIGALRM:
        wait_for("its end is reported", lambda: client.hget(state, "why") == OUT_OF_TIME)
    else:
        lanes.clock_offset_ms += 61_000
    client.zadd("deployer:lanes", {HELLO.key: 0})
    (dispatch,) = lanes.sweep()
    (lane,) = lanes.lanes()
    why = OUT_OF_TIME if number == signal.SIGALRM else "its worker was lost"
    assert [(each.environment, each.log.attempts, each.last_error) for each in lane.waiting] == [
        (KEYS[2], 1, why), (KEYS[3], 0, "")
    ]  # fmt: skip
    assert dispatch.environment == KEYS[2]
    worker.send(signal.SIGTERM)
    assert worker.ends() == 0
