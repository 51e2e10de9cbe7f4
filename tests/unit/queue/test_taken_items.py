"""A worker that takes the next items of a queue itself: limits, logs, counters and interruptions hold for each item."""

from collections.abc import Callable
from typing import Any

import pytest
from world import HELLO, World, environment, sha

from deployer.model.errors import UnavailableError
from deployer.model.outcomes import Outcome
from deployer.queue import runner
from deployer.queue.items import Task, Work
from deployer.queue.runner import SHARE_ITEMS, SHARE_SECONDS, WorkerShare
from deployer.queue.step_results import Finished
from deployer.queue.store import NextItem

BRANCHES = [f"refs/heads/b{number}" for number in range(4)]
KEYS = [environment(ref).key for ref in BRANCHES]


class Process:
    """A worker's process that records what it is told."""

    def __init__(self, takes: int = 1000) -> None:
        self.takes = takes
        self.told: list[tuple[str, str]] = []

    def takes_items(self) -> bool:
        self.takes -= 1
        return self.takes >= 0

    def report_begin(self, _repository: Any, _token: int, work: Work) -> None:
        self.told.append(("begin", work.environment))

    def report_end(self, result: str) -> None:
        self.told.append(("end", result))


class Steps:
    """Carries out steps, and lets something happen in one of them."""

    def __init__(self, happens: Callable[[], object] = lambda: None, at: int = -1) -> None:
        self.ran: list[str] = []
        self._happens, self._at = happens, at

    def carry_out(self, _repository: Any, work: Work, _guard: Any) -> Finished:
        self.ran.append(work.environment)
        if len(self.ran) - 1 == self._at:
            self._happens()
        return Finished(str(Outcome.SKIPPED), f"step {len(self.ran)}")


@pytest.fixture
def world() -> World:
    """A queue in which four items wait, and one message is sent."""
    made = World()
    for number, ref in enumerate(BRANCHES):
        made.push(ref, sha(number + 1))
    assert len(made.sent) == 1
    return made


def run_message(world: World, steps: Steps, process: Process) -> str:
    world.deployer.__dict__["carry_out"] = steps.carry_out
    sent = world.sent.pop(0)
    return world.runner.carry_out(Task.SYNC, sent.repository, sent.environment, sent.token, process)


def attempts(world: World) -> list[int]:
    (lane,) = world.lanes.lanes()
    return [each.log.attempts for each in lane.waiting]


def test_one_message_runs_the_items_of_its_queue_in_order(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "deployer.tasks")
    steps, process = Steps(), Process()
    assert run_message(world, steps, process) == "skipped: step 4"
    assert (steps.ran, world.sent, world.lanes.lanes()) == (KEYS, [], [])
    assert process.told == [
        told
        for number in range(1, 4)
        for told in (("end", f"skipped: step {number}"), ("begin", KEYS[number]))
    ]
    logged = [record.getMessage() for record in caplog.records if " (d" in record.getMessage()]
    assert [line.split(" (")[1][:2] for line in logged] == ["d1", "d2", "d3", "d4"]
    assert [world.outcome(f"d{number}")[0] for number in range(1, 5)] == ["skipped"] * 4


def test_calls_are_counted_for_each_item(world: World) -> None:
    from deployer.queue.call_counter import count_call, is_limit_reached

    counted: list[bool] = []

    def carry_out(_repository: Any, work: Work, _guard: Any) -> Finished:
        for _ in range(150):  # of 200
            count_call("github")
        counted.append(is_limit_reached())
        return Finished(str(Outcome.SKIPPED), work.environment)

    steps = Steps()
    steps.carry_out = carry_out  # type: ignore[method-assign]
    run_message(world, steps, Process())
    assert counted == [False] * 4
    assert world.lanes.counters()["calls:github"] == 600


def test_a_worker_that_is_being_stopped_sends_the_next_message(world: World) -> None:
    steps = Steps()
    run_message(world, steps, Process(takes=1))
    assert steps.ran == KEYS[:2]
    assert [each.environment for each in world.sent] == KEYS[2:3]


