"""Measures queues under backlog: 2,000 tasks of 5 ms in 50 repositories, of which one has 30 %.

The backlog is queued before the worker starts, and the time counts from the first task to the last one, so neither the
queueing nor the start of a worker counts.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from deployer.cli.processes import worker_command
from deployer.model.environments import Repository
from deployer.queue.items import Work
from deployer.wiring import build
from sandbox.bench.lane_log import TASK_SECONDS, LaneLog, LaneResult, read_log
from sandbox.bench.redis_server import redis_server
from sandbox.bench.tables import Table, Value
from sandbox.processes import alive, descendants

_REPOSITORIES = 50
_BUSIEST_SHARE = 0.3
_CONCURRENCY = 8
_LIMIT_SECONDS = 90
_STOP_SECONDS = 20

Backlog = Sequence[tuple[str, int]]


def make_backlog(tasks: int) -> Backlog:
    """The tasks in the order in which they are queued: repository and number within the repository."""
    busiest = int(tasks * _BUSIEST_SHARE)
    names = ["repository-0"] * busiest
    names += [f"repository-{1 + number % (_REPOSITORIES - 1)}" for number in range(tasks - busiest)]
    random.Random(1).shuffle(names)  # noqa: S311  the same order in each run
    counts: dict[str, int] = {}
    backlog = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        backlog.append((name, counts[name]))
    return backlog


def measure_lanes(directory: Path, tasks: int) -> Iterator[Table]:
    """Measure deployer and two usual ways with Celery.

    Args:
        directory: for logs.
        tasks: the length of the backlog.

    Raises:
        RuntimeError: not all tasks ran.
    """
    backlog = make_backlog(tasks)
    floor = _measure_floor(backlog)
    rows = [_row("busiest repository alone (floor)", floor, floor.seconds)]
    for name, kind in (
        ("**deployer**", "deployer"),
        ("Celery without order", "unordered"),
        ("Celery with a lock in Redis and retry", "locked"),
    ):
        found = _measure_worker(kind, backlog, directory)
        if found.tasks != tasks:
            raise RuntimeError(f"{name}: {found.tasks} of {tasks} tasks ran")
        rows.append(_row(name, found, floor.seconds))
    yield Table("lanes", rows)


def _row(name: str, found: LaneResult, floor: float) -> dict[str, Value]:
    alone = not found.messages
    return {
        "tasks of 5 ms": name,
        "seconds": found.seconds,
        "ratio to the floor": found.seconds / floor,
        "messages a task": None if alone else found.messages / found.tasks,
        "order violations": None if alone else found.order_violations,
        "overlaps": None if alone else found.overlaps,
        "wasted runs": None if alone else found.wasted,
        "last repository began after s": None if alone else found.last_lane,
    }


def _measure_floor(backlog: Backlog) -> LaneResult:
    """Run the tasks of the busiest repository one after another, without a queue."""
    number = sum(1 for name, _ in backlog if name == "repository-0")
    started = time.monotonic()
    for _ in range(number):
        time.sleep(TASK_SECONDS)
    return LaneResult(number, time.monotonic() - started, 0, 0, 0, 0, 0.0)


def _measure_worker(kind: str, backlog: Backlog, directory: Path) -> LaneResult:
    path = directory / f"lanes-{kind}.log"
    path.unlink(missing_ok=True)
    with redis_server(fsync="everysec") as url:
        env = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("DEPLOYER_", "AWS_"))},
            **LaneLog.variables(path),
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # no step calls AWS
            "AWS_REGION": "us-east-1",
            "DEPLOYER_ARTIFACT_BUCKET": "none",
            "DEPLOYER_CONCURRENCY": str(_CONCURRENCY),
            "DEPLOYER_GITHUB_TOKEN": "none",
            "DEPLOYER_REDIS_URL": url,
            "DEPLOYER_REPOSITORIES": "bench/*",
            "DEPLOYER_UNFENCED": "yes",
        }
        application = (
            _queue_for_deployer(backlog, env) if kind == "deployer" else _queue_for_celery(kind, backlog, env)
        )
        command = [
            each.replace("--app=workers", f"--app={application}")
            for each in worker_command(build(env).config)
        ]
        if kind != "deployer":
            command.remove("--include=workers.drain")
        with (directory / f"worker-{kind}.log").open("wb") as output:
            process = subprocess.Popen(
                command,
                env=env,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            _wait_until_done(path, len(backlog), process)
        finally:
            _stop(process)
    return read_log(path)


def _queue_for_deployer(backlog: Backlog, env: dict[str, str]) -> str:
    """Queue the backlog as pushes to environments of their own, so that none replaces another."""
    deployer = build(env)
    for name, number in backlog:
        work = Work.of(environment=f"development:refs/heads/branch-{number}", after=f"{number:040x}")
        accepted = deployer.lanes.accept(Repository.parse(f"bench/{name}"), work, f"{name}-{number}", "push")
        if accepted.dispatch:
            deployer.queue.send(accepted.dispatch)
    return "sandbox.bench.lane_worker"


def _queue_for_celery(kind: str, backlog: Backlog, env: dict[str, str]) -> str:
    from celery import Celery

    with Celery("lanes", broker=env["DEPLOYER_REDIS_URL"], set_as_current=False) as app:
        for each in backlog:
            app.send_task(f"lanes.{kind}", args=each, queue="lanes")
    return "sandbox.bench.alternatives.lanes"


def _wait_until_done(path: Path, tasks: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _LIMIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.25)
        if path.exists() and path.read_bytes().count(b"task ") >= tasks:
            return


def _stop(process: subprocess.Popen[bytes]) -> None:
    family = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in family:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
