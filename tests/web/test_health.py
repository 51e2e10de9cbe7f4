"""Tests of `/healthz`, `/readyz` and `/metrics`."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

import pytest
import redis
from prometheus_client.parser import text_string_to_metric_families

from deployer.environment.cloud_region import RegionCapacity
from deployer.model.environments import Repository
from deployer.model.errors import UnavailableError
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.items import Work
from deployer.queue.step_results import DeadLettered, Finished
from deployer.redis_store.aws.region_status import RedisRegionStatus
from deployer.redis_store.circuit_breaker import RedisCircuitBreaker
from deployer.redis_store.connection import connect
from deployer.redis_store.github.sharing import RedisGitHubSharing
from deployer.redis_store.shared_redis import SharedRedis
from tests.web.fill import fill, fill_odd
from tests.web.site import Site, push_payload
from web.application import REDIS_SECONDS

SOON = 1.5  # a second, and what a busy machine adds


@pytest.fixture(params=["refuses", "is silent"])
def away(request: pytest.FixtureRequest) -> Iterator[Site]:
    """A site whose Redis refuses connections, or takes them and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        if request.param == "is silent":
            server.listen(64)
        budget = RedisCircuitBreaker(REDIS_SECONDS)
        client: redis.Redis = connect(f"redis://127.0.0.1:{server.getsockname()[1]}/0", budget)
        yield Site(client=client, budget=budget)
        client.close()


def metrics(site: Site) -> dict[tuple[str, ...], float]:
    """Every sample: its name and the values of its labels."""
    answer = site.client.get("/metrics")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_healthz_answers_with_and_without_redis(site: Site) -> None:
    assert (site.client.get("/healthz").status_code, site.client.get("/healthz").json) == (
        200,
        {"status": "alive"},
    )
    with site.redis_away():
        assert site.client.get("/healthz").status_code == 200


def test_readyz_is_200_while_redis_answers(site: Site) -> None:
    answer = site.client.get("/readyz")
    assert (answer.status_code, answer.json) == (
        200,
        {"status": "ready", "parts": {"redis": "ok"}, "warnings": []},
    )
    with site.redis_away():
        assert site.client.get("/readyz").status_code == 503
    assert site.client.get("/readyz").status_code == 200


def test_readyz_names_a_server_that_is_not_redis() -> None:
    def greet(listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                with listening.accept()[0] as client:
                    client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                    while client.recv(1024):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=greet, args=(listening,), daemon=True).start()
        budget = RedisCircuitBreaker(REDIS_SECONDS)
        site = Site(
            client=connect(f"redis://127.0.0.1:{listening.getsockname()[1]}/0", budget), budget=budget
        )
        answer = site.client.get("/readyz")
        site.redis.close()
        listening.shutdown(socket.SHUT_RDWR)
    told = "what answers at the address of Redis is not Redis"
    assert (answer.status_code, answer.json["parts"]) == (503, {"redis": told})


def test_readyz_is_503_within_a_second(away: Site) -> None:
    for _ in range(2):
        start = time.monotonic()
        answer = away.client.get("/readyz")
        assert time.monotonic() - start < SOON
        assert (answer.status_code, answer.json["status"]) == (503, "not ready")
        assert "Redis does not answer" in answer.json["parts"]["redis"]


