"""The listings of all stacks that resyncs and teardowns share."""

import base64
import json
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict

import pytest
from world import HELLO, TEMPLATE, World, environment, sha

from deployer.environment.cloud_region import RegionCapacity
from deployer.model.environments import Kind
from deployer.model.errors import TransientError
from deployer.model.stacks import Stack
from deployer.model.targets import Target
from tests.doubles import FakeCloud
from tests.doubles.cloud import BY_DEPLOYER

PLACE = "own:us-east-1"
LISTED, LISTING = f"deployer:{{stacks}}:listed:{PLACE}", f"deployer:{{stacks}}:listing:{PLACE}"


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


def test_a_listing_that_cannot_be_read_is_made_anew(world: World) -> None:
    for text in (
        "no base64!",
        base64.b64encode(b"x").decode(),
        base64.b64encode(zlib.compress(b"{}")).decode(),
    ):
        world.redis.hset(LISTED, mapping={HELLO.key: text, ".began": time.time()})
        with pytest.raises(TransientError, match="cannot be read, so the stacks are listed again"):
            world.deployer.inventory.stacks(HELLO, 1)
        assert world.deployer.inventory.stacks(HELLO, 1).stacks == tuple(world.cloud.stacks())


def test_who_lists_holds_it_to_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    stacks, room, left = world.cloud.stacks, world.cloud.count_capacity, list[int]()

    def slow() -> Iterator[Stack]:
        yield from stacks()
        world.redis.pexpire(LISTING, 1000)  # much time has passed

    def counted() -> RegionCapacity:
        left.append(world.redis.pttl(LISTING))
        return room()

    monkeypatch.setattr(world.cloud, "stacks", slow)
    monkeypatch.setattr(world.cloud, "count_capacity", counted)
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


def test_a_resync_that_a_clock_ahead_asked_for_lists_once(world: World) -> None:
    before = len(world.cloud.called("stacks"))
    world.deployer.submitter.resync(HELLO, world.lanes.now() + 120)
    world.run()
    assert len(world.cloud.called("stacks")) - before == 1


@pytest.fixture
def production(world: World) -> FakeCloud:
    """Where production lives, and it alone."""
    cloud = FakeCloud()
    cloud.account, cloud.region = "production's", "eu-west-1"
    world.clouds.clouds[cloud.region] = cloud
    world.clouds.targets[Kind.PRODUCTION] = Target(Kind.PRODUCTION, regions=(cloud.region,))
    return cloud


def test_one_kind_s_stacks_are_told_while_another_s_account_is_away(
    world: World, production: FakeCloud
) -> None:
    production.fail_next(TransientError("its role is refused"), times=2, method="stacks")
    inventory = world.deployer.inventory
    with pytest.raises(TransientError, match="its role is refused"):
        inventory.stacks(HELLO, time.time())
    listed = inventory.stacks(HELLO, time.time(), kind=Kind.STAGING)
    assert listed.stacks == tuple(world.cloud.stacks())
    with pytest.raises(TransientError, match="its role is refused"):
        inventory.stacks(HELLO, listed.began)


def test_an_account_that_is_away_keeps_no_other_s_environments_from_converging(
    world: World, production: FakeCloud
) -> None:
    world.push("refs/tags/v1", sha(1), at=1000)
    world.push("refs/heads/x", sha(2))
    for _ in range(9):
        world.tasks()
        production.advance()
        world.step()
    world.host.remove(HELLO, "refs/heads/x")  # nobody told of what follows
    world.host.push(HELLO, "refs/heads/y", sha(3), files={"pipeline.yml": TEMPLATE})
    world.host.push(HELLO, "refs/tags/v2", sha(4), files={"pipeline.yml": TEMPLATE}, at=2000)
    production.fail_next(TransientError("its role is refused"), times=99, method="stacks")
    world.resync(HELLO)

    assert world.standing(HELLO) == {environment("refs/heads/main"), environment("refs/heads/y")}
    assert len(list(production.pipelines)) == 1
    (pipeline,) = production.pipelines.values()
    assert [each.sha for each in pipeline if each.trigger == BY_DEPLOYER] == [sha(1)]
    (letter,) = world.lanes.dead_letters()
    assert letter.reason == "its role is refused"


def test_where_every_account_is_away_nothing_is_told(world: World, production: FakeCloud) -> None:
    for each in (world.cloud, production):
        each.fail_next(TransientError("AWS is away"), method="stacks")
    with pytest.raises(TransientError, match="AWS is away"):
        world.deployer.inventory.stacks(HELLO, time.time(), partly=True)


def test_an_account_with_a_region_that_is_away_is_away(world: World, production: FakeCloud) -> None:
    """What stands in that region could be of any kind that lives in the account."""
    production.account = world.cloud.account
    production.fail_next(TransientError("the region is away"), method="stacks")
    with pytest.raises(TransientError, match="the region is away"):
        world.deployer.inventory.stacks(HELLO, time.time(), partly=True)


def test_each_place_is_listed_once_for_all_who_ask(world: World, production: FakeCloud) -> None:
    since, before = time.time(), len(world.cloud.called("stacks"))
    production.fail_next(TransientError("its role is refused"), method="stacks")
    with pytest.raises(TransientError):
        world.deployer.inventory.stacks(HELLO, since)
    for _ in range(10):
        assert len(world.deployer.inventory.stacks(HELLO, since, kind=Kind.DEVELOPMENT).stacks) == 1
        assert len(world.deployer.inventory.stacks(HELLO, since).stacks) == 1
    assert [len(each.called("stacks")) for each in (world.cloud, production)] == [before + 1, 2]


def test_what_was_listed_elsewhere_is_told_without_asking_again(world: World, production: FakeCloud) -> None:
    """A resync found it in a region of the account where the environment's kind does not live."""
    production.account = world.cloud.account
    astray = production.add_stack("astray", next(iter(world.cloud.stacks())).tags)
    world.deployer.inventory.stacks(HELLO, time.time())
    production.fail_next(TransientError("the region is away"), method="stacks")
    found = world.deployer.inventory.stacks(HELLO, time.time(), kind=Kind.STAGING).stacks
    assert astray in {each.arn for each in found}
