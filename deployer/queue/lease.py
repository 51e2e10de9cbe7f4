"""The lease of a lane while its task runs: it is renewed in time, or the process ends before it can expire.

A thread renews the lease. A thread needs Python's interpreter lock, so it cannot end a task that holds the lock in C
code (a regular expression, a parser), and such a task would outlive its lease. The kernel's timer can: SIGALRM with its
default action ends a process without running any Python code. Each renewal moves the timer, so a process that cannot
renew is gone while the lane is still its own. A process that was stopped meanwhile ends when it continues.
"""

import logging
import signal
import threading
import time
from types import TracebackType
from typing import Protocol, Self

from deployer.model.environments import Repository
from deployer.model.errors import UnavailableError
from deployer.queue.store import Lanes

_log = logging.getLogger("deployer.tasks")
LONGEST_TASK = 180.0
"""Seconds after which a task is killed. No task waits for AWS. The longest that is known to be of use is the resync of
a large repository while GitHub and AWS are slow: 20 s for a listing of 10,000 stacks, 20 s of patience with AWS's rate
limits (docs/scale.md), 50 s for 100 pages of refs and 30 s for a call that is repeated. That is two minutes, and half
as much again is added."""
LAST_CALL = 140.0
"""Seconds after which a task begins no call to GitHub. A connection and an answer take 15 s each at most, so a
task that is late only because GitHub is slow is not killed (`LONGEST_TASK`): it is tried again as after any passing
fault."""
_RENEWED_AT = 1 / 3  # of the lease
_REPEATED_AT = 1 / 20  # of the lease, where Redis did not answer
_KILLED_AT = 0.9  # of the lease: before Redis can take it for expired
_LEAST_SECONDS = 0.001  # 0 would stop the timer


class Timer(Protocol):
    """Ends this process in a given time."""

    def start(self, seconds: float) -> None:
        """End this process in so many seconds; takes the place of what was started before."""

    def stop(self) -> None:
        """Let this process live."""


class KernelTimer:
    """SIGALRM by `setitimer(2)`. A process has one such timer, so it must run one task at a time."""

    def start(self, seconds: float) -> None:
        """See `Timer.start`."""
        if (
            threading.current_thread() is threading.main_thread()
        ):  # the only one that may, and the first that comes
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(seconds, _LEAST_SECONDS))

    def stop(self) -> None:
        """See `Timer.stop`."""
        signal.setitimer(signal.ITIMER_REAL, 0)


class NoTimer:
    """Ends nothing: for tasks that run in a process of something else, as those of unit tests do."""

    def start(self, seconds: float) -> None:
        """See `Timer.start`."""

    def stop(self) -> None:
        """See `Timer.stop`."""


class TaskLease:
    """Holds the lane of one task, as a context.

    Args:
        lanes: where the lease is renewed.
        repository, token: the lane, and the hand-out under which it is held.
        seconds: the lease's length.
        taken_at: `time.monotonic()` before the lane was asked for the work. The lease began at this time or later.
        timer: ends the process.
    """

    def __init__(
        self, lanes: Lanes, repository: Repository, token: int, seconds: float, taken_at: float, timer: Timer
    ) -> None:
        self._lanes = lanes
        self._repository = repository
        self._token = token
        self._seconds = seconds
        self._timer = timer
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._renew, name=f"lease-{repository}", daemon=True)
        self._taken_at, self._latest = taken_at, taken_at + LONGEST_TASK
        self.held = True

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            self._timer = NoTimer()  # a pool of threads: the timer would end the tasks of all of them
        self._set_timer(self._taken_at)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._timer.stop()

    def _set_timer(self, asked_at: float) -> None:
        """The lease was asked for at this time, so it cannot expire sooner than its length after it."""
        end = min(asked_at + self._seconds * _KILLED_AT, self._latest)
        self._timer.start(end - time.monotonic())

    def _renew(self) -> None:
        pause = self._seconds * _RENEWED_AT
        while not self._ended.wait(pause):
            asked_at = time.monotonic()
            if asked_at > self._latest:
                _log.error(
                    "the task of %s has run for %d s; its lane is no longer held",
                    self._repository,
                    LONGEST_TASK,
                )
                self.held = False
                return
            try:
                self.held = self._lanes.extend(self._repository, self._token)
            except UnavailableError as error:
                pause = self._seconds * _REPEATED_AT
                _log.warning("renewing the lease of %s: %s", self._repository, error)
                continue
            pause = self._seconds * _RENEWED_AT
            if self.held:
                self._set_timer(asked_at)
