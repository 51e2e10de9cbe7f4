"""The scheduler of the simulator's processes.

Everything that takes time in AWS is written as a generator. The generator yields a number of seconds to wait, or a
`Future` to wait for. The scheduler's single thread resumes it while holding the simulator's lock, so that a process
never sees half of another process's change. Blocking work (git, builds) runs in other threads, without the lock.
"""

from __future__ import annotations

import heapq
import inspect
import itertools
import logging
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

log = logging.getLogger(__name__)

_WORKERS = 4

Process = Generator["float | Future", Any, Any]


class Future:
    """A value that is set later; a process that yields the future is resumed with the value."""

    def __init__(self) -> None:
        self.done = False
        self.value: Any = None
        self._waiting: list[Callable[[Any], None]] = []

    def on_value(self, resume: Callable[[Any], None]) -> None:
        """Call `resume` with the value, immediately if the value is already set."""
        if self.done:
            resume(self.value)
        else:
            self._waiting.append(resume)

    def set(self, value: Any = None) -> None:
        """Set the value; a second call changes nothing. The caller holds the lock."""
        if self.done:
            return
        self.done, self.value = True, value
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume(value)


class Task(Future):
    """A running process; its value is what the process returns, or None if the process was cancelled."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.cancelled = False


class Scheduler:
    """Runs processes in the order of their due times.

    Every wait is divided by `speed`. Blocking work shares a small pool of threads.
    """

    def __init__(self, speed: float = 1.0) -> None:
        self.lock = threading.RLock()
        self.speed = speed
        self._wake = threading.Condition(self.lock)
        self._due: list[tuple[float, int, Task, Any]] = []
        self._number = itertools.count()
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="sandbox-aws-job")
        self._stopped = False
        self._tasks: set[Task] = set()
        self._thread = threading.Thread(target=self._run_loop, name="sandbox-aws-clock", daemon=True)

    def now(self) -> datetime:
        """The current time in UTC."""
        return datetime.fromtimestamp(time.time(), UTC)

    def start(self) -> None:
        """Start the thread that runs the processes."""
        self._thread.start()

    def stop(self) -> None:
        """Cancel every process; end the threads."""
        self.reset()
        with self.lock:
            self._stopped = True
            self._wake.notify_all()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(5)
        self._pool.shutdown(wait=True, cancel_futures=True)

    def reset(self) -> None:
        """Cancel every process."""
        with self.lock:
            for task in list(self._tasks):
                self.cancel(task)
            self._due.clear()

    def spawn(self, process: Process) -> Task:
        """Start a process."""
        task = Task(process)
        with self.lock:
            self._tasks.add(task)
            self._resume_task(task, None)
        return task

    def cancel(self, task: Task) -> None:
        """End a process at the point where it waits; its `finally` blocks run."""
        with self.lock:
            if task.done:
                return
            task.cancelled = True
            self._tasks.discard(task)
            if inspect.getgeneratorstate(task.process) != inspect.GEN_RUNNING:
                task.process.close()
            task.set(None)

    def run_in_thread(self, work: Callable[[], Any]) -> Future:
        """Run `work` in a thread; the future's value is `(result, None)` or `(None, exception)`."""
        future = Future()

        def run() -> None:
            outcome: tuple[Any, BaseException | None]
            try:
                outcome = (work(), None)
            except Exception as error:  # noqa: BLE001 - the waiting process receives it
                outcome = (None, error)
            with self.lock:
                future.set(outcome)

        with self.lock:
            if not self._stopped:
                self._pool.submit(run)
        return future

    def _resume_task(self, task: Task, value: Any, delay: float = 0.0) -> None:
        with self.lock:
            heapq.heappush(self._due, (time.monotonic() + delay, next(self._number), task, value))
            self._wake.notify_all()

    def _run_step(self, task: Task, value: Any) -> None:
        if task.done:
            return
        try:
            wait = task.process.send(value)
        except StopIteration as end:
            self._tasks.discard(task)
            task.set(end.value)
        except Exception:
            log.exception("a simulated process ended because of an error in the simulator")
            self._tasks.discard(task)
            task.set(None)
        else:
            if task.done:  # the process cancelled itself while it ran
                task.process.close()
            elif isinstance(wait, Future):
                wait.on_value(lambda result: self._resume_task(task, result))
            else:
                self._resume_task(task, None, wait / self.speed)

    def _run_loop(self) -> None:
        with self.lock:
            while not self._stopped:
                while self._due and self._due[0][0] <= time.monotonic():
                    _, _, task, value = heapq.heappop(self._due)
                    self._run_step(task, value)
                    if self._stopped:
                        return
                pause = min(self._due[0][0] - time.monotonic(), 1.0) if self._due else 1.0
                self._wake.wait(max(pause, 0.0005))
