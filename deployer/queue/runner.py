"""Runs one queue item: takes it under a lease, has its step carried out, and maps the result to what its queue does."""

import logging
import random
import time
import traceback
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from deployer.model.durations import backoff
from deployer.model.environments import Repository
from deployer.model.errors import (
    DeployerError,
    LaneLostError,
    QueueItemError,
    StoredValueError,
    ThrottledError,
    TransientError,
    UnavailableError,
    UnknownStatusError,
    shortage,
)
from deployer.model.records import (
    RESYNC_KEY,
    TASK_TIMEOUT,
    TIMEOUTS,
    WORKER_LOST,
    Cause,
    DeadLetter,
    EnvironmentRecord,
    Outcome,
    Task,
    Work,
)
from deployer.queue.call_counter import MOST_CALLS, Tally, allowance_wait, call_counters, counting
from deployer.queue.dead_letters import kind_of, make_letter
from deployer.queue.lease import LAST_CALL, NoTimer, TaskLease, Timer
from deployer.queue.progress_log import tell_people
from deployer.queue.step_results import Again, Dead, Done, Retry, Snooze, StepHandler, Verdict, describe
from deployer.queue.store import Allowance, Dispatch, Lanes, Queue

_log = logging.getLogger("deployer.tasks")
_LONGEST_RETRY = 600.0
_STEPS = {Task.PROVISION, Task.UPDATE, Task.TRIGGER, Task.DELETE}
# a thousand repositories that are resynced at once must be no storm for GitHub or AWS: each look asks GitHub once,
# what it finds to be done some five times; an App may ask 5,000 times an hour, and 900 to 2,000 times a minute
_LINES = {True: ("resyncs", 0.2, 20), False: ("wishes", 4.0, 60)}  # of resyncs, and of what they want
_LONGEST_TRACEBACK = 6000  # characters; its end says most
_FINISH_TRIES = (
    30  # seconds to wait for Redis to take a verdict, before the sweeper's next hand-out repeats the task
)


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """What the installation decides about tasks.

    Attributes:
        lease_seconds: the length of a lease.
        max_attempts: how often work is tried before it becomes a dead letter.
        retry_seconds: the wait before the second attempt.
        poll_seconds: the shortest wait for AWS's rate limits.
        public_url: where people reach the dashboard; empty where that is not known.
    """

    lease_seconds: float
    max_attempts: int
    retry_seconds: float
    poll_seconds: float
    public_url: str = ""


