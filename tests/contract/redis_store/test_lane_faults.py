"""A queue with damaged values, with items that only a newer version understands, or with lost answers."""

import itertools
import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import redis

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import (
    DeployerError,
    LaneLostError,
    NotFoundError,
    QueueItemError,
    StoredValueError,
    UnavailableError,
)
from deployer.model.repository_record import RepositoryRecord, Seen
from deployer.model.stored_value import field_groups
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.dead_letters import letter_id
from deployer.queue.items import Cause, Task, Work
from deployer.queue.step_results import Continue, DeadLettered, Finished, RetryLater, WaitUntil
from deployer.queue.store import Dispatch, NextItem, Taken
from deployer.redis_store.connection import connect
from deployer.redis_store.coordination import hold_lock
from deployer.redis_store.errors import unavailable
from deployer.redis_store.queue import RedisQueueStore
from deployer.redis_store.queue_script import queue_script_text
from deployer.redis_store.records import values as redis_values
from tests.records import know_repository

HELLO, OTHER = Repository.parse("acme/hello"), Repository.parse("acme/other")
PREFIX = "deployer:{acme/hello}"
X, Y, PRODUCTION = "development:refs/heads/x", "development:refs/heads/y", "production"
LETTER = letter_id(HELLO, 7)
REFUSALS = 8


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with connect(redis_url) as server:
        server.flushall()
        yield server


@pytest.fixture
def lanes(client: Any) -> RedisQueueStore:
    return RedisQueueStore(client, lease_seconds=30, grace_seconds=10, max_attempts=3)


@pytest.fixture(autouse=True)
def warnings_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_values, "_warned", set())


def later(lanes: RedisQueueStore, client: Any, seconds: float) -> None:
    lanes.clock_offset_ms += int(seconds * 1000)
    client.zadd("deployer:lanes", {HELLO.key: 0})


def push(lanes: RedisQueueStore, delivery: str, environment: str = X, **fields: Any) -> Any:
    return lanes.accept(HELLO, Work.of(environment=environment, **fields), delivery, "push")


def carry_out(lanes: RedisQueueStore, dispatch: Any) -> Any:
    assert lanes.begin(HELLO, dispatch.token) is not None
    return lanes.finish(HELLO, dispatch.token, Finished("deployed", "because"))


def outcome(lanes: RedisQueueStore, delivery: str) -> str:
    found = lanes.delivery(delivery)
    assert found
    return found.outcome


# --- a script that fails has written nothing ----------------------------------------------------------------------

_FIELDS = [*Work(X).json_fields(), *field_groups(DeadLetter), "not_before"]
GARBAGE = [
    "no JSON",
    "[5]",
    "{}",
    "[" * 2000,
    # an item or dead letter whose fields all have another type
    *(json.dumps(dict.fromkeys(_FIELDS, value)) for value in ({}, None, "x", 5)),
    '{"environment":"development:refs/heads/x","task":"deployer.sync","cause":"push","pushed_at":1e999}',
]
WORDS = ["x", "", "nan", "1e999", "-1"]


def stored(client: Any) -> dict[str, Any]:
    """Every value of the queue, except the answers that are stored for repeats."""
    reads = {
        "string": (client.get,),
        "hash": (client.hgetall,),
        "list": (client.lrange, 0, -1),
        "zset": (client.zrange, 0, -1),
    }
    keys = [key for key in client.keys(f"{PREFIX}:*") if ":answer:" not in key]
    return {key: reads[client.type(key)][0](key, *reads[client.type(key)][1:]) for key in keys}


