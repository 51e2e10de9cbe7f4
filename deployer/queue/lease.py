"""The lease of a queue, which a running task renews in time, or its process ends before the lease expires.

A thread renews the lease. A thread needs Python's interpreter lock, so it cannot end a task that holds the lock in C
code (a regular expression, a parser), and such a task would outlive its lease. The kernel's timer can: SIGALRM with its
default action ends a process without running Python code. Each renewal restarts the timer, so a process that cannot
renew its lease ends while it still holds the queue. A process that was stopped meanwhile ends when it continues.
"""

import logging
import signal
import threading
import time
from types import TracebackType
from typing import Protocol, Self

from deployer.model.environments import Repository
from deployer.model.errors import UnavailableError
from deployer.queue.store import QueueStore

_log = logging.getLogger("deployer.tasks")
LONGEST_TASK = 180.0
"""Seconds after which a task is killed. No task waits for AWS. The longest useful task is the resync of a large
repository while GitHub and AWS are slow: 20 s for a listing of 10,000 stacks, 20 s for AWS's rate limits
(docs/scale.md), 50 s for 100 pages of refs and 30 s for a repeated call. The limit is one and a half times that sum."""
LAST_CALL = 140.0
"""Seconds after which a task begins no call to GitHub. A connection and an answer take at most 15 s each, so a
task that is late only because GitHub is slow is not killed (`LONGEST_TASK`) but retried like any transient error."""
_RENEW_AFTER = 1 / 3  # of the lease
_RETRY_AFTER = 1 / 20  # of the lease, if Redis did not answer
_KILL_AFTER = 0.9  # of the lease, before it can expire in Redis
_LEAST_SECONDS = 0.001  # because 0 would stop the timer


class Timer(Protocol):
    """Ends this process after a given time."""

    def start(self, seconds: float) -> None:
        """End this process after so many seconds; replaces an earlier start."""

    def stop(self) -> None:
        """Stop the timer."""


class KernelTimer:
    """Sends SIGALRM by `setitimer(2)`. A process has one such timer, so it must run one task at a time."""

    def start(self, seconds: float) -> None:
        """See `Timer.start`."""
        # only the main thread may set a signal's action, and it starts the timer before the thread that renews
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, _LEAST_SECONDS))

    def stop(self) -> None:
        """See `Timer.stop`."""
        signal.setitimer(signal.ITIMER_REAL, 0)


class NoTimer:
    """Ends nothing, for tasks in a process that must survive, such as that of unit tests."""

    def start(self, seconds: float) -> None:
        """See `Timer.start`."""

    def stop(self) -> None:
        """See `Timer.stop`."""


class TaskLease:
    """Holds the queue of one running task, as a context manager.

    Args:
        lanes: where the lease is renewed.
        repository, token: whose queue is held, and the token of the message.
        seconds: the length of the lease.
        taken_at: `time.monotonic()` before the item was requested. The lease began at this time or later.
        timer: ends the process.
    """

    def __init__(
        self,
        lanes: QueueStore,
        repository: Repository,
        token: int,
        seconds: float,
        taken_at: float,
        timer: Timer,
    ) -> None:
        self._lanes = lanes
        self._repository = repository
        self._token = token
        self._seconds = seconds
        self._timer = timer
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{repository}", daemon=True)
        self._taken_at, self._deadline = taken_at, taken_at + LONGEST_TASK
        self.held = True

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            self._timer = NoTimer()  # in a pool of threads the timer would end the tasks of all threads
        self._set_timer(self._taken_at)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._timer.stop()

    def _set_timer(self, requested_at: float) -> None:
        """Set the timer for a lease that was requested at this time, which expires at the earliest one length later."""
        end = min(requested_at + self._seconds * _KILL_AFTER, self._deadline)
        self._timer.start(end - time.monotonic())

    def _renew(self) -> None:
        pause = self._seconds * _RENEW_AFTER
        while not self._ended.wait(pause):
            requested_at = time.monotonic()
            if requested_at > self._deadline:
                _log.error(
                    "the task of %s has run for %d s; it does not hold the queue any more",
                    self._repository,
                    LONGEST_TASK,
                )
                self.held = False
                return
            try:
                self.held = self._lanes.extend(self._repository, self._token)
            except UnavailableError as error:
                pause = self._seconds * _RETRY_AFTER
                _log.warning("renewing the lease of %s: %s", self._repository, error)
                continue
            pause = self._seconds * _RENEW_AFTER
            if self.held:
                self._set_timer(requested_at)