class Runner:
    """Takes work from a queue, has it carried out, and returns the result to the queue.

    Args:
        lanes: the queues.
        queue: carries the next dispatch to a worker.
        allowance: each repository's share of GitHub's calls.
        steps: carries out the work.
        allows: whether the installation serves a repository.
        options: what the installation decides.
        timer: ends the process of a task that does not end in time; None where it must live.
    """

    def __init__(
        self,
        lanes: Lanes,
        queue: Queue,
        allowance: Allowance,
        steps: StepHandler,
        *,
        allows: Callable[[Repository], bool],
        options: RunnerOptions,
        timer: Timer | None = None,
    ) -> None:
        self._lanes = lanes
        self._queue = queue
        self._allowance = allowance
        self._steps = steps
        self._allows = allows
        self._options = options
        self._timer = timer or NoTimer()

    def run_item(self, task: Task, repository: Repository, token: int) -> str:
        """Run one task.

        Args:
            task: the task that the message names.
            repository: whose queue holds the work.
            token: under which the queue handed it out.

        Returns:
            What became of it, in a line that Flower shows.
        """
        taken_at = time.monotonic()
        try:
            work = self._lanes.begin(repository, token)
        except QueueItemError as error:
            return refuse_item(self._lanes, self._queue, repository, token, str(error))
        except UnavailableError as error:
            return _given_up(task, repository, error)
        if work is None:
            _log.info("%s of %s: its token is no longer the current one; left alone", task, repository)
            return "stale: the lane was handed out again"
        with counting(MOST_CALLS[work.environment == RESYNC_KEY], taken_at + LAST_CALL) as tally:
            try:
                lease = TaskLease(
                    self._lanes,
                    repository,
                    token,
                    self._options.lease_seconds,
                    taken_at,
                    self._timer,
                )
                return self._work_off(task, repository, work, token, tally, lease)
            except SystemExit:
                # this process is to end now (see workers.drain): another worker goes on at once
                self._hand_back(repository, work, token, tally)
                raise
            finally:
                with suppress(UnavailableError):
                    self._allowance.spend(repository, tally.github_all, tally.github_quota)

    def _work_off(
        self, task: Task, repository: Repository, work: Work, token: int, tally: Tally, lease: TaskLease
    ) -> str:
        started = time.monotonic()
        with lease:
            verdict = self._judge(repository, work, token)
        if verdict is None:
            _log.warning("%s of %s: its lease ran out; stopped before its next step", task, repository)
            return "lost: the lane was handed out again"
        if not lease.held:
            _log.warning("%s of %s: its lease ran out; the lane decides", task, repository)
        try:
            dispatch = self._finish(repository, token, verdict, call_counters(tally))
        except LaneLostError as error:
            _log.warning("%s of %s: %s", task, repository, error)
            return "lost: the lane was handed out again"
        except UnavailableError as error:
            return _given_up(task, repository, error)
        if dispatch:
            self._queue.send(dispatch)
        elif (
            work.environment == RESYNC_KEY and isinstance(verdict, Done) and verdict.outcome == Outcome.FAILED
        ):
            # a name that people mistyped must not be looked at for ever
            self._lanes.forget_if_empty(repository)
        tell_people(repository, work, verdict, self._options.public_url)
        told = describe(verdict)
        _log.info("%s %s %s (%s): %s in %.2f s", task, repository, work.environment, work.goal, told,
                  time.monotonic() - started)  # fmt: skip
        return told

    def _hand_back(self, repository: Repository, work: Work, token: int, tally: Tally) -> None:
        """Return work that was interrupted, as it was taken: the next worker repeats it, and no attempt is lost.

        Where Redis cannot be told, the lease runs out instead.
        """
        try:
            dispatch = self._lanes.finish(repository, token, Again(work), call_counters(tally))
        except DeployerError as error:
            _log.warning("handing back %s of %s: %s", work.task, repository, error)
            return
        _log.warning("%s of %s was interrupted and handed back", work.task, repository)
        if dispatch:
            self._queue.send(dispatch)

    def _judge(self, repository: Repository, work: Work, token: int) -> Verdict | None:
        """The one mapping from how a task ends to what its lane does; None if the lane was lost meanwhile."""

        def guard() -> None:
            if not self._lanes.extend(repository, token):
                raise LaneLostError(f"the lane of {repository} was handed out again")

        most = self._options.max_attempts
        if work.timed_out or (work.attempts > most and work.ended_with_its_worker):
            return self._lost(repository, work, token)
        if not self._allows(repository):
            return Done(
                str(Outcome.IGNORED), f"{repository} matches none of the patterns in DEPLOYER_REPOSITORIES"
            )
        try:
            if rest := self._rest(repository, work):
                return rest
            work = work.but(rests_for="", turned=work.turned or work.cause == Cause.RESYNC)
            return self._steps.carry_out(repository, work, guard)
        except LaneLostError:
            return None
        except ThrottledError as error:
            # AWS was not asked, so this is no attempt. It is no success either: earlier attempts count on.
            seconds = max(error.retry_after or 0, self._options.poll_seconds)
            return Snooze(decided_anew(work), seconds, rests=True)
        except TransientError as error:
            return self._retry(repository, work, token, error)
        except (StoredValueError, UnknownStatusError) as error:
            return self._dead(repository, work, token, error)  # only deployer's operators can correct it
        except DeployerError as error:
            # people must change something before it can work: nothing that a repeat or a dead letter could mend
            return Done("failed", str(error))
        except Exception as error:  # noqa: BLE001  whatever it is, it must not be lost
            if lack := shortage(error):
                return self._retry(repository, work, token, TransientError(lack))
            return self._dead(repository, work, token, error)

    def _retry(self, repository: Repository, work: Work, token: int, error: TransientError) -> Retry | Dead:
        """Try the work again later, or give it to people after its last attempt."""
        if work.attempts < self._options.max_attempts:
            seconds = self._backoff(work.attempts, error.retry_after)
            return Retry(decided_anew(work), seconds, str(error))
        return self._dead(repository, work, token, error)

    def _rest(self, repository: Repository, work: Work) -> Snooze | None:
        """Whether the work has to wait before it begins: for its repository's share of GitHub's calls, or its turn."""
        if seconds := allowance_wait(self._allowance, repository, work):
            reason = (
                f"{repository} has used its share of the calls to GitHub that all repositories have together"
            )
            return Snooze(work.but(rests_for=reason), seconds, rests=True)
        if work.cause == Cause.RESYNC and not work.turned:
            line = _LINES[work.environment == RESYNC_KEY]
            if seconds := self._lanes.turn(*line):
                return Snooze(work.but(rests_for="", turned=True), seconds, rests=True)
        return None

    def _dead(self, repository: Repository, work: Work, token: int, error: Exception) -> Dead:
        known = isinstance(error, DeployerError)
        reason = " ".join((str(error) if known else f"{type(error).__name__}: {error}").split())[:500]
        # the letter has the traceback in any case; in the log it is of use for a bug only
        _log.error("%s of %s %s is a dead letter: %s", work.task, repository, work.environment, reason,
                   exc_info=None if known else error)  # fmt: skip
        told = "".join(traceback.format_exception(error))[-_LONGEST_TRACEBACK:]
        return self._buried(repository, work, token, kind_of(error), reason, told)

    def _lost(self, repository: Repository, work: Work, token: int) -> Dead:
        """The end of work that ended the process of every attempt; this attempt only reports it."""
        work = work.but(attempts=work.attempts - 1)  # this is none
        kind, reason = WORKER_LOST, f"its worker was lost {work.attempts} times while running {work.task}"
        if work.timed_out:
            kind, reason = (
                TASK_TIMEOUT,
                f"{work.task} ran out of time and was killed, {TIMEOUTS} times in a row",
            )
        _log.error("%s of %s %s is a dead letter: %s", work.task, repository, work.environment, reason)
        return self._buried(repository, work, token, kind, reason)

    def _buried(
        self, repository: Repository, work: Work, token: int, kind: str, reason: str, told: str = ""
    ) -> Dead:
        letter = make_letter(repository, work, token, kind, reason, told)
        return Dead(letter, self._mourned(repository, work, letter))

    def _mourned(self, repository: Repository, work: Work, letter: DeadLetter) -> EnvironmentRecord | None:
        """The environment's record after a death, told on its commit as far as that is possible now."""
        if work.environment == RESYNC_KEY:
            return None
        try:
            return self._steps.report_death(repository, work, letter.id, letter.told)
        except Exception as error:  # noqa: BLE001  telling of a death must not be another
            _log.warning("telling of dead letter %s: %s", letter.id, error)
            return None

    def _backoff(self, attempts: int, retry_after: float | None) -> float:
        seconds = backoff(self._options.retry_seconds, 2, attempts - 1, _LONGEST_RETRY)
        seconds *= random.uniform(0.75, 1.25)  # noqa: S311  jitter, no secret
        return max(seconds, retry_after or 0)

    def _finish(
        self, repository: Repository, token: int, verdict: Verdict, counts: Mapping[str, int]
    ) -> Dispatch | None:
        request = (
            uuid.uuid4().hex
        )  # of all tries: the first may have been carried out, and only its answer lost
        for left in range(_FINISH_TRIES, -1, -1):
            try:
                return self._lanes.finish(repository, token, verdict, counts, request)
            except UnavailableError as error:
                if not left:
                    raise
                if left == _FINISH_TRIES:
                    _log.warning("returning a verdict to the lane of %s: %s; trying again", repository, error)
                time.sleep(1)
        raise AssertionError("unreachable")