def filled(lanes: RedisQueueStore, status: str) -> int:
    """Fill every key of a queue; returns the token of the item that is `sent` or `running`."""
    dead = push(lanes, "dead", Y)
    work = lanes.begin(HELLO, dead.dispatch.token)
    assert work
    letter = DeadLetter(
        LETTER, "acme/hello", work.task, "AWS", "trace", 1.0, work.to_json(), "TransientError"
    )
    lanes.finish(
        HELLO, dead.dispatch.token, DeadLettered(letter, EnvironmentRecord("acme/hello", Y, "stack"))
    )
    asleep = push(lanes, "tag", PRODUCTION, ref="refs/tags/v2", pushed_at=5, candidate=True)
    work = lanes.begin(HELLO, asleep.dispatch.token if asleep.dispatch else _token(lanes))
    assert work
    assert work.spec.candidate
    lanes.finish(HELLO, _token(lanes), RetryLater(work, 5, "throttled"))
    first = push(lanes, "d1", X, ref="refs/heads/x")
    lanes.accept(HELLO, Work(environment=Y, cause=Cause.RESYNC))
    if status == "running":
        lanes.begin(HELLO, first.dispatch.token)
        lanes.accept(HELLO, Work(X, task=Task.NOTIFY, cause=Cause.EVENT), "e1", "stage")  # a newer item
    return int(first.dispatch.token)


def _token(lanes: RedisQueueStore) -> int:
    return int(lanes._redis.hget(f"{PREFIX}:state", "token"))


def swept(lanes: RedisQueueStore) -> None:
    """Sweep only this queue, which raises an error that a sweep of all queues only logs."""
    with unavailable():
        lanes._sweep_queue(HELLO)


def operations(lanes: RedisQueueStore, token: int) -> dict[str, Callable[[], object]]:
    """Every operation of the script, by name."""
    work = Work.of(X, goal="d1", deliveries="d1", attempts=1)
    record = EnvironmentRecord("acme/hello", X, "stack")
    letter = DeadLetter(
        letter_id(HELLO, 9), "acme/hello", "deployer.sync", "AWS", "trace", 1.0, work.to_json()
    )
    verdicts = {
        "done": Finished("deleted", "because", record),
        "dead": DeadLettered(letter, record),
        "again": Continue(work, record),
        "snooze": WaitUntil(work, 5, record),
        "rest": WaitUntil(work, 5, record, keeps_attempts=True),
        "retry": RetryLater(work, 5, "throttled"),
    }
    return {
        "accept a push": lambda: push(lanes, "d2", X, ref="refs/heads/x"),
        "accept a tag": lambda: push(lanes, "d3", PRODUCTION, ref="refs/tags/v3", pushed_at=9),
        "accept an event": lambda: lanes.accept(HELLO, Work(X, task=Task.NOTIFY, cause=Cause.EVENT), "e2", "stage"),
        "accept again what died": lambda: push(lanes, "dead", Y),
        "begin": lambda: lanes.begin(HELLO, token),
        "extend": lambda: lanes.extend(HELLO, token),
        "expire": lambda: lanes.end_lease(HELLO, token, X, "killed"),
        "sweep": lambda: swept(lanes),
        "replay": lambda: lanes.replay(LETTER),
        "discard": lambda: lanes.discard(LETTER),
        "forget": lambda: lanes.delete_environment_records(HELLO, [EnvironmentRecord("acme/hello", Y, "stack")]),
        "refuse": lambda: lanes.refuse(HELLO, token, "unknown"),
        **{f"finish {name}": lambda verdict=verdict: lanes.finish(HELLO, token, verdict)  # type: ignore[misc]
           for name, verdict in verdicts.items()},
        "finish and take": lambda: lanes.finish(HELLO, token, verdicts["done"], next_item=NextItem.TAKE),
    }  # fmt: skip


def damages(client: Any) -> Iterator[tuple[str, Callable[[], object]]]:
    """Changes that give a key another type, or replace a text in it by garbage."""
    for key, value in stored(client).items():
        yield f"{key} is a string", lambda key=key: client.set(key, "x")  # type: ignore[misc]
        for field, text in value.items() if isinstance(value, dict) else ():
            for garbage in (
                GARBAGE if text.startswith("{") else WORDS if ":delivery:" not in key else WORDS[:1]
            ):
                yield (
                    f"{field} of {key} is {garbage[:40]!r}",
                    lambda key=key, field=field, text=garbage: client.hset(key, field, text),  # type: ignore[misc]
                )


