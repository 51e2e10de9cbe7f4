"""What all workers know of one region: looks that many environments share, and how full it is."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fakeredis
import pytest
from cloud_kit import SandboxKit, cloud, named, settled, small

from deployer.aws.cloud import AwsCloud
from deployer.model.errors import QuotaError
from deployer.redis_store.aws import region_status as aws_survey
from deployer.redis_store.aws.region_status import last_capacities
from deployer.redis_store.shared_redis import SharedRedis

PREFIX = "deployer:aws:{own:us-east-1}"
WAITING = 60


@pytest.fixture
def client() -> Any:
    return fakeredis.FakeRedis(decode_responses=True)


@pytest.fixture
def asked(aws: SandboxKit, client: Any) -> AwsCloud:
    return cloud(aws.url, client)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return named(request.node.originalname)[:50]


@pytest.fixture
def busy(aws: SandboxKit, asked: AwsCloud, name: str) -> Iterator[list[str]]:
    """Many stacks that are at work as long as the test runs."""
    names = [f"{name}-{number}" for number in range(WAITING)]
    with aws.slowly():
        aws.simulator.scheduler.speed = 0.01
        for one in names:
            asked.create_stack(one, small(), f"create-{one}")
        yield names


def pages(asked: AwsCloud, aws: SandboxKit) -> int:
    """How many calls a listing of all stacks takes."""
    with aws.calls() as calls:
        list(asked.stacks())
    return len(calls)


def poll(asked: AwsCloud, names: list[str], since: float) -> list[bool]:
    """Ask as an environment that waits does: where no look tells, the stack itself is read."""
    return [
        asked.is_still_busy(one, since) or ((found := asked.stack(one)) is not None and found.phase == "busy")
        for one in names
    ]


# --- looks -------------------------------------------------------------------------------------------------------


def test_many_that_wait_cost_one_listing_for_each_time_they_ask(
    aws: SandboxKit, asked: AwsCloud, busy: list[str]
) -> None:
    listing = pages(asked, aws)
    costs = []
    for _ in range(3):
        since = time.time()
        with aws.calls() as calls:
            assert all(poll(asked, busy, since))
        costs.append(len(calls))

    assert costs[0] <= 2 * listing + 1  # a few ask for themselves until enough wait
    assert costs[1:] == [listing] * 2


def test_who_waits_alone_makes_no_look(aws: SandboxKit, asked: AwsCloud, busy: list[str]) -> None:
    with aws.calls() as calls:
        assert [asked.is_still_busy(busy[0], 0) for _ in range(5)] == [False] * 5
    assert calls == []


def test_workers_at_once_make_one_look(aws: SandboxKit, client: Any, busy: list[str]) -> None:
    workers = [cloud(aws.url, client) for _ in range(4)]
    listing = pages(workers[0], aws)
    poll(workers[0], busy, time.time())
    aws.simulator.faults.add({"slow": {"operation": "DescribeStacks", "seconds": 0.2, "count": 1}})

    since = time.time()
    with aws.calls() as calls, ThreadPoolExecutor(len(workers)) as pool:
        found = list(
            pool.map(lambda number: workers[number % 4].is_still_busy(busy[number], since), range(12))
        )

    assert found == [True] * 12
    assert calls == ["DescribeStacks"] * listing


def test_a_look_that_its_maker_left_undone_holds_nobody_for_long(
    asked: AwsCloud, busy: list[str], client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws_survey, "_MAX_WAIT_SECONDS", 0.1)
    client.zadd(f"{PREFIX}:waiting", {one: time.time() for one in busy})
    client.set(f"{PREFIX}:looking", 1)

    assert not asked.is_still_busy(busy[0], time.time())


def test_a_look_that_took_too_long_ends_nobody_elses_claim(client: Any) -> None:
    client.zadd(f"{PREFIX}:waiting", {f"one-{number}": time.time() for number in range(WAITING)})

    def look() -> None:
        assert client.exists(f"{PREFIX}:looking")
        client.set(f"{PREFIX}:looking", "another")  # it ran out, and another makes a look now

    aws_survey.RedisRegionStatus(SharedRedis(client), "own", "us-east-1").is_busy("one-0", time.time(), look)

    assert client.get(f"{PREFIX}:looking") == "another"


def test_an_old_look_is_none_whatever_is_asked_for(asked: AwsCloud, busy: list[str], client: Any) -> None:
    list(asked.stacks())
    assert asked.is_still_busy(busy[0], 0)

    client.hset(f"{PREFIX}:look", "began", time.time() - 31)

    assert not asked.is_still_busy(busy[0], 0)


def test_a_worker_whose_clock_is_ahead_makes_no_stack_busy_for_longer(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead, on_time = (aws_survey.RedisRegionStatus(SharedRedis(client), "own", "us-east-1") for _ in range(2))
    true_time = time.time
    with monkeypatch.context() as patch:
        client.time = lambda: (int(true_time()), 0)
        patch.setattr(time, "time", lambda: true_time() + 3600)
        ahead.save_listing_summary(ahead.now(), 1, 1, ["x"])
        ahead.save_count("stacks", 7, ahead.now())
    assert on_time.is_busy("x", true_time() - 5, lambda: None)

    monkeypatch.setattr(time, "time", lambda: true_time() + 40)  # and Redis's clock goes on alike
    client.time = lambda: (int(true_time()) + 40, 0)
    later = aws_survey.RedisRegionStatus(SharedRedis(client), "own", "us-east-1")
    assert not later.is_busy("x", 0, lambda: None)
    assert later.cached_count("stacks", within=60)
    assert later.cached_count("stacks", within=30) is None


def test_who_is_no_more_at_work_waits_no_more(
    aws: SandboxKit, asked: AwsCloud, client: Any, name: str
) -> None:
    with aws.slowly():
        asked.create_stack(name, small(), f"create-{name}")
        list(asked.stacks())
        assert asked.is_still_busy(name, 0)
    assert settled(aws, name) == "CREATE_COMPLETE"
    list(asked.stacks())

    assert not asked.is_still_busy(name, 0)
    assert client.zrange(f"{PREFIX}:waiting", 0, -1) == []
    assert all(0 < client.ttl(key) <= 86400 for key in client.keys("*"))


# --- how full it is ----------------------------------------------------------------------------------------------


def test_what_was_counted_is_not_counted_again_for_an_hour(
    aws: SandboxKit, asked: AwsCloud, client: Any
) -> None:
    colleague = cloud(aws.url, client)
    with aws.calls() as calls:
        first = asked.count_capacity()
    assert set(calls) == {"DescribeStacks", "DescribeAccountLimits", "ListPipelines"}
    with aws.calls() as calls:
        assert [asked.count_capacity(), colleague.count_capacity()] == [first] * 2
    assert calls == []

    for what in ("stacks", "pipelines"):
        client.hset(f"{PREFIX}:room", f"{what}.at", time.time() - 3601)
    with aws.calls() as calls:
        assert asked.count_capacity().counted_at > first.counted_at
    assert set(calls) == {"DescribeStacks", "ListPipelines"}


def test_a_listing_of_the_stacks_counts_them(aws: SandboxKit, asked: AwsCloud, name: str) -> None:
    before = asked.count_capacity()
    aws.cloud.create_stack(name, small(), f"create-{name}")  # another installation's
    assert asked.count_capacity() == before

    list(asked.stacks())

    with aws.calls() as calls:
        assert asked.count_capacity().stacks == before.stacks + 1
    assert calls == []


def test_a_quota_that_is_used_up_lets_all_be_counted_anew(
    aws: SandboxKit, asked: AwsCloud, name: str
) -> None:
    asked.count_capacity()
    refusal = {"operation": "CreateStack", "error": "LimitExceededException", "message": "Limit for stack"}
    aws.simulator.faults.add({"errors": refusal})

    with pytest.raises(QuotaError, match="a quota of the AWS account is used up"):
        asked.create_stack(name, small(), f"create-{name}")
    with aws.calls() as calls:
        asked.count_capacity()
    assert len(calls) >= 3


def test_a_room_has_the_limit_of_its_target(aws: SandboxKit, client: Any) -> None:
    assert cloud(aws.url, client, pipelines_limit=7).count_capacity().pipelines_limit == 7


def test_what_is_known_of_the_room_costs_no_call(aws: SandboxKit, client: Any) -> None:
    asked = cloud(aws.url, client)
    with aws.calls() as made:
        assert asked.last_capacity() is None
    assert made == []
    counted = asked.count_capacity()
    with aws.calls() as made:
        assert asked.last_capacity() == counted
    assert made == []


def test_the_last_count_of_a_region_is_shown_and_can_be_damaged(asked: AwsCloud, client: Any) -> None:
    shared = SharedRedis(client)
    assert last_capacities(shared) == []
    first = asked.count_capacity()
    assert last_capacities(shared) == [first]
    client.delete(f"{PREFIX}:room")
    second = asked.count_capacity()
    assert second.counted_at > first.counted_at
    assert last_capacities(shared) == [second]
    assert client.ttl(f"{PREFIX}:last_count") == pytest.approx(2 * 86400, abs=10)
    client.set(f"{PREFIX}:last_count", "{}")
    assert last_capacities(shared) == []