def _given_up(task: Task, repository: Repository, error: UnavailableError) -> str:
    """What Flower shows of a task that Redis left: not an error of the task, and nothing is lost with it."""
    _log.warning("%s of %s: %s; the scheduler will hand it out again", task, repository, error)
    return f"given up: {error}"


def refuse_item(lanes: Lanes, queue: Queue, repository: Repository, token: int, why: str) -> str:
    """Return a queue item that this version does not understand: a newer worker may; see `Lanes.refuse`.

    Args:
        lanes: the queues.
        queue: carries the next dispatch to a worker.
        repository: the queue's.
        token: under which the item was handed out.
        why: what was not understood.

    Returns:
        What became of it, in a line.
    """
    try:
        refused = lanes.refuse(repository, token, why)
    except LaneLostError:
        return "stale: the lane was handed out again"
    except UnavailableError as error:
        _log.warning("refusing a queue item of %s: %s; it is handed out again", repository, error)
        return f"given up: {error}"
    if refused.dispatch:
        queue.send(refused.dispatch)
    if refused.dead:
        _log.error(
            "a queue item of %s is a dead letter, since no worker understood it: %s; update them, then replay it",
            repository, why,
        )  # fmt: skip
        return f"dead-lettered: {why}"
    _log.warning(
        "a queue item of %s is refused: %s; another worker gets it in %.0f s",
        repository,
        why,
        refused.seconds,
    )
    return f"refused: {why}"


def decided_anew(work: Work) -> Work:
    """Work that failed in a step goes back to the task that decides: the world may have changed under it.

    An update or rollback that was refused counts as not ordered; if it was carried out all the same, the stack tells.
    """
    if work.task not in _STEPS:
        return work
    ordering = work.task == Task.UPDATE
    return work.but(
        task=Task.SYNC,
        updated=work.updated and not ordering,
        # the same task orders an update, too, of what was rolled back before
        recovered=work.recovered and (work.updated or not ordering),
    )