@pytest.mark.parametrize("status", ["sent", "running"])
def test_a_script_that_fails_has_changed_nothing(
    lanes: RedisQueueStore, client: Any, redis_url: str, status: str
) -> None:
    """Every operation on a queue with one damaged value succeeds, or changes nothing."""
    token = filled(lanes, status)
    raw = redis.Redis.from_url(redis_url)
    dumps = {key: raw.dump(key) for key in stored(client)}
    changes, names = list(damages(client)), list(operations(lanes, token))
    failed = set()
    for number, (what, damage) in enumerate(changes):
        before: dict[str, Any] = {}
        # a fourth of the operations for each damage, in turn, because there are many damages of each kind
        for name in names if "is a string" in what else names[number % 4 :: 4]:
            pipe = raw.pipeline(transaction=False)
            pipe.delete(*raw.keys(f"{PREFIX}:*"))
            for key, text in dumps.items():
                pipe.restore(key, 0, text)
            pipe.execute()
            damage()
            before = before or stored(client)
            lanes.clock_offset_ms = 40_000 if name == "sweep" else 0
            try:
                operations(lanes, token)[name]()
            except QueueItemError:  # begun; a worker would refuse it next
                assert name == "begin"
            except (UnavailableError, LaneLostError, NotFoundError, StoredValueError):
                failed.add(what)
                assert stored(client) == before, (name, what)
    raw.close()
    assert failed


@pytest.mark.parametrize("name", ["environments", "kept", "dead", "activity"])
def test_nothing_begins_whose_end_could_not_be_recorded(
    lanes: RedisQueueStore, client: Any, name: str
) -> None:
    dispatch = push(lanes, "d1").dispatch
    client.set(f"{PREFIX}:{name}", "x")
    with pytest.raises(UnavailableError, match=f"WRONGTYPE {PREFIX}:{name} is a string and has to be a "):
        lanes.begin(HELLO, dispatch.token)
    (lane,) = lanes.lanes()
    assert lane.broken.startswith(f"WRONGTYPE {PREFIX}:{name} is a string and has to be a ")
    client.delete(f"{PREFIX}:{name}")
    (lane,) = lanes.lanes()
    assert (lane.broken, lane.status) == ("", "sent")
    carry_out(lanes, dispatch)
    assert lanes.lanes() == []


@pytest.mark.parametrize("seconds", [float("inf"), float("nan"), float("-inf")])
def test_a_pause_that_is_not_finite_is_a_short_one(
    lanes: RedisQueueStore, client: Any, seconds: float
) -> None:
    dispatch = push(lanes, "d1").dispatch
    work = lanes.begin(HELLO, dispatch.token)
    assert work
    lanes.finish(HELLO, dispatch.token, RetryLater(work, seconds, "throttled"))
    later(lanes, client, 301)
    (dispatch,) = lanes.sweep()
    carry_out(lanes, dispatch)


@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_work_with_a_number_that_is_not_finite_is_refused(
    lanes: RedisQueueStore, client: Any, number: float
) -> None:
    dispatch = push(lanes, "d1").dispatch
    work = lanes.begin(HELLO, dispatch.token)
    assert work
    before = stored(client)
    for attempt in (
        lambda: push(lanes, "d2", X, pushed_at=number),
        lambda: lanes.finish(HELLO, dispatch.token, Continue(work.but(replaced_at=number))),
    ):
        with pytest.raises(UnavailableError, match="not finite"):
            attempt()
        assert stored(client) == before


# --- an item that no worker of this version understands -----------------------------------------------------------


def refuse_until_dead(lanes: RedisQueueStore, client: Any, dispatch: Any) -> list[float]:
    """Let every worker that gets the item refuse it; returns the pauses."""
    pauses = []
    for _ in range(REFUSALS):
        assert dispatch is not None
        with pytest.raises(QueueItemError):
            lanes.begin(HELLO, dispatch.token)
        refused = lanes.refuse(HELLO, dispatch.token, "this version knows no task 'deployer.migrate'")
        assert refused.dispatch is None
        if refused.dead:
            return pauses
        pauses.append(refused.seconds)
        later(lanes, client, refused.seconds)
        (dispatch,) = lanes.sweep() or [None]
    raise AssertionError("it is still handed out")


