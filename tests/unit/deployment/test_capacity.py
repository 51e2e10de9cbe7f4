"""Admission, and the choice of a region."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from deployer.environment.capacity import fullest_last, refusal_of_region
from deployer.environment.cloud_region import RegionCapacity
from deployer.model.environments import Kind
from deployer.model.targets import Target

NUMBERS = st.integers(0, 1_000_000)
ROOMS = st.builds(
    RegionCapacity,
    region=st.sampled_from(["us-east-1", "ap-southeast-1", "us-gov-west-1"]),
    stacks=NUMBERS, stacks_limit=NUMBERS, pipelines=NUMBERS, pipelines_limit=NUMBERS,
)  # fmt: skip
KINDS = st.sampled_from(list(Kind))


def room(stacks: int, pipelines: int = 0) -> RegionCapacity:
    return RegionCapacity("us-east-1", stacks, 500, pipelines, 1000, 1_800_000_000.0)


@given(ROOMS, KINDS, st.integers(0, 100_000))
def test_an_environment_is_admitted_exactly_where_there_is_room(
    found: RegionCapacity, kind: Kind, reserve: int
) -> None:
    refused = refusal_of_region(found, Target(kind, reserve=reserve), kind)
    left = min(found.stacks_limit - found.stacks, found.pipelines_limit - found.pipelines)
    kept = reserve if kind is Kind.DEVELOPMENT else 0
    assert (refused == "") == (left - 1 >= kept)
    assert len(refused) <= 110


def test_a_refusal_says_what_is_used_up_and_what_is_kept() -> None:
    target = Target(Kind.DEVELOPMENT, reserve=10)
    assert refusal_of_region(room(489), target, Kind.DEVELOPMENT) == ""
    assert refusal_of_region(room(490), target, Kind.DEVELOPMENT) == (
        "no room in us-east-1: 490 of 500 stacks used at 08:00 UTC, 10 kept for staging and production"
    )
    assert refusal_of_region(room(490), target, Kind.PRODUCTION) == ""
    assert refusal_of_region(room(1, 1000), target, Kind.STAGING) == (
        "no room in us-east-1: 1000 of 1000 pipelines used at 08:00 UTC"
    )


@given(st.lists(ROOMS))
def test_regions_come_by_their_room(rooms: list[RegionCapacity]) -> None:
    found = fullest_last(rooms)
    assert sorted(map(repr, found)) == sorted(map(repr, rooms))
    assert [each.free for each in found] == sorted((each.free for each in rooms), reverse=True)
    assert fullest_last([replace(each, stacks_limit=0) for each in rooms]) == [
        replace(each, stacks_limit=0) for each in rooms
    ], "equals stay in their order"
