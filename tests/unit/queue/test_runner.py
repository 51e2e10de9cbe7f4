"""The runner of queue items, calls of tasks by people, and the scheduler."""

import errno
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from celery import Celery
from world import HELLO, TEMPLATE, World, environment, sha

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import ThrottledError, TransientError, UnavailableError
from deployer.model.events import Push
from deployer.model.refs import ZERO_SHA, Ref
from deployer.queue.dead_letter_record import TASK_TIMEOUT, WORKER_LOST
from deployer.queue.items import OUT_OF_TIME, Task, Work
from deployer.queue.store import FAILING_JOB, Dispatch
from deployer.views import sentences
from sandbox.installation import wait_for
from workers import scheduler
from workers.scheduler import Scheduler
from workers.tasks import register

BRANCH, MAIN = "refs/heads/x", "refs/heads/main"


@pytest.fixture
def world() -> World:
    return World()


# --- messages ---


def test_a_message_carries_names_and_a_token_only(world: World) -> None:
    world.push(BRANCH, sha(1))
    (message,) = world.sent
    assert (message.task, message.repository, message.environment) == (
        "deployer.sync", "acme/hello", f"development:{BRANCH}"
    )  # fmt: skip
    assert isinstance(message.token, int)


def test_the_same_message_twice_runs_once(world: World) -> None:
    delivery = world.push(BRANCH, sha(1))
    world.sent *= 2
    world.tasks()
    assert world.told.count("stale: the lane was handed out again") == 1
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(BRANCH)) == [(sha(1), "succeeded")]


def test_a_worker_whose_lease_has_expired_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = world.push(BRANCH, sha(1))
    files, slept = world.host.files, []

    def slow(*arguments: Any) -> Any:
        if not slept:
            slept.append(True)
            world.lanes.clock_offset_ms += 61_000
            world.sent.extend(world.lanes.sweep())  # the lane is handed to another worker
        return files(*arguments)

    monkeypatch.setattr(world.host, "files", slow)
    world.run()
    assert world.told.count("lost: the lane was handed out again") == 1
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(BRANCH)) == [(sha(1), "succeeded")]


def test_a_result_waits_for_redis(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    delivery = world.push(BRANCH, sha(1))
    away = [UnavailableError("Redis is away")] * 2
    finish = world.lanes.finish

    def unsure(*arguments: Any) -> Any:
        if away:
            raise away.pop()
        return finish(*arguments)

    monkeypatch.setattr(world.lanes, "finish", unsure)
    monkeypatch.setattr("deployer.queue.runner.time.sleep", lambda _seconds: None)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(BRANCH)) == [(sha(1), "succeeded")]