UNKNOWN = Work(X, task="deployer.migrate", goal="g", deliveries="d1")


@pytest.mark.parametrize(
    ("text", "replayed"),
    [
        (UNKNOWN.to_json(), ("deployer.sync", "push")),
        (UNKNOWN.but(task="", cause="").to_json(), ("deployer.sync", "")),
        ('no JSON "deliveries":"d1"', ("deployer.sync", "resync")),
        ('{"deliveries":"d1"}', ("deployer.sync", "resync")),
        (UNKNOWN.to_json().replace('"attempts":0', '"attempts":{}'), ("deployer.sync", "resync")),
        (UNKNOWN.to_json().replace('"turned":false', '"turned":"x"'), ("deployer.sync", "resync")),
    ],
)
def test_an_item_that_no_worker_understands_becomes_a_dead_letter(
    lanes: RedisQueueStore, client: Any, text: str, replayed: tuple[str, str]
) -> None:
    dispatch = push(lanes, "d1").dispatch
    client.hset(f"{PREFIX}:items", X, text)
    pauses = refuse_until_dead(lanes, client, dispatch)
    assert pauses == sorted(pauses)
    assert sum(pauses) > 900, "a rolling update is over by then"
    assert lanes.lanes() == []
    (letter,) = lanes.dead_letters()
    assert (letter.kind, letter.arguments.environment, letter.is_expected) == ("QueueItemError", X, True)
    assert "no worker understood this queue item, 8 were asked: this version knows no task" in letter.reason
    assert outcome(lanes, "d1") == "dead-lettered"
    assert [line.outcome for line in lanes.activity()] == ["dead-lettered"]
    assert lanes.find_dead_letter(letter.id) == letter
    accepted = lanes.replay(letter.id)
    assert (lanes.dead_letters(), outcome(lanes, "d1")) == ([], "queued")
    (item,) = lanes.lanes()[0].waiting
    assert (item.task, item.cause, item.deliveries) == (*replayed, "d1")
    assert accepted.dispatch


def test_other_items_run_while_an_item_is_refused(lanes: RedisQueueStore, client: Any) -> None:
    first = push(lanes, "d1", task="deployer.migrate").dispatch
    push(lanes, "d2", Y)
    refused = lanes.refuse(HELLO, first.token, "the message names the task 'deployer.migrate'")  # not begun
    assert refused.dispatch
    assert refused.dispatch.environment == Y
    carry_out(lanes, refused.dispatch)
    assert outcome(lanes, "d2") == "deployed"
    (lane,) = lanes.lanes()
    assert list(lane.refused) == list(lane.snoozed) == [X]
    assert lane.refused[X].endswith("the message names the task 'deployer.migrate'")
    # a newer worker understands it
    later(lanes, client, refused.seconds)
    (dispatch,) = lanes.sweep()
    client.hset(
        f"{PREFIX}:items",
        X,
        json.dumps(json.loads(client.hget(f"{PREFIX}:items", X)) | {"task": "deployer.sync"}),
    )
    carry_out(lanes, dispatch)
    assert outcome(lanes, "d1") == "deployed"
    assert client.hlen(f"{PREFIX}:refused") == 0


def test_a_refusal_is_no_attempt_and_counts_only_for_its_item(lanes: RedisQueueStore, client: Any) -> None:
    dispatch = push(lanes, "d1", task="deployer.migrate").dispatch
    for _ in range(REFUSALS - 1):
        lanes.refuse(HELLO, dispatch.token, "unknown")
        later(lanes, client, 300)
        (dispatch,) = lanes.sweep()
    assert lanes.lanes()[0].waiting[0].log.attempts == 0
    dispatch = push(lanes, "d2", task="deployer.migrate").dispatch or dispatch
    assert lanes.refuse(HELLO, dispatch.token, "unknown").dead is False
    assert outcome(lanes, "d1") == "superseded"


