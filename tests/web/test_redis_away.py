"""Tests of a Redis that is down, hangs, loads, is full or read-only: 503 within a second, and nothing is recorded."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from werkzeug.test import TestResponse

from deployer.redis_store.circuit_breaker import RedisCircuitBreaker
from deployer.redis_store.connection import connect
from sandbox.installation import wait_for
from tests.redis_kit import Server, SlowNetwork
from tests.stalls import Stopwatch
from tests.web.site import TOKEN, Site, record
from web.application import REDIS_SECONDS

SOON = 1.5  # a second, and what a busy machine adds
STAGE_EVENT = {
    "version": "0",
    "id": "e-1",
    "detail-type": "CodePipeline Stage Execution State Change",
    "source": "aws.codepipeline",
    "time": "2026-01-01T00:00:00Z",
    "detail": {"pipeline": "api-main", "execution-id": "1", "stage": "Build", "state": "SUCCEEDED", "version": 1},
}  # fmt: skip


class Place:
    """A site and its Redis, which comes and goes."""

    def __init__(self, directory: Path) -> None:
        self.server = Server(
            directory, "appendonly yes", "appendfsync always", "enable-debug-command local"
        ).start()
        self.budget = RedisCircuitBreaker(REDIS_SECONDS)
        self.site = Site(client=connect(self.server.url, self.budget), budget=self.budget)
        self.stack = self.site.put(record("known"))

    @contextmanager
    def gone(self) -> Iterator[None]:
        self.server.kill()
        try:
            yield
        finally:
            self.server.start()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        self.server.hang()
        try:
            yield
        finally:
            self.server.go_on()

    @contextmanager
    def loading(self) -> Iterator[None]:
        with self.server.client as client:
            client.execute_command("DEBUG", "POPULATE", 10000)
            client.bgrewriteaof()
            wait_for("it is written", lambda: not client.info("persistence")["aof_rewrite_in_progress"])
            client.config_set("key-load-delay", "2000")  # microseconds
            client.config_set("loading-process-events-interval-bytes", "1024")
            client.config_rewrite()
        self.server.kill()
        self.server.start(wait=False)
        wait_for("it loads", lambda: self._says("LOADING"))
        try:
            yield
            assert self._says("LOADING")
        finally:
            self._load_at_once()

    def _load_at_once(self) -> None:
        with self.server.client as client:
            client.config_set("key-load-delay", "0")
            client.config_rewrite()
        wait_for("it has loaded", lambda: self._says("PONG"))

    @contextmanager
    def full(self) -> Iterator[None]:
        with self.server.client as client:
            client.config_set("maxmemory", "1")
            try:
                yield
            finally:
                client.config_set("maxmemory", "0")

    @contextmanager
    def read_only(self) -> Iterator[None]:
        with self.server.client as client:
            client.replicaof("127.0.0.1", "1")
            try:
                yield
            finally:
                client.replicaof("NO", "ONE")

    def _says(self, word: str) -> bool:
        with self.server.client as client:
            try:
                return word in ("PONG" if client.ping() else "")
            except ConnectionError:
                return False
            except Exception as error:  # noqa: BLE001  every other one is an answer
                return word in f"{type(error).__name__} {error}".upper()

    def recovered(self) -> None:
        wait_for("the site is ready", lambda: self.site.client.get("/readyz").status_code == 200)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    made = Place(tmp_path_factory.mktemp("redis"))
    yield made
    made.site.redis.close()
    made.server.kill()


def soon(call: Callable[[], TestResponse]) -> TestResponse:
    """An answer, which must be there within a second."""
    with Stopwatch() as watch:
        answer = call()
    assert watch.seconds < SOON, answer
    return answer


def refused(answer: TestResponse) -> None:
    assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "5"), answer.text
    assert "Redis" in answer.text


@pytest.mark.parametrize("way", ["gone", "hanging", "loading", "full", "read_only"])
def test_without_redis_every_call_is_503_within_a_second_and_records_nothing(place: Place, way: str) -> None:
    site = place.site
    event = STAGE_EVENT | {"id": f"e-{way}"}
    event["detail"] = {**STAGE_EVENT["detail"], "pipeline": place.stack}  # type: ignore[dict-item]
    reads = 503 if way in {"gone", "hanging", "loading"} else 200
    before = len(site.queue.sent)
    with getattr(place, way)():
        refused(soon(lambda: site.push(way, delivery=f"d-{way}")))
        refused(soon(lambda: site.aws(event)))
        refused(soon(lambda: site.api("POST", "/resync", json={"repository": "acme/api"})))
        refused(soon(lambda: site.api("POST", f"/environments/{place.stack}/redeploy")))
        ready = soon(lambda: site.client.get("/readyz"))
        assert (ready.status_code, ready.json["status"]) == (503, "not ready")
        assert "deployer_redis_up 0.0" in soon(lambda: site.client.get("/metrics")).text
        assert soon(lambda: site.client.get("/healthz")).status_code == 200
        assert soon(lambda: site.deliver({}, headers={"X-Hub-Signature-256": "sha256=0"})).status_code == 401
        for path in ("environments", "lanes", "activity", "dead-letters", f"deliveries/d-put-{place.stack}"):
            assert soon(lambda path=path: site.api("GET", f"/{path}")).status_code == reads
        page = soon(lambda: site.client.get("/"))
        assert (page.status_code, page.mimetype) == (reads, "text/html")
        assert reads == 200 or "Redis does not answer" in page.text
    place.recovered()
    assert len(site.queue.sent) == before

    # what a hung Redis was sent it may have carried out when it went on: then wholly, as the duplicate proves
    first = site.push(way, delivery=f"d-{way}").json["outcome"]
    assert first == "queued" or (way == "hanging" and first == "duplicate")
    assert [work.spec.ref for work in site.waiting].count(f"refs/heads/{way}") == 1
    assert site.outcome(f"d-{way}") == "queued"
    assert site.push(way, delivery=f"d-{way}").json["outcome"] == "duplicate"
    assert [work.deliveries for work in site.waiting if work.spec.ref == f"refs/heads/{way}"] == [f"d-{way}"]


def test_a_delivery_that_a_hung_redis_executes_late_is_queued_and_recorded_together(place: Place) -> None:
    site = place.site
    caught = threading.Event()

    def hang_before_the_script(*arguments: object, **options: object) -> object:
        place.server.hang()
        caught.set()
        return script(*arguments, **options)

    script = site.lanes._script
    site.lanes._script = hang_before_the_script  # every step before it is carried out, and none is a mark
    try:
        refused(soon(lambda: site.push("late", delivery="d-late")))
    finally:
        site.lanes._script = script
        place.server.go_on()
    assert caught.is_set()
    place.recovered()
    wait_for("the script was carried out", lambda: site.outcome("d-late") == "queued")
    assert [work.deliveries for work in site.waiting if work.spec.ref == "refs/heads/late"] == ["d-late"]
    assert site.push("late", delivery="d-late").json["outcome"] == "duplicate"


def test_a_redis_that_may_evict_keys_is_ready_with_a_warning(place: Place) -> None:
    policy = "Redis evicts keys when its memory is full (maxmemory-policy volatile-lru)"
    with place.server.client as client:
        client.config_set("maxmemory-policy", "volatile-lru")
        try:
            found = place.site.client.get("/readyz")
            assert (found.status_code, found.json["status"]) == (200, "ready")
            assert [each.startswith(policy) for each in found.json["warnings"]] == [True]
            assert place.site.stranger.get("/readyz").json == {"status": "ready"}
        finally:
            client.config_set("maxmemory-policy", "noeviction")
    assert place.site.client.get("/readyz").json["warnings"] == []


def test_an_outage_before_the_script_records_nothing(place: Place) -> None:
    site = place.site

    def die_before_the_script(*arguments: object, **options: object) -> object:
        place.server.kill()
        return script(*arguments, **options)

    script = site.lanes._script
    site.lanes._script = die_before_the_script
    try:
        refused(soon(lambda: site.push("early", delivery="d-early")))
    finally:
        site.lanes._script = script
        place.server.start()
    place.recovered()
    with place.server.client as client:
        assert client.get("deployer:delivery-of:d-early") is None
    assert site.lanes.delivery("d-early") is None
    assert site.api("GET", "/deliveries/d-early").status_code == 404
    assert site.push("early", delivery="d-early").json["outcome"] == "queued"


def test_a_request_that_finds_it_hanging_spares_the_others_the_wait(place: Place) -> None:
    def ask(number: int) -> tuple[int, float]:
        began = time.monotonic()
        client, token = place.site.app.test_client(), {"Authorization": f"Bearer {TOKEN}"}
        status = client.get(f"/environments/none-{number}", headers=token).status_code
        return status, time.monotonic() - began

    with place.hanging():
        refused(soon(lambda: place.site.push("first", delivery="d-first")))
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, range(40)))
    assert {status for status, _ in answers} == {503}
    assert sorted(seconds for _, seconds in answers)[20] < REDIS_SECONDS / 4
    place.recovered()


@contextmanager
def slow_site(place: Place, seconds: float, budget: RedisCircuitBreaker) -> Iterator[Site]:
    """A site whose Redis takes so many seconds for each answer."""
    network = SlowNetwork(place.server.port, seconds)
    site = Site(client=connect(network.url, budget), budget=budget)
    try:
        yield site
    finally:
        site.redis.close()
        network.close()


def pushed(site: Site, name: str, number: int = 16) -> list[int]:
    """The statuses of pushes that all come at once."""

    def push(which: int) -> int:
        return site.push(f"{name}-{which}", delivery=f"d-{name}-{which}").status_code

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(push, range(number)))


def test_slow_answers_are_awaited(place: Place) -> None:
    with slow_site(place, 0.3, RedisCircuitBreaker(REDIS_SECONDS)) as site:
        assert pushed(site, "slow") == [202] * 16


def test_a_redis_known_to_be_slow_is_given_more_time(place: Place) -> None:
    with slow_site(place, 0.15, RedisCircuitBreaker(0.1, patience=3)) as site:
        refused(site.push("first", delivery="d-slower-first"))
        wait_for("it is known how slow", lambda: site.push("slower", delivery="d-slower").status_code == 202)
        assert pushed(site, "slower", 4) == [202] * 4


def test_no_request_waits_longer_than_its_budget(place: Place) -> None:
    budget = RedisCircuitBreaker(REDIS_SECONDS, patience=0.5)
    with slow_site(place, 0.2, budget) as site:
        refused(soon(lambda: site.push("late", delivery="d-impatient")))
    assert place.site.push("prompt", delivery="d-prompt").status_code == 202, "nothing was wrong with Redis"
