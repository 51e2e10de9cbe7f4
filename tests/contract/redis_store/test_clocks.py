"""Every stored time is Redis's: a machine whose own clock is wrong stores the same times and decides the same."""

import re
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from deployer.cli.checks.redis_checks import check_lanes
from deployer.environment.cloud_region import RegionCapacity
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.events import Push
from deployer.model.refs import ZERO_SHA, Ref
from deployer.model.repository_record import RepositoryRecord
from deployer.queue.items import Cause, Work
from deployer.redis_store.aws.region_status import RedisRegionStatus
from deployer.redis_store.shared_redis import SharedRedis
from tests.records import know_repository
from tests.unit.world import HELLO, World, environment, sha
from web.metrics import Metrics
from workers.scheduler import Scheduler

BRANCH, DAY = "refs/heads/x", 86_400.0
SKEW = 3000 * DAY
NUMBER = re.compile(r"(?<![\w.-])\d{9,13}(?:\.\d+)?(?![\w-])")


@pytest.fixture
def world(client: Any) -> World:
    made = World(client)
    made.deployer.config = replace(made.deployer.config, public_url="https://here")
    return made


def set_clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let this machine's clock, as deployer's own modules read it, be ahead by so many seconds."""
    wrong = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("_")})
    wrong.time = lambda: time.time() + seconds
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] in {"deployer", "workers", "web"} and getattr(module, "time", None) is time:
            monkeypatch.setattr(module, "time", wrong)


def stored(client: Any) -> dict[str, str]:
    """Every key with all that it holds, as text."""
    readers: dict[str, Any] = {
        "string": client.get, "hash": client.hgetall, "set": client.smembers,
        "list": lambda key: client.lrange(key, 0, -1),
        "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }  # fmt: skip
    return {key: str(readers[client.type(key)](key)) for key in client.scan_iter()}


@pytest.mark.parametrize("skew", [SKEW, -SKEW], ids=["ahead", "behind"])
def test_every_stored_time_is_by_the_clock_of_redis(
    world: World, client: Any, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    set_clock(monkeypatch, skew)
    world.rules("ttl: 1d")
    world.host.hooks[HELLO.key] = ("https://here/webhooks/github", "", [])
    for number, ref in enumerate(("refs/heads/main", BRANCH, "refs/heads/gone", "refs/tags/v1"), 1):
        world.push(ref, sha(number))
    world.run()
    world.event(environment(BRANCH))
    world.deployer.submitter.keep_environment(environment(BRANCH), DAY)
    world.deployer.submitter.submit_github(
        Push("other", Repository("else", "where"), Ref.parse(BRANCH), ZERO_SHA, sha(1), "main")
    )
    world.host.remove(HELLO, "refs/heads/gone")
    world.lanes_note(environment("refs/heads/gone"), used_at=time.time() - 2 * DAY)
    scheduler = Scheduler(world.deployer)
    scheduler.sweep()
    scheduler.run_due_jobs()
    world.run()
    world.host.change(HELLO, archived=True)
    world.resync(HELLO)
    world.push("refs/tags/v2", sha(9))  # refused, and kept for later
    world.run()
    know_repository(world.lanes, RepositoryRecord("acme/taken", 1, "replaced"))
    world.deployer.lifecycle.accept(Repository("acme", "taken"))
    world.deployer.submitter.resync(HELLO)
    monkeypatch.setattr(world.deployer.lifecycle, "run", dies := lambda *_: {}["a bug"])
    world.run()
    monkeypatch.undo()
    assert dies
    set_clock(monkeypatch, skew)
    world.lanes.send_heartbeat("worker", 90)
    shared = SharedRedis(client)
    survey = RedisRegionStatus(shared, "own", "us-east-1")
    survey.save_listing_summary(survey.now(), 1, 1, ["busy"])
    survey.is_busy("busy", shared.now(), lambda: None)
    survey.save_last_count(RegionCapacity("us-east-1", 1, 2, 1, 2, shared.now(), "own"))

    assert world.lanes.dead_letters()
    wrong = time.time() + skew
    found = {
        key: [each for each in NUMBER.findall(text) if _is_near(float(each), wrong)]
        for key, text in stored(client).items()
    }
    assert not {key: numbers for key, numbers in found.items() if numbers}


def _is_near(number: float, at: float) -> bool:
    return any(abs(number / unit - at) < 400 * DAY for unit in (1, 1000))


@pytest.mark.parametrize("skew", [DAY, -DAY], ids=["ahead", "behind"])
class TestDecisions:
    """One machine wrote at the right time; the one that reads has a clock that is a day ahead or behind."""

    def test_what_a_person_keeps_is_not_taken_down(
        self, world: World, monkeypatch: pytest.MonkeyPatch, skew: float
    ) -> None:
        world.rules("ttl: 3h")
        world.push(BRANCH, sha(1))
        world.run()
        world.lanes_note(environment(BRANCH), used_at=world.lanes.now() - DAY, warned_at=world.lanes.now())
        set_clock(monkeypatch, skew)
        world.deployer.submitter.keep_environment(environment(BRANCH), 3600)
        world.lanes.clock_offset_ms += 1_800_000
        monkeypatch.undo()
        record = world.record(environment(BRANCH))
        assert record.spec.expiry.kept_at == pytest.approx(time.time(), abs=120)
        assert record.spec.expiry.kept_until == pytest.approx(time.time() + 3600, abs=120)
        world.deployer.submitter.queue_expiry_checks(world.lanes.now())
        world.run()
        assert world.record(environment(BRANCH)).status.state == "deployed"

    def test_an_orphan_is_left_for_its_time(
        self, client: Any, monkeypatch: pytest.MonkeyPatch, skew: float
    ) -> None:
        patient = type(
            "Patient", (World,), {"settings": {**World.settings, "DEPLOYER_ORPHAN_SECONDS": "3600"}}
        )
        world = patient(client)
        world.push(BRANCH, sha(1))
        world.push("refs/heads/main", sha(2))
        world.run()
        world.host.remove(HELLO, BRANCH)
        world.resync(HELLO)
        set_clock(monkeypatch, skew)
        world.resync(HELLO)
        assert world.record(environment(BRANCH)).status.state == "deployed", "its time is not over"
        world.lanes.clock_offset_ms += 3_600_000
        world.resync(HELLO)
        assert world.record(environment(BRANCH)).status.state == "deleted"

    def test_events_are_believed_to_come(
        self, world: World, monkeypatch: pytest.MonkeyPatch, skew: float
    ) -> None:
        world.push(BRANCH, sha(1))
        world.run()
        world.event(environment(BRANCH))
        set_clock(monkeypatch, skew)
        assert world.deployer.reconciler._events_arrive()

    def test_a_resync_believes_what_was_recorded_after_its_listing(
        self, world: World, monkeypatch: pytest.MonkeyPatch, skew: float
    ) -> None:
        world.push(BRANCH, sha(1))
        world.run()
        listed = world.deployer.inventory.stacks(HELLO, world.lanes.now())
        set_clock(monkeypatch, skew)
        world.teardown(environment(BRANCH))
        world.tasks()
        world.run()
        assert world.record(environment(BRANCH)).updated_at > listed.began
        again = world.deployer.inventory.stacks(HELLO, world.lanes.now())
        assert again.began > world.record(environment(BRANCH)).updated_at

    def test_missed_deliveries_are_looked_for_every_six_hours(
        self, world: World, monkeypatch: pytest.MonkeyPatch, skew: float
    ) -> None:
        world.push("refs/heads/main", sha(1))
        world.run()
        world.host.hooks[HELLO.key] = ("https://here/webhooks/github", "", [])
        world.lanes.clock_offset_ms = 0
        set_clock(monkeypatch, skew)
        world.deployer.deliveries.check(HELLO)
        monkeypatch.undo()
        world.deployer.deliveries.check_if_due(HELLO)
        assert len(world.host.called("deliveries")) == 1
        world.lanes.clock_offset_ms = 6 * 3_600_000
        world.deployer.deliveries.check_if_due(HELLO)
        assert len(world.host.called("deliveries")) == 2

    def test_a_shared_look_at_all_stacks_is_believed(
        self, client: Any, monkeypatch: pytest.MonkeyPatch, skew: float
    ) -> None:
        shared = SharedRedis(client)
        survey, since = RedisRegionStatus(shared, "own", "us-east-1"), shared.now()
        survey.save_listing_summary(survey.now(), 1, 1, ["busy"])
        set_clock(monkeypatch, skew)
        other, looks = RedisRegionStatus(SharedRedis(client), "own", "us-east-1"), list[str]()
        assert other.is_busy("busy", since, lambda: looks.append("AWS"))
        assert other.cached_count("stacks") is not None
        other._register_waiting_and_read_state("another")
        assert client.zscore("deployer:aws:{own:us-east-1}:waiting", "another") == pytest.approx(
            time.time(), abs=60
        )
        assert not looks

    def test_what_waits_is_as_old_as_it_is(
        self, world: World, monkeypatch: pytest.MonkeyPatch, skew: float
    ) -> None:
        world.lanes.accept(HELLO, Work.of(Environment(HELLO, Kind.STAGING).key, cause=Cause.PUSH, ref=BRANCH))
        set_clock(monkeypatch, skew)
        families = text_string_to_metric_families(Metrics(world.deployer).text()[0].decode())
        (oldest,) = (each for each in families if each.name == "deployer_lane_oldest_wait_seconds")
        assert 0 <= oldest.samples[0].value < 60
        assert [each.state for each in check_lanes(world.deployer)] == ["ok"]