def test_an_old_token_refuses_nothing(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    with pytest.raises(LaneLostError):
        lanes.refuse(HELLO, dispatch.token - 1, "unknown")
    carry_out(lanes, dispatch)
    with pytest.raises(LaneLostError):
        lanes.refuse(HELLO, dispatch.token, "unknown")


def test_newer_work_replaces_an_unreadable_item_which_becomes_a_dead_letter(
    lanes: RedisQueueStore, client: Any
) -> None:
    push(lanes, "d1")
    client.hset(f"{PREFIX}:items", X, 'no JSON "deliveries":"d1"')
    dispatch = push(lanes, "d2").dispatch or lanes.sweep()
    (letter,) = lanes.dead_letters()
    assert (letter.work, outcome(lanes, "d1")) == ('no JSON "deliveries":"d1"', "dead-lettered")
    assert outcome(lanes, "d2") == "queued"
    assert not dispatch  # the sent message names the same task
    lanes.discard(letter.id)
    assert lanes.dead_letters() == []


def test_a_worker_that_is_lost_with_an_unreadable_item_counts_as_a_refusal(
    lanes: RedisQueueStore, client: Any
) -> None:
    dispatch = push(lanes, "d1").dispatch
    client.hset(f"{PREFIX}:items", X, "no JSON")
    for _ in range(REFUSALS):
        with pytest.raises(QueueItemError):
            lanes.begin(HELLO, dispatch.token)
        later(lanes, client, 31)
        lanes.sweep()
        later(lanes, client, 300)
        (dispatch,) = lanes.sweep() or [None]
    (letter,) = lanes.dead_letters()
    assert "its worker was lost" in letter.reason


# --- a command that is repeated because its answer was lost --------------------------------------------------------


def lose_next_answer(client: Any, monkeypatch: pytest.MonkeyPatch, lose: str = "EVALSHA") -> list[str]:
    """Let the connection end after the next such command was carried out, before its answer is read."""
    usual, lost = client.parse_response, list[str]()

    def parse_response(connection: Any, command: str, **options: Any) -> Any:
        answer = usual(connection, command, **options)
        if command == lose and not lost:
            lost.append(command)
            raise redis.ConnectionError("the connection ended")
        return answer

    monkeypatch.setattr(client, "parse_response", parse_response)
    return lost


@pytest.mark.parametrize("status", ["sent", "running"])
def test_a_repeated_operation_gets_the_same_answer(client: Any, status: str) -> None:
    """The client repeats the command; the answer and the queue are as if nothing had been lost."""
    for name in operations(RedisQueueStore(client), 0):
        found = []
        for loses in (False, True):
            client.flushall()
            with pytest.MonkeyPatch.context() as patch:
                drawn = map(UUID, (f"{number:032x}" for number in itertools.count(1 << 64, 1 << 64)))
                patch.setattr("deployer.redis_store.dead_letters.uuid.uuid4", drawn.__next__)
                patch.setattr("deployer.redis_store.dead_letters.time", SimpleNamespace(time=lambda: 5.0))
                lanes = RedisQueueStore(client, lease_seconds=30, grace_seconds=10, max_attempts=3)
                patch.setattr(lanes, "_now_ms", lambda: 1_800_000_000_000)
                lanes._script = client.register_script(
                    queue_script_text().replace("call('TIME')", "{ 1800000000, 0 }")
                )
                token = filled(lanes, status)
                lanes.clock_offset_ms += 40_000 if name == "sweep" else 0
                lost = lose_next_answer(client, patch) if loses else ["none"]
                try:
                    answer: object = operations(lanes, token)[name]()
                except DeployerError as error:
                    answer = type(error)
                assert lost
            found.append((answer, stored(client)))
        assert found[0] == found[1], name


def test_a_result_that_is_repeated_later_gets_the_same_answer(lanes: RedisQueueStore, client: Any) -> None:
    """A worker that got no answer repeats its request with the same id after other workers have continued."""
    first = push(lanes, "d1").dispatch
    push(lanes, "d2", Y)
    lanes.begin(HELLO, first.token)
    dispatch = lanes.finish(HELLO, first.token, Finished("deployed", "because"), request="r")
    carry_out(lanes, dispatch)
    whole = stored(client)
    assert lanes.finish(HELLO, first.token, Finished("deployed", "because"), request="r") == dispatch
    assert stored(client) == whole
    with pytest.raises(LaneLostError):
        lanes.finish(HELLO, first.token, Finished("deployed", "because"), request="another")
    ages = [client.pttl(key) for key in client.keys("*:answer:*")]
    assert ages
    assert all(0 < age <= 300_000 for age in ages)


def test_a_result_whose_answer_has_the_next_item_is_repeated(lanes: RedisQueueStore, client: Any) -> None:
    first = push(lanes, "d1").dispatch
    push(lanes, "d2", Y)
    lanes.begin(HELLO, first.token)
    result = Finished("deployed", "because")
    taken = lanes.finish(HELLO, first.token, result, request="r", next_item=NextItem.TAKE)
    whole = stored(client)
    assert isinstance(taken, Taken)
    assert taken.read_item().environment == Y
    assert lanes.finish(HELLO, first.token, result, request="r", next_item=NextItem.SEND) == taken
    assert stored(client) == whole
    assert lanes.extend(HELLO, taken.token)
    assert not lanes.extend(HELLO, first.token)


def test_a_damaged_list_of_celery_counts_as_a_waiting_message(lanes: RedisQueueStore, client: Any) -> None:
    first = push(lanes, "d1").dispatch
    push(lanes, "d2", Y)
    lanes.begin(HELLO, first.token)
    client.set("deployer", "no list")
    found = lanes.finish(
        HELLO, first.token, Finished("deployed", "because"), next_item=NextItem.TAKE_IF_ALONE
    )
    assert isinstance(found, Dispatch)
    assert outcome(lanes, "d1") == "deployed"


def test_a_lock_whose_answer_was_lost_is_held(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = lose_next_answer(client, monkeypatch, "SET")
    with hold_lock(client, "deployer:claim:x", 30) as mine:
        assert lost
        assert mine
        with hold_lock(client, "deployer:claim:x", 30) as others:
            assert not others
    assert not client.exists("deployer:claim:x")


# --- the sizes of items and dead letters are limited --------------------------------------------------------------


@pytest.mark.parametrize("waits", [False, True])
def test_an_item_lists_fifty_deliveries_and_the_others_are_superseded(
    lanes: RedisQueueStore, *, waits: bool
) -> None:
    dispatch = push(lanes, "d0").dispatch
    if not waits:
        lanes.begin(HELLO, dispatch.token)
    for number in range(1, 80):
        lanes.accept(HELLO, Work(X, task=Task.NOTIFY, cause=Cause.EVENT), f"e{number}", "stage")
    listed = [each for work in lanes.lanes()[0].waiting for each in work.deliveries.split(",")]
    assert len(listed) == 50
    if not waits:
        dispatch = lanes.finish(HELLO, dispatch.token, Finished("deployed", "because"))
    outcomes = [outcome(lanes, f"e{number}") for number in range(1, 80)]
    assert set(outcomes) == {"queued", "superseded"}
    assert outcomes.count("queued") == sum(each.startswith("e") for each in listed)
    over = lanes.delivery("e79")
    assert over
    assert over.reason == f"covered by {listed[0]}"
    carry_out(lanes, dispatch)
    assert "queued" not in {outcome(lanes, f"e{number}") for number in range(1, 80)}


def test_dead_letters_beyond_two_hundred_have_no_traceback(lanes: RedisQueueStore, client: Any) -> None:
    work = Work(X)
    letter = DeadLetter(LETTER, "acme/hello", work.task, "AWS", "trace", 1.0, work.to_json(), "KeyError")
    client.hset(f"{PREFIX}:dead", mapping={letter_id(HELLO, 1000 + n): letter.to_json() for n in range(199)})
    for number in (1, 2):
        dispatch = push(lanes, f"d{number}").dispatch
        lanes.begin(HELLO, dispatch.token)
        lanes.finish(HELLO, dispatch.token, DeadLettered(letter.but(id=letter_id(HELLO, number))))
    found = [lanes.find_dead_letter(letter_id(HELLO, number)) for number in (1, 2)]
    assert [each.traceback for each in found if each] == [
        "trace",
        "left out, since acme/hello has 200 dead letters or more",
    ]


# --- an unreadable record or name hides no other ------------------------------------------------------------------

LISTINGS: dict[str, tuple[str, Callable[[RedisQueueStore], Any]]] = {
    # the key, and what reads it
    "environments": ("environments", lambda lanes: [each.environment for each in lanes.environments()]),
    "activity": ("activity", lambda lanes: [each.goal for one in (HELLO, OTHER) for each in lanes.activity(one)]),
    "repository records": ("repository", lambda lanes: [each.repository for each in lanes.repository_records()]),
    "orphans": ("seen", lambda lanes: list(lanes.orphaned([HELLO, OTHER]))),
    "queues": ("items", lambda lanes: [each.environment for lane in lanes.lanes() for each in lane.waiting]),
}  # fmt: skip
BAD = [
    "no JSON", "", "[]", "{}", "null", '{"repository":5}', "\\ud800",
    '{"environment":"nowhere","repository":"acme/hello","stack_name":"x"}',
    '{"environment":"staging","repository":"no name","stack_name":"x"}',
    b"\xff",
]  # fmt: skip


# a value that is valid here
WELL_FORMED = {("repository records", BAD[1]), ("repository records", BAD[7]), ("orphans", BAD[1])}
WELL_FORMED |= {("orphans", text) for text in BAD if str(text)[:1] == "{"}


CASES = [(listing, bad) for listing in LISTINGS for bad in [*BAD, None] if (listing, bad) not in WELL_FORMED]


@pytest.mark.parametrize(("listing", "bad"), CASES)
def test_an_unreadable_value_is_left_out_of_a_listing_and_logged_once(
    lanes: RedisQueueStore,
    client: Any,
    caplog: pytest.LogCaptureFixture,
    listing: str,
    bad: str | bytes | None,
) -> None:
    name, read = LISTINGS[listing]
    for repository in (HELLO, OTHER):
        accepted = lanes.accept(repository, Work(X, goal="g"))
        assert accepted.dispatch
        lanes.begin(repository, accepted.dispatch.token)
        record = EnvironmentRecord.of(repository.full_name, X, "stack", ref="refs/heads/x")
        lanes.finish(repository, accepted.dispatch.token, Finished("deployed", "because", record))
        know_repository(lanes, RepositoryRecord(repository.full_name))
        lanes.save_seen(repository, Seen(orphans={X: 1.0}))
        lanes.accept(repository, Work(Y, goal="g"))
    key = f"{PREFIX}:{name}"
    whole = read(lanes)
    if bad is None:
        other_type = client.type(key) != "string"
        client.delete(key)
        client.set(key, "x") if other_type else client.hset(key, "a", "b")
    elif client.type(key) == "hash":
        client.hset(key, "refs/heads/bad", bad)
        client.rpush(f"{PREFIX}:queue", "refs/heads/bad")
    elif client.type(key) == "list":
        client.lpush(key, bad)
    else:
        client.set(key, bad)
    lost = bad is None or client.type(key) == "string"  # the whole of one repository's
    found = read(lanes), read(lanes)
    assert found[0] == found[1]
    expected = whole if isinstance(whole, int) else sorted(whole)
    if lost:
        expected = whole - 1 if isinstance(whole, int) else expected[len(expected) // 2 :]
    assert (found[0] if isinstance(whole, int) else sorted(found[0])) == expected
    warnings = [line for line in caplog.messages if key in line]
    assert len(warnings) == (listing != "queues"), caplog.messages
    if listing == "queues":
        (lane,) = (each for each in lanes.lanes() if each.repository == "acme/hello")
        assert lane.broken or lane.refused["refs/heads/bad"]


def test_a_dead_letter_that_cannot_be_read_is_still_listed_and_can_be_discarded(
    lanes: RedisQueueStore, client: Any
) -> None:
    push(lanes, "d1")
    good = DeadLetter(letter_id(HELLO, 2), "acme/hello", "deployer.sync", "AWS", "", 1.0, Work(X).to_json())
    client.hset(f"{PREFIX}:dead", mapping={LETTER: "no JSON", good.id: good.to_json(), "x": "{}"})
    assert {each.id for each in lanes.dead_letters()} == {LETTER, good.id, "x"}
    found = lanes.find_dead_letter(LETTER)
    assert found
    assert (found.traceback, found.arguments.environment) == ("no JSON", "")
    with pytest.raises(StoredValueError, match="deployer dead-letters discard"):
        lanes.replay(LETTER)
    lanes.discard(LETTER)
    assert {each.id for each in lanes.dead_letters()} == {good.id, "x"}


def test_invalid_names_in_the_index_stop_no_sweep(
    lanes: RedisQueueStore, client: Any, caplog: pytest.LogCaptureFixture
) -> None:
    push(lanes, "d1")
    client.zadd("deployer:lanes", {f"no-repository-{number}": -1 for number in range(150)})
    client.hset("deployer:spelled", HELLO.key, "no name")
    client.set("deployer:{acme/broken}:queue", "x")
    client.zadd("deployer:lanes", {"acme/broken": -1})
    later(lanes, client, 11)
    assert [each.repository for each in lanes.sweep() + lanes.sweep()] == ["acme/hello"]
    assert lanes.repositories() == [Repository.parse("acme/broken"), HELLO]
    client.delete("deployer:spelled")
    client.set("deployer:spelled", "x")
    assert lanes.repositories() == [Repository.parse("acme/broken"), HELLO]
    assert [line for line in caplog.messages if "acme/broken" in line]
    (lane,) = (each for each in lanes.lanes() if each.repository == "acme/broken")
    assert "WRONGTYPE" in lane.broken


def test_single_values_that_cannot_be_read(lanes: RedisQueueStore, client: Any) -> None:
    push(lanes, "d1")
    environment = Environment(HELLO, Kind.STAGING)
    client.hset(f"{PREFIX}:environments", "staging", "no JSON")
    with pytest.raises(StoredValueError, match="the record of acme/hello staging in Redis cannot be read"):
        lanes.environment(environment)
    client.hset("deployer:names", "stack", "no name")
    assert lanes.find("stack") is None
    client.hset(f"{PREFIX}:delivery:d1", "received_at", "x")
    assert outcome(lanes, "d1") == "queued"
    client.set(f"{PREFIX}:seen", "x")
    assert lanes.read_seen(HELLO) == Seen()
    lanes.save_seen(HELLO, Seen(never_deployed="v1"), instead_of=Seen())
    assert lanes.read_seen(HELLO) == Seen(never_deployed="v1")
    client.set(f"{PREFIX}:seen", "x")
    lanes.save_seen(HELLO, Seen(never_deployed="v2"))
    assert lanes.read_seen(HELLO) == Seen(never_deployed="v2")
    for text in ("no JSON", '{"repository":"acme/other"}'):
        client.set(f"{PREFIX}:repository", text)
        for act in (
            lambda: lanes.repository(HELLO),
            lambda: lanes.change_repository(HELLO, lambda each: each),
        ):
            with pytest.raises(
                StoredValueError, match=r"the record of acme/hello .* delete the key deployer:"
            ):
                act()
        assert client.get(f"{PREFIX}:repository") == text
        assert lanes.repository_records([HELLO]) == []
    client.set("deployer:beat:worker", "x")
    assert lanes.last_heartbeats()["worker"] == 0
    client.hset("deployer:asked", HELLO.key, "x")
    assert lanes.last_resync_periods() == {HELLO.key: 0}
