"""Ends what a supervisor started when the supervisor itself was killed and could not.

Run as a script in a session of its own, told on standard input which processes there are. The end of that input
without `done` means that the supervisor is gone: even `kill -9` of it closes the pipe. Needs nothing but the
standard library, so that it starts in milliseconds.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_LOOK_SECONDS = 0.05


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not yet collected does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return Path("/proc/self").exists() is False  # gone between the two looks, or a system without /proc
    return stat.rpartition(")")[2].split()[0] != "Z"


def end(groups: dict[int, tuple[int, float]], now: Callable[[], float] = time.monotonic) -> None:
    """End process groups: the highest stage first, SIGTERM to each leader, SIGKILL to the group after its grace.

    Args:
        groups: leader's process id to (stage, grace in seconds).
        now: the clock.
    """
    for stage in sorted({stage for stage, _ in groups.values()}, reverse=True):
        members = {pid: grace for pid, (of, grace) in groups.items() if of == stage}
        for pid in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
        deadline = now() + max(members.values())
        while any(alive(pid) for pid in members) and now() < deadline:
            time.sleep(_LOOK_SECONDS)
        for pid in members:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


def main() -> int:
    """Listen for `add <pid> <stage> <grace>`, `gone <pid>` and `done`."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its supervisor, never before
    groups: dict[int, tuple[int, float]] = {}
    for line in sys.stdin:
        match line.split():
            case ["add", pid, stage, grace]:
                groups[int(pid)] = (int(stage), float(grace))
            case ["gone", pid]:
                groups.pop(int(pid), None)
            case ["done"]:
                return 0
    end(groups)
    return 1


if __name__ == "__main__":
    sys.exit(main())
