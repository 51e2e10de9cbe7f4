"""Examples of the operations of a lane, on fakeredis and on a real server."""

import json
import time
from collections.abc import Iterator
from typing import Any

import fakeredis
import pytest

from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.errors import LaneLostError, NotFoundError, UnavailableError
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref
from deployer.model.repository_record import Seen
from deployer.queue.dead_letter_record import WORKER_LOST, DeadLetter
from deployer.queue.dead_letters import letter_id
from deployer.queue.items import RESYNC_KEY, Cause, Task, Work
from deployer.queue.step_results import Continue, DeadLettered, Finished, RetryLater, WaitUntil
from deployer.queue.store import Accepted, Dispatch, NextItem, QueueStore, Taken
from deployer.redis_store.connection import connect
from deployer.redis_store.queue import RedisQueueStore
from tests.unit.identities import TWINS

HELLO = Repository.parse("acme/hello")
X, Y, PRODUCTION = "development:refs/heads/x", "development:refs/heads/y", "production"
LEASE, GRACE, ATTEMPTS = 30, 10, 3


@pytest.fixture(params=["fakeredis", "server"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "fakeredis":
        yield fakeredis.FakeRedis(decode_responses=True)
        return
    server = connect(request.getfixturevalue("redis_url"))
    server.flushall()
    yield server
    server.close()


@pytest.fixture
def lanes(client: Any) -> RedisQueueStore:
    return RedisQueueStore(client, lease_seconds=LEASE, grace_seconds=GRACE, max_attempts=ATTEMPTS)


def push(lanes: QueueStore, delivery: str, environment: str = X, **fields: Any) -> Any:
    return lanes.accept(HELLO, Work.of(environment=environment, **fields), delivery, "push")


def event(lanes: QueueStore, delivery: str, environment: str = X) -> Any:
    work = Work(environment=environment, task=Task.NOTIFY, cause=Cause.EVENT)
    return lanes.accept(HELLO, work, delivery, "stage Build")


def begin(lanes: QueueStore, dispatch: Any) -> Work:
    assert dispatch is not None
    work = lanes.begin(HELLO, dispatch.token)
    assert work is not None
    assert work.task == dispatch.task
    return work


def outcome(lanes: QueueStore, delivery: str) -> str:
    record = lanes.delivery(delivery)
    assert record is not None
    return record.outcome


def done(outcome: Outcome = Outcome.DEPLOYED) -> Finished:
    return Finished(str(outcome), "because")


def later(lanes: RedisQueueStore, seconds: float) -> None:
    lanes.clock_offset_ms += int(seconds * 1000)


def test_a_delivery_goes_from_queued_to_its_outcome(lanes: RedisQueueStore) -> None:
    accepted = push(lanes, "d1")
    assert (accepted.outcome, accepted.goal, outcome(lanes, "d1")) == ("queued", "d1", "queued")
    work = begin(lanes, accepted.dispatch)
    assert (work.deliveries, work.log.attempts) == ("d1", 1)
    record = EnvironmentRecord.of("acme/hello", X, "stack", state="deployed", commit="c" * 40)
    assert lanes.finish(HELLO, accepted.dispatch.token, Finished("deployed", "all green", record)) is None
    found = lanes.delivery("d1")
    assert found is not None
    assert (found.outcome, found.reason, found.environment) == ("deployed", "all green", X)
    assert found.finished_at >= found.received_at > 0
    stored = lanes.environment(Environment.from_key(HELLO, X))
    assert stored is not None
    assert (stored.status.state, stored.spec.commit) == ("deployed", "c" * 40)
    assert [line.outcome for line in lanes.activity()] == ["deployed"]
    assert lanes.lanes() == []


def test_a_delivery_counts_once_unless_it_failed(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    assert push(lanes, "d1").outcome == "duplicate"
    begin(lanes, first.dispatch)
    lanes.finish(HELLO, first.dispatch.token, done(Outcome.FAILED))
    again = push(lanes, "d1")
    assert (again.outcome, again.goal) == ("queued", "d1#2")
    begin(lanes, again.dispatch)
    lanes.finish(HELLO, again.dispatch.token, done())
    assert push(lanes, "d1").outcome == "duplicate"


def test_one_task_at_a_time_in_order(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1", X)
    assert push(lanes, "d2", Y).dispatch is None
    begin(lanes, first.dispatch)
    assert push(lanes, "d3", "staging").dispatch is None
    order = []
    dispatch = lanes.finish(HELLO, first.dispatch.token, done())
    while dispatch:
        order.append(begin(lanes, dispatch).environment)
        dispatch = lanes.finish(HELLO, dispatch.token, done())
    assert order == [Y, "staging"]


def test_queues_of_two_repositories_do_not_wait_for_each_other(lanes: RedisQueueStore) -> None:
    other = Repository.parse("acme/other")
    assert push(lanes, "d1").dispatch
    assert lanes.accept(other, Work(environment=X), "d2", "push").dispatch


def test_a_newer_push_replaces_a_waiting_one(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d0", Y)
    push(lanes, "d1", before="1", after="2")
    push(lanes, "d2", before="2", after="3")
    assert (outcome(lanes, "d1"), outcome(lanes, "d2")) == ("superseded", "queued")
    begin(lanes, first.dispatch)
    work = begin(lanes, lanes.finish(HELLO, first.dispatch.token, done()))
    assert (work.goal, work.push.after, work.push.before.split(",")) == ("d2", "3", ["2", "1"])


def test_a_push_to_a_running_environment_waits(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    begin(lanes, first.dispatch)
    push(lanes, "d2")
    dispatch = lanes.finish(HELLO, first.dispatch.token, done())
    assert begin(lanes, dispatch).goal == "d2"
    assert outcome(lanes, "d1") == "deployed"


@pytest.mark.parametrize("cause", [Cause.REDEPLOY, Cause.TEARDOWN])
def test_the_activity_lists_a_request_that_a_push_replaces(lanes: RedisQueueStore, cause: Cause) -> None:
    asked = lanes.accept(HELLO, Work(X, cause=cause))
    push(lanes, "d1")
    (line,) = lanes.activity(HELLO)
    assert (line.goal, line.outcome, line.reason) == (asked.goal, "superseded", "replaced by d1")


def test_a_push_replaces_an_item_that_would_have_been_snoozed(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    work = begin(lanes, first.dispatch)
    push(lanes, "d2")
    dispatch = lanes.finish(HELLO, first.dispatch.token, WaitUntil(work, 100))
    assert begin(lanes, dispatch).goal == "d2"
    assert outcome(lanes, "d1") == "superseded"


def test_a_replaced_dispatch_is_sent_again_with_its_new_task(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    work = begin(lanes, first.dispatch)
    handed = lanes.finish(HELLO, first.dispatch.token, Continue(work.but(task=Task.PROVISION)))
    assert handed is not None
    assert handed.task == Task.PROVISION
    second = push(lanes, "d2").dispatch
    assert second.task == Task.SYNC
    assert second.token > handed.token
    assert lanes.begin(HELLO, handed.token) is None
    assert begin(lanes, second).goal == "d2"


def test_an_event_joins_a_waiting_item_and_wakes_a_snoozed_one(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    work = begin(lanes, first.dispatch)
    assert lanes.finish(HELLO, first.dispatch.token, WaitUntil(work.but(polls=7), 100)) is None
    woken = event(lanes, "e1")
    work = begin(lanes, woken.dispatch)
    assert (work.goal, work.deliveries, work.log.polls, work.log.attempts) == ("d1", "d1,e1", 0, 1)
    lanes.finish(HELLO, woken.dispatch.token, done())
    assert outcome(lanes, "d1") == outcome(lanes, "e1") == "deployed"


def test_an_event_during_a_task_repeats_the_task_at_once(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    work = begin(lanes, first.dispatch)
    event(lanes, "e1")
    dispatch = lanes.finish(HELLO, first.dispatch.token, WaitUntil(work, 100))
    assert begin(lanes, dispatch).deliveries == "d1,e1"


def test_a_push_replaces_a_waiting_event_and_gets_its_delivery(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d0", Y)
    event(lanes, "e1")
    push(lanes, "d1")
    begin(lanes, first.dispatch)
    work = begin(lanes, lanes.finish(HELLO, first.dispatch.token, done()))
    assert (work.goal, work.task, set(work.deliveries.split(","))) == ("d1", Task.SYNC, {"d1", "e1"})


def test_a_resync_joins_a_waiting_item(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1", RESYNC_KEY)
    begin(lanes, first.dispatch)
    push(lanes, "d2")
    lanes.accept(HELLO, Work(environment=X, cause=Cause.RESYNC))
    work = begin(lanes, lanes.finish(HELLO, first.dispatch.token, done()))
    assert (work.goal, work.cause) == ("d2", Cause.PUSH)
    assert lanes.lanes()[0].waiting == []


def test_a_snoozed_item_comes_back_when_due_and_others_run_meanwhile(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    work = begin(lanes, first.dispatch)
    push(lanes, "d2", Y)
    second = lanes.finish(HELLO, first.dispatch.token, WaitUntil(work, 100))
    assert begin(lanes, second).environment == Y
    assert second is not None
    assert lanes.finish(HELLO, second.token, done()) is None
    assert lanes.sweep() == []
    later(lanes, 101)
    (dispatch,) = lanes.sweep()
    assert begin(lanes, dispatch).log.attempts == 1


def test_a_retry_counts_as_an_attempt_and_a_snooze_does_not(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    attempts = []
    for ends_well in (False, False, True, False):
        work = begin(lanes, dispatch)
        attempts.append(work.log.attempts)
        verdict = WaitUntil(work, 5) if ends_well else RetryLater(work, 5, "AWS is away")
        lanes.finish(HELLO, dispatch.token, verdict)
        later(lanes, 6)
        (dispatch,) = lanes.sweep()
    assert attempts == [1, 2, 3, 1]


def test_an_old_token_begins_nothing_and_finishes_nothing(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    begin(lanes, first.dispatch)
    later(lanes, LEASE + 1)
    (second,) = lanes.sweep()
    assert second.token > first.dispatch.token
    assert lanes.begin(HELLO, first.dispatch.token) is None
    assert not lanes.extend(HELLO, first.dispatch.token)
    with pytest.raises(LaneLostError):
        lanes.finish(HELLO, first.dispatch.token, done())
    assert outcome(lanes, "d1") == "queued"
    assert begin(lanes, second).log.attempts == 2
    lanes.finish(HELLO, second.token, done())
    with pytest.raises(LaneLostError):
        lanes.finish(HELLO, second.token, done(Outcome.FAILED))
    assert outcome(lanes, "d1") == "deployed"


def test_a_renewed_lease_does_not_expire(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    begin(lanes, first.dispatch)
    for _ in range(4):
        later(lanes, LEASE - 5)
        assert lanes.extend(HELLO, first.dispatch.token)
        assert lanes.sweep() == []
    lanes.finish(HELLO, first.dispatch.token, done())


def test_a_lost_message_is_sent_again_under_its_token(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    assert lanes.sweep() == []
    later(lanes, GRACE + 1)
    (again,) = lanes.sweep()
    assert again == first.dispatch
    assert lanes.sweep() == []
    begin(lanes, again)
    assert lanes.begin(HELLO, again.token) is None


def test_an_item_that_loses_its_workers_becomes_a_dead_letter(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    push(lanes, "d2", Y)
    for _ in range(ATTEMPTS + 1):
        assert begin(lanes, dispatch).environment == X
        later(lanes, LEASE + 1)
        (dispatch,) = lanes.sweep()
    assert begin(lanes, dispatch).environment == Y
    assert outcome(lanes, "d1") == "dead-lettered"
    (letter,) = lanes.dead_letters()
    assert "lost 4 times" in letter.reason
    assert letter.arguments.deliveries == "d1"


def _died(dispatch: Any, work: Work, **fields: Any) -> DeadLettered:
    told = {
        "id": letter_id(HELLO, dispatch.token),
        "repository": "acme/hello",
        "task": work.task,
        "reason": "a bug",
        "traceback": "Traceback ...",
        "at": 1.0,
        "work": work.to_json(),
        "kind": "KeyError",
    }
    return DeadLettered(DeadLetter(**(told | fields)))


def _bury(lanes: RedisQueueStore, delivery: str = "d1", environment: str = X) -> DeadLetter:
    dispatch = push(lanes, delivery, environment).dispatch
    dead = _died(dispatch, begin(lanes, dispatch))
    lanes.finish(HELLO, dispatch.token, dead)
    return dead.letter


def test_a_dead_letter_is_stored_shown_and_replayed(lanes: RedisQueueStore) -> None:
    letter = _bury(lanes)
    (kept,) = lanes.dead_letters()
    assert kept == lanes.find_dead_letter(letter.id)
    assert kept.arguments.but(tries="") == letter.arguments
    assert kept.but(work="") == letter.but(work="")
    assert outcome(lanes, "d1") == "dead-lettered"
    accepted = lanes.replay(letter.id)
    assert outcome(lanes, "d1") == "queued"
    assert lanes.dead_letters() == []
    work = begin(lanes, accepted.dispatch)
    assert (work.log.attempts, work.deliveries) == (1, "d1")
    assert work.goal == accepted.goal != "d1"
    lanes.finish(HELLO, accepted.dispatch.token, done())
    assert outcome(lanes, "d1") == "deployed"
    with pytest.raises(NotFoundError):
        lanes.replay(letter.id)


def test_newer_work_replaces_a_replay(lanes: RedisQueueStore) -> None:
    letter = _bury(lanes)
    other = push(lanes, "d0", Y)
    push(lanes, "d2")
    lanes.replay(letter.id)
    begin(lanes, other.dispatch)
    assert begin(lanes, lanes.finish(HELLO, other.dispatch.token, done())).goal == "d2"
    assert outcome(lanes, "d1") == "superseded"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_requests_that_are_replayed_together_the_later_one_stays(
    lanes: RedisQueueStore, order: tuple[int, int]
) -> None:
    letters = []
    for delivery in ("d1", "d2"):
        letters.append(_bury(lanes, delivery))
        later(lanes, 1)
    running = push(lanes, "d0", Y)
    for number in order:
        lanes.replay(letters[number].id)
    begin(lanes, running.dispatch)
    assert begin(lanes, lanes.finish(HELLO, running.dispatch.token, done())).deliveries == "d2"
    assert outcome(lanes, "d1") == "superseded"


def test_a_dead_letter_outlives_the_records_of_its_deliveries(lanes: RedisQueueStore, client: Any) -> None:
    letter = _bury(lanes)
    client.delete("deployer:{acme/hello}:delivery:d1")  # 30 days have passed
    replayed = lanes.replay(letter.id)
    assert begin(lanes, replayed.dispatch).deliveries == ""
    lanes.finish(HELLO, replayed.dispatch.token, done())
    assert lanes.delivery("d1") is None
    assert not client.exists("deployer:{acme/hello}:delivery:d1")


def test_a_resync_that_loses_its_workers_repeatedly_leaves_one_dead_letter(lanes: RedisQueueStore) -> None:
    for _ in range(2):
        dispatch = lanes.accept(HELLO, Work("*", task=Task.RESYNC, cause=Cause.RESYNC)).dispatch
        for _ in range(ATTEMPTS + 1):
            begin(lanes, dispatch)
            later(lanes, LEASE + 1)
            dispatch = next(iter(lanes.sweep()), None)
    assert [letter.id for letter in lanes.dead_letters()] == ["acme~hello-resync"]


def test_a_replay_wakes_a_snoozed_item_and_is_sent_as_its_own_task(lanes: RedisQueueStore) -> None:
    for verdict in (lambda work: WaitUntil(work, 100), None):
        letter = _bury(lanes)
        waits = event(lanes, "e1")
        if verdict:
            lanes.finish(HELLO, waits.dispatch.token, verdict(begin(lanes, waits.dispatch)))
        replayed = lanes.replay(letter.id)
        work = begin(lanes, replayed.dispatch)
        assert (work.goal, work.task, work.deliveries) == (replayed.goal, Task.SYNC, "d1,e1")
        lanes.finish(HELLO, replayed.dispatch.token, done(Outcome.FAILED))


def test_a_dead_letter_can_be_discarded(lanes: RedisQueueStore) -> None:
    letter = _bury(lanes)
    lanes.discard(letter.id)
    assert lanes.dead_letters() == []
    for wrong in (letter.id, "nonsense", "a~b~c-1"):
        with pytest.raises(NotFoundError):
            lanes.discard(wrong)
        assert lanes.find_dead_letter(wrong) is None


def test_a_delivery_is_accepted_again_after_a_dead_letter(lanes: RedisQueueStore) -> None:
    letter = _bury(lanes)
    again = push(lanes, "d1")
    assert again.outcome == "queued"
    assert lanes.find_dead_letter(letter.id) is None
    work = begin(lanes, again.dispatch)
    assert (work.log.attempts, work.failed_attempts) == (1, [])


def test_a_dead_letter_lists_every_attempt_with_its_times(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    began, ended = [], []
    for error in ("AWS is slow", "", "AWS is away"):  # the second attempt loses its worker
        work = begin(lanes, dispatch)
        assert work.log.began_at > (ended[-1] if ended else 0)
        began.append(work.log.began_at)
        seconds = 2 if error else LEASE + 1
        later(lanes, seconds)
        ended.append(work.log.began_at + seconds)
        if error:
            # the attempt names the task that ran, whichever is next
            retry = RetryLater(work.but(task=Task.PROVISION), 5, error)
            assert lanes.finish(HELLO, dispatch.token, retry) is None
            later(lanes, 6)
        (dispatch,) = lanes.sweep()
    work = begin(lanes, dispatch)
    lanes.finish(HELLO, dispatch.token, _died(dispatch, work))
    (letter,) = lanes.dead_letters()
    assert letter.arguments.log.attempts == 4
    told = letter.arguments.failed_attempts
    assert [each.error for each in told] == ["AWS is slow", "its worker was lost", "AWS is away", "a bug"]
    assert [each.task for each in told] == [Task.SYNC, Task.PROVISION, Task.PROVISION, Task.PROVISION]
    assert [each.began_at for each in told] == [*began, work.log.began_at]
    assert [each.ended_at for each in told[:3]] == pytest.approx(ended, abs=1)
    assert told[3].ended_at >= told[3].began_at


def test_lost_workers_are_listed_as_attempts_with_times(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    for _ in range(ATTEMPTS + 1):  # the last worker should only report it, and is lost too
        assert lanes.dead_letters() == []
        begin(lanes, dispatch)
        later(lanes, LEASE + 1)
        dispatch = next(iter(lanes.sweep()), None)
    (letter,) = lanes.dead_letters()
    assert (letter.kind, letter.traceback) == (WORKER_LOST, "")
    told = letter.arguments.failed_attempts
    assert [each.error for each in told] == ["its worker was lost"] * (ATTEMPTS + 1)
    assert all(each.ended_at - each.began_at > LEASE for each in told)
    assert sorted(told, key=lambda each: each.began_at) == told


def test_a_reason_that_arrives_before_a_sweep_is_that_of_the_running_item(lanes: RedisQueueStore) -> None:
    """The main process of a worker knows the token of its message, but a later item runs."""
    message = push(lanes, "d1").dispatch
    push(lanes, "d2", Y)
    begin(lanes, message)
    taken = lanes.finish(HELLO, message.token, done(), next_item=NextItem.TAKE)
    assert isinstance(taken, Taken)
    assert not lanes.end_lease(HELLO, taken.token, X, "no message had this token")
    assert lanes.end_lease(HELLO, message.token, X, "out of time")
    (dispatch,) = lanes.sweep()
    assert (dispatch.environment, begin(lanes, dispatch).last_error) == (Y, "out of time")


def test_a_reason_that_arrives_after_a_sweep_is_that_of_the_item_that_was_lost(
    lanes: RedisQueueStore,
) -> None:
    """The main process of a worker knows the first item of its message, but a later one was running."""
    message = push(lanes, "d1").dispatch
    push(lanes, "d2", Y)
    begin(lanes, message)
    assert isinstance(lanes.finish(HELLO, message.token, done(), next_item=NextItem.TAKE), Taken)
    push(lanes, "d3")
    later(lanes, LEASE + 1)
    (dispatch,) = lanes.sweep()
    assert lanes.end_lease(HELLO, message.token, X, "out of time")
    assert (dispatch.environment, begin(lanes, dispatch).last_error) == (Y, "out of time")


def test_attempts_are_deleted_when_their_count_is_reset(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    work = begin(lanes, dispatch)
    lanes.finish(HELLO, dispatch.token, RetryLater(work, 5, "AWS is away"))
    later(lanes, 6)
    (dispatch,) = lanes.sweep()
    work = begin(lanes, dispatch)
    assert len(work.failed_attempts) == 1
    dispatch = lanes.finish(HELLO, dispatch.token, Continue(work.but(task=Task.PROVISION)))
    work = begin(lanes, dispatch)
    assert len(work.failed_attempts) == 1, "a step that went well is no new beginning"
    assert dispatch is not None
    lanes.finish(HELLO, dispatch.token, WaitUntil(work, 5))
    later(lanes, 6)
    (dispatch,) = lanes.sweep()
    work = begin(lanes, dispatch)
    assert (work.log.attempts, work.failed_attempts) == (1, [])
    dead = _died(dispatch, work)
    lanes.finish(HELLO, dispatch.token, dead)
    work = begin(lanes, lanes.replay(dead.letter.id).dispatch)
    assert (work.log.attempts, work.failed_attempts) == (1, [])


def test_only_the_newest_attempts_are_stored_each_in_a_short_line(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    for number in range(25):
        work = begin(lanes, dispatch)
        error = f"{number}\n\tquotes \"{{'a'}}\" \u2028 {'ü' * 400}"
        lanes.finish(HELLO, dispatch.token, RetryLater(work, 5, error))
        later(lanes, 6)
        (dispatch,) = lanes.sweep()
    told = begin(lanes, dispatch).failed_attempts
    assert [each.error.split()[0] for each in told] == [str(number) for number in range(5, 25)]
    for each in told:
        assert len(each.error) == 300
        assert "\n" not in each.error
        assert each.error.endswith("ü" * 200)


def test_a_dead_letter_is_stored_until_a_person_decides(lanes: RedisQueueStore, client: Any) -> None:
    kept, other = _bury(lanes), _bury(lanes, "d2", Y)
    later(lanes, 400 * 86400)
    lanes.sweep()
    dispatch = lanes.replay(other.id).dispatch
    begin(lanes, dispatch)
    assert dispatch is not None
    lanes.finish(HELLO, dispatch.token, done())
    client.delete("deployer:{acme/hello}:environments")
    lanes.delete_repository_if_empty(HELLO)
    assert [letter.id for letter in lanes.dead_letters()] == [kept.id]
    assert client.ttl("deployer:{acme/hello}:dead") == -1
    lanes.discard(kept.id)
    lanes.delete_repository_if_empty(HELLO)
    assert lanes.repositories() == []


def test_items_of_an_older_version_are_read_and_run(lanes: RedisQueueStore, client: Any) -> None:
    def older(text: str) -> str:
        return json.dumps({k: v for k, v in json.loads(text).items() if k not in {"began_at", "tries"}})

    dispatch = push(lanes, "d1").dispatch
    items, state = "deployer:{acme/hello}:items", "deployer:{acme/hello}:state"
    client.hset(items, X, older(client.hget(items, X)))
    work = begin(lanes, dispatch)
    assert (work.log.attempts, work.failed_attempts) == (1, [])
    client.hset(state, "current", older(client.hget(state, "current")))
    older_work = Work.from_json(older(work.to_json()))
    lanes.finish(HELLO, dispatch.token, RetryLater(older_work, 5, "AWS is away"))
    later(lanes, 6)
    (dispatch,) = lanes.sweep()
    (attempt,) = begin(lanes, dispatch).failed_attempts
    assert (attempt.began_at, attempt.error) == (0, "AWS is away")
    assert attempt.ended_at > 0

    fields = {"id": "acme~hello-7", "repository": "acme/hello", "task": Task.SYNC, "reason": "a bug"}
    letter = {**fields, "traceback": "", "at": 1.5, "work": older(Work(Y, deliveries="d7").to_json())}
    client.hset("deployer:{acme/hello}:dead", "acme~hello-7", json.dumps(letter))
    (found,) = lanes.dead_letters()
    assert (found.kind, found.arguments.failed_attempts) == ("unknown", [])
    assert lanes.replay("acme~hello-7").outcome == "queued"


def test_a_repeated_event_does_not_replay_the_push_of_its_dead_letter(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    event(lanes, "e1")
    for _ in range(ATTEMPTS + 1):
        begin(lanes, dispatch)
        later(lanes, LEASE + 1)
        dispatch = next(iter(lanes.sweep()), None)
    assert event(lanes, "e1").outcome == "duplicate"
    (letter,) = lanes.dead_letters()
    assert letter.arguments.deliveries == "d1,e1"
    assert outcome(lanes, "d1") == "dead-lettered"


def test_a_delivery_that_is_queued_again_has_no_end(lanes: RedisQueueStore) -> None:
    letter = _bury(lanes)
    for again in (lambda: lanes.replay(letter.id), lambda: push(lanes, "d1")):
        dispatch = again().dispatch
        found = lanes.delivery("d1")
        assert found is not None
        assert (found.outcome, found.finished_at) == ("queued", 0)
        begin(lanes, dispatch)
        lanes.finish(HELLO, dispatch.token, done(Outcome.FAILED))


def test_the_last_replaced_push_is_stored_in_the_item(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1", after="1")
    work = begin(lanes, first.dispatch)
    push(lanes, "d2", after="2")
    push(lanes, "d3", cause=Cause.DELETION)
    dispatch = lanes.finish(HELLO, first.dispatch.token, WaitUntil(work, 5))
    assert begin(lanes, dispatch).push.replaced_after == "2"


def test_a_push_during_the_deletion_of_its_repository_is_handed_out(lanes: RedisQueueStore) -> None:
    run = lanes._run_operation

    def forgotten_meanwhile(*arguments: Any) -> Any:
        lanes._run_operation = run  # type: ignore[method-assign]
        lanes.delete_repository_if_empty(
            HELLO
        )  # after the push has written its repository's name, and before its item
        return run(*arguments)

    lanes._run_operation = forgotten_meanwhile  # type: ignore[method-assign]
    push(lanes, "d1")
    lanes.delete_repository_if_empty(HELLO)
    assert lanes.repositories() == [HELLO]
    later(lanes, GRACE + 1)
    (dispatch,) = lanes.sweep()
    assert begin(lanes, dispatch).deliveries == "d1"


def tag(lanes: RedisQueueStore, number: int, cause: Cause = Cause.PUSH, pushed_at: float = 0) -> Accepted:
    ref, delivery = f"refs/tags/v{number}", f"t{number}-{cause}-{pushed_at}"
    work = Work.of(PRODUCTION, cause=cause, ref=ref, pushed_at=pushed_at or number, candidate=True)
    return lanes.accept(HELLO, work, delivery, "push")


def test_different_tags_never_replace_each_other(lanes: RedisQueueStore) -> None:
    for number in (2, 4, 1):
        tag(lanes, number)
    lanes.accept(HELLO, Work(PRODUCTION, cause=Cause.TEARDOWN))
    (lane,) = lanes.lanes()
    keys = [f"production refs/tags/v{number}" for number in (2, 4, 1)]
    assert [work.key for work in lane.waiting] == [*keys, PRODUCTION]
    assert (lane.environment, lane.ref, lane.key) == (PRODUCTION, "refs/tags/v2", keys[0])


def test_the_same_tag_that_is_pushed_again_or_deleted_is_replaced_as_a_branch_is(
    lanes: RedisQueueStore,
) -> None:
    tag(lanes, 1)
    tag(lanes, 1, pushed_at=5)
    assert outcome(lanes, "t1-push-0") == "superseded"
    tag(lanes, 1, pushed_at=3)
    assert outcome(lanes, "t1-push-3") == "superseded", "it was delivered late"
    tag(lanes, 1, Cause.DELETION, pushed_at=6)
    assert outcome(lanes, "t1-push-5") == "superseded"
    (lane,) = lanes.lanes()
    assert [work.cause for work in lane.waiting] == ["deletion"]


def admitted(lanes: RedisQueueStore, accepted: Accepted, decided_at: float) -> Dispatch | None:
    """Let a worker admit the tag that was handed out."""
    work = begin(lanes, accepted.dispatch)
    changed = work.but(candidate=False, decided_at=decided_at, sha="c")
    return lanes.finish(HELLO, accepted.dispatch.token, Continue(changed))


@pytest.mark.parametrize("cause", [Cause.REDEPLOY, Cause.TEARDOWN])
@pytest.mark.parametrize(("seconds", "stays"), [(-10, "person"), (10, "tag")])
def test_of_an_admitted_tag_and_a_request_the_later_stays(
    lanes: RedisQueueStore, cause: Cause, seconds: int, stays: str
) -> None:
    first = tag(lanes, 1)
    lanes.accept(HELLO, Work(PRODUCTION, cause=cause, goal="person"))
    dispatch = admitted(lanes, first, lanes.now() + seconds)
    work = begin(lanes, dispatch)
    assert (work.key, work.cause) == (PRODUCTION, cause if stays == "person" else "push")
    assert outcome(lanes, "t1-push-0") == ("superseded" if stays == "person" else "queued")


@pytest.mark.parametrize("cause", [Cause.EVENT, Cause.RESYNC])
def test_events_and_resyncs_join_an_admitted_tag(lanes: RedisQueueStore, cause: Cause) -> None:
    first = tag(lanes, 1)
    lanes.accept(HELLO, Work(PRODUCTION, cause=cause, goal="look"), "e1" if cause == Cause.EVENT else "")
    work = begin(lanes, admitted(lanes, first, 5))
    assert (work.cause, work.spec.sha) == ("push", "c")
    assert work.deliveries == ("t1-push-0,e1" if cause == Cause.EVENT else "t1-push-0")


def test_every_waiting_tag_is_checked_before_production_changes(lanes: RedisQueueStore) -> None:
    first, _ = tag(lanes, 1), tag(lanes, 2)
    second = admitted(lanes, first, 1)
    assert begin(lanes, second).spec.ref == "refs/tags/v2"


def test_work_of_production_does_not_wake_a_tag_that_waits_for_its_commit(lanes: RedisQueueStore) -> None:
    first = tag(lanes, 1)
    lanes.finish(HELLO, first.dispatch.token, WaitUntil(begin(lanes, first.dispatch), 60))
    event = lanes.accept(HELLO, Work(PRODUCTION, task=Task.NOTIFY, cause=Cause.EVENT), "e1", "stage")
    assert begin(lanes, event.dispatch).key == PRODUCTION
    (lane,) = lanes.lanes()
    assert list(lane.snoozed) == lane.snoozed_keys(PRODUCTION) == ["production refs/tags/v1"]


def test_a_resync_that_replaces_a_resting_event_rests_too(lanes: RedisQueueStore) -> None:
    first = event(lanes, "e1")
    work = begin(lanes, first.dispatch)
    lanes.finish(HELLO, first.dispatch.token, RetryLater(work, 100, "AWS is away"))
    assert lanes.accept(HELLO, Work(X, cause=Cause.RESYNC)).dispatch is None
    later(lanes, 101)
    (dispatch,) = lanes.sweep()
    assert begin(lanes, dispatch).deliveries == "e1"


def test_old_tokens_are_refused_after_redis_lost_its_data(lanes: RedisQueueStore, client: Any) -> None:
    first = push(lanes, "d1")
    begin(lanes, first.dispatch)
    client.flushall()
    with pytest.raises(LaneLostError):
        lanes.finish(HELLO, first.dispatch.token, done())
    second = push(lanes, "d2")
    assert second.dispatch.token > first.dispatch.token
    with pytest.raises(LaneLostError):
        lanes.finish(HELLO, first.dispatch.token, done())


def test_an_ignored_delivery_is_recorded_and_does_not_hide_another_outcome(lanes: RedisQueueStore) -> None:
    lanes.ignore(DeliveryRecord("i1", "acme/hello", reason="a star"))
    assert outcome(lanes, "i1") == "ignored"
    lanes.ignore(DeliveryRecord("i2", reason="no repository"))
    assert outcome(lanes, "i2") == "ignored"
    first = push(lanes, "d1")
    begin(lanes, first.dispatch)
    lanes.finish(HELLO, first.dispatch.token, done())
    lanes.ignore(DeliveryRecord("d1", "acme/hello", reason="too late"))
    assert outcome(lanes, "d1") == "deployed"


def test_an_ignored_push_is_listed_once_and_becomes_the_record_of_an_unknown_environment(
    lanes: RedisQueueStore,
) -> None:
    record = DeliveryRecord("s1", "Acme/new", X, "push", str(Outcome.SKIPPED), "it says so")
    first = EnvironmentRecord.of("Acme/new", X, "", ref="refs/heads/x", state="skipped")
    for _ in range(2):
        lanes.ignore(record, ref="refs/heads/x", commit="c" * 40, first=first)
    (line,) = lanes.activity()
    assert (line.repository, line.environment, line.goal, line.outcome, line.reason, line.commit, line.ref) == (
        "Acme/new", X, "s1", "skipped", "it says so", "c" * 40, "refs/heads/x",
    )  # fmt: skip
    new = Repository("Acme", "new")
    assert lanes.activity(new) == [line]
    assert lanes.repositories() == [new]
    assert lanes.sweep() == []
    (known,) = lanes.environments(new)
    assert known.status.state == "skipped"
    assert known.updated_at > 0
    place = Environment.from_key(new, X)
    assert lanes.find(place.stack_name) == place


@pytest.mark.parametrize("there", ["waiting", "known"])
def test_an_ignored_push_changes_no_record_and_no_waiting_environment(
    lanes: RedisQueueStore, there: str
) -> None:
    dispatch = push(lanes, "d1").dispatch
    if there == "known":
        begin(lanes, dispatch)
        lanes.finish(
            HELLO,
            dispatch.token,
            Finished("deployed", "", EnvironmentRecord.of("acme/hello", X, "", state="deployed")),
        )
    first = EnvironmentRecord.of("acme/hello", X, "", state="skipped")
    lanes.ignore(DeliveryRecord("s1", "acme/hello", X, "push", "skipped", "why"), first=first)
    assert [each.status.state for each in lanes.environments(HELLO)] == ["deployed"] * (there == "known")
    assert lanes.activity(HELLO)[0].goal == "s1"


def test_an_ignored_ref_that_has_no_environment_is_listed(lanes: RedisQueueStore) -> None:
    note = "refs/notes/commits"
    lanes.ignore(
        DeliveryRecord("n1", "acme/hello", note, "push", reason="neither a branch nor a tag"), ref=note
    )
    assert [(line.environment, line.outcome) for line in lanes.activity(HELLO)] == [(note, "ignored")]
    assert lanes.environments(HELLO) == []


def test_events_of_deployers_own_operations_are_not_listed(lanes: RedisQueueStore) -> None:
    for delivery, outcome in (("e1", Outcome.SKIPPED), ("e2", Outcome.DEPLOYED)):
        dispatch = event(lanes, delivery).dispatch
        begin(lanes, dispatch)
        lanes.finish(HELLO, dispatch.token, Finished(outcome, "why"))
    told = lanes.delivery("e1")
    assert told is not None
    assert (told.outcome, told.reason) == ("skipped", "why")
    assert [(line.goal, line.outcome) for line in lanes.activity()] == [("e2", "deployed")]


def test_an_ignored_delivery_is_accepted_again(lanes: RedisQueueStore) -> None:
    lanes.ignore(DeliveryRecord("d1", "acme/hello", reason="not served"))
    accepted = push(lanes, "d1")
    assert (accepted.outcome, accepted.goal) == ("queued", "d1")
    begin(lanes, accepted.dispatch)
    lanes.finish(HELLO, accepted.dispatch.token, done())
    assert outcome(lanes, "d1") == "deployed"


def test_a_repository_is_the_same_however_it_is_spelled(lanes: RedisQueueStore) -> None:
    lanes.accept(Repository.parse("acme/HELLO"), Work(X), "d1", "push")
    lanes.accept(HELLO, Work(Y), "d2", "push")
    assert lanes.repositories() == [HELLO]
    (lane,) = lanes.lanes()
    assert [each.environment for each in lane.waiting] == [X, Y]
    later(lanes, GRACE + 1)
    (dispatch,) = lanes.sweep()
    assert dispatch.repository == "acme/hello"


def test_the_state_of_a_queue_for_people(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    work = begin(lanes, first.dispatch)
    lanes.finish(HELLO, first.dispatch.token, WaitUntil(work, 50))
    running = push(lanes, "d2", Y)
    begin(lanes, running.dispatch)
    push(lanes, "d3", "staging")
    (lane,) = lanes.lanes()
    assert (lane.repository, lane.status, lane.environment) == ("acme/hello", "running", Y)
    assert [each.environment for each in lane.waiting] == ["staging"]
    assert 45 < lane.snoozed[X] <= 50
    assert lane.failing == {}
    assert 0 < lane.lease_seconds <= LEASE
    other = Repository.parse("acme/other")
    lanes.accept(other, Work(X), "d4", "push")
    assert [each.repository for each in lanes.lanes()] == ["acme/hello", "acme/other"]
    assert [each.repository for each in lanes.lanes(other)] == ["acme/other"]
    assert lanes.lanes(Repository.parse("acme/idle")) == []


def test_a_failing_item_is_shown_until_an_attempt_succeeds(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    for attempt in (1, 2):
        work = begin(lanes, dispatch)
        lanes.finish(HELLO, dispatch.token, RetryLater(work, 100, f"refused {attempt} times"))
        (lane,) = lanes.lanes()
        assert 90 < lane.snoozed[X] <= 100
        assert (lane.failing[X].log.attempts, lane.failing[X].last_error) == (
            attempt,
            f"refused {attempt} times",
        )
        later(lanes, 101)
        (dispatch,) = lanes.sweep()
    lanes.finish(HELLO, dispatch.token, WaitUntil(begin(lanes, dispatch), 50))
    (lane,) = lanes.lanes()
    assert (list(lane.snoozed), lane.failing) == ([X], {})


def test_the_last_error_is_that_of_the_last_attempt(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    lanes.finish(HELLO, dispatch.token, RetryLater(begin(lanes, dispatch), 5, "AWS is away"))
    later(lanes, 6)
    (dispatch,) = lanes.sweep()
    assert begin(lanes, dispatch).last_error == "AWS is away"
    later(lanes, LEASE + 1)
    (dispatch,) = lanes.sweep()
    work = begin(lanes, dispatch)
    assert (work.log.attempts, work.last_error) == (3, "its worker was lost")
    lanes.finish(HELLO, dispatch.token, WaitUntil(work, 5))
    later(lanes, 6)
    (dispatch,) = lanes.sweep()
    assert begin(lanes, dispatch).last_error == ""


def test_a_stack_name_finds_its_environment(lanes: RedisQueueStore) -> None:
    environment = Environment.of_ref(HELLO, Ref.of_branch("feature/ü#1"), "main")
    push(lanes, "d1", environment.key)
    assert lanes.find(environment.stack_name) == environment
    assert lanes.find("other") is None


def test_a_former_name_finds_the_first_environment_until_a_record_uses_it(lanes: RedisQueueStore) -> None:
    one, other = (Environment.of_ref(HELLO, Ref.of_branch(each), "main") for each in TWINS)
    dispatch = push(lanes, "d1", one.key).dispatch
    push(lanes, "d2", other.key)
    assert [lanes.find(each.stack_name) for each in (one, other)] == [one, other]
    assert lanes.find(other.former_stack_name) == one
    begin(lanes, dispatch)
    dispatch = lanes.finish(HELLO, dispatch.token, Finished("skipped", ""))
    begin(lanes, dispatch)
    record = EnvironmentRecord("acme/hello", other.key, other.former_stack_name)
    lanes.finish(HELLO, dispatch.token, Finished("deployed", "", record))
    assert lanes.find(other.former_stack_name) == other


def test_counters_add_up(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d1")
    push(lanes, "d1")
    begin(lanes, first.dispatch)
    lanes.finish(HELLO, first.dispatch.token, done())
    counts = lanes.counters()
    assert (counts["delivery:queued"], counts["delivery:duplicate"], counts["outcome:deployed"]) == (1, 1, 1)


def test_heartbeats_are_listed_until_they_expire(lanes: RedisQueueStore) -> None:
    assert lanes.last_heartbeats() == {}
    lanes.send_heartbeat("worker", 60)
    push(lanes, "d1")
    assert set(lanes.last_heartbeats()) == {"worker"}
    lanes.accept(HELLO, Work(X, task=Task.NOTIFY, cause=Cause.EVENT), "e1", "stage Build")
    beats = lanes.last_heartbeats()
    assert set(beats) == {"worker", "event"}
    assert all(abs(at - time.time()) < 60 for at in beats.values())


def test_the_servers_memory_and_persistence_are_read(redis_url: str) -> None:
    with connect(redis_url) as client:
        found = RedisQueueStore(client).read_server()
    assert (found["aof_enabled"], found["maxmemory_policy"]) == ("1", "noeviction")


def test_an_unavailable_server_is_reported_quickly() -> None:
    away = RedisQueueStore(connect("redis://127.0.0.1:1/0"))
    with pytest.raises(UnavailableError):
        away.ping()
    with pytest.raises(UnavailableError):
        push(away, "d1")


def test_a_push_waits_for_one_task_of_a_resync_at_most(lanes: RedisQueueStore) -> None:
    first = resync(lanes, "development:refs/heads/a")
    for name in "bcd":
        resync(lanes, f"development:refs/heads/{name}")
    push(lanes, "d1")
    assert begin(lanes, first.dispatch).environment == "development:refs/heads/a"
    again = Continue(Work("development:refs/heads/a", cause=Cause.RESYNC, task=Task.TRIGGER))
    dispatch = lanes.finish(HELLO, first.dispatch.token, again)
    assert dispatch is not None
    assert dispatch.environment == X
    begin(lanes, dispatch)
    dispatch = lanes.finish(HELLO, dispatch.token, Finished("deployed", ""))
    assert dispatch is not None
    assert (dispatch.environment, dispatch.task) == ("development:refs/heads/a", Task.TRIGGER), (
        "it goes on first"
    )


def resync(lanes: RedisQueueStore, environment: str) -> Any:
    return lanes.accept(HELLO, Work(environment=environment, cause=Cause.RESYNC))


def test_orphans_of_many_repositories_are_read_at_once(lanes: QueueStore) -> None:
    first, second, third = (Repository("acme", name) for name in ("First", "second", "third"))
    lanes.save_seen(first, Seen({"development:refs/heads/x": 5.0}))
    lanes.save_seen(second, Seen(never_deployed="v1"))
    lanes.save_seen(third, Seen({"development:refs/heads/y": 6.0}))
    assert lanes.orphaned([first, second, Repository("acme", "unknown")]) == {
        "acme/first": {"development:refs/heads/x": 5.0}
    }
    assert lanes.orphaned([]) == {}


def test_an_item_of_a_resync_has_low_priority_until_another_item_waits_behind_it(
    lanes: RedisQueueStore,
) -> None:
    first = resync(lanes, RESYNC_KEY).dispatch
    assert first.low
    assert resync(lanes, X).dispatch is None
    hastened = push(lanes, "d1").dispatch
    assert (hastened.token, hastened.environment, hastened.low) == (first.token, RESYNC_KEY, False)
    assert push(lanes, "d2", Y).dispatch is None, "once is enough"
    begin(lanes, hastened)
    dispatch = lanes.finish(HELLO, hastened.token, done())
    assert (dispatch.environment, dispatch.low) == (X, False)


def test_a_due_item_raises_the_priority_of_a_sent_resync(lanes: RedisQueueStore) -> None:
    dispatch = push(lanes, "d1").dispatch
    lanes.finish(HELLO, dispatch.token, WaitUntil(begin(lanes, dispatch), GRACE / 2))
    low = resync(lanes, Y).dispatch
    assert low.low
    later(lanes, GRACE / 2)
    (hastened,) = lanes.sweep()
    assert (hastened.token, hastened.environment, hastened.low) == (low.token, Y, False)


@pytest.mark.parametrize(("waits", "follows"), [("", Taken), ("deployer", Dispatch), ("unacked", Dispatch)])
def test_an_item_of_a_resync_is_taken_only_while_no_other_message_waits(
    lanes: RedisQueueStore, client: Any, waits: str, follows: type
) -> None:
    running = push(lanes, "d1").dispatch
    begin(lanes, running)
    lanes.accept(HELLO, Work(Y, cause=Cause.RESYNC))
    if waits == "unacked":
        client.hset(waits, "tag", "a message of another queue")
    elif waits:
        client.lpush(waits, "a message of another queue")
    assert isinstance(lanes.finish(HELLO, running.token, done(), next_item=NextItem.TAKE), follows)


def test_an_item_keeps_its_turn_when_the_next_resync_joins(lanes: RedisQueueStore) -> None:
    dispatch = resync(lanes, X).dispatch
    lanes.finish(
        HELLO, dispatch.token, WaitUntil(begin(lanes, dispatch).but(turned=True), 100, keeps_attempts=True)
    )
    later(lanes, 60)
    assert resync(lanes, X).dispatch is None
    assert not lanes.sweep()
    later(lanes, 40)
    (dispatch,) = lanes.sweep()
    assert begin(lanes, dispatch).turned


@pytest.mark.parametrize("who", ["an event", "a person"])
def test_a_request_or_event_ends_the_wait_for_a_turn(lanes: RedisQueueStore, who: str) -> None:
    dispatch = resync(lanes, X).dispatch
    lanes.finish(
        HELLO, dispatch.token, WaitUntil(begin(lanes, dispatch).but(turned=True), 100, keeps_attempts=True)
    )
    wish = Work(environment=X, cause=Cause.RESYNC, turned=True)
    accepted = event(lanes, "e1") if who == "an event" else lanes.accept(HELLO, wish)
    assert begin(lanes, accepted.dispatch).environment == X


@pytest.mark.parametrize("who", ["an event", "a person"])
@pytest.mark.parametrize("comes", ["later", "first"])
def test_an_item_that_a_request_joins_before_its_turn_takes_none(
    lanes: RedisQueueStore, who: str, comes: str
) -> None:
    wish = Work(environment=X, cause=Cause.RESYNC, turned=True)
    asks = [
        lambda: resync(lanes, X),
        (lambda: event(lanes, "e1")) if who == "an event" else (lambda: lanes.accept(HELLO, wish)),
    ]
    first = push(lanes, "d1", Y).dispatch
    for ask in asks if comes == "later" else reversed(asks):
        ask()
    begin(lanes, first)
    assert begin(lanes, lanes.finish(HELLO, first.token, done())).turned


def test_turns_of_each_name_come_one_after_the_other(lanes: RedisQueueStore) -> None:
    first = [lanes.take_turn("resyncs", 60, 3) for _ in range(5)]
    assert first[:3] == [0, 0, 0]
    assert first[3:] == [pytest.approx(60, abs=5), pytest.approx(120, abs=5)]
    assert lanes.take_turn("wishes", 60, 1) == 0, "another line"
    later(lanes, 240)
    assert [lanes.take_turn("resyncs", 60, 3) > 0 for _ in range(3)] == [False, False, True], (
        "those that nobody took"
    )


def delete(lanes: RedisQueueStore, place: str) -> Environment:
    environment = Environment.from_key(HELLO, place)
    record = EnvironmentRecord("acme/hello", place, environment.stack_name)
    dispatch = push(lanes, f"of-{place}", place).dispatch
    begin(lanes, dispatch)
    lanes.finish(HELLO, dispatch.token, Finished("deleted", "", record))
    return environment


def test_the_record_of_an_environment_can_be_deleted(lanes: RedisQueueStore) -> None:
    gone, stays = delete(lanes, X), delete(lanes, Y)
    lanes.delete_environment_records(HELLO, [])
    lanes.delete_environment_records(
        HELLO, [each for each in lanes.environments(HELLO) if each.environment == X]
    )
    assert lanes.environment(gone) is None
    assert lanes.environment(stays) is not None
    lanes.index_stack_names()
    assert [lanes.find(name) for name in gone.stack_names] == [None, None]
    assert [lanes.find(name) for name in stays.stack_names] == [stays, stays]


def test_stack_names_are_indexed_while_an_item_waits_or_runs(lanes: RedisQueueStore) -> None:
    first, second = (Environment.from_key(HELLO, each) for each in (X, Y))
    dispatch = push(lanes, "d1", X).dispatch
    push(lanes, "d2", Y)
    begin(lanes, dispatch)
    lanes.index_stack_names()
    assert [lanes.find(each.stack_name) for each in (first, second)] == [first, second]
    lanes.finish(HELLO, dispatch.token, Finished("skipped", ""))  # so that it leaves no record
    lanes.index_stack_names()
    assert [lanes.find(each.stack_name) for each in (first, second)] == [None, second]


def test_a_stack_name_that_is_needed_during_its_deletion_stays(
    lanes: RedisQueueStore, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = Environment.from_key(HELLO, X)
    dispatch = push(lanes, "d1", X).dispatch
    begin(lanes, dispatch)
    lanes.finish(HELLO, dispatch.token, Finished("skipped", ""))
    run = client.eval

    def pushed_meanwhile(*arguments: Any) -> Any:
        monkeypatch.setattr(client, "eval", run)
        push(lanes, "d2", X)
        return run(*arguments)

    monkeypatch.setattr(client, "eval", pushed_meanwhile)
    lanes.index_stack_names()
    assert [lanes.find(name) for name in environment.stack_names] == [environment, environment]


def test_stack_names_are_indexed_while_a_dead_letter_needs_them(lanes: RedisQueueStore, client: Any) -> None:
    kept, other = Environment.from_key(HELLO, X), Environment.from_key(HELLO, Y)
    letter = _bury(lanes)
    push(lanes, "d2", Y)
    client.hset("deployer:{acme/hello}:dead", "acme~hello-8", "no JSON")
    client.delete("deployer:{acme/hello}:environments")
    lanes.index_stack_names()
    assert [lanes.find(each.stack_name) for each in (kept, other)] == [kept, other]
    lanes.discard(letter.id)
    lanes.index_stack_names()
    assert [lanes.find(each.stack_name) for each in (kept, other)] == [None, other]


def test_a_replay_indexes_the_stack_names_of_its_environment(lanes: RedisQueueStore, client: Any) -> None:
    environment, letter = Environment.from_key(HELLO, X), _bury(lanes)
    client.delete("deployer:names")
    lanes.replay(letter.id)
    assert [lanes.find(name) for name in environment.stack_names] == [environment, environment]


@pytest.mark.parametrize("what", ["waits", "sleeps", "runs", "has changed"])
def test_a_record_that_has_changed_is_not_deleted(lanes: RedisQueueStore, what: str) -> None:
    environment = delete(lanes, X)
    seen = lanes.environments(HELLO)
    dispatch = push(lanes, "d1").dispatch
    if what != "waits":
        work = begin(lanes, dispatch)
    if what == "sleeps":
        lanes.finish(HELLO, dispatch.token, WaitUntil(work, 60))
    if what == "has changed":
        record = EnvironmentRecord.of("acme/hello", X, environment.stack_name, state="deployed")
        lanes.finish(HELLO, dispatch.token, Finished("deployed", "", record))
    lanes.delete_environment_records(HELLO, seen)
    assert lanes.environment(environment) is not None
    assert lanes.find(environment.stack_name) == environment


@pytest.mark.parametrize("what", ["waits", "sleeps", "runs"])
def test_the_record_of_production_is_not_deleted_while_a_tag_waits_to_be_checked(
    lanes: RedisQueueStore, what: str
) -> None:
    record = EnvironmentRecord.of("acme/hello", PRODUCTION, "production-stack", state="deployed")
    dispatch = tag(lanes, 1).dispatch
    begin(lanes, dispatch)
    lanes.finish(HELLO, dispatch.token, Finished("skipped", "", record))
    dispatch = tag(lanes, 2).dispatch
    if what != "waits":
        work = begin(lanes, dispatch)
    if what == "sleeps":
        lanes.finish(HELLO, dispatch.token, WaitUntil(work, 60))
    lanes.delete_environment_records(HELLO, lanes.environments(HELLO))
    assert [each.environment for each in lanes.environments(HELLO)] == [PRODUCTION]


# --- turns of senders


def served(lanes: RedisQueueStore, dispatch: Any) -> list[str]:
    """The goals of all items in the order in which they run."""
    found = []
    while dispatch:
        found.append(begin(lanes, dispatch).goal)
        dispatch = lanes.finish(HELLO, dispatch.token, done())
    return found


def branch(lanes: RedisQueueStore, delivery: str, sender: str, name: str = "") -> Any:
    return push(lanes, delivery, f"development:refs/heads/{name or delivery}", sender=sender)


def test_a_push_waits_for_one_item_of_each_other_sender(lanes: RedisQueueStore) -> None:
    running = branch(lanes, "bot0", "bot").dispatch
    for number in range(1, 100):
        branch(lanes, f"bot{number}", "bot")
    begin(lanes, running)
    branch(lanes, "ann0", "ann")
    branch(lanes, "ann1", "ann")
    branch(lanes, "bob0", "bob")
    next_one = lanes.finish(HELLO, running.token, done())
    order = served(lanes, next_one)
    assert order[:5] == ["ann0", "bob0", "bot1", "ann1", "bot2"]
    assert [goal for goal in order if goal.startswith("bot")] == [f"bot{n}" for n in range(1, 100)]


def test_a_person_who_pushes_to_a_branch_that_a_bot_has_pushed_takes_a_turn_of_their_own(
    lanes: RedisQueueStore,
) -> None:
    first = branch(lanes, "bot0", "bot").dispatch
    for number in range(1, 5):
        branch(lanes, f"bot{number}", "bot")
    branch(lanes, "ann", "ann", name="bot4")
    assert served(lanes, first) == ["bot0", "ann", "bot1", "bot2", "bot3"]
    assert outcome(lanes, "bot4") == "superseded"


def test_a_bot_that_pushes_to_a_branch_of_a_person_does_not_delay_it(lanes: RedisQueueStore) -> None:
    first = branch(lanes, "bot0", "bot").dispatch
    for number in range(1, 5):
        branch(lanes, f"bot{number}", "bot")
    branch(lanes, "ann", "ann")
    branch(lanes, "bot5", "bot", name="ann")
    assert served(lanes, first) == ["bot0", "bot5", "bot1", "bot2", "bot3", "bot4"]


def test_snoozed_items_that_are_due_take_turns_too(lanes: RedisQueueStore) -> None:
    dispatch = branch(lanes, "bot0", "bot").dispatch
    for number in range(1, 4):
        branch(lanes, f"bot{number}", "bot")
    branch(lanes, "ann", "ann")
    while dispatch:
        work = begin(lanes, dispatch)
        dispatch = lanes.finish(HELLO, dispatch.token, WaitUntil(work, 30 - len(work.goal)))
    later(lanes, 31)
    (dispatch,) = lanes.sweep()
    assert served(lanes, dispatch) == ["bot0", "ann", "bot1", "bot2", "bot3"]


def test_an_item_that_rests_has_no_place_in_a_round(lanes: RedisQueueStore, client: Any) -> None:
    """An event waits in a round while its environment's item runs; after a failure both rest as one item."""
    running = push(lanes, "d1").dispatch
    branch(lanes, "bot0", "bot")
    branch(lanes, "bot1", "bot")
    work = begin(lanes, running)
    event(lanes, "e1")
    rounds = "deployer:{acme/hello}:rounds"
    assert X in client.zrange(rounds, 0, -1)
    sent = lanes.finish(HELLO, running.token, RetryLater(work, 60, "throttled"))
    (lane,) = lanes.lanes()
    assert list(lane.snoozed) == [X]
    assert client.zrange(rounds, 0, -1) == ["development:refs/heads/bot1"]
    assert served(lanes, sent) == ["bot0", "bot1"]


def test_items_without_a_sender_take_turns_as_one_sender(lanes: RedisQueueStore) -> None:
    first = push(lanes, "d0", "development:refs/heads/d0").dispatch
    for number in range(1, 3):
        push(lanes, f"d{number}", f"development:refs/heads/d{number}")
    branch(lanes, "ann", "ann")
    assert served(lanes, first) == ["d0", "ann", "d1", "d2"]


def test_items_that_another_version_has_put_into_the_list_keep_their_place(
    lanes: RedisQueueStore, client: Any
) -> None:
    """It knows neither senders nor rounds: it appends keys to the list, and takes them from its front."""
    prefix = "deployer:{acme/hello}"
    first = branch(lanes, "bot0", "bot").dispatch
    for number in range(1, 4):
        branch(lanes, f"bot{number}", "bot")
    client.rpush(f"{prefix}:queue", Y)
    work = json.loads(Work(Y, goal="old").to_json())
    del work["sender"]
    client.hset(f"{prefix}:items", Y, json.dumps(work))
    begin(lanes, first)
    gone = client.lindex(f"{prefix}:queue", 0)  # the other version hands it out; its round stays
    client.hdel(f"{prefix}:items", gone)
    client.lpop(f"{prefix}:queue")
    branch(lanes, "ann", "ann")
    assert served(lanes, lanes.finish(HELLO, first.token, done())) == ["ann", "bot2", "bot3", "old"]
    assert not client.exists(f"{prefix}:rounds")


def test_an_item_that_another_version_has_sent_stays_the_first(lanes: RedisQueueStore, client: Any) -> None:
    first = branch(lanes, "bot0", "bot").dispatch
    branch(lanes, "bot1", "bot")
    begin(lanes, first)
    sent = lanes.finish(HELLO, first.token, done())
    client.zadd("deployer:{acme/hello}:rounds", {sent.environment: 5 * 2**32})
    branch(lanes, "ann", "ann")
    assert served(lanes, sent) == ["bot1", "ann"]