def test_a_result_whose_answer_was_lost_is_not_taken_for_a_lost_lease(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = world.push(BRANCH, sha(1))
    finish, lost = world.lanes.finish, [True]

    def answers_late(*arguments: Any) -> Any:
        answer = finish(*arguments)
        if lost:
            lost.clear()
            raise UnavailableError("the connection ended")
        return answer

    monkeypatch.setattr(world.lanes, "finish", answers_late)
    monkeypatch.setattr("deployer.queue.runner.time.sleep", lambda _seconds: None)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert not [line for line in world.told if line.startswith("lost")]


def test_an_item_of_a_newer_version_waits_for_it_and_others_run(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    newer = Work(environment("refs/heads/newer").key, task="deployer.sync", cause="rollback")
    accepted = world.lanes.accept(HELLO, newer, "newer", "push")
    assert accepted.dispatch
    world.send(accepted.dispatch)
    delivery = world.push(BRANCH, sha(1))
    world.tasks()
    assert world.told[0] == "refused: this version knows no cause 'rollback'"
    for _ in range(60):
        world.step()
        world.tasks()
    assert world.outcome(delivery)[0] == "deployed"
    (letter,) = world.lanes.dead_letters()
    assert (letter.kind, letter.environment) == ("QueueItemError", newer.environment)
    assert world.outcome("newer")[0] == "dead-lettered"
    assert "update them, then replay it" in caplog.text


def test_an_unreadable_record_makes_a_dead_letter_that_says_what_to_do(world: World) -> None:
    world.redis.hset("deployer:{acme/hello}:environments", environment(BRANCH).key, "no JSON")
    delivery = world.push(BRANCH, sha(1))
    world.run()
    (letter,) = world.lanes.dead_letters()
    assert letter.kind == "StoredValueError"
    assert "delete the field development:refs/heads/x of deployer:{acme/hello}:environments" in letter.reason
    world.redis.hdel("deployer:{acme/hello}:environments", environment(BRANCH).key)
    world.deployer.submitter.replay(letter.id)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"


def test_the_size_of_a_dead_letter_is_limited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise KeyError("x" * 50_000)

    monkeypatch.setattr(world.deployer.reconciler, "run", fails)
    world.push(BRANCH, sha(1))
    world.run()
    (letter,) = world.lanes.dead_letters()
    assert len(letter.to_json()) < 10_000
    assert letter.traceback.rstrip().endswith("xxx'")


@pytest.mark.parametrize("read", [False, True])
def test_an_item_that_loses_every_worker_is_reported_on_its_commit(world: World, *, read: bool) -> None:
    delivery = world.push(BRANCH, sha(1))
    if read:
        world.tasks()  # until it waits for its stack
        world.step()
    attempts = world.deployer.config.max_attempts
    for _ in range(attempts):
        (dispatch,) = world.sent
        world.sent.clear()
        assert world.lanes.begin(HELLO, dispatch.token)
        world.lanes.clock_offset_ms += 61_000
        world.sent.extend(world.lanes.sweep())
    assert world.lanes.dead_letters() == []
    world.tasks()
    (letter,) = world.lanes.dead_letters()
    assert (letter.kind, letter.arguments.log.attempts) == (WORKER_LOST, attempts)
    assert [each.error for each in letter.arguments.failed_attempts] == ["its worker was lost"] * attempts
    assert world.outcome(delivery)[0] == "dead-lettered"
    told = world.host.statuses[HELLO, sha(1)]["deployer/prepare"]
    assert (told.state, letter.id in told.description) == ("error", True)
    assert "its worker was lost 3 times" in told.description
    assert world.record(environment(BRANCH)).status.outcome == "dead-lettered"
    world.deployer.submitter.replay(letter.id)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.statuses(sha(1))["deployer/prepare"] == "success"


def test_a_repository_with_many_pushes_delays_another_by_one_task(world: World) -> None:
    busy = [Repository.parse(f"acme/busy{number}") for number in range(3)]
    for repository in busy:
        world.host.create(repository)
        for branch in range(10):
            ref = Ref.parse(f"refs/heads/b{branch}")
            world.host.push(repository, ref.name, sha(branch + 1), files={"pipeline.yml": TEMPLATE})
            delivery = f"{repository}-{branch}"
            world.deployer.submitter.submit_github(
                Push(delivery, repository, ref, ZERO_SHA, sha(branch + 1), "main")
            )
    world.push(BRANCH, sha(1))
    order = []
    for _ in range(12):
        each = world.sent.pop(0)
        order.append(each.repository)
        world.runner.carry_out(each.task, each.repository, each.environment, each.token)
    turns = [*map(str, busy), str(HELLO)]
    assert order[:8] == turns * 2, "its two tasks; then it waits for AWS"
    assert order[8:] == [*map(str, busy), str(busy[0])]


def killed_for_time(world: World) -> None:
    """Begin the sent item, and let its process be killed because it ran out of time."""
    (dispatch,) = world.sent
    world.sent.clear()
    assert world.lanes.begin(HELLO, dispatch.token)
    assert world.lanes.end_lease(HELLO, dispatch.token, dispatch.environment, OUT_OF_TIME)
    world.redis.zadd("deployer:lanes", {HELLO.key: 0})
    world.sent.extend(world.lanes.sweep())


def test_a_task_that_runs_out_of_time_twice_is_a_dead_letter(world: World) -> None:
    delivery = world.push(BRANCH, sha(1))
    killed_for_time(world)
    killed_for_time(world)
    world.tasks()
    (letter,) = world.lanes.dead_letters()
    assert (letter.kind, letter.arguments.log.attempts) == (TASK_TIMEOUT, 2)
    assert [each.error for each in letter.arguments.failed_attempts] == [OUT_OF_TIME] * 2
    assert world.outcome(delivery)[0] == "dead-lettered"
    told = world.host.statuses[HELLO, sha(1)]["deployer/prepare"]
    assert (told.state, letter.id in told.description) == ("error", True)
    assert "deployer.sync ran out of time and was killed, 2 times in a row" in told.description
    world.deployer.submitter.replay(letter.id)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"


def test_a_task_that_runs_out_of_time_once_is_repeated(world: World) -> None:
    delivery = world.push(BRANCH, sha(1))
    killed_for_time(world)
    (dispatch,) = world.sent
    world.sent.clear()
    world.runner.carry_out(Task.SYNC, dispatch.repository, dispatch.environment, dispatch.token)
    assert [each.task for each in world.sent] == [Task.PROVISION]
    killed_for_time(world)  # another task, once
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.lanes.dead_letters() == []


def test_a_wait_for_aws_between_two_kills_does_not_hide_the_first(world: World) -> None:
    delivery = world.push(BRANCH, sha(1))
    killed_for_time(world)
    world.cloud.fail_next(ThrottledError("AWS is asked as often as it bears", retry_after=6))
    world.tasks()
    (lane,) = world.lanes.lanes(HELLO)
    assert lane.failing[environment(BRANCH).key].log.attempts == 1, "the wait itself is no attempt"
    world.step()
    killed_for_time(world)
    world.tasks()
    (letter,) = world.lanes.dead_letters()
    assert letter.kind == TASK_TIMEOUT
    assert world.outcome(delivery)[0] == "dead-lettered"


def test_kills_with_a_success_between_them_are_not_in_a_row(world: World) -> None:
    delivery = world.push(BRANCH, sha(1))
    killed_for_time(world)
    world.tasks()  # it waits for AWS to create the stack
    world.step()
    killed_for_time(world)
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.lanes.dead_letters() == []


def test_a_lease_survives_a_restart_of_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(World, "settings", {**World.settings, "DEPLOYER_LEASE_SECONDS": "3"})
    world = World()
    delivery = world.push(BRANCH, sha(1))
    away, renewed, extend, files = (
        [UnavailableError("away")] * 4,
        threading.Event(),
        world.lanes.extend,
        world.host.files,
    )

    def unsure(*arguments: Any) -> bool:
        if away:
            raise away.pop()
        held = extend(*arguments)
        renewed.set()
        return held

    def slow(*arguments: Any) -> Any:
        while not renewed.wait(0.1):
            world.sent.extend(world.lanes.sweep())  # hands out the item of the lost worker again
        return files(*arguments)

    monkeypatch.setattr(world.lanes, "extend", unsure)
    monkeypatch.setattr(world.host, "files", slow)
    world.run()
    assert not [told for told in world.told if "handed out again" in told]
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(BRANCH)) == [(sha(1), "succeeded")]


@pytest.mark.parametrize("moment", ["files", "create_stack", "finish"])
def test_an_interrupted_task_is_repeated_at_once_and_is_no_attempt(
    world: World, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    delivery = world.push(BRANCH, sha(1))
    owner: Any = next(each for each in (world.host, world.cloud, world.lanes) if hasattr(each, moment))
    act, interrupted = getattr(owner, moment), []

    def ended(*arguments: Any) -> Any:
        if interrupted:
            return act(*arguments)
        interrupted.append(True)
        if moment == "create_stack":
            act(*arguments)  # it took effect, but its answer was lost
        raise SystemExit

    monkeypatch.setattr(owner, moment, ended)
    with pytest.raises(SystemExit):
        world.run()
    (lane,) = world.lanes.lanes()
    assert (lane.status, [work.log.attempts for work in lane.waiting]) == ("sent", [0])
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.built(environment(BRANCH)) == [(sha(1), "succeeded")]


def test_a_call_delayed_by_a_rate_limit_is_no_attempt(world: World) -> None:
    world.cloud.fail_next(ThrottledError("not now", retry_after=7), times=20, method="create_stack")

    delivery = world.push(BRANCH, sha(1))
    world.run()

    waits = [float(line.split()[2]) for line in world.told if line.startswith("snoozed for ")]
    assert len([each for each in waits if 7 <= each <= 8.8]) >= 20, "what was asked for, with jitter"
    assert world.outcome(delivery)[0] == "deployed"
    assert world.lanes.dead_letters() == []


def test_a_rate_limit_of_github_is_no_attempt_and_is_shown(world: World) -> None:
    delivery = world.push(BRANCH, sha(1))
    limit = ThrottledError("reading x: GitHub's rate limit is exceeded (wait)", retry_after=60)
    world.host.fail_next(limit, times=3)
    world.tasks()

    (lane,) = world.lanes.lanes(HELLO)
    (key,) = lane.snoozed
    assert sentences.waiting_words(lane, key).startswith(
        "reading x: GitHub's rate limit is exceeded (wait); checks again in "
    )
    assert 60 - 1 <= lane.snoozed[key] <= 60 + 15
    assert lane.failing == {}

    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    assert world.lanes.dead_letters() == []


@pytest.mark.parametrize(
    ("error", "told", "traced"),
    [
        (TransientError("AWS is away"), "AWS is away", False),
        (KeyError("Stacks"), "KeyError: 'Stacks'", True),
    ],
    ids=["the far end", "a bug"],
)
def test_a_dead_letter_is_logged_with_a_traceback_only_for_a_bug(
    world: World, caplog: pytest.LogCaptureFixture, error: Exception, told: str, traced: bool
) -> None:
    world.cloud.fail_next(error, times=20, method="create_stack")

    world.push(BRANCH, sha(1))
    world.run()

    (letter,) = world.lanes.dead_letters()
    assert "Traceback" in letter.traceback
    (died,) = [record for record in caplog.records if "is a dead letter" in record.getMessage()]
    assert died.getMessage().endswith(f"development:{BRANCH} is a dead letter: {told}")
    assert bool(died.exc_info) == traced


@pytest.mark.parametrize(("part", "method"), [("host", "files"), ("cloud", "create_stack")])
def test_an_error_of_a_full_machine_is_retried(world: World, part: str, method: str) -> None:
    getattr(world, part).fail_next(OSError(errno.ENOSPC, "No space left on device"), method=method)
    delivery = world.push(BRANCH, sha(1))
    world.run()
    assert world.outcome(delivery)[0] == "deployed"
    (reason,) = {each.partition(": ")[2] for each in world.told if each.startswith("retry in ")}
    assert reason.startswith("the worker's machine: ")
    assert world.lanes.dead_letters() == []


def test_a_machine_that_stays_full_makes_a_dead_letter_of_one_line(world: World) -> None:
    world.cloud.fail_next(OSError(errno.ENOSPC, "No space left on device"), times=99, method="create_stack")
    world.push(BRANCH, sha(1))
    world.run()
    (letter,) = world.lanes.dead_letters()
    told = (
        "the worker's machine: No space left on device;"
        " see its disk and temporary directory, memory and limit of open files"
    )
    assert (letter.kind, letter.reason) == ("TransientError", told)


@pytest.mark.parametrize("step", ["begin", "finish"])
def test_a_task_that_cannot_reach_redis_is_handed_out_again(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    delivery = world.push(BRANCH, sha(1))

    def away(*_: Any) -> Any:
        raise UnavailableError("Redis is away")

    with monkeypatch.context() as patch:
        patch.setattr(world.lanes, step, away)
        patch.setattr("deployer.queue.runner.time.sleep", lambda _seconds: None)
        sent = world.sent[-1]
        told = world.runner.carry_out(Task.SYNC, sent.repository, sent.environment, sent.token)
    assert told == "given up: Redis is away"
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warned) == (1 if step == "begin" else 2), "however often it was tried"
    world.lanes.clock_offset_ms += 3_600_000
    world.run()
    assert world.outcome(delivery)[0] == "deployed"


# --- people ---


def test_people_submit_work_by_the_names_of_tasks(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.push(MAIN, sha(2))
    world.run()
    world.host.push(HELLO, BRANCH, sha(3), files={"pipeline.yml": TEMPLATE})  # its webhook was lost
    assert world.runner.carry_out(Task.RESYNC, "ACME/Hello", "", 0).startswith("queued as ")
    world.run()
    assert world.built(environment(BRANCH))[-1] == (sha(3), "succeeded")

    assert world.runner.carry_out(Task.TRIGGER, "acme/hello", "staging", 0).startswith("queued as ")
    world.run()
    assert world.built(environment(MAIN)) == [(sha(2), "succeeded")] * 2

    world.runner.carry_out(Task.DELETE, "acme/hello", "x", 0)
    world.run()
    assert world.record(environment(BRANCH)).status.state == "deleted"

    world.runner.carry_out(Task.SYNC, "acme/hello", f"development:{BRANCH}", 0)
    world.run()
    assert world.record(environment(BRANCH)).status.state == "deleted"  # as a person wants it

    world.runner.carry_out(Task.TRIGGER, "acme/hello", f"development:{BRANCH}", 0)
    world.run()
    assert world.record(environment(BRANCH)).status.state == "deployed"


def test_requests_of_people_wait_for_no_turn(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    for line in ("resyncs", "wishes"):
        for _ in range(100):
            world.lanes.take_turn(line, 60, 1)
    world.deployer.submitter.resync(HELLO, in_turn=True)  # a scheduled resync, which no worker has begun
    for task, environment_ in ((Task.RESYNC, ""), (Task.SYNC, "x")):
        world.runner.carry_out(task, "acme/hello", environment_, 0)
    world.tasks()
    assert world.told[-2].startswith("resynced")
    assert world.told[-1].startswith("deployed")


@pytest.mark.parametrize(
    ("arguments", "named", "reason"),
    [
        ([], {}, "called with (); give --args"),
        ([7], {}, "called with (7); give"),
        (["acme/hello", None], {}, "('acme/hello', None); give"),
        (["acme/hello", "x", 0, "y"], {}, "('acme/hello', 'x', 0, 'y'); give"),
        (["acme/hello"], {"branch": "x"}, "('acme/hello', branch='x'); give"),
        (["x" * 999], {}, f"'{'x' * 150}' is not a repository as owner/name"),
        ([["x" * 999]], {}, f"(['{'x' * 148}...); give"),
        (["hello"], {}, "'hello' is not a repository as owner/name"),
        (["acme/hello"], {}, 'of one environment; give --args=\'["owner/repo", "branch"]\''),
        (["acme/hello", "y"], {}, "nothing is known of y in acme/hello; see: deployer status acme/hello"),
        (["acme/hello", "x..y"], {}, "x..y"),
        (["acme/mistyped", "staging"], {}, "acme/mistyped"),
        (["other/hello", "x"], {}, "other/hello matches none of the patterns in DEPLOYER_REPOSITORIES"),
    ],
)
def test_a_wrong_call_of_a_person_is_refused_in_a_line(
    world: World,
    caplog: pytest.LogCaptureFixture,
    arguments: list[object],
    named: dict[str, object],
    reason: str,
) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    tasks = register(Celery("tests"), world.deployer)
    caplog.clear()
    ended = tasks[Task.SYNC].apply(arguments, named)
    assert ended.successful()
    assert ended.result.startswith("refused: ")
    assert reason in ended.result
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == [
        f"deployer.sync is {ended.result}"
    ]
    assert not world.sent


def test_a_resync_of_one_branch_is_refused(world: World) -> None:
    resync = register(Celery("tests"), world.deployer)[Task.RESYNC]
    told = resync.apply(["acme/hello", "x"]).result
    assert told == "refused: it is of the whole repository, not of 'x'; give --args='[\"owner/repo\"]'"
    assert not world.sent


@pytest.mark.parametrize("name", ["acme/mistyped", "other/hello"])
def test_a_resync_of_an_unknown_repository_is_reported(
    world: World, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    told = register(Celery("tests"), world.deployer)[Task.RESYNC].apply([name]).result
    assert told.startswith("refused: ")
    assert name in told
    assert caplog.messages == [f"deployer.resync is {told}"]
    assert not world.sent
    assert world.lanes.repositories() == []


def test_a_repository_that_only_github_knows_is_resynced(world: World) -> None:
    world.host.create(HELLO)
    resync = register(Celery("tests"), world.deployer)[Task.RESYNC]
    assert resync.apply(["acme/hello"]).result.startswith("queued as ")


def test_a_call_while_github_is_unavailable_is_queued(world: World) -> None:
    world.host.fail_next(TransientError("GitHub is away"))
    resync = register(Celery("tests"), world.deployer)[Task.RESYNC]
    assert resync.apply(["acme/unknown"]).result.startswith("queued as ")


def test_people_cannot_delete_staging_by_a_task(world: World) -> None:
    world.push(MAIN, sha(1))
    world.run()
    staging = Environment(HELLO, Kind.STAGING)
    world.runner.carry_out(Task.PROVISION, "acme/hello", "staging", 0)
    world.run()
    assert world.cloud.stack(staging.stack_name) is not None


# --- the scheduler ---


def test_a_scheduler_sends_heartbeats(world: World) -> None:
    assert "scheduler" not in world.lanes.last_heartbeats()
    Scheduler(world.deployer).sweep()
    assert "scheduler" in world.lanes.last_heartbeats()


@contextmanager
def running(world: World, monkeypatch: pytest.MonkeyPatch, pause: float = 0.005) -> Iterator[Scheduler]:
    monkeypatch.setattr(scheduler, "_SWEEP_SECONDS", pause)
    made = Scheduler(world.deployer)
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        yield made
    finally:
        made.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_known_repositories_are_resynced_at_start_and_then_in_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000_000.0]
    monkeypatch.setattr("workers.scheduler.time.monotonic", lambda: now[0])
    monkeypatch.setattr(world.lanes, "now", lambda: now[0])

    def looked() -> list[str]:
        now[0] += 10
        made.run_due_jobs()
        found = [each.repository for each in world.sent if each.task == Task.RESYNC]
        world.run()
        world.lanes.send_heartbeat("scheduler", 90)
        return found

    world.push(BRANCH, sha(1))
    world.run()
    made = Scheduler(world.deployer)
    assert looked() == ["acme/hello"]
    assert looked() == [], "not again within the period"
    now[0] += world.deployer.config.resync_seconds
    assert looked() == ["acme/hello"]

    other = Repository.parse("acme/other")
    world.host.create(other)
    world.deployer.submitter.submit_github(
        Push("other-1", other, Ref.parse(BRANCH), ZERO_SHA, sha(1), "main")
    )
    world.run()
    assert looked() == [], "a webhook has just told of it"

    made = Scheduler(world.deployer)
    assert looked() == [], "what has had its turn is not asked for once more at a start"
    world.redis.delete("deployer:beat:scheduler")
    made = Scheduler(world.deployer)
    assert sorted(looked()) == ["acme/hello", "acme/other"], "unless none ran for a while"
    world.lanes.delete_last_resync_periods()
    made = Scheduler(world.deployer)
    assert sorted(looked()) == ["acme/hello", "acme/other"], "unless AWS's own was lost"
    now[0] += 2 * world.deployer.config.resync_seconds
    made = Scheduler(world.deployer)
    assert sorted(looked()) == ["acme/hello", "acme/other"], "nobody ran meanwhile"

    made = Scheduler(world.deployer)
    world.redis.flushall()
    assert looked() == ["acme/hello"], "its stack tells of it"


def test_several_schedulers_request_one_resync_though_their_clocks_differ(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, period = [1_000_000.0], world.deployer.config.resync_seconds
    monkeypatch.setattr(world.lanes, "now", lambda: now[0])  # Redis's clock
    world.push(BRANCH, sha(1))
    world.run()
    world.lanes.send_heartbeat("scheduler", 90)  # a scheduler ran when the repositories appeared
    made, count = [Scheduler(world.deployer), Scheduler(world.deployer)], 0
    next_turn = period - (now[0] + scheduler._offset_in_period(HELLO, period)) % period
    for seconds in (0, next_turn - 35, *[10] * 7, period - 40, *[10] * 7):
        now[0] += seconds
        for each, ahead in zip(made, (-86_400.0, 86_400.0), strict=True):
            monkeypatch.setattr("workers.scheduler.time.time", lambda ahead=ahead: now[0] + ahead)
            monkeypatch.setattr("workers.scheduler.time.monotonic", lambda: now[0])
            each.run_due_jobs()
            count += sum(message.task == Task.RESYNC for message in world.sent)
            world.run()
    assert count == 3, "at first, and once in each period"


@pytest.mark.parametrize("back", [86_400.0, -86_400.0])
def test_a_step_of_a_schedulers_clock_stops_no_job(
    world: World, monkeypatch: pytest.MonkeyPatch, back: float
) -> None:
    real, passed = (time.time, time.monotonic), [0.0]
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: real[1]() + passed[0])
    looks: list[float] = []
    monkeypatch.setattr(world.deployer.submitter, "queue_expiry_checks", looks.append)
    made = Scheduler(world.deployer)
    made.sweep()
    made.run_due_jobs()
    monkeypatch.setattr(scheduler.time, "time", lambda: real[0]() - back)
    passed[0] += 120
    world.redis.delete("deployer:beat:scheduler")
    made.sweep()
    made.run_due_jobs()
    assert "scheduler" in world.lanes.last_heartbeats()
    assert len(looks) == 2


def test_one_scheduler_at_a_time_requests_resyncs(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    made = Scheduler(world.deployer)
    with world.lanes.hold_lock("resyncs", 30):
        made.run_due_jobs()
        assert not world.sent
    made = Scheduler(world.deployer)
    made.run_due_jobs()
    assert [each.task for each in world.sent] == [Task.RESYNC]


@pytest.mark.parametrize("period", [0, 3600])
def test_everything_is_resynced_at_once_after_redis_lost_its_data(
    world: World, monkeypatch: pytest.MonkeyPatch, period: float
) -> None:
    monkeypatch.setattr("workers.scheduler._DUE_SECONDS", 0)
    monkeypatch.setattr("workers.scheduler._AWS_RETRY_SECONDS", 0)
    world.deployer.config = replace(world.deployer.config, resync_seconds=period)
    made = Scheduler(world.deployer)
    made.run_due_jobs()
    delivery = world.push(BRANCH, sha(1))
    world.tasks()  # its stack is being created
    world.redis.flushall()
    other = Repository.parse("acme/other")
    world.host.create(other)  # with no stack in AWS
    world.deployer.submitter.submit_github(
        Push("other-1", other, Ref.parse(BRANCH), ZERO_SHA, sha(1), "main")
    )
    world.sent.clear()

    stacks, away = world.cloud.stacks, [TransientError("AWS is away")] * 2
    resync, hiccups = world.deployer.submitter.resync, [UnavailableError("Redis is away")]

    def unsure(act: Any, errors: list[Any]) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            if errors:
                raise errors.pop()
            return act(*arguments, **options)

        return called

    monkeypatch.setattr(world.cloud, "stacks", unsure(stacks, away))
    made.run_due_jobs()
    monkeypatch.setattr(world.deployer.submitter, "resync", unsure(resync, hiccups))
    made = Scheduler(world.deployer)  # the first one was killed
    with pytest.raises(UnavailableError):
        made.run_due_jobs()  # AWS is still unavailable, and then Redis is too
    for _ in range(2):
        made.run_due_jobs()
        world.run()
    assert world.lanes.delivery(delivery) is None
    assert world.record(environment(BRANCH)).status.state == "deployed"
    assert world.built(environment(BRANCH)) == [(sha(1), "succeeded")]
    resynced = [line.repository for line in world.lanes.activity() if line.environment == "*"]
    assert sorted(set(resynced)) == ["acme/hello", "acme/other"]
    count = len(resynced)
    made.run_due_jobs()
    assert not world.sent
    world.run()
    assert len([line for line in world.lanes.activity() if line.environment == "*"]) == count, (
        "once is enough"
    )


def test_no_queue_waits_for_a_listing_of_the_stacks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push(BRANCH, sha(1))
    world.sent.clear()  # its message was lost
    listed, swept = threading.Event(), threading.Event()
    monkeypatch.setattr(world.deployer.resyncer, "repositories", lambda *_: listed.wait(20) and [])
    monkeypatch.setattr(world.lanes, "_grace_ms", 0)
    send = world.deployer.queue.send

    def sent(dispatch: Dispatch) -> None:
        send(dispatch)
        swept.set()

    monkeypatch.setattr(world.deployer.queue, "send", sent)
    world.lanes.clock_offset_ms += 60_000
    with running(world, monkeypatch):
        try:
            assert swept.wait(10)
        finally:
            listed.set()
    assert {each.environment for each in world.sent} == {environment(BRANCH).key}


@pytest.mark.parametrize(
    "broken", ["sweeping the queues", "indexing the names", "requesting resyncs", "checking the expiries"]
)
def test_a_job_of_the_scheduler_that_fails_is_reported_and_stops_no_other(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    jobs = {
        "sweeping the queues": (world.lanes, "sweep"),
        "indexing the names": (world.lanes, "index_stack_names"),
        "requesting resyncs": (world.deployer.resyncer, "repositories"),
        "checking the expiries": (world.deployer.submitter, "queue_expiry_checks"),
    }
    ran = {name: threading.Event() for name in jobs}

    def job(name: str) -> Any:
        def called(*_: object) -> list[object]:
            ran[name].set()
            if name == broken:
                raise KeyError("a record that cannot be read")
            return []

        return called

    for name, (owner, attribute) in jobs.items():
        monkeypatch.setattr(owner, attribute, job(name))
    monkeypatch.setattr(scheduler, "_DUE_SECONDS", 0.01)
    monkeypatch.setattr(scheduler, "_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(scheduler, "_INDEX_RETRY_SECONDS", 0.02)
    monkeypatch.setattr(scheduler, "_EXPIRY_POLLS", 0)
    with running(world, monkeypatch):
        assert all(each.wait(10) for each in ran.values())
        # while sweeping fails, the scheduler sends no heartbeat
        expected = set() if broken == "sweeping the queues" else {"scheduler", FAILING_JOB}
        wait_for("the beats", lambda: expected <= set(world.lanes.last_heartbeats()), 10)
        wait_for("a second attempt", lambda: caplog.text.count(f"{broken} ") > 1, 10)
    assert caplog.text.count("Traceback") == 1, "a repeated error is one line"


def test_a_key_of_another_type_stops_no_job_but_its_own(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    world.redis.delete("deployer:names")
    world.redis.set("deployer:names", "no hash")
    Scheduler(world.deployer).run_due_jobs()
    assert [each.task for each in world.sent] == [Task.RESYNC]
    (told,) = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert told.getMessage().startswith(
        "indexing the names of stacks failed: UnavailableError: Redis refused"
    )
    assert "WRONGTYPE" in told.getMessage()


def test_unreadable_values_end_no_scheduler(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = Repository.parse("acme/other")
    world.push(BRANCH, sha(1))
    world.host.create(other)
    world.deployer.submitter.submit_github(
        Push("other-1", other, Ref.parse(BRANCH), ZERO_SHA, sha(1), "main")
    )
    world.run()
    resync = world.deployer.submitter.resync

    def broken(subject: Any, *arguments: Any, **options: Any) -> Any:
        if subject != other:
            raise ValueError("a newer version wrote it")
        return resync(subject, *arguments, **options)

    monkeypatch.setattr(world.deployer.submitter, "resync", broken)
    Scheduler(world.deployer).run_due_jobs()
    assert [each.repository for each in world.sent if each.repository == "acme/other"]
    assert "a newer version wrote it" in caplog.text


def test_a_scheduler_whose_resyncs_hang_sends_no_heartbeat(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    monkeypatch.setattr(scheduler.time, "monotonic", lambda: now[0])
    made, alive = Scheduler(world.deployer), []
    for seconds in (10, 595, 10, 10, 0):
        now[0] += seconds
        if not seconds:
            made.run_due_jobs()
            now[0] += 10
        world.redis.delete("deployer:beat:scheduler")
        made.sweep()
        alive.append("scheduler" in world.lanes.last_heartbeats())
    assert alive == [True, False, False, False, True]
    assert caplog.text.count("requesting resyncs has hung for 605 s") == 1


def test_an_unavailable_redis_is_logged_once_and_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    swept = threading.Event()
    answers = iter([UnavailableError("no route"), UnavailableError("no route")])

    def sweep() -> list[object]:
        if error := next(answers, None):
            raise error
        swept.set()
        return []

    monkeypatch.setattr(world.lanes, "sweep", sweep)
    with running(world, monkeypatch):
        assert swept.wait(10)
    told = [record.getMessage() for record in caplog.records if record.name == "deployer.scheduler"]
    assert [text for text in told if "no route" in text] == [
        "sweeping the queues: no route; waiting for it to return"
    ]
