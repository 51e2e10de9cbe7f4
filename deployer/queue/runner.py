"""Runs the queue items of one message, each under a lease."""

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from deployer.model.environments import Repository
from deployer.model.errors import DeployerError, LaneLostError, QueueItemError, UnavailableError
from deployer.model.outcomes import Outcome
from deployer.queue.call_counter import MOST_CALLS, CallCount, call_counters, count_calls
from deployer.queue.items import RESYNC_KEY, Task, Work
from deployer.queue.lease import LAST_CALL, NoTimer, TaskLease, Timer
from deployer.queue.progress_log import log_result
from deployer.queue.step_results import Continue, Finished, StepHandler, StepResult, describe_result
from deployer.queue.step_runner import RunnerOptions, StepRunner
from deployer.queue.store import Allowance, Dispatch, Dispatcher, NextItem, QueueStore, Taken

_log = logging.getLogger("deployer.tasks")
_FINISH_ATTEMPTS = 30  # one a second; after that the lease expires and the task is repeated
_LOST = "lost: the lane was handed out again"
# After an item a process takes the queue's next item itself, which saves a message. Other queues wait meanwhile, so
# beyond this share of time or of items it does so only while no message of another queue waits for a worker.
SHARE_SECONDS, SHARE_ITEMS = 0.05, 20


class WorkerProcess(Protocol):
    """A process of a worker, which may run several items for one message."""

    def takes_items(self) -> bool:
        """Whether the process may take another item; not if its worker is being stopped."""

    def report_begin(self, repository: Repository, token: int, work: Work) -> None:
        """Report that an item begins which no message has announced."""

    def report_end(self, result: str) -> None:
        """Report how the running item ended, before the next one begins or the process waits for a message."""


class OneItemProcess:
    """A process that runs one item for each message."""

    def takes_items(self) -> bool:
        """See `WorkerProcess.takes_items`."""
        return False

    def report_begin(self, repository: Repository, token: int, work: Work) -> None:
        """See `WorkerProcess.report_begin`."""

    def report_end(self, result: str) -> None:
        """See `WorkerProcess.report_end`."""


class WorkerShare:
    """Decides after each item whether its worker takes the next one.

    Args:
        process: runs the items.
    """

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._ends_at = time.monotonic() + SHARE_SECONDS
        self._items_left = SHARE_ITEMS

    def next_item(self) -> NextItem:
        """Who gets the next item, now that an item has ended."""
        self._items_left -= 1
        if not self._process.takes_items():
            return NextItem.SEND
        if self._items_left > 0 and time.monotonic() < self._ends_at:
            return NextItem.TAKE
        return NextItem.TAKE_IF_ALONE


@dataclass(frozen=True, slots=True)
class _BegunItem:
    """An item that this process has begun.

    Attributes:
        requested_at: `time.monotonic()` before the item was requested. Its lease began at this time or later.
        tally: its calls.
        result: its result, once that is being returned to the queue.
        request: the id of the request that returns the result.
    """

    token: int
    work: Work
    requested_at: float
    tally: CallCount
    result: StepResult | None = None
    request: str = ""