def test_metrics_count_deliveries_and_outcomes(site: Site) -> None:
    fill(site.lanes)
    before = metrics(site)
    site.push("new", delivery="d-new")
    site.push("new", delivery="d-new")
    site.deliver({}, event="star", delivery="d-star")
    site.push("new", delivery="d-other", repository="else/where")
    site.deliver(b"", delivery="d-bad")
    site.aws({}, key="wrong")
    after = metrics(site)

    def grown(*name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown("deployer_deliveries_total", "queued") == 1
    assert grown("deployer_deliveries_total", "duplicate") == 1
    assert grown("deployer_deliveries_total", "unserved") == 1
    assert grown("deployer_outcomes_total", "ignored") == 2
    assert grown("deployer_webhook_answers_total", "202", "github") == 4
    assert grown("deployer_webhook_answers_total", "400", "github") == 1
    assert grown("deployer_webhook_answers_total", "401", "aws") == 1
    assert grown("deployer_webhook_seconds_count", "github") == 5
    assert grown("deployer_lane_waiting", "acme/api") == 1


def test_metrics_count_calls_by_purpose(site: Site) -> None:
    repository = Repository("acme", "api")
    for number, counts in enumerate([{"calls:aws": 3, "calls:github_stages": 2}, {"calls:aws": 1}]):
        dispatch = site.lanes.accept(repository, Work("staging", goal=f"g{number}")).dispatch
        assert dispatch is not None
        site.lanes.begin(repository, dispatch.token)
        site.lanes.finish(repository, dispatch.token, Finished("deployed", ""), counts)
    found = metrics(site)
    assert found["deployer_calls_total", "deployment", "aws"] == 4
    assert found["deployer_calls_total", "stages", "github"] == 2
    assert found["deployer_calls_total", "deployment", "github"] == 0


def test_metrics_count_queues_letters_and_environments(site: Site) -> None:
    fill(site.lanes)
    found = metrics(site)
    for name, value in (
        (("deployer_redis_up",), 1),
        (("deployer_outcomes_total", "dead-lettered"), 1),
        (("deployer_goals_total", "deployed"), 3),
        (("deployer_lanes", "running"), 1),
        (("deployer_lanes", "idle"), 1),
        (("deployer_lanes", "sent"), 0),
        (("deployer_lane_waiting", "acme/api"), 2),
        (("deployer_lane_snoozed", "acme/storefront"), 1),
        (("deployer_dead_letters", "KeyError", "acme/storefront"), 1),
        (("deployer_dead_letters", "TransientError", "acme/storefront"), 0),
        (("deployer_dead_letters", "WorkerLost", "acme/storefront"), 0),
        (("deployer_dead_letters", "TaskTimeout", "acme/storefront"), 0),
        (("deployer_dead_letters", "TransientError", "acme/api"), 0),
        (("deployer_environments", "staging", "deployed"), 2),
        (("deployer_environments", "development", "failed"), 1),
    ):
        assert found[name] == value, name
    assert 0 <= found["deployer_lane_oldest_wait_seconds", "acme/api"] < 60


def test_metrics_count_executions_that_deployer_did_not_start(site: Site) -> None:
    fill_odd(site.lanes)
    found = metrics(site)
    name = "deployer_foreign_executions"
    assert found[name, "development", "request"] == 1
    assert found[name, "production", "request"] == found[name, "development", "rollback"] == 0


def test_metrics_have_the_capacity_of_regions_without_targets(site: Site) -> None:
    """The web process reads neither accounts nor external ids, so it need not be given them."""
    assert ("deployer_stacks", "222222222222", "eu-west-1") not in metrics(site)
    shared = SharedRedis(site.redis)
    room = RegionCapacity("eu-west-1", 150, 2000, 140, 1000, counted_at=time.time(), account="222222222222")
    RedisRegionStatus(shared, "222222222222", "eu-west-1").save_last_count(room)
    left = replace(room, region="eu-central-1", counted_at=time.time() - 3 * 86400)
    RedisRegionStatus(shared, "222222222222", "eu-central-1").save_last_count(left)
    found = metrics(site)
    for name, value in {
        "stacks": 150,
        "stacks_limit": 2000,
        "pipelines": 140,
        "pipelines_limit": 1000,
    }.items():
        assert found[f"deployer_{name}", "222222222222", "eu-west-1"] == value
    assert not [each for each in found if "eu-central-1" in each], "it is no longer used"
    counted = found["deployer_room_counted_timestamp_seconds", "222222222222", "eu-west-1"]
    assert 0 < counted <= time.time()


def test_dead_letters_cause_a_warning_until_they_are_gone(site: Site) -> None:
    site.push()
    assert metrics(site)["deployer_dead_letter_oldest_seconds",] == 0
    (work,) = site.waiting
    died = time.time() - 7300
    letter = DeadLetter(
        "acme~api-1", "acme/api", work.task, "why", "", died, work.to_json(), "TransientError"
    )
    site.finish(DeadLettered(letter))
    answer = site.client.get("/readyz")
    assert (answer.status_code, answer.json["status"]) == (200, "ready")
    assert answer.json["warnings"] == [
        "1 dead letter awaits a decision, for 2 h; see: deployer dead-letters list"
    ]
    found = metrics(site)
    assert found["deployer_dead_letters", "TransientError", "acme/api"] == 1
    assert 7300 <= found["deployer_dead_letter_oldest_seconds",] < 7400
    site.lanes.discard("acme~api-1")
    assert site.client.get("/readyz").json["warnings"] == []
    found = metrics(site)
    assert found["deployer_dead_letters", "TransientError", "acme/api"] == 0
    assert found["deployer_dead_letter_oldest_seconds",] == 0


def test_a_failed_warning_leaves_readyz_at_200(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> list[DeadLetter]:
        raise UnavailableError("Redis took longer than a request may wait")

    monkeypatch.setattr(site.lanes, "dead_letters", slow)
    answer = site.client.get("/readyz")
    assert (answer.status_code, answer.json["warnings"]) == (200, [])


def test_metrics_are_there_from_the_start_and_without_redis(site: Site) -> None:
    assert metrics(site)["deployer_webhook_seconds_count", "github"] == 0
    with site.redis_away():
        assert site.deliver(push_payload()).status_code == 503
        found = metrics(site)
    assert found["deployer_redis_up",] == 0
    assert found["deployer_webhook_answers_total", "503", "github"] == 1
    assert not [name for name, *_ in found if "lane" in name]


def test_the_metrics_of_two_applications_are_apart(site: Site) -> None:
    site.push()
    assert metrics(Site())["deployer_webhook_seconds_count", "github"] == 0


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_monitoring_endpoints_are_read_only(site: Site, path: str) -> None:
    assert site.client.post(path).status_code == 405
    assert site.client.head(path).status_code == 200


def test_metrics_have_githubs_rate_limits(site: Site) -> None:
    assert not [name for name in metrics(site) if name[0].startswith("deployer_github_rate_limit_")]
    sharing, reset = RedisGitHubSharing(site.redis), float(int(time.time()) + 1800)
    sharing.record_limits(
        "installation-7", "core", quota=(5000, 4812, reset), refused_seconds=None, refuses_all=False
    )
    sharing.wait_for_turn("installation-7", "core", writes=True)
    sharing.record_limits("app", "core", quota=(5000, 0, reset), refused_seconds=60, refuses_all=True)
    found = metrics(site)
    assert {
        name: found[f"deployer_github_rate_limit_{name}", "installation-7", "core"]
        for name in ("limit", "remaining", "reset_timestamp_seconds", "closed_seconds")
    } == {"limit": 5000, "remaining": 4812, "reset_timestamp_seconds": reset, "closed_seconds": 0}
    assert 55 < found["deployer_github_rate_limit_closed_seconds", "app", "core"] < 65
    assert found["deployer_github_writes", "installation-7"] == 1
