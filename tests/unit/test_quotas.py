"""Admission, the choice of a region, and when it will be full."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.environments import Kind
from deployer.ports import Room
from deployer.quotas import admits, forecast, fullest_last
from deployer.targets import Target

DAY = 86400
NOW = 1_800_000_000.0
NUMBERS = st.integers(0, 1_000_000)
ROOMS = st.builds(
    Room,
    region=st.sampled_from(["us-east-1", "ap-southeast-1", "us-gov-west-1"]),
    stacks=NUMBERS, stacks_limit=NUMBERS, pipelines=NUMBERS, pipelines_limit=NUMBERS,
)  # fmt: skip
KINDS = st.sampled_from(list(Kind))


def room(stacks: int, pipelines: int = 0, *, days_ago: float = 0) -> Room:
    return Room("us-east-1", stacks, 500, pipelines, 1000, NOW - days_ago * DAY)


@given(ROOMS, KINDS, st.integers(0, 100_000))
def test_an_environment_is_admitted_exactly_where_there_is_room(
    found: Room, kind: Kind, reserve: int
) -> None:
    refused = admits(found, Target(kind, reserve=reserve), kind)
    left = min(found.stacks_limit - found.stacks, found.pipelines_limit - found.pipelines)
    kept = reserve if kind is Kind.DEVELOPMENT else 0
    assert (refused == "") == (left - 1 >= kept)
    assert len(refused) <= 110


def test_a_refusal_says_what_is_used_up_and_what_is_kept() -> None:
    target = Target(Kind.DEVELOPMENT, reserve=10)
    assert admits(room(489), target, Kind.DEVELOPMENT) == ""
    assert admits(room(490), target, Kind.DEVELOPMENT) == (
        "no room in us-east-1: 490 of 500 stacks used at 08:00 UTC, 10 kept for staging and production"
    )
    assert admits(room(490), target, Kind.PRODUCTION) == ""
    assert admits(room(1, 1000), target, Kind.STAGING) == (
        "no room in us-east-1: 1000 of 1000 pipelines used at 08:00 UTC"
    )


@given(st.lists(ROOMS))
def test_regions_come_by_their_room(rooms: list[Room]) -> None:
    found = fullest_last(rooms)
    assert sorted(map(repr, found)) == sorted(map(repr, rooms))
    assert [each.free for each in found] == sorted((each.free for each in rooms), reverse=True)
    assert fullest_last([replace(each, stacks_limit=0) for each in rooms]) == [
        replace(each, stacks_limit=0) for each in rooms
    ], "equals stay in their order"


@given(st.integers(1, 20), st.integers(0, 60), st.integers(2, 14))
def test_steady_growth_is_foretold(daily: int, start: int, days: int) -> None:
    history = [room(start + daily * (days - ago), days_ago=ago) for ago in range(days, -1, -1)]
    left = 500 - history[-1].stacks
    assert forecast(history, NOW) == pytest.approx(left / daily)


@given(st.lists(st.integers(0, 499), min_size=1, max_size=40), st.integers(0, 10))
def test_it_is_never_in_the_past(counts: list[int], ago: int) -> None:
    history = [room(count, days_ago=ago + index / 3) for index, count in enumerate(counts)][::-1]
    found = forecast(history, NOW)
    assert found is None or found >= 0
    if counts == sorted(counts):  # newest first: it shrinks or stands
        assert found is None


def test_what_fills_first_counts() -> None:
    history = [room(100 + day, 800 + 10 * day, days_ago=10 - day) for day in range(11)]
    assert forecast(history, NOW) == pytest.approx(10)


def test_an_old_jump_does_not_count() -> None:
    history = [room(10, days_ago=30), *(room(400, days_ago=ago) for ago in (12, 6, 0))]
    assert forecast(history, NOW) is None


def test_a_days_growth_is_needed() -> None:
    assert forecast([], NOW) is None
    assert forecast([room(10, days_ago=0.5), room(40)], NOW) is None
    assert forecast([room(500)], NOW) == 0
