"""The messages that the queue's script sends itself are those that Celery would send."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import fakeredis
import kombu
import pytest
from celery import Celery

from deployer.model.environments import Repository
from deployer.queue.items import RESYNC_KEY, Cause, Task, Work
from deployer.queue.step_results import Continue
from deployer.redis_store.celery_dispatch import CeleryDispatcher, make_celery
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore

HELLO = Repository.parse("Acme/hello")
KEYS = [
    "development:refs/heads/x",
    "development:refs/heads/ünï/日本",
    'development:refs/heads/it"s%41@id@',
    "production refs/tags/v1",
]
# what differs from message to message, and between versions `ignore_result`, where None means the application's setting
VARYING = {
    "ignore_result",
    "id",
    "root_id",
    "correlation_id",
    "delivery_tag",
    "reply_to",
    "origin",
    "argsrepr",
    "body",
}


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    with connect(redis_url) as client:
        client.flushall()
    made = make_celery(redis_url)
    yield made
    made.close()


@pytest.fixture
def client(redis_url: str, app: Celery) -> Iterator[Any]:
    assert app
    with connect(redis_url) as server:
        yield server


def accept(lanes: RedisQueueStore, key: str, **fields: Any) -> Any:
    environment, _, ref = key.partition(" ")
    return lanes.accept(HELLO, Work.of(environment, ref=ref, candidate=bool(ref), **fields))


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """A JSON value as its parts, without those that vary."""
    if not isinstance(value, dict) or not value:
        return {path: value}
    return {
        name: part
        for key, each in value.items()
        if key not in VARYING
        for name, part in flat(each, f"{path}/{key}").items()
    }


@pytest.mark.parametrize("low", [False, True])
def test_a_message_has_the_form_of_kombu(app: Celery, client: Any, low: bool) -> None:
    cause = Cause.RESYNC if low else Cause.PUSH
    accepted = accept(RedisQueueStore(client), KEYS[0], cause=cause)
    CeleryDispatcher(app, client).send(accepted.dispatch)
    name = "deployer\x06\x169" if low else "deployer"
    theirs = json.loads(client.rpop(name))
    client.flushall()
    assert accept(RedisQueueStore(client, sends_messages=True), KEYS[0], cause=cause).dispatch is None
    ours = json.loads(client.rpop(name))
    assert theirs["properties"].pop("body_encoding") == "base64"
    assert flat(ours) == flat(theirs)
    assert json.loads(ours["body"])[1:] == json.loads(base64.b64decode(theirs["body"]))[1:]
    for part in ("headers", "properties"):
        assert ours[part].keys() == theirs[part].keys()


@pytest.mark.parametrize("key", KEYS)
def test_a_worker_reads_the_message(app: Celery, client: Any, key: str) -> None:
    lanes = RedisQueueStore(client, sends_messages=True)
    accept(lanes, key, task=Task.SYNC)
    state = client.hgetall("deployer:{acme/hello}:state")
    with app.connection_for_read() as connection, connection.SimpleQueue("deployer") as taken:
        message = taken.get(timeout=10)
        (arguments, named, _), headers = message.payload, message.headers
        assert arguments == ["Acme/hello", key, int(state["token"])]
        assert (named, headers["task"], json.loads(headers["argsrepr"])) == ({}, "deployer.sync", arguments)
        assert client.hlen("unacked") == 1
        message.ack()
    assert not client.exists("unacked")
    assert lanes.begin(HELLO, arguments[2])


def test_urgent_work_is_sent_again_and_both_messages_are_kept_apart(app: Celery, client: Any) -> None:
    """kombu stores what a worker has fetched under its tag."""
    lanes = RedisQueueStore(client, sends_messages=True)
    accept(lanes, RESYNC_KEY, task=Task.RESYNC, cause=Cause.RESYNC)
    accept(lanes, KEYS[0])
    with app.connection_for_read() as connection, connection.SimpleQueue("deployer") as taken:
        messages = [taken.get(timeout=10) for _ in range(2)]
        assert [each.properties["priority"] for each in messages] == [0, 9]
        assert messages[0].payload == messages[1].payload
        assert client.hlen("unacked") == 2
        for each in messages:
            each.ack()


def test_every_operation_but_a_sweep_sends_its_message() -> None:
    client = fakeredis.FakeRedis(decode_responses=True)
    lanes = RedisQueueStore(client, grace_seconds=10, sends_messages=True)

    def sent() -> int:
        found = [json.loads(text) for text in client.lrange("deployer", 0, -1)]
        client.delete("deployer")
        (message,) = found
        return int(json.loads(message["body"])[0][2])

    accept(lanes, KEYS[0])
    token = sent()
    work = lanes.begin(HELLO, token)
    assert work
    assert lanes.finish(HELLO, token, Continue(work), request="r") is None
    token = sent()
    assert lanes.refuse(HELLO, token, "unknown").dispatch is None
    assert not client.exists("deployer"), "nothing waits"
    lanes.clock_offset_ms += 11_000
    (dispatch,) = lanes.sweep()
    assert not client.exists("deployer")
    lanes.begin(HELLO, dispatch.token)


def test_a_repeated_request_sends_no_second_message(client: Any) -> None:
    lanes = RedisQueueStore(client, sends_messages=True)
    accept(lanes, KEYS[0])
    token = int(client.hget("deployer:{acme/hello}:state", "token"))
    work = lanes.begin(HELLO, token)
    assert work
    client.delete("deployer")
    for _ in range(2):
        assert lanes.finish(HELLO, token, Continue(work), request="r") is None
    assert client.llen("deployer") == 1


def test_a_key_of_another_type_loses_the_message_and_not_the_work(client: Any) -> None:
    lanes = RedisQueueStore(client, grace_seconds=0, sends_messages=True)
    client.set("deployer", "no list")
    assert accept(lanes, KEYS[0]).outcome == "queued"
    client.zadd("deployer:lanes", {HELLO.key: 0})
    assert len(lanes.sweep()) == 1


def test_kombu_accepts_a_body_that_is_not_encoded() -> None:
    with kombu.Connection("memory://") as connection:
        assert connection.default_channel.decode_body("[1]", None) == "[1]"
