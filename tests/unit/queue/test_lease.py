"""The kernel ends a task's process before its lease can expire, whatever the task does."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from deployer.model.environments import Repository
from deployer.model.errors import UnavailableError
from deployer.queue import lease
from deployer.queue.lease import TaskLease

# what the task of a process does -> how the process ends
ENDS = {
    "holds the interpreter": ('re.match(r"(a|aa)+$", "a" * 200 + "b")', -signal.SIGALRM),
    "runs longer than any task may": ("time.sleep(30)", -signal.SIGALRM),
    "cannot renew, since Redis is away": ("away.append(1); time.sleep(30)", -signal.SIGALRM),
    "was handed out again": ("lost.append(1); time.sleep(30)", -signal.SIGALRM),
    "was stopped for longer than its lease": ("stop()", -signal.SIGALRM),
    "outlasts its lease, which it renews": ("time.sleep(1.8)", 0),
    "has ended; the process goes on": ("after.append(1.8)", 0),
}
PROGRAM = """
import os, re, signal, subprocess, sys, time
from deployer.model.environments import Repository
from deployer.model.errors import UnavailableError
from deployer.queue import lease

away, lost, after = [], [], []

class Lanes:
    def extend(self, repository, token):
        if away:
            raise UnavailableError("away")
        return not lost

def hold(seconds):
    global kept
    kept = lease.TaskLease(Lanes(), Repository.parse("acme/hello"), 7, seconds, time.monotonic(), lease.KernelTimer())
    kept.__enter__()

def stop():
    wake = f"import os, signal, time; time.sleep(1.8); os.kill({os.getpid()}, signal.SIGCONT)"
    subprocess.Popen([sys.executable, "-c", wake])
    os.kill(os.getpid(), signal.SIGSTOP)
    os.write(2, b"it did something after it was stopped")

lease.LONGEST_TASK = float(sys.argv[2])
hold(1.5)
exec(sys.argv[1])
kept.__exit__(None, None, None)
time.sleep(sum(after))
"""


@pytest.fixture(scope="module")
def processes() -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run all of them at once, because most only wait."""
    started = {}
    for task, (code, _) in ENDS.items():
        longest = "0.5" if "longer than any" in task else "60"
        command = [sys.executable, "-c", PROGRAM, code, longest]
        started[task] = subprocess.Popen(command, stderr=subprocess.PIPE)
    yield started
    for each in started.values():
        with each:
            each.kill()


@pytest.mark.parametrize("task", ENDS)
def test_a_process_ends_before_its_lease_can_expire(
    processes: dict[str, subprocess.Popen[bytes]], task: str
) -> None:
    told = processes[task].communicate(timeout=30)[1]
    status = processes[task].returncode
    assert (status, b"after it was stopped" in told) == (ENDS[task][1], False), told.decode()


class Recorded:
    """A timer that only records when the process would end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def start(self, seconds: float) -> None:
        self.ends.append(time.monotonic() + seconds)

    def stop(self) -> None:
        self.ends.append(float("inf"))


@pytest.mark.parametrize("longest", [0.25, 60])
def test_the_process_ends_within_the_last_requested_lease(
    monkeypatch: pytest.MonkeyPatch, longest: float
) -> None:
    monkeypatch.setattr(lease, "LONGEST_TASK", longest)
    asked, timer, enough = [time.monotonic()], Recorded(), threading.Event()

    class QueueStore:
        def extend(self, *_: Any) -> bool:
            asked.append(time.monotonic())
            enough.set() if len(asked) > 4 else None
            if len(asked) % 2:
                raise UnavailableError("away")
            time.sleep(0.02)  # Redis may have renewed it at once, and its answer was long under way
            return True

    repository = Repository.parse("acme/hello")
    with TaskLease(QueueStore(), repository, 7, 0.3, asked[0], timer):  # type: ignore[arg-type]
        enough.wait(5 if longest == 60 else 0.4)
    *ends, last = timer.ends
    assert last == float("inf")
    answered = [at for count, at in enumerate(asked, 1) if count % 2 == 0 or count == 1]
    assert len(ends) > 1
    for at, end in zip(answered, ends, strict=False):
        assert end < min(at + 0.3, asked[0] + longest + 0.02)
