"""The one listing of all stacks that every resync reads."""

import base64
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from world import HELLO, World, sha

from deployer.ports import Room
from deployer.stacks import Stack

LISTED, LISTING = "deployer:{stacks}:listed", "deployer:{stacks}:listing"


@pytest.fixture
def world() -> World:
    made = World()
    made.push("refs/heads/main", sha(1))
    made.run()
    made.deployer.inventory.forget()
    return made


def test_a_listing_of_a_newer_version_is_read(world: World) -> None:
    rows = [{**asdict(each), "something_new": 1} for each in world.cloud.stacks()]
    text = base64.b64encode(zlib.compress(json.dumps(rows).encode())).decode()
    world.redis.hset(LISTED, mapping={HELLO.key: text, ".began": time.time()})
    assert world.deployer.inventory.stacks(HELLO, 1).stacks == tuple(world.cloud.stacks())


def test_who_lists_holds_it_to_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks, room, left = world.cloud.stacks, world.cloud.room, list[int]()

    def slow() -> Iterator[Stack]:
        yield from stacks()
        world.redis.pexpire(LISTING, 1000)  # much time has passed

    def counted() -> Room:
        left.append(world.redis.pttl(LISTING))
        return room()

    monkeypatch.setattr(world.cloud, "stacks", slow)
    monkeypatch.setattr(world.cloud, "room", counted)
    world.deployer.inventory.stacks(HELLO, time.time())
    assert left[0] > 20_000
    assert not world.redis.exists(LISTING)


def test_a_listing_that_another_began_meanwhile_is_left_to_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    stacks = world.cloud.stacks

    def slow() -> Iterator[Stack]:
        yield from stacks()
        world.redis.set(LISTING, "another's", px=60_000)  # our own claim ran out

    monkeypatch.setattr(world.cloud, "stacks", slow)
    assert len(world.deployer.inventory.stacks(HELLO, time.time()).stacks) == 1
    assert world.redis.get(LISTING) == "another's"