@pytest.mark.parametrize("waits", ["deployer", "deployer\x06\x169", "unacked"])
def test_beyond_its_share_a_worker_takes_no_item_while_another_queue_waits(
    world: World, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    monkeypatch.setattr(runner, "SHARE_SECONDS", 3600)  # however slow this machine is
    monkeypatch.setattr(runner, "SHARE_ITEMS", 2)
    world.redis.hset(waits, "tag", "a message") if waits == "unacked" else world.redis.lpush(waits, "one")
    steps = Steps()
    run_message(world, steps, Process())
    assert steps.ran == KEYS[:2]
    assert [each.environment for each in world.sent] == KEYS[2:3]


def test_the_share_of_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    share = WorkerShare(Process())
    assert [share.next_item() for _ in range(SHARE_ITEMS + 1)] == [
        *[NextItem.TAKE] * (SHARE_ITEMS - 1), NextItem.TAKE_IF_ALONE, NextItem.TAKE_IF_ALONE
    ]  # fmt: skip
    share = WorkerShare(Process())
    now[0] += SHARE_SECONDS
    assert share.next_item() == NextItem.TAKE_IF_ALONE
    assert WorkerShare(Process(takes=0)).next_item() == NextItem.SEND


def test_an_interrupted_item_is_handed_back_and_no_attempt_is_lost(world: World) -> None:
    def interrupt() -> None:
        raise SystemExit

    steps = Steps(interrupt, at=2)
    with pytest.raises(SystemExit):
        run_message(world, steps, Process())
    assert [each.environment for each in world.sent] == KEYS[2:3], "the next worker continues at once"
    assert attempts(world) == [0, 0]
    run_message(world, steps, Process())
    assert steps.ran == [*KEYS[:3], *KEYS[2:]]


@pytest.mark.parametrize("when", ["before the request", "after the answer"])
def test_an_interruption_while_a_result_is_returned_loses_neither_it_nor_the_next_item(
    world: World, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    finish, calls = world.lanes.finish, [0]

    def interrupted(*arguments: Any) -> Any:
        calls[0] += 1
        if calls[0] != 2:
            return finish(*arguments)
        if when == "after the answer":
            finish(*arguments)
        raise SystemExit

    monkeypatch.setattr(world.lanes, "finish", interrupted)
    steps = Steps()
    with pytest.raises(SystemExit):
        run_message(world, steps, Process())
    assert world.outcome("d2") == ("skipped", "step 2")
    assert [each.environment for each in world.sent] == KEYS[2:3]
    assert attempts(world) == [0, 0]
    run_message(world, steps, Process())
    assert steps.ran == KEYS, "nothing runs twice"


def test_an_answer_that_was_lost_loses_neither_the_result_nor_the_next_item(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next item is returned, because its lease began when the answer was lost."""
    finish, calls = world.lanes.finish, [0]

    def answers_late(*arguments: Any) -> Any:
        calls[0] += 1
        answer = finish(*arguments)
        if calls[0] == 2:
            raise UnavailableError("the connection ended")
        return answer

    monkeypatch.setattr(world.lanes, "finish", answers_late)
    monkeypatch.setattr("deployer.queue.runner.time.sleep", lambda _seconds: None)
    steps = Steps()
    run_message(world, steps, Process())
    assert steps.ran == KEYS[:2]
    assert [each.environment for each in world.sent] == KEYS[2:3]
    assert attempts(world) == [0, 0]


def test_a_taken_item_of_a_newer_version_is_refused_and_others_run(world: World) -> None:
    newer = Work(environment("refs/heads/newer").key, task="deployer.sync", cause="rollback")
    world.lanes.accept(HELLO, newer, "newer", "push")
    world.push("refs/heads/last", sha(9))
    steps = Steps()
    run_message(world, steps, Process())
    assert steps.ran == KEYS
    run_message(world, steps, Process())
    assert steps.ran == [*KEYS, environment("refs/heads/last").key]
    (lane,) = world.lanes.lanes()
    assert "this version knows no cause 'rollback'" in lane.refused[newer.key]


def test_a_taken_item_that_kills_its_process_gets_the_attempt(world: World) -> None:
    """Celery's main process knows the message, not the item."""
    message = world.sent[0]

    def killed() -> None:
        raise KeyboardInterrupt

    steps = Steps(killed, at=2)
    with pytest.raises(KeyboardInterrupt):
        run_message(world, steps, Process())
    assert world.lanes.end_lease(
        HELLO, message.token, message.environment, "it ran out of time and was killed"
    )
    world.sent.extend(world.lanes.sweep())
    (lane,) = world.lanes.lanes()
    assert [(each.environment, each.last_error) for each in lane.waiting] == [
        (KEYS[2], "it ran out of time and was killed"), (KEYS[3], "")
    ]  # fmt: skip
    run_message(world, steps, Process())
    assert steps.ran == [*KEYS[:3], *KEYS[2:]]
