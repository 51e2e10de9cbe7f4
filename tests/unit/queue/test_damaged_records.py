"""Stored records that are damaged, or whose repository the settings leave out for a while: what tasks and jobs do."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from world import HELLO, World, environment, sha

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.events import RepositoryChange
from deployer.model.repository_record import Seen
from deployer.resync.missed_deliveries import APP
from workers import scheduler
from workers.scheduler import Scheduler

MAIN, BRANCH = "refs/heads/main", "refs/heads/x"
STAGING = Environment(HELLO, Kind.STAGING)
PREFIX = "deployer:{acme/hello}"
DAY = 86_400


@pytest.fixture
def world() -> World:
    made = World()
    for number, ref in enumerate((MAIN, BRANCH), start=1):
        made.push(ref, sha(number))
    made.run()
    made.resync(HELLO)
    return made


def pass_days(world: World, days: float) -> None:
    """Let time pass, and the scheduler ask for what is due then."""
    world.lanes.clock_offset_ms += int(days * DAY * 1000)
    Scheduler(world.deployer).run_due_jobs()
    world.run()


# --- a repository that is left out or removed, and comes back -----------------------------------------------------


def leave_out(world: World) -> Callable[[], None]:
    before = world.deployer.config.repositories
    world.restart(repositories=("others/*",))
    return lambda: world.restart(repositories=before)


def remove_from_app(world: World) -> Callable[[], None]:
    def change(word: str, *, hidden: bool) -> None:
        world.host.change(HELLO, hidden=hidden)
        about = f"installation_repositories {word}"
        world.deployer.submitter.submit_github(
            RepositoryChange(word, about, (HELLO,), word=word if hidden else "")
        )
        world.run()

    change("removed", hidden=True)
    return lambda: change("added", hidden=False)


@pytest.mark.parametrize("end", [leave_out, remove_from_app])
def test_a_repository_that_ends_for_a_moment_keeps_its_deleted_environments_deleted(
    world: World, end: Any
) -> None:
    world.teardown(STAGING)
    world.run()
    pass_days(world, 40)
    assert world.record(STAGING).status.state == "deleted"
    undo = end(world)
    pass_days(world, 0.1)
    undo()
    pass_days(world, 0.1)
    assert world.record(STAGING).status.state == "deleted"
    assert STAGING not in world.standing(HELLO), "a person deleted it"


def test_each_exclusion_of_a_repository_counts_separately(
    world: World,
) -> None:
    world.teardown(STAGING)
    world.run()
    for _ in range(3):
        undo = leave_out(world)
        pass_days(world, 20)
        undo()
        pass_days(world, 20)
    assert world.record(STAGING).status.state == "deleted"
    assert STAGING not in world.standing(HELLO)
    leave_out(world)
    pass_days(world, 1)
    assert world.lanes.environment(STAGING) is not None
    pass_days(world, 31)
    assert world.lanes.environment(STAGING) is None


# --- the record of a repository, or of the App's webhook ----------------------------------------------------------


def test_a_resync_does_its_work_although_the_record_of_the_app_is_damaged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.host.is_app = True
    world.redis.set("deployer:{-/-}:repository", "no JSON")
    world.resync(HELLO)
    assert world.told[-1] == "resynced: nothing to do"
    assert world.lanes.dead_letters() == []
    assert "delete the key deployer:{-/-}:repository" in caplog.text
    assert world.lanes.repository_records([APP]) == []


def test_a_dead_letter_names_the_record_of_the_repository_that_cannot_be_read(world: World) -> None:
    world.redis.set(f"{PREFIX}:repository", "no JSON")
    world.resync(HELLO)
    (letter,) = world.lanes.dead_letters()
    assert letter.kind == "StoredValueError"
    assert letter.reason.startswith(
        "the record of acme/hello in Redis cannot be read: it is no RepositoryRecord"
    )
    assert f"delete the key {PREFIX}:repository" in letter.reason
    world.redis.delete(f"{PREFIX}:repository")
    world.deployer.submitter.replay(letter.id)
    world.run()
    assert world.known(HELLO).id


def test_a_resync_replaces_unreadable_data_of_earlier_resyncs(world: World) -> None:
    tag = "refs/tags/v1"
    world.host.push(HELLO, tag, sha(1), files={}, at=1000)
    world.redis.set(f"{PREFIX}:seen", "no JSON")
    world.resync(HELLO)
    assert world.lanes.dead_letters() == []
    assert world.lanes.read_seen(HELLO) == Seen(never_deployed=tag)


# --- the record of an environment ---------------------------------------------------------------------------------


def test_an_event_of_an_environment_with_a_damaged_record_is_accepted_and_its_task_reports_it(
    world: World,
) -> None:
    place = environment(BRANCH)
    world.redis.hset(f"{PREFIX}:environments", place.key, "no JSON")
    delivery = world.event(place)
    world.run()
    (letter,) = world.lanes.dead_letters()
    assert f"the field {place.key} of {PREFIX}:environments" in letter.reason
    assert world.outcome(delivery)[0] == "dead-lettered"


# --- the scheduler's daily job ------------------------------------------------------------------------------------


def test_names_are_indexed_although_a_key_of_one_repository_has_another_type(world: World) -> None:
    other, place = Repository.parse("acme/other"), environment(BRANCH)
    world.redis.hset("deployer:names", "gone", "acme/other\ndevelopment:refs/heads/gone")
    world.redis.hset("deployer:names", "unsure", f"{HELLO}\ndevelopment:refs/heads/unsure")
    world.redis.delete(f"{PREFIX}:items")
    world.redis.set(f"{PREFIX}:items", "no hash")
    world.lanes.index_stack_names()
    assert world.lanes.find(place.stack_name) == place
    assert world.lanes.find("unsure"), "nobody knows whether work of it waits"
    assert world.lanes.find("gone") is None, other


def test_failed_indexing_is_repeated_within_minutes(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, tried = [time.monotonic()], []

    def fail() -> None:
        tried.append(now[0])
        raise KeyError("a record")

    monkeypatch.setattr(scheduler.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(world.lanes, "index_stack_names", fail)
    made = Scheduler(world.deployer)
    for _ in range(100):
        made.run_due_jobs()
        now[0] += 6
    assert len(tried) == 2
    assert "tried again every 300 s" in caplog.text


# --- the end of a repository --------------------------------------------------------------------------------------


def test_a_repository_with_an_invalid_counter_is_deleted(world: World) -> None:
    counted = world.lanes.counters()
    world.redis.hset(f"{PREFIX}:counters", mapping={"goal:odd": "x", "goal:huge": "9" * 30})
    world.redis.delete(f"{PREFIX}:environments")
    world.lanes.delete_repository_if_empty(HELLO)
    assert world.lanes.repositories() == []
    totals = world.redis.hgetall("deployer:{-/-}:counters")
    assert {name: int(number) for name, number in totals.items()} == counted, json.dumps(totals)
