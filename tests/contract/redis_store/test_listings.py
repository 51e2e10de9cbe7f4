"""The lists of environments, dead letters and repositories agree with the records after every history."""

import json
import random
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deployer.model.activity import Activity
from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import ForeignExecution
from deployer.model.environments import Environment, Repository
from deployer.model.errors import NotFoundError, StoredValueError
from deployer.model.execution_trigger import Trigger
from deployer.model.listings import (
    ALL,
    FOREIGN,
    LANES,
    PRESENT,
    environment_lists,
    in_state,
    repository_lists,
    seen_lists,
)
from deployer.model.repository_record import RepositoryRecord, Seen
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.dead_letters import letter_id
from deployer.queue.items import Cause, Work
from deployer.queue.step_results import DeadLettered, Finished
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from tests.records import know_repository

ONE, TWO = Repository.parse("acme/Hello"), Repository.parse("acme/hello-2")
KEYS = ("staging", "production", "development:refs/heads/a", "development:refs/heads/ü")
STATES = ("deployed", "failed", "running", "", "deleted", "skipped", "of a newer version")
FOREIGN_ONE = ForeignExecution(id="1", trigger=Trigger(type="Webhook"))
TOTALS = "deployer:{-/-}:counters"


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with connect(redis_url) as server:
        server.flushall()
        yield server


@pytest.fixture
def lanes(client: Any) -> RedisQueueStore:
    return RedisQueueStore(client, lease_seconds=30, grace_seconds=10, max_attempts=3)


class History:
    """Random operations of web, workers, people and an earlier version on two repositories."""

    def __init__(self, client: Any, seed: int) -> None:
        self.client, self.random, self.number = client, random.Random(seed), 0  # noqa: S311
        client.flushall()
        self.lanes = RedisQueueStore(client, lease_seconds=30, grace_seconds=10, max_attempts=3)

    def step(self, operation: str) -> None:
        self.number += 1
        getattr(self, operation)(self.random.choice((ONE, TWO)))

    def make_record(self, repository: Repository, key: str) -> EnvironmentRecord:
        stack = Environment.from_key(repository, key).stack_name
        return EnvironmentRecord.of(
            repository.full_name, key, stack, state=self.random.choice(STATES), updated_at=float(self.number),
            drift=self.random.choice(["", "changed"]),
            foreign=self.random.choice([[], [FOREIGN_ONE], [FOREIGN_ONE, FOREIGN_ONE.but(id="2", retried=True)]]),
        )  # fmt: skip

    def push(self, repository: Repository) -> None:
        key = self.random.choice(KEYS)
        self.lanes.accept(repository, Work(key, cause=Cause.PUSH), f"d{self.number}", "push")

    def work(self, repository: Repository) -> None:
        """A worker begins what is sent, and returns a result. If the answer is lost, it repeats the request."""
        token = int(self.client.hget(f"deployer:{{{repository.key}}}:state", "token") or 0)
        work = self.lanes.begin(repository, token)
        if work is None or self.random.random() < 0.1:  # or the worker is lost
            return
        record = self.make_record(repository, work.environment)
        verdict: Any = Finished("deployed", "because", record)
        if self.random.random() < 0.3:
            letter = letter_id(repository, self.random.choice((7, token)))
            kind = self.random.choice(("TransientError", "KeyError"))
            verdict = DeadLettered(
                DeadLetter(letter, str(repository), work.task, "AWS", "", float(self.number), work.to_json(), kind),
                record,
            )  # fmt: skip
        for _ in range(self.random.choice((1, 2))):
            self.lanes.finish(repository, token, verdict, request="r" + str(token))

    def time_passes(self, _: Repository) -> None:
        self.lanes.clock_offset_ms += 60_000
        self.lanes.sweep()

    def skip(self, repository: Repository) -> None:
        key = "development:refs/heads/skipped"
        first = EnvironmentRecord.of(repository.full_name, key, "", state="skipped")
        self.lanes.ignore(DeliveryRecord(f"s{self.number}", repository.full_name, key), first=first)

    def forget(self, repository: Repository) -> None:
        self.lanes.delete_environment_records(repository, self.lanes.environments(repository)[:2])

    def empty(self, repository: Repository) -> None:
        self.lanes.delete_environment_records(repository, self.lanes.environments(repository))
        self.lanes.delete_repository_if_empty(repository)

    def decide(self, repository: Repository) -> None:
        for letter in self.lanes.dead_letters(repository)[:1]:
            with suppress(StoredValueError):  # an unreadable one can only be discarded
                self.random.choice((self.lanes.replay, self.lanes.discard))(letter.id)

    def rename(self, repository: Repository) -> None:
        state = self.random.choice(["", "archived", "renamed"])
        self.lanes.change_repository(repository, lambda each: each.but(state=state))

    def resync(self, repository: Repository) -> None:
        self.lanes.save_seen(
            repository, Seen(self.random.choice([{}, {KEYS[2]: 1.0}]), 0, self.random.choice(["", "v1"]))
        )

    def repair(self, repository: Repository) -> None:
        self.lanes.index_repository_records(repository)

    # --- what version 0.1.0 does: it lists nothing

    def write_record(self, repository: Repository) -> None:
        record = self.make_record(repository, self.random.choice(KEYS))
        self.client.hset(f"deployer:{{{repository.key}}}:environments", record.environment, record.to_json())
        self.client.zadd("deployer:lanes", {repository.key: 0})

    def delete_records(self, repository: Repository) -> None:
        self.client.hdel(f"deployer:{{{repository.key}}}:environments", *KEYS[2:])

    def write_letter(self, repository: Repository) -> None:
        letter = letter_id(repository, self.random.choice((7, self.number)))
        text = self.random.choice(['{"at":3,"kind":"Other"}', "no JSON"])
        self.client.hset(f"deployer:{{{repository.key}}}:dead", letter, text)
        self.client.zadd("deployer:lanes", {repository.key: 0})

    def delete_letters(self, repository: Repository) -> None:
        self.client.delete(f"deployer:{{{repository.key}}}:dead")

    def write_repository(self, repository: Repository) -> None:
        record = RepositoryRecord(repository.full_name, state=self.random.choice(["", "deleted"]))
        self.client.set(f"deployer:{{{repository.key}}}:repository", record.to_json())


