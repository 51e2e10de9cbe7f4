"""How fast all workers together call AWS: the bucket of tokens, on fakeredis and on a real server alike."""

import math
import time
from contextlib import suppress
from typing import Any

import fakeredis
import pytest
from cloud_kit import SandboxKit, cloud
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployer.aws import clients as aws_client
from deployer.model.errors import ThrottledError
from deployer.redis_store.aws import rate_limit
from deployer.redis_store.aws.rate_limit import RedisRateLimit
from deployer.redis_store.connection import connect
from deployer.redis_store.shared_redis import SharedRedis

READS = ("cloudformation", "DescribeStacks")
WRITES = ("cloudformation", "CreateStack")


class Clock:
    """Workers whose waiting takes no time, but is seen."""

    def __init__(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shared = SharedRedis(client)
        self.waited = self.told = 0.0
        self._began = time.monotonic()
        monkeypatch.setattr(rate_limit.time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.waited = seconds

    def throttle(self, account: str = "own", region: str = "us-east-1", share: float = 1.0) -> RedisRateLimit:
        return RedisRateLimit(self.shared, account, region, share)

    def advance(self, seconds: float) -> None:
        self.shared.clock_offset_ms += round(seconds * 1000)

    def wait_of(self, throttle: RedisRateLimit, call: tuple[str, str] = READS) -> float | None:
        """Seconds until one call more is made; None where it is sent away."""
        self.waited = 0.0
        try:
            throttle.wait_for_turn(*call)
        except ThrottledError as error:
            self.told = error.retry_after or 0.0
            return None
        return self.waited

    def burst(self, throttle: RedisRateLimit, call: tuple[str, str] = READS) -> int:
        """How many calls are made without a wait."""
        count = 0
        while self.wait_of(throttle, call) == 0:
            count += 1
        return count

    def late(self) -> float:
        """Seconds that have passed by themselves: on a busy machine tokens come in them, too."""
        return time.monotonic() - self._began

    def about(self, tokens: int, rate: float = 5) -> range:
        """How many calls a burst of so many tokens makes, and those that came by themselves at the rate."""
        return range(tokens, tokens + 2 + math.ceil(rate * self.late()))


@pytest.fixture(params=["fakeredis", "server"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clock:
    if request.param == "fakeredis":
        return Clock(fakeredis.FakeRedis(decode_responses=True), monkeypatch)
    server = connect(request.getfixturevalue("redis_url"))
    server.flushall()
    return Clock(server, monkeypatch)


def test_a_burst_is_free_and_then_calls_are_spread(clock: Clock) -> None:
    throttle = clock.throttle()

    assert clock.burst(throttle) in clock.about(25)
    waits = [clock.wait_of(throttle) for _ in range(5)]
    assert waits == pytest.approx([0.4, 0.6, 0.8, 1.0, 1.2], abs=0.3 + clock.late())
    clock.advance(60)
    assert clock.burst(throttle) in clock.about(25)


def test_who_would_wait_long_is_sent_away_and_takes_nothing(clock: Clock) -> None:
    throttle = clock.throttle()
    while (wait := clock.wait_of(throttle, WRITES)) is not None:
        assert wait <= 5

    assert 5 < clock.told < 10
    for _ in range(20):
        clock.wait_of(throttle, WRITES)
    clock.advance(5.5)
    assert clock.burst(throttle, WRITES) in clock.about(1, 2)


def test_a_refusal_by_aws_halves_the_rate_of_all_for_a_while(clock: Clock) -> None:
    throttle, colleague = clock.throttle(), clock.throttle()

    for _ in range(3):  # calls under way together
        throttle.lower_rate(*READS)
    first = clock.wait_of(colleague)
    assert first == pytest.approx(0.4, abs=0.1 + clock.late())
    clock.advance(120)
    assert clock.burst(colleague) in clock.about(25)
    second = [clock.wait_of(colleague) for _ in range(3)]
    assert second[2] is not None
    assert second[0] is not None
    assert second[2] - second[0] == pytest.approx(0.4, abs=0.1 + clock.late())


def test_refusals_without_end_leave_some_calls(clock: Clock) -> None:
    throttle = clock.throttle()
    for _ in range(20):
        throttle.lower_rate(*READS)
        clock.advance(1)

    assert clock.wait_of(throttle) is not None


def test_each_account_region_and_api_has_its_own(clock: Clock) -> None:
    clock.burst(clock.throttle())

    assert clock.burst(clock.throttle(account="123456789012"))
    assert clock.burst(clock.throttle(region="eu-west-1"))
    assert clock.burst(clock.throttle(), ("cloudformation", "DescribeStackEvents"))
    assert clock.burst(clock.throttle(), WRITES) in clock.about(10, 2)
    assert clock.burst(clock.throttle()) in clock.about(0)
    assert all(clock.wait_of(clock.throttle(), ("s3", "PutObject")) == 0 for _ in range(100))


def test_a_share_of_the_rate_can_be_left_to_others(clock: Clock) -> None:
    assert clock.burst(clock.throttle(share=0.2)) in clock.about(5, 1)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.lists(st.one_of(st.none(), st.integers(0, 3000)), min_size=1, max_size=60),
    share=st.sampled_from([0.2, 1.0]),
)
def test_in_no_stretch_of_time_are_more_calls_made_than_burst_and_rate(
    steps: list[int | None], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step is a call, or milliseconds that pass; at 0 AWS throttles."""
    clock = Clock(fakeredis.FakeRedis(decode_responses=True), monkeypatch)
    throttle, rate = clock.throttle(share=share), 5 * share
    made: list[tuple[float, float]] = []  # not before, not after
    for step in steps:
        if step == 0:
            throttle.lower_rate(*READS)
        elif step is not None:
            clock.advance(step / 1000)
        else:
            before = time.time() + clock.shared.clock_offset_ms / 1000
            wait = clock.wait_of(throttle)
            after = time.time() + clock.shared.clock_offset_ms / 1000
            if wait is not None:
                made.append((before + wait, after + wait + 0.002))

    for first, (begin, _) in enumerate(made):
        for last, (_, end) in enumerate(made[first:], first):
            assert last - first + 1 <= rate * 5 + rate * (end - begin) + 1e-3


# --- in the adapter ----------------------------------------------------------------------------------------------


def buckets(client: Any) -> dict[str, dict[str, str]]:
    found = {key: client.hgetall(key) for key in client.keys("deployer:aws:{*}:bucket")}
    assert all(0 < client.ttl(key) <= 900 for key in found)
    return {key.removeprefix("deployer:aws:").removesuffix(":bucket"): value for key, value in found.items()}


def test_every_call_takes_from_its_bucket_and_a_throttled_one_slows_it(aws: SandboxKit) -> None:
    client = fakeredis.FakeRedis(decode_responses=True)
    aws.simulator.faults.add({"throttle": {"operation": "DescribeStacks", "count": 1}})

    asked = cloud(aws.url, client)
    asked.stack("nothing")
    asked.executions("nothing")

    found = buckets(client)
    assert set(found) == {
        "{own:us-east-1:cloudformation:DescribeStacks}",
        "{own:us-east-1:codepipeline:ListPipelineExecutions}",
    }
    assert float(found["{own:us-east-1:cloudformation:DescribeStacks}"]["pace"]) < 0.6
    assert float(found["{own:us-east-1:codepipeline:ListPipelineExecutions}"]["pace"]) == 1


def test_a_call_that_is_sent_away_is_not_made(aws: SandboxKit) -> None:
    client = fakeredis.FakeRedis(decode_responses=True)
    key = "deployer:aws:{own:us-east-1:cloudformation:DescribeStacks}:bucket"
    client.hset(key, mapping={"tokens": -5000, "at": time.time() * 1000, "pace": 1, "slowed": 0})

    with aws.calls() as calls, pytest.raises(ThrottledError, match="DescribeStacks"):
        cloud(aws.url, client, {"rate": 1}).stack("nothing")
    assert calls == []


@pytest.mark.parametrize(
    ("waits", "patience", "read"), [((), 0, 3), ((6, 8), 20, 3), ((6, 8), 10, 2), ((6,), 0, 2)]
)
def test_a_listing_under_way_waits_for_its_turn_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch, waits: tuple[float, ...], patience: float, read: int
) -> None:
    slept, left, found = list[float](), list(waits), list[str]()
    monkeypatch.setattr(aws_client.time, "sleep", slept.append)

    def operation(NextToken: str = "1") -> dict[str, str]:  # noqa: N803  as AWS calls it
        if NextToken == "3" and left:
            raise ThrottledError("not now", retry_after=left.pop(0))
        return {"1": {"NextToken": "2"}, "2": {"NextToken": "3"}, "3": {}}[NextToken] | {"number": NextToken}

    with suppress(ThrottledError):
        found.extend(page["number"] for page in aws_client.read_pages(operation, patience))
    assert len(found) == read
    assert slept == list(waits)[: len(waits) if read == 3 else len(waits) - 1]


def test_a_listing_that_cannot_begin_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    slept = list[float]()
    monkeypatch.setattr(aws_client.time, "sleep", slept.append)

    def operation() -> dict[str, str]:
        raise ThrottledError("not now", retry_after=6)

    with pytest.raises(ThrottledError):
        next(aws_client.read_pages(operation, 20))
    assert slept == []


def test_without_redis_aws_is_called_all_the_same(aws: SandboxKit, caplog: pytest.LogCaptureFixture) -> None:
    asked = cloud(aws.url, connect("redis://127.0.0.1:9/0"))

    with aws.calls() as calls:
        assert asked.stack("nothing") is None
        assert not asked.is_still_busy("nothing", 0)
        assert asked.count_capacity().stacks_limit == 2000
    assert calls[0] == "DescribeStacks"
    assert caplog.text.count("do not share rates and listings") == 1


def test_every_request_is_counted_repeats_too(aws: SandboxKit) -> None:
    counted: list[str] = []
    asked = cloud(aws.url, options={"on_call": lambda: counted.append("a request")})
    aws.simulator.faults.add({"errors": {"operation": "DescribeStacks", "status": 503, "count": 2}})

    with aws.calls() as calls:
        asked.stack("nothing")
        asked.deployed_stacks("nothing")
    assert calls == ["DescribeStacks"] * 3 + ["GetPipeline"]
    assert len(counted) == len(calls)
