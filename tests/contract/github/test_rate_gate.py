"""How all processes together obey GitHub's rate limits, on fakeredis and on a real server alike."""

import time
from typing import Any

import fakeredis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deployer.model.errors import ThrottledError
from deployer.redis_store.connection import connect
from deployer.redis_store.github import rate_gate
from deployer.redis_store.github.rate_gate import RedisRateGate
from deployer.redis_store.shared_redis import SharedRedis

ACME, SHOP = "installation-7", "installation-8"


class Clock:
    """Processes whose waiting takes no time, but is seen. Redis's clock moves only by `advance`, or by milliseconds."""

    def __init__(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shared = SharedRedis(client)
        self.waited = 0.0
        monkeypatch.setattr(rate_gate.time, "sleep", self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.waited = seconds

    def gate(self, share: float = 1.0, *, limited: str = ACME) -> RedisRateGate:
        """A process's gate; GitHub has named the limits of an account."""
        made = RedisRateGate(self.shared, share)
        if limited:
            made.record_limits(limited, "core", quota=quota(), refused_seconds=None, refuses_all=False)
            made.record_limits(limited, "graphql", quota=quota(), refused_seconds=None, refuses_all=False)
        return made

    def advance(self, seconds: float) -> None:
        self.shared.clock_offset_ms += round(seconds * 1000)

    def wait_of(
        self, gate: RedisRateGate, resource: str = "core", *, account: str = ACME, writes: bool = False
    ) -> float:
        """The seconds that a request waits; negative if it is sent away for so long."""
        self.waited = 0.0
        try:
            gate.wait_for_turn(account, resource, writes=writes)
        except ThrottledError as error:
            return -(error.retry_after or 0)
        return self.waited


def quota(remaining: int = 4000, reset: float = 0) -> tuple[int, int, float]:
    return 5000, remaining, float(int(reset or time.time() + 1800))


@pytest.fixture(params=["fakeredis", "server"])
def clock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Clock:
    if request.param == "fakeredis":
        return Clock(fakeredis.FakeRedis(decode_responses=True), monkeypatch)
    server = connect(request.getfixturevalue("redis_url"))
    server.flushall()
    return Clock(server, monkeypatch)


def test_writes_of_one_account_are_a_second_apart(clock: Clock) -> None:
    gate, colleague = clock.gate(), clock.gate()
    waits = [clock.wait_of(each, writes=True) for each in (gate, colleague, gate, colleague, gate, gate)]
    assert waits == pytest.approx([0, 1, 2, 3, 4, 5], abs=0.3)

    away = clock.wait_of(gate, writes=True)
    assert away == pytest.approx(-6, abs=0.3), "a longer wait is left to the queue, and reserves nothing"
    clock.advance(6.5)
    assert clock.wait_of(gate, writes=True) == 0


def test_reads_and_other_accounts_do_not_wait_for_writes(clock: Clock) -> None:
    gate = clock.gate(limited=SHOP)
    gate = clock.gate()
    for _ in range(4):
        clock.wait_of(gate, writes=True)
    assert clock.wait_of(gate) == 0
    assert clock.wait_of(gate, "graphql") == 0
    assert clock.wait_of(gate, account=SHOP, writes=True) == 0


def test_an_enterprise_server_without_limits_is_not_slowed(clock: Clock) -> None:
    gate = clock.gate(limited="")
    gate.record_limits("token", "core", quota=None, refused_seconds=None, refuses_all=False)
    assert [clock.wait_of(gate, account="token", writes=True) for _ in range(300)] == [0] * 300


def test_a_smaller_share_is_slower(clock: Clock) -> None:
    gate = clock.gate(0.5)
    assert [clock.wait_of(gate, writes=True) for _ in range(3)] == pytest.approx([0, 2, 4], abs=0.3)


def test_a_secondary_limit_closes_everything_for_all_processes(clock: Clock) -> None:
    gate, colleague = clock.gate(), clock.gate()
    gate.record_limits(ACME, "core", quota=quota(), refused_seconds=60, refuses_all=True)
    for resource in ("core", "graphql"):
        assert clock.wait_of(colleague, resource) == pytest.approx(-60, abs=0.5)
    colleague.record_limits(ACME, "core", quota=quota(), refused_seconds=5, refuses_all=True)
    assert clock.wait_of(gate) < -59, "a shorter refusal that arrives later does not open the gate"
    assert clock.wait_of(gate, account=SHOP) == 0
    clock.advance(61)
    assert clock.wait_of(colleague) == 0


def test_a_spent_hour_closes_its_own_api_until_the_reset(clock: Clock) -> None:
    gate = clock.gate()
    gate.record_limits(ACME, "graphql", quota=quota(0), refused_seconds=1800, refuses_all=False)
    assert clock.wait_of(gate, "graphql") == pytest.approx(-1800, abs=1)
    assert clock.wait_of(gate) == 0
    clock.advance(1801)
    assert clock.wait_of(gate, "graphql") == 0


def test_the_remaining_requests_are_the_fewest_of_an_hour(clock: Clock) -> None:
    gate, reset = clock.gate(limited=""), time.time() + 900
    for remaining in (4000, 3990, 3995):  # answers may arrive in another order
        gate.record_limits(
            ACME, "core", quota=quota(remaining, reset), refused_seconds=None, refuses_all=False
        )
    (found,) = gate.quotas()
    assert (found.account, found.resource, found.limit, found.remaining) == (ACME, "core", 5000, 3990)
    assert found.resets_at == int(reset)
    gate.record_limits(ACME, "core", quota=quota(4999, reset + 3600), refused_seconds=None, refuses_all=False)
    assert gate.quotas()[0].remaining == 4999


def test_quotas_count_writes_and_refusals_and_end(clock: Clock) -> None:
    gate = clock.gate()
    for _ in range(3):
        clock.wait_of(gate, writes=True)
    gate.record_limits(ACME, "graphql", quota=quota(0), refused_seconds=100, refuses_all=False)
    core, graphql = gate.quotas()
    assert (core.writes, core.closed_seconds, graphql.writes) == (3, 0, 0)
    assert graphql.closed_seconds == pytest.approx(100, abs=1)
    clock.advance(3605)
    core, graphql = gate.quotas()
    assert (core.writes, core.remaining, graphql.remaining, graphql.closed_seconds) == (0, 5000, 5000, 0)
    clock.advance(86_400)
    gate.record_limits(SHOP, "core", quota=quota(), refused_seconds=None, refuses_all=False)
    assert {each.account for each in gate.quotas()} == {SHOP}


def test_an_account_is_short_after_half_of_the_writes_or_nine_tenths_of_the_requests(clock: Clock) -> None:
    gate = clock.gate()
    for _ in range(249):
        clock.wait_of(gate, writes=True)
        clock.advance(2)
    assert not gate.is_short(ACME)
    clock.wait_of(gate, writes=True)
    assert gate.is_short(ACME)
    assert not gate.is_short(SHOP)
    clock.advance(3600)
    assert not gate.is_short(ACME)
    later = clock.shared.now() + 1800
    gate.record_limits(ACME, "core", quota=quota(499, later), refused_seconds=None, refuses_all=False)
    assert gate.is_short(ACME)
    clock.advance(1900)
    assert not gate.is_short(ACME)
    gate.record_limits(ACME, "core", quota=None, refused_seconds=60, refuses_all=True)
    assert gate.is_short(ACME)


def test_nothing_is_limited_while_redis_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(connect("redis://127.0.0.1:9/0"), monkeypatch)
    gate = clock.gate()
    assert [clock.wait_of(gate, writes=True) for _ in range(3)] == [0, 0, 0]
    assert gate.quotas() == []


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.booleans(), st.sampled_from([0, 0, 0, 0.1, 1, 7])), max_size=400))
def test_no_minute_has_more_than_github_allows(steps: list[tuple[bool, float]]) -> None:
    """Requests are sent when their wait is over; another process may send its own meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock(fakeredis.FakeRedis(decode_responses=True), patch)
        gate = clock.gate()
        sent: list[tuple[float, bool]] = []
        for writes, pause in steps * 4:
            wait = clock.wait_of(gate, writes=writes)
            if wait >= 0:
                sent.append((time.time() + clock.shared.clock_offset_ms / 1000 + wait, writes))
            clock.advance(pause)
    late = 1.0  # between the script's look at the clock and this test's, on a busy machine
    written = sorted(at for at, writes in sent if writes)
    assert all(later - first >= 10 - late for first, later in zip(written, written[10:], strict=False))
    for begin, _ in sent:
        points = sum(5 if writes else 1 for at, writes in sent if begin <= at < begin + 60)
        assert points <= 900 + 12 * late + 5