OWN = (
    "push",
    "work",
    "work",
    "time_passes",
    "skip",
    "forget",
    "empty",
    "decide",
    "rename",
    "resync",
    "repair",
)
EARLIER = ("write_record", "delete_records", "write_letter", "delete_letters", "write_repository")


def recount(client: Any) -> dict[str, set[str]]:
    """The lists by the records alone."""
    found: dict[str, set[str]] = {}
    for repository in (ONE, TWO):
        prefix = f"deployer:{{{repository.key}}}"
        for key, text in client.hgetall(f"{prefix}:environments").items():
            for name, more in environment_lists(EnvironmentRecord.from_json(text)):
                found.setdefault(name, set()).add(f"{repository.key}\n{key}" + (f"\n{more}" if more else ""))
        for letter, text in client.hgetall(f"{prefix}:dead").items():
            kind = json.loads(text)["kind"] if text != "no JSON" else "StoredValueError"
            for name in ("dead", f"dead {repository.key}", f"dead {repository.key} {kind}"):
                found.setdefault(name, set()).add(f"{repository.key}\n{letter}")
        names: list[str] = []
        if text := client.get(f"{prefix}:repository"):
            names += repository_lists(RepositoryRecord.from_json(text))
        if text := client.get(f"{prefix}:seen"):
            names += seen_lists(Seen.from_json(text))
        for name in names:
            found.setdefault(name, set()).add(repository.key)
    return found


def read_lists(client: Any) -> dict[str, set[str]]:
    prefix = "deployer:list:"
    found = {
        key.removeprefix(prefix): set(client.zrange(key, 0, -1)) for key in client.scan_iter(f"{prefix}*")
    }
    assert set(client.smembers("deployer:list-names")) == found.keys() - {"lanes", "repositories"}
    return found


def check_lists(history: History) -> None:
    client, found = history.client, read_lists(history.client)
    busy, known = found.pop("lanes", set()), found.pop("repositories", set())
    assert found == recount(client)
    assert known == set(client.zrange("deployer:lanes", 0, -1))
    states = {each.key: client.hgetall(f"deployer:{{{each.key}}}:state") for each in (ONE, TWO)}
    items = {each.key for each in (ONE, TWO) if client.exists(f"deployer:{{{each.key}}}:items")}
    assert busy == {key for key, state in states.items() if state.get("status", "idle") != "idle"} | items
    listed = {each for each in found.get(ALL, ()) if "\ndevelopment:" in each}
    assert set(client.zrange("deployer:expiry-checks", 0, -1)) == listed


FEW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)


@FEW
@given(st.integers(0, 2**32), st.lists(st.sampled_from(OWN), max_size=40))
def test_lists_agree_with_the_records_after_every_operation(
    client: Any, seed: int, operations: list[str]
) -> None:
    history = History(client, seed)
    for operation in operations:
        history.step(operation)
        check_lists(history)


@FEW
@given(st.integers(0, 2**32), st.lists(st.sampled_from([*OWN, *EARLIER]), max_size=40))
def test_lists_agree_after_a_repair_whatever_an_earlier_version_wrote(
    client: Any, seed: int, operations: list[str]
) -> None:
    history = History(client, seed)
    history.lanes.list_sizes()
    for operation in operations:
        history.step(operation)
    history.lanes.index_records()
    history.lanes.clock_offset_ms += 120_000
    history.lanes.sweep()  # corrects the list of queues with work
    check_lists(history)
    before = client.hgetall("deployer:listed")
    history.lanes.index_records()
    assert client.hgetall("deployer:listed") == before, "a repeat changes nothing"
    check_lists(history)


