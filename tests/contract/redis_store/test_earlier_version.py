"""Data that the version before stored is read and not lost; fields that this version does not know are ignored."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Repository
from deployer.model.stored_value import field_groups
from deployer.queue.dead_letters import letter_id
from deployer.queue.items import Work
from deployer.queue.step_results import Finished
from deployer.queue.store import Dispatch, NextItem, Taken
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore

HELLO = Repository.parse("acme/hello")
PREFIX = "deployer:{acme/hello}"
KEY, OTHER_KEY = "development:refs/heads/x", "development:refs/heads/y"
# fields that version 0.1.0 wrote and this version does not know, with a value that each may have had
OLD_WORK = {
    "aws_calls": 5, "github_calls": 4, "aws_stage_calls": 13, "github_stage_calls": 7,
    "last_error": "AWS is away",
}  # fmt: skip
OLD_RECORD = {"calls": {"aws": 5, "github": 4, "aws_stages": 13, "github_stages": 7}}


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with connect(redis_url) as server:
        server.flushall()
        yield server


@pytest.fixture
def lanes(client: Any) -> RedisQueueStore:
    return RedisQueueStore(client, lease_seconds=30, grace_seconds=10, max_attempts=3)


def rewritten(text: str, fields: dict[str, object]) -> str:
    """A JSON object as the earlier version wrote it: with its own fields, too."""
    return json.dumps({**json.loads(text), **fields})


def age_item(client: Any) -> None:
    """Let the item that waits be one that the earlier version has queued."""
    client.hset(f"{PREFIX}:items", KEY, rewritten(client.hget(f"{PREFIX}:items", KEY), OLD_WORK))


def outcome(lanes: RedisQueueStore, delivery: str) -> str:
    found = lanes.delivery(delivery)
    return found.outcome if found else ""


@pytest.mark.parametrize("field", [*OLD_WORK, *OLD_RECORD])
def test_a_field_of_the_earlier_version_is_unknown(field: str) -> None:
    assert field not in field_groups(Work if field in OLD_WORK else EnvironmentRecord)


def test_an_item_that_waits_is_carried_out(lanes: RedisQueueStore, client: Any) -> None:
    dispatch = lanes.accept(HELLO, Work.of(KEY, sha="c1"), "d1", "push").dispatch
    age_item(client)
    assert dispatch
    work = lanes.begin(HELLO, dispatch.token)
    assert work
    assert (work.spec.sha, work.deliveries, work.log.attempts) == ("c1", "d1", 1)
    lanes.finish(HELLO, dispatch.token, Finished("deployed", "because"))
    assert outcome(lanes, "d1") == "deployed"


@pytest.mark.parametrize("cause", ["push", "resync"])
def test_an_item_that_waits_is_merged_with_newer_work(
    lanes: RedisQueueStore, client: Any, cause: str
) -> None:
    dispatch = lanes.accept(HELLO, Work(KEY, cause="push", goal="g1"), "d1", "push").dispatch
    age_item(client)
    lanes.accept(HELLO, Work(KEY, cause=cause, goal="g2"), "d2", "push")
    assert dispatch
    work = lanes.begin(HELLO, dispatch.token)
    assert work
    lanes.finish(HELLO, dispatch.token, Finished("deployed", "because"))
    first = "superseded" if cause == "push" else "deployed"
    assert (outcome(lanes, "d1"), outcome(lanes, "d2")) == (first, "deployed")


def test_a_task_that_runs_ends_under_its_token(lanes: RedisQueueStore, client: Any) -> None:
    dispatch = lanes.accept(HELLO, Work(KEY), "d1", "push").dispatch
    assert dispatch
    assert lanes.begin(HELLO, dispatch.token)
    state = f"{PREFIX}:state"
    client.hset(state, "current", rewritten(client.hget(state, "current"), OLD_WORK))
    lanes.finish(HELLO, dispatch.token, Finished("deployed", "because"))
    assert outcome(lanes, "d1") == "deployed"


def test_a_kill_of_an_earlier_item_is_not_taken_for_one_that_another_version_began(
    lanes: RedisQueueStore, client: Any
) -> None:
    """The version before does not store which message an item belongs to."""
    message = lanes.accept(HELLO, Work(KEY), "d1", "push").dispatch
    lanes.accept(HELLO, Work(OTHER_KEY), "d2", "push")
    lanes.accept(HELLO, Work(f"{OTHER_KEY}2"), "d3", "push")
    assert message
    lanes.begin(HELLO, message.token)
    taken = lanes.finish(HELLO, message.token, Finished("deployed", "because"), next_item=NextItem.TAKE)
    assert isinstance(taken, Taken)
    dispatch = lanes.finish(HELLO, taken.token, Finished("deployed", "because"))
    assert isinstance(dispatch, Dispatch)
    before = client.hget(f"{PREFIX}:state", "message")
    assert lanes.begin(HELLO, dispatch.token)
    client.hset(f"{PREFIX}:state", "message", before)
    assert not lanes.end_lease(HELLO, message.token, KEY, "killed")
    assert lanes.end_lease(HELLO, dispatch.token, f"{OTHER_KEY}2", "killed")


def test_a_dead_letter_is_shown_and_replayed(lanes: RedisQueueStore, client: Any) -> None:
    identity = letter_id(HELLO, 7)
    letter = {
        "id": identity, "repository": "acme/hello", "task": "deployer.sync", "reason": "AWS is away", "traceback": "",
        "at": 1.0, "kind": "TransientError", "environment": KEY,
        "work": rewritten(Work.of(KEY, goal="g1", sha="c1", chosen=True).to_json(), OLD_WORK),
    }  # fmt: skip
    client.hset(f"{PREFIX}:dead", identity, json.dumps(letter))
    client.zadd("deployer:lanes", {HELLO.key: 0})
    (found,) = lanes.dead_letters(HELLO)
    assert found.is_readable
    dispatch = lanes.replay(identity).dispatch
    assert dispatch
    work = lanes.begin(HELLO, dispatch.token)
    assert work
    assert work.spec.sha == "c1"


def test_a_record_is_read(lanes: RedisQueueStore, client: Any) -> None:
    record = EnvironmentRecord.of("acme/hello", KEY, "hello-x", state="deployed", generation=3)
    client.hset(f"{PREFIX}:environments", KEY, rewritten(record.to_json(), OLD_RECORD))
    (found,) = lanes.environments(HELLO)
    assert found.unknown == OLD_RECORD  # what another version wrote is kept
    assert (found.spec, found.status, found.history) == (record.spec, record.status, record.history)