class Runner:
    """Takes items from a queue, lets their steps run, and returns the results to the queue.

    Args:
        lanes: the queues.
        queue: sends the next dispatch to a worker.
        allowance: each repository's share of GitHub's calls.
        steps: carries out the item's step.
        allows: whether the installation serves a repository.
        options: the installation's settings.
        timer: ends the process of a task that exceeds its time; None if the process must survive.
        process: the worker's process; None if it runs one item for each message.
    """

    def __init__(
        self,
        lanes: QueueStore,
        queue: Dispatcher,
        allowance: Allowance,
        steps: StepHandler,
        *,
        allows: Callable[[Repository], bool],
        options: RunnerOptions,
        timer: Timer | None = None,
        process: WorkerProcess | None = None,
    ) -> None:
        self._lanes = lanes
        self._queue = queue
        self._allowance = allowance
        self._step_runner = StepRunner(lanes, allowance, steps, allows=allows, options=options)
        self._options = options
        self._timer = timer or NoTimer()
        self._process = process or OneItemProcess()
        self._begun: _BegunItem | None = None

    def run_message(self, task: Task, repository: Repository, token: int) -> str:
        """Run the item of a message, and further items of its queue as long as `WorkerShare` allows.

        Args:
            task: the task that the message names.
            repository: whose queue holds the work.
            token: the token of the message.

        Returns:
            The outcome of the last item in a line that Flower shows.
        """
        share, requested_at = WorkerShare(self._process), time.monotonic()
        try:
            work = self._lanes.begin(repository, token)
        except QueueItemError as error:
            return refuse_item(self._lanes, self._queue, repository, token, str(error))
        except UnavailableError as error:
            return _describe_unavailable(task, repository, error)
        if work is None:
            _log.info("%s of %s: its token is not the current one; nothing is done", task, repository)
            return "stale: the lane was handed out again"
        self._begun = _BegunItem(token, work, requested_at, CallCount())
        try:
            outcome = ""
            while self._begun:
                outcome = self._run_item(repository, self._begun, share)
                if self._begun:
                    self._process.report_end(outcome)
                    self._process.report_begin(repository, self._begun.token, self._begun.work)
            return outcome
        except SystemExit:
            # this process must end now (see workers.drain), so another worker continues at once
            if self._begun:
                self._hand_back(repository, self._begun)
            raise

    def _run_item(self, repository: Repository, item: _BegunItem, share: WorkerShare) -> str:
        """Run an item; afterwards `_begun` is the next one."""
        limit = MOST_CALLS[item.work.environment == RESYNC_KEY]
        with count_calls(limit, item.requested_at + LAST_CALL) as tally:
            self._begun = item = replace(item, tally=tally)
            lease = TaskLease(
                self._lanes,
                repository,
                item.token,
                self._options.lease_seconds,
                item.requested_at,
                self._timer,
            )
            try:
                return self._run_leased(repository, item, share, lease)
            finally:
                with suppress(UnavailableError):
                    self._allowance.count_calls_made(repository, tally.github_all, tally.github_quota)

    def _run_leased(
        self, repository: Repository, item: _BegunItem, share: WorkerShare, lease: TaskLease
    ) -> str:
        started, work, task = time.monotonic(), item.work, item.work.task
        with lease:
            verdict = self._step_runner.carry_out_step(repository, work, item.token)
        if verdict is None:
            _log.warning("%s of %s: its lease has expired; stopped before its next step", task, repository)
            self._begun = None
            return _LOST
        if not lease.held:
            _log.warning(
                "%s of %s: its lease has expired; its result counts only if no other worker has the queue",
                task,
                repository,
            )
        self._begun = item = replace(item, result=verdict, request=uuid.uuid4().hex)
        try:
            follows = self._return_result(repository, item, share)
        except LaneLostError as error:
            _log.warning("%s of %s: %s", task, repository, error)
            self._begun = None
            return _LOST
        except UnavailableError as error:
            self._begun = None
            return _describe_unavailable(task, repository, error)
        self._begun = follows if isinstance(follows, _BegunItem) else None
        if isinstance(follows, Dispatch):
            self._queue.send(follows)
        elif (
            work.environment == RESYNC_KEY
            and isinstance(verdict, Finished)
            and verdict.outcome == Outcome.FAILED
        ):
            # a mistyped name must not stay in the list of repositories
            self._lanes.delete_repository_if_empty(repository)
        log_result(repository, work, verdict, self._options.public_url)
        result = describe_result(verdict)
        _log.info("%s %s %s (%s): %s in %.2f s", task, repository, work.environment, work.goal, result,
                  time.monotonic() - started)  # fmt: skip
        return result

    def _return_result(
        self, repository: Repository, item: _BegunItem, share: WorkerShare
    ) -> Dispatch | _BegunItem | None:
        """Return an item's result to the queue; returns the message to send or the item to continue with."""
        next_item = share.next_item()
        # the same id for all attempts, because Redis may have carried out one whose answer was lost
        for left in range(_FINISH_ATTEMPTS, -1, -1):
            requested_at = time.monotonic()
            try:
                found = self._finish(repository, item, next_item)
            except UnavailableError as error:
                if not left:
                    raise
                if left == _FINISH_ATTEMPTS:
                    _log.warning("returning a result to the queue of %s: %s; trying again", repository, error)
                # The first attempt may have begun the next item, whose lease has become shorter since.
                next_item = NextItem.SEND
                time.sleep(1)
                continue
            if not isinstance(found, Taken):
                return found
            if left < _FINISH_ATTEMPTS:
                return self._return_taken(repository, found)
            try:
                return _BegunItem(found.token, found.read_item(), requested_at, CallCount())
            except QueueItemError as error:
                refuse_item(self._lanes, self._queue, repository, found.token, str(error))
                return None
        raise AssertionError("unreachable")

    def _finish(
        self, repository: Repository, item: _BegunItem, next_item: NextItem
    ) -> Dispatch | Taken | None:
        result = item.result or Continue(item.work)
        return self._lanes.finish(
            repository, item.token, result, call_counters(item.tally), item.request, next_item
        )

    def _hand_back(self, repository: Repository, item: _BegunItem) -> None:
        """Return an interrupted item unchanged: the next worker repeats it, and the attempt is not counted.

        An item that has its result returns the result. If Redis is unavailable, the lease expires instead.
        """
        try:
            found = self._finish(repository, item, NextItem.SEND)
            if isinstance(found, Taken):  # this process was interrupted before it got this answer
                found = self._return_taken(repository, found)
        except DeployerError as error:
            _log.warning("handing back %s of %s: %s", item.work.task, repository, error)
            return
        if not item.result:
            _log.warning("%s of %s was interrupted and handed back", item.work.task, repository)
        if found:
            self._queue.send(found)

    def _return_taken(self, repository: Repository, taken: Taken) -> Dispatch | None:
        """Return the next item of the queue, which this process has begun and does not run."""
        try:
            item = _BegunItem(taken.token, taken.read_item(), time.monotonic(), CallCount())
        except QueueItemError as error:
            refuse_item(self._lanes, self._queue, repository, taken.token, str(error))
            return None
        found = self._finish(repository, item, NextItem.SEND)
        return found if isinstance(found, Dispatch) else None


def _describe_unavailable(task: str, repository: Repository, error: UnavailableError) -> str:
    """What Flower shows of a task that could not reach Redis. The task did not fail, and its item is not lost."""
    _log.warning("%s of %s: %s; the scheduler will hand it out again", task, repository, error)
    return f"given up: {error}"


def refuse_item(lanes: QueueStore, queue: Dispatcher, repository: Repository, token: int, why: str) -> str:
    """Return a queue item that this version does not understand, because a newer worker may; see `QueueStore.refuse`.

    Args:
        lanes: the queues.
        queue: sends the next dispatch to a worker.
        repository: the queue's.
        token: the token of the message.
        why: what this version does not understand.

    Returns:
        The outcome in a line.
    """
    try:
        refused = lanes.refuse(repository, token, why)
    except LaneLostError:
        return "stale: the lane was handed out again"
    except UnavailableError as error:
        _log.warning("refusing a queue item of %s: %s; it will be handed out again", repository, error)
        return f"given up: {error}"
    if refused.dispatch:
        queue.send(refused.dispatch)
    if refused.dead:
        _log.error(
            "a queue item of %s is a dead letter, because no worker understood it: %s; update them, then replay it",
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