# --- data of version 0.1.0 -----------------------------------------------------------------------------------------


def write_earlier_data(client: Any) -> None:
    """Two repositories as version 0.1.0 left them: no lists, counters of each repository."""
    for repository in (ONE, TWO):
        prefix = f"deployer:{{{repository.key}}}"
        for key in KEYS:
            text = json.dumps({"repository": repository.full_name, "environment": key, "stack_name": "s",
                               "state": "deployed", "updated_at": 7.5})  # fmt: skip
            client.hset(f"{prefix}:environments", key, text)
        client.hset(f"{prefix}:counters", mapping={"goal:deployed": 3, "odd": "x"})
        client.lpush(
            f"{prefix}:activity", Activity(1.0, repository.full_name, KEYS[0], "g", "deployed", "").to_json()
        )
        client.hset(f"{prefix}:items", KEYS[2], Work(KEYS[2], goal="g").to_json())
        client.rpush(f"{prefix}:queue", KEYS[2])
        client.zadd("deployer:lanes", {repository.key: 1e15})
        client.hset("deployer:spelled", repository.key, repository.full_name)
    client.hset(TOTALS, "goal:deployed", 2)


def test_the_first_reader_lists_the_data_of_an_earlier_version(client: Any, lanes: RedisQueueStore) -> None:
    write_earlier_data(client)
    records = {key: client.dump(key) for key in client.keys("deployer:{acme/*}:environments")}
    assert len(lanes.environment_page([PRESENT], limit=99).rows) == 8
    assert lanes.list_sizes()[ALL] == 8
    assert lanes.counters()["goal:deployed"] == 8
    assert [line.goal for line in lanes.activity()] == ["g", "g"]
    assert {each.repository for each in lanes.lanes()} == {ONE.full_name, TWO.full_name}
    assert [each.full_name for each in lanes.repository_page(limit=9).rows] == [ONE.full_name, TWO.full_name]
    assert client.hgetall(f"deployer:{{{ONE.key}}}:counters") == {"odd": "x"}
    assert {key: client.dump(key) for key in records} == records


@pytest.mark.parametrize("name", ["environments", "dead", "repository", "seen", "activity", "counters"])
def test_a_key_of_a_wrong_type_hides_no_other_repository(
    client: Any, lanes: RedisQueueStore, name: str
) -> None:
    write_earlier_data(client)
    key = f"deployer:{{{ONE.key}}}:{name}"
    client.delete(key)
    client.sadd(key, "x")
    rows = lanes.environment_page([PRESENT], limit=99).rows
    assert {each.repository for each in rows} >= {TWO.full_name}
    assert len(rows) == (4 if name == "environments" else 8)


@pytest.mark.parametrize("key", ["deployer:listed", "deployer:list-names", "deployer:list:repositories"])
def test_a_list_of_a_wrong_type_is_made_again(client: Any, lanes: RedisQueueStore, key: str) -> None:
    write_earlier_data(client)
    client.set(key, "x")
    assert len(lanes.environment_page([PRESENT], limit=99).rows) == 8
    assert lanes.list_sizes()["repositories"] == 2


def test_counts_of_an_earlier_process_are_neither_lost_nor_counted_twice(
    client: Any, lanes: RedisQueueStore
) -> None:
    write_earlier_data(client)
    assert lanes.counters()["goal:deployed"] == 8
    client.hincrby(f"deployer:{{{ONE.key}}}:counters", "goal:deployed", 1)
    lanes.index_records()
    lanes.index_records()
    assert lanes.counters()["goal:deployed"] == 9


