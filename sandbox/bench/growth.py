"""Measures what frequent operations read from Redis while the number of environments grows."""

import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import redis

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import StageState
from deployer.model.environments import Environment, Repository
from deployer.model.refs import Ref
from deployer.queue.step_results import Finished
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from sandbox.bench.redis_server import redis_server
from sandbox.bench.tables import Value

_SECRET = "bench"
_BATCH = 1000
_IDLE = 3600.0  # seconds since the last use of the environments, whose time to live is three days
_SETTINGS = {
    "DEPLOYER_GITHUB_WEBHOOK_SECRET": _SECRET, "DEPLOYER_REPOSITORIES": "*/*", "DEPLOYER_API_TOKEN": "bench",
    "DEPLOYER_LOG_LEVEL": "ERROR", "DEPLOYER_TTL": "3d", "DEPLOYER_UNFENCED": "yes",
}  # fmt: skip


def fill_redis(client: redis.Redis, environments: int, repositories: int) -> None:
    """Write the records of deployed environments as version 0.1.0 left them: without an index."""
    now = time.time() - _IDLE
    for start in range(0, environments, _BATCH):
        pipe = client.pipeline(transaction=False)
        for number in range(start, min(start + _BATCH, environments)):
            repository = Repository("bench", f"r{number % repositories}")
            branch = Environment.of_ref(repository, Ref.of_branch(f"feature/{number}"), "main")
            record = EnvironmentRecord.of(
                repository.full_name, branch.key, branch.stack_name, ref=f"refs/heads/feature/{number}",
                commit=hashlib.sha1(str(number).encode(), usedforsecurity=False).hexdigest(), state="deployed",
                outcome="deployed", reason="every stage succeeded", used_at=now, changed_at=now, updated_at=now,
                stages=[StageState(name=name, status="succeeded") for name in ("Source", "Build", "Deploy")],
                stack_arn=f"arn:aws:cloudformation:us-east-1:123456789012:stack/{branch.stack_name}/1",
            )  # fmt: skip
            pipe.hset(f"deployer:{{{repository.key}}}:environments", branch.key, record.to_json())
            pipe.hset("deployer:names", branch.stack_name, f"{repository}\n{branch.key}")
            pipe.zadd("deployer:lanes", {repository.key: now * 1000})
            pipe.hset("deployer:spelled", repository.key, repository.full_name)
        pipe.execute()


def measure_growth(most: int) -> Iterator[Mapping[str, Value]]:
    """Measure each operation with a hundredth of some environments, with all, and with a tenth in one repository.

    Args:
        most: how many environments; each ten have a repository.
    """
    numbers = ((max(most // 100, 10), max(most // 1000, 1)), (most, most // 10), (most // 10, 1))
    sizes = {f"{count:,} in {repositories:,}": (count, repositories) for count, repositories in numbers}
    with redis_server() as url:
        os.environ.update(_SETTINGS, DEPLOYER_REDIS_URL=url)
        found: dict[str, dict[str, tuple[int, float, float]]] = {}
        with connect(url) as client:
            for name, (environments, repositories) in sizes.items():
                client.flushall()
                fill_redis(client, environments, repositories)
                lanes = RedisQueueStore(client)
                lanes.index_records()
                lanes.sweep(limit=repositories)  # as the scheduler does within a minute
                for what, act in _operations().items():
                    act()  # what is done once, such as the index of data of an earlier version
                    found.setdefault(what, {})[name] = _measure(client, act)
    for what, by_size in found.items():
        row: dict[str, Value] = {"operation": what}
        for name, (commands, kilobytes, millis) in by_size.items():
            row[f"{name}: commands"], row[f"{name}: kB"], row[f"{name}: CPU ms"] = commands, kilobytes, millis
        yield row


def _measure(client: redis.Redis, act: Callable[[], object]) -> tuple[int, float, float]:
    """The commands that Redis carried out, the kilobytes that it sent, and this process's milliseconds."""
    counts: Any = client
    before, started = _read_counts(counts), time.process_time()
    act()
    millis, after = (time.process_time() - started) * 1000, _read_counts(counts)
    own = _read_counts(counts)  # what the counting itself costs
    return (
        after[0] - before[0] - (own[0] - after[0]),
        (after[1] - before[1] - (own[1] - after[1])) / 1000,
        millis,
    )


def _require(fulfilled: bool, reason: str) -> None:
    if not fulfilled:
        raise RuntimeError(reason)


def _read_counts(client: Any) -> tuple[int, int]:
    stats = client.info("commandstats")
    calls = sum(each["calls"] for name, each in stats.items() if name.startswith("cmdstat_"))
    return calls, client.info("stats")["total_net_output_bytes"]


def _operations() -> Mapping[str, Callable[[], object]]:
    from click.testing import CliRunner

    from deployer.cli import main
    from deployer.wiring import build
    from web.application import create_app
    from workers.scheduler import Scheduler

    deployer = build()
    web = create_app(deployer).test_client()
    web.environ_base["HTTP_AUTHORIZATION"] = "Bearer bench"
    scheduler = Scheduler(deployer)
    numbers = iter(range(1000))
    repository = Repository("bench", "r0")
    environment = Environment.of_ref(repository, Ref.of_branch("feature/0"), "main")
    identity = environment.stack_name

    def get(path: str) -> Callable[[], object]:
        def read() -> None:
            answer = web.get(path)
            _require(answer.status_code == 200, f"{path}: {answer.text}")

        return read

    def push_and_work() -> None:
        push()
        work()

    def push() -> None:
        names = {"full_name": "bench/r0", "name": "r0", "owner": {"login": "bench"}, "default_branch": "main"}
        body = json.dumps(
            {"ref": "refs/heads/feature/0", "before": "0" * 40, "after": "a" * 40, "created": True,
             "deleted": False, "forced": False, "repository": names}
        ).encode()  # fmt: skip
        answer = web.post(
            "/webhooks/github", data=body, content_type="application/json",
            headers={
                "X-GitHub-Event": "push", "X-GitHub-Delivery": f"growth-{next(numbers)}",
                "X-Hub-Signature-256": "sha256=" + hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest(),
            },
        )  # fmt: skip
        _require(answer.status_code == 202, answer.text)

    def work() -> None:
        """The part of a worker: begin, read the record, finish with a record."""
        token = int(str(deployer.client.hget("deployer:{bench/r0}:state", "token")))
        _require(deployer.lanes.begin(repository, token) is not None, "the push was not queued")
        record = deployer.lanes.environment(environment)
        deployer.lanes.finish(repository, token, Finished("deployed", "because", record))

    def status(*arguments: str) -> Callable[[], object]:
        def run() -> None:
            answer = CliRunner().invoke(main, ["status", *arguments])
            _require(answer.exit_code == 0, f"{answer.output}{answer.exception!r}")

        return run

    steps: dict[str, Callable[[], object]] = {}
    for path in ("environments", "environments?repository=bench/r0", f"environments/{identity}", "repositories",
                 "activity", "lanes", "dead-letters"):  # fmt: skip
        steps[f"GET /api/v1/{path}"] = get(f"/api/v1/{path}")
    return {
        "index the names and records (daily)": deployer.lanes.index_stack_names,
        "check the expiries (each minute)": scheduler._check_expiries,
        "a push: receiver, then worker without GitHub and AWS": push_and_work,
        **steps,
        "GET /metrics": get("/metrics"),
        "GET /readyz": get("/readyz"),
        "GET / (overview)": get("/"),
        "deployer status": status(),
        "deployer status --state failed": status("--state", "failed"),
        "deployer status bench/r0": status("bench/r0"),
    }
