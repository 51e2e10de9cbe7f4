"""How many calls to GitHub a repository may make: its share of the quota, on fakeredis and on a real server alike."""

from typing import Any

import fakeredis
import pytest

from deployer.model.environments import Repository
from deployer.redis_store.allowance import RedisAllowance
from deployer.redis_store.connection import connect

HELLO, OTHER = Repository.parse("Acme/Hello"), Repository.parse("acme/other")
QUOTA = 5000
LATE = 5  # seconds that a busy machine may take for a test


class Kit:
    """The allowance under a clock that tests advance."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.offset = 0
        self.allowance = RedisAllowance(client, lambda: self.offset)

    def advance(self, seconds: float) -> None:
        self.offset += round(seconds * 1000)

    def use(self, hours: float, quota: int = QUOTA, calls: int = 10, *, reserved: bool = False) -> int:
        """How many calls come through if tasks of so many calls are tried all the time."""
        used = 0
        for _ in range(round(hours * 120)):
            self.advance(30)
            while not self.allowance.seconds_until_next_call(HELLO, reserved=reserved):
                self.allowance.count_calls_made(HELLO, calls, quota)
                used += calls
        return used


@pytest.fixture(params=["fakeredis", "server"])
def kit(request: pytest.FixtureRequest) -> Kit:
    if request.param == "fakeredis":
        return Kit(fakeredis.FakeRedis(decode_responses=True))
    server = connect(request.getfixturevalue("redis_url"))
    server.flushall()
    return Kit(server)


@pytest.mark.parametrize("quota", [1000, QUOTA])
def test_one_repository_leaves_two_thirds_of_each_hour_to_the_others(kit: Kit, quota: int) -> None:
    assert kit.use(1, quota) == pytest.approx(quota * 0.3, abs=20)
    assert kit.use(3, quota) == pytest.approx(quota * 0.6, abs=20), "a fifth of each later hour"


@pytest.mark.parametrize("quota", [1, 2, 60])
def test_an_absurd_quota_causes_no_wait_of_more_than_an_hour(kit: Kit, quota: int) -> None:
    for _ in range(3):
        kit.allowance.count_calls_made(HELLO, 200, quota)
    assert 0 < kit.allowance.seconds_until_next_call(HELLO) <= 3600
    kit.advance(3600 + LATE)
    assert kit.allowance.seconds_until_next_call(HELLO) == 0


def test_the_reserve_is_additional_and_limited(kit: Kit) -> None:
    kit.use(1)
    assert kit.allowance.seconds_until_next_call(HELLO) > 0
    assert kit.allowance.seconds_until_next_call(HELLO, reserved=True) == 0
    assert kit.use(1, reserved=True) == pytest.approx(QUOTA * 0.25, abs=20)


def test_a_waiting_repository_delays_no_other(kit: Kit) -> None:
    kit.use(1)
    assert kit.allowance.seconds_until_next_call(OTHER) == 0


def test_the_wait_is_as_long_as_the_debt_and_ends(kit: Kit) -> None:
    kit.allowance.count_calls_made(HELLO, 700, QUOTA)  # one task that made so many
    wait = kit.allowance.seconds_until_next_call(HELLO)
    assert wait == pytest.approx(200 * 3.6, abs=LATE)
    kit.advance(wait - LATE)
    assert kit.allowance.seconds_until_next_call(HELLO) > 0
    kit.advance(LATE)
    assert kit.allowance.seconds_until_next_call(HELLO) == 0


def test_nothing_is_counted_if_github_names_no_limit(kit: Kit) -> None:
    kit.allowance.count_calls_made(HELLO, 1_000_000, 0)
    assert kit.allowance.seconds_until_next_call(HELLO) == 0
    assert kit.client.keys("*") == []


def test_there_is_one_key_and_it_expires_with_the_debt(kit: Kit) -> None:
    kit.allowance.count_calls_made(HELLO, 100, QUOTA)
    kit.allowance.count_calls_made(HELLO, 100, QUOTA)
    assert kit.client.keys("*") == ["deployer:{acme/hello}:github"]
    assert kit.client.pttl("deployer:{acme/hello}:github") / 1000 == pytest.approx(200 * 3.6, abs=LATE)