def test_a_listing_under_way_does_not_undo_what_a_worker_writes(
    client: Any, lanes: RedisQueueStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record changes after the listing has read it, and before it writes its lists."""
    write_earlier_data(client)
    dispatch = lanes.accept(ONE, Work(KEYS[2]), "d1", "push").dispatch
    assert dispatch
    lanes.begin(ONE, dispatch.token)
    repair = lanes._run_repair

    def finish_first(*arguments: Any) -> None:
        if dispatch.token in tokens:
            tokens.clear()
            record = EnvironmentRecord.of(ONE.full_name, KEYS[2], "s", state="failed")
            lanes.finish(ONE, dispatch.token, Finished("failed", "", record))
        repair(*arguments)

    tokens = {dispatch.token}
    monkeypatch.setattr(lanes, "_run_repair", finish_first)
    lanes.index_records()
    assert [each.environment for each in lanes.environment_page([in_state("failed")], limit=9).rows] == [
        KEYS[2]
    ]
    assert lanes.list_sizes()[in_state("deployed")] == 7


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 3, 8, 100])
@pytest.mark.parametrize("repository", [None, ONE, TWO])
def test_pages_have_every_environment_once_and_in_order(
    client: Any, lanes: RedisQueueStore, limit: int, repository: Repository | None
) -> None:
    write_earlier_data(client)
    found, after, first = list[tuple[str, str]](), "", True
    while first or after:
        page = lanes.environment_page([PRESENT, FOREIGN], repository, after=after, limit=limit)
        assert len(page.rows) <= limit
        found += [(each.repository, each.environment) for each in page.rows]
        after, first = page.last, False
    whole = lanes.environments(repository)
    assert found == [(each.repository, each.environment) for each in whole]


def test_a_page_continues_where_the_former_ended_if_rows_come_and_go(
    client: Any, lanes: RedisQueueStore
) -> None:
    write_earlier_data(client)
    page = lanes.environment_page([PRESENT], limit=3)
    last = page.rows[-1]
    client.hdel(f"deployer:{{{ONE.key}}}:environments", last.environment, page.rows[0].environment)
    lanes.index_records()
    rest = lanes.environment_page([PRESENT], after=page.last, limit=99).rows
    assert len(rest) == 5
    assert not {(each.repository, each.environment) for each in rest} & {
        (each.repository, each.environment) for each in page.rows
    }


def test_pages_of_dead_letters_continue_if_the_last_one_was_discarded(
    client: Any, lanes: RedisQueueStore
) -> None:
    ids = [letter_id(ONE, number) for number in range(7)]
    for number, each in enumerate(ids):
        letter = DeadLetter(
            each, ONE.full_name, "deployer.sync", "AWS", "", float(number), Work(KEYS[0]).to_json(), "K"
        )
        client.hset(f"deployer:{{{ONE.key}}}:dead", each, letter.to_json())
    client.zadd("deployer:lanes", {ONE.key: 0})
    page = lanes.dead_letter_page(ONE, limit=3)
    assert [each.id for each in page.rows] == ids[:3]
    assert [each.id for each in lanes.dead_letter_page(after=page.last, limit=3).rows] == ids[3:6]
    lanes.discard(ids[2])
    rest = lanes.dead_letter_page(ONE, after=page.last, limit=9)
    assert [each.id for each in rest.rows] == ids[3:]
    assert rest.last == ""
    totals = lanes.dead_letter_totals()
    assert (totals.count, totals.oldest_at) == (6, 0)
    assert [each.id for each in lanes.newest_dead_letters(2)] == [ids[6], ids[5]]
    with pytest.raises(NotFoundError):
        lanes.discard(ids[2])


def test_a_broken_queue_is_listed(client: Any, lanes: RedisQueueStore) -> None:
    lanes.accept(ONE, Work(KEYS[2]), "d1", "push")
    lanes.list_sizes()
    client.zrem("deployer:list:lanes", ONE.key)
    client.delete(f"deployer:{{{ONE.key}}}:queue")
    client.set(f"deployer:{{{ONE.key}}}:queue", "x")
    lanes.clock_offset_ms += 60_000
    lanes.sweep()
    assert [each.status for each in lanes.lanes()] == ["broken"]
    assert lanes.list_sizes()[LANES] == 1


@pytest.mark.parametrize(
    "key", ["deployer:listed", "deployer:list:all", "deployer:list-names", "deployer:activity"]
)
def test_a_list_of_a_wrong_type_stops_no_work(client: Any, lanes: RedisQueueStore, key: str) -> None:
    lanes.list_sizes()
    client.delete(key)
    client.set(key, "x")
    dispatch = lanes.accept(ONE, Work(KEYS[2]), "d1", "push").dispatch
    assert dispatch
    lanes.begin(ONE, dispatch.token)
    lanes.finish(
        ONE, dispatch.token, Finished("deployed", "", EnvironmentRecord.of(ONE.full_name, KEYS[2], "s"))
    )
    record = lanes.delivery("d1")
    assert record
    assert record.outcome == "deployed"


def test_the_repository_of_a_request_is_found_by_its_goal(lanes: RedisQueueStore) -> None:
    accepted = lanes.accept(ONE, Work(KEYS[2], cause=Cause.REDEPLOY))
    assert lanes.goal_repository(accepted.goal) == ONE
    lanes.accept(TWO, Work(KEYS[2]), "d1", "push")
    assert lanes.goal_repository("d1#2") == TWO
    assert lanes.goal_repository("unknown") is None


def test_a_notable_repository_is_listed(lanes: RedisQueueStore) -> None:
    know_repository(lanes, RepositoryRecord(ONE.full_name, state="archived"))
    assert lanes.repositories_of_list("notable") == [Repository.parse(ONE.key)]
    assert lanes.find_repository(ONE.key) is None, "it has no queue"
