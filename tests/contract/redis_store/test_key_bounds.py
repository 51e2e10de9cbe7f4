"""Nothing in Redis grows for ever: every key expires, is of a bounded size, or belongs to something that lives."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from deployer.environment.cloud_region import RegionCapacity
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.events import Push
from deployer.model.refs import ZERO_SHA, Ref
from deployer.queue.items import Cause
from deployer.queue.store import Dispatch
from deployer.redis_store import celery_dispatch as celery_queue
from deployer.redis_store.aws.region_status import RedisRegionStatus
from deployer.redis_store.celery_dispatch import CeleryDispatcher, make_celery
from deployer.redis_store.shared_redis import SharedRedis
from tests.unit.world import HELLO, World, environment, sha
from workers.scheduler import Scheduler

MONTH_MS = 31 * 86_400_000
GLOBAL = {"deployer:lanes", "deployer:spelled", "deployer:names", "deployer:kept", "deployer:asked"}
LISTS = {
    "deployer:listed",
    "deployer:list-names",
    "deployer:expiry-checks",
    "deployer:expiry-ttl",
    "deployer:activity",
}
LISTS |= {"deployer:indexed"}
LIVING = {"environments", "repository", "seen", "state", "counters", "activity", "github"}
MAIN, LASTS = "refs/heads/main", "refs/heads/lasts"
STAGING, PRODUCTION = Environment(HELLO, Kind.STAGING), Environment(HELLO, Kind.PRODUCTION)


@pytest.fixture
def world(client: Any) -> World:
    made = World(client)
    for number, ref in enumerate((MAIN, LASTS, "refs/tags/v1"), 1):
        made.push(ref, sha(number))
    made.run()
    return made


def months_pass(world: World) -> None:
    """The scheduler does all that it does in two months."""
    for _ in range(2):
        world.lanes.clock_offset_ms += MONTH_MS
        for _ in range(2):  # a resync finds, and what it queued ends
            scheduler = Scheduler(world.deployer)
            scheduler.sweep()
            scheduler.run_due_jobs()
            world.run()


def permanent(client: Any) -> set[str]:
    return {key for key in client.scan_iter() if client.ttl(key) == -1}


def undocumented(client: Any) -> list[str]:
    """Keys of which docs/lanes.md does not say what bounds them."""
    text = (Path(__file__).parents[3] / "docs" / "lanes.md").read_text()
    table = text[text.index("| key | holds |") :]
    forms: list[str] = []
    for line in table.splitlines()[2:]:
        if not line.startswith("|"):
            break
        named = re.findall(r"`([^`]+)`", line.split("|")[1])
        forms += [f"{named[0].rpartition(':')[0]}{each}" if each.startswith(":") else each for each in named]
    patterns = [re.sub(r"owner/repo|ACCOUNT:REGION|[A-Z]{2,}|\\\*", ".+", re.escape(each)) for each in forms]
    return [key for key in client.scan_iter() if not any(re.fullmatch(each, key) for each in patterns)]


def of(repository: Repository, names: set[str]) -> set[str]:
    return {f"deployer:{{{repository.key}}}:{name}" for name in names}


def test_branches_that_come_and_go_leave_no_keys(world: World, client: Any) -> None:
    months_pass(world)
    assert undocumented(client) == []
    before = permanent(client)
    lists = {key for key in before if key.startswith("deployer:list:")}
    assert before <= GLOBAL | LISTS | lists | of(HELLO, LIVING) | {"deployer:{-/-}:counters"}
    names = client.hlen("deployer:names")
    for number in range(5):
        ref = f"refs/heads/x-{number}"
        world.push(ref, sha(10 + number))
        world.run()
        world.deployer.submitter.keep_environment(environment(ref), 3600)
        world.remove(ref, sha(10 + number))
        world.run()
        # a person may ask for it while it is deleted
        world.lanes.keep_environment(environment(ref), 0)
    world.push("refs/heads/NOBUILD-x", sha(20))
    world.run()
    world.host.remove(HELLO, "refs/heads/NOBUILD-x")
    months_pass(world)
    assert permanent(client) == before | {"deployer:{-/-}:counters"}
    assert {each.environment for each in world.lanes.environments()} == {
        environment(LASTS).key, STAGING.key, PRODUCTION.key,
    }  # fmt: skip
    assert client.hlen("deployer:names") == names
    assert [world.lanes.find(each.stack_name) for each in (STAGING, environment(LASTS))] == [
        STAGING, environment(LASTS),
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["renamed", "deleted", "removed from the App", "left out by the settings"])
def test_repositories_that_end_leave_no_keys(world: World, client: Any, end: str) -> None:
    if end == "left out by the settings":
        for each in (STAGING, PRODUCTION, environment(LASTS)):
            world.deployer.submitter.request_environment(each, cause=Cause.TEARDOWN, yes_really=True)
            world.run()
        world.restart(repositories=("others/*",))
    else:
        if end == "renamed":
            world.host.rename(HELLO, Repository("acme", "shop"))
        elif end == "deleted":
            world.host.delete(HELLO)
        else:
            world.host.change(HELLO, hidden=True)
        word = {"renamed": "", "deleted": "deleted"}.get(end, "removed")
        world.tell(f"repository {end}", HELLO, word=word)
        for each in (STAGING, PRODUCTION, *([environment(LASTS)] if word == "removed" else [])):
            world.deployer.submitter.request_environment(each, cause=Cause.TEARDOWN, yes_really=True)
            world.run()
    counted = world.lanes.counters()
    assert HELLO in world.lanes.repositories()
    months_pass(world)
    assert HELLO.key not in {each.key for each in world.lanes.repositories()}
    assert not {key for key in permanent(client) if "acme/hello" in key}
    for key in GLOBAL - {"deployer:kept"}:
        held = client.zrange(key, 0, -1) if key == "deployer:lanes" else client.hgetall(key)
        assert "acme/hello" not in json.dumps(held), key
    after = world.lanes.counters()
    assert {name: number for name, number in counted.items() if after.get(name, 0) < number} == {}


def test_the_data_of_a_deleted_repository_with_a_stack_is_kept(world: World) -> None:
    world.host.delete(HELLO)
    world.tell("repository deleted", HELLO, word="deleted")
    months_pass(world)
    assert world.record(STAGING).status.state == "deployed"
    assert world.known(HELLO).state == "deleted"


@pytest.mark.parametrize("name", ["acme/mistyped", "acme/hello"])
def test_a_repository_with_an_unreadable_record_is_resynced_once_in_a_period(client: Any, name: str) -> None:
    named = type("Named", (World,), {"settings": {**World.settings, "DEPLOYER_REPOSITORIES": name}})
    world = named(client)
    scheduler = Scheduler(world.deployer)
    for _ in range(3):
        scheduler._next_resync_check = 0.0
        scheduler.run_due_jobs()
        world.run()
    assert len(world.host.called("facts")) == 1


def test_deliveries_of_foreign_repositories_and_mistyped_names_leave_no_keys(
    world: World, client: Any
) -> None:
    before = permanent(client) | {"deployer:{-/-}:counters"}
    for number in range(25):
        foreign = Repository("else", f"repo-{number}")
        world.deployer.submitter.submit_github(
            Push(f"f-{number}", foreign, Ref.parse(LASTS), ZERO_SHA, sha(1), "main")
        )
        world.deployer.submitter.resync(Repository("acme", f"mistyped-{number}"))
        world.run()
    assert permanent(client) <= before
    assert client.zcard("deployer:unserved") == 20
    assert undocumented(client) == []


def test_regions_without_a_recent_count_are_deleted(client: Any) -> None:
    shared = SharedRedis(client)
    for region in ("us-east-1", "eu-west-1"):
        survey = RedisRegionStatus(shared, "own", region)
        survey.save_last_count(RegionCapacity(region, 1, 2, 1, 2, shared.now(), "own"))
        shared.clock_offset_ms += MONTH_MS
    assert client.zrange("deployer:aws:places", 0, -1) == ['["own", "eu-west-1"]']
    assert permanent(client) == set()
    assert undocumented(client) == []


def test_messages_that_no_worker_takes_are_repeated_up_to_a_limit(
    client: Any, redis_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(celery_queue, "_MOST_WAITING", 5)
    app = make_celery(redis_url)
    queue = CeleryDispatcher(app, client)

    def waiting() -> int:
        return sum(client.llen(key) for key in client.scan_iter("deployer*") if client.type(key) == "list")

    for number in range(20):
        queue.resend_dispatch(Dispatch("acme/hello", "staging", "deployer.sync", 7, low=number % 2 == 0))
    assert waiting() == 5
    assert caplog.text.count("no message is repeated") == 1
    queue.send(Dispatch("acme/hello", "staging", "deployer.sync", 8))
    assert waiting() == 6, "a first message is always sent"
    client.delete("deployer")
    queue.resend_dispatch(Dispatch("acme/hello", "staging", "deployer.sync", 7))
    assert waiting() == 4
    app.close()
