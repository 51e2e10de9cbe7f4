"""Measures frequent operations in one process, each relative to a plain operation of the same run.

Absolute times of one machine say little about another machine. Ratios can be compared: a webhook costs four times a
plain request, and a full queue is no slower than an empty one.
"""

import hashlib
import hmac
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import resources

from deployer.model.environments import Environment, Repository
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref
from deployer.queue.items import Work
from deployer.queue.step_results import Finished
from deployer.queue.store import Accepted
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from deployer.templates.release import check_release
from sandbox.bench.redis_server import redis_server

_ROUNDS = 5  # the median counts
_SECRET = "bench"


@dataclass(frozen=True)
class Row:
    """One measurement.

    Attributes:
        what: the measured operation.
        micros: its duration in microseconds.
        plain: the plain operation.
        plain_micros: its duration in microseconds.
    """

    what: str
    micros: float
    plain: str
    plain_micros: float

    @property
    def ratio(self) -> float:
        """The duration as a multiple of the plain operation's."""
        return self.micros / self.plain_micros


def time_calls(action: Callable[[int], object], times: int) -> float:
    """Microseconds of one call: the median of several rounds of `times` calls."""
    rounds = []
    for number in range(_ROUNDS):
        started = time.perf_counter()
        for each in range(times):
            action(number * times + each)
        rounds.append((time.perf_counter() - started) / times * 1e6)
    return statistics.median(rounds)


def measure_queues(url: str, times: int, waiting: int) -> Iterator[Row]:
    """Measure the queue's scripts against a round trip to Redis."""
    client = connect(url)
    ping = time_calls(lambda _: client.ping(), times * 4)
    store = RedisQueueStore(client)
    repository = Repository.parse("bench/one")

    def run_cycle(number: int) -> None:
        _finish_work(store, repository, store.accept(repository, _work_item(0), f"cycle-{number}", "push"))

    yield Row(
        "a push through its queue: accept, begin, finish",
        time_calls(run_cycle, times),
        "a Redis round trip",
        ping,
    )

    def accept_into(repository: Repository, environments: int) -> float:
        for number in range(environments):
            store.accept(repository, _work_item(number), f"{repository}-{number}", "push")
        return time_calls(
            lambda number: store.accept(repository, _work_item(0), f"{repository}-more-{number}", "push"),
            times,
        )

    few, many = (
        accept_into(Repository.parse("bench/few"), 10),
        accept_into(Repository.parse("bench/many"), waiting),
    )
    yield Row(f"accept into a queue with {waiting:,} items", many, "into a queue with 10 items", few)

    idle = waiting // 2
    for number in range(idle):
        each = Repository.parse(f"bench/idle-{number}")
        _finish_work(store, each, store.accept(each, _work_item(0), f"idle-{number}", "push"))
    yield Row(
        f"a sweep of {idle:,} idle queues",
        time_calls(lambda _: store.sweep(), times),
        "a Redis round trip",
        ping,
    )


def _work_item(number: int) -> Work:
    return Work.of(environment=f"development:refs/heads/branch-{number}", after="a" * 40)


def _finish_work(store: RedisQueueStore, repository: Repository, accepted: Accepted) -> None:
    if accepted.dispatch:
        store.begin(repository, accepted.dispatch.token)
        store.finish(repository, accepted.dispatch.token, Finished(str(Outcome.SKIPPED), "measured"))


def measure_webhooks(url: str, times: int) -> Iterator[Row]:
    """Measure webhooks against a request that does nothing."""
    os.environ.update(
        DEPLOYER_REDIS_URL=url, DEPLOYER_GITHUB_WEBHOOK_SECRET=_SECRET, DEPLOYER_REPOSITORIES="*/*",
        DEPLOYER_LOG_LEVEL="ERROR",
    )  # fmt: skip
    from deployer.wiring import build
    from web.application import create_app

    client = create_app(build()).test_client()
    plain = time_calls(lambda _: client.get("/healthz"), times)
    repository = {
        "full_name": "bench/hook",
        "name": "hook",
        "owner": {"login": "bench"},
        "default_branch": "main",
    }
    push = {
        "ref": "refs/heads/x", "before": "0" * 40, "after": "a" * 40, "created": True, "deleted": False,
        "forced": False, "repository": repository,
    }  # fmt: skip

    def make_post(body: bytes) -> Callable[[int], object]:
        signature = "sha256=" + hmac.new(_SECRET.encode(), body, hashlib.sha256).hexdigest()

        def send_delivery(number: int) -> object:
            return client.post(
                "/webhooks/github", data=body, content_type="application/json",
                headers={
                    "X-GitHub-Event": "push", "X-GitHub-Delivery": f"{len(body)}-{number}",
                    "X-Hub-Signature-256": signature,
                },
            )  # fmt: skip

        return send_delivery

    small = json.dumps(push).encode()
    large = json.dumps({**push, "commits": [{"message": "m" * 1000}] * 2000}).encode()
    took = time_calls(make_post(small), times)
    yield Row("a webhook of 300 bytes, accepted", took, "GET /healthz", plain)
    yield Row(
        "a webhook of 2 MB, accepted",
        time_calls(make_post(large), max(5, times // 20)),
        "one of 300 bytes",
        took,
    )


def measure_releases(times: int) -> Iterator[Row]:
    """Measure the check of a `deploy/` folder against reading the same file as YAML."""
    import yaml

    folder = resources.files("sandbox").joinpath("sample/deploy")
    files = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}
    repository = Repository.parse("bench/one")
    ref = Ref.parse("refs/heads/x")
    environment = Environment.of_ref(repository, ref, "main")
    given = {"ArtifactStore": "b", "ConnectionArn": "c"}

    class Plain(yaml.SafeLoader):
        pass

    Plain.add_multi_constructor("!", lambda *_: None)
    text = files["pipeline.yml"]
    plain = time_calls(lambda _: yaml.load(text, Loader=Plain), times)  # noqa: S506  a SafeLoader
    took = time_calls(
        lambda _: check_release(environment, ref, "x", "a" * 40, files, given).accepted_release(), times
    )
    yield Row("a release from the sample's deploy/ folder", took, "reading its YAML", plain)


def measure_operations(times: int, waiting: int) -> Iterator[Row]:
    """Measure every operation.

    Args:
        times: calls in each round.
        waiting: queue items in a full queue.
    """
    with redis_server() as url:
        yield from measure_releases(max(5, times // 20))
        yield from measure_queues(url, times, waiting)
        yield from measure_webhooks(url, times)
