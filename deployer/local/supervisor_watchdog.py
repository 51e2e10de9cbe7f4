"""Ends the programs of a supervisor after the supervisor itself was killed.

It runs as a script in its own session. The supervisor writes to its standard input which processes exist. If that
input ends without `done`, the supervisor was killed, because even `kill -9` closes the pipe. The script uses only the
standard library, so that it starts within milliseconds.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

_CHECK_SECONDS = 0.05


def is_alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not: it has ended, and its parent has not collected it yet."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return (
            Path("/proc/self").exists() is False
        )  # it ended between the two checks, or the system has no /proc
    return stat.rpartition(")")[2].split()[0] != "Z"


def end_groups(groups: dict[int, tuple[int, float]], now: Callable[[], float] = time.monotonic) -> None:
    """End process groups, the highest stage first: SIGTERM to each leader, and SIGKILL to the group after its grace.

    Args:
        groups: maps the process id of each leader to (stage, grace in seconds).
        now: returns the time in seconds.
    """
    for stage in sorted({stage for stage, _ in groups.values()}, reverse=True):
        members = {pid: grace for pid, (of, grace) in groups.items() if of == stage}
        for pid in members:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGTERM)
        deadline = now() + max(members.values())
        while any(is_alive(pid) for pid in members) and now() < deadline:
            time.sleep(_CHECK_SECONDS)
        for pid in members:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)


def main() -> int:
    """Read the lines `add <pid> <stage> <grace>`, `gone <pid>` and `done` from standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it must outlive the supervisor
    groups: dict[int, tuple[int, float]] = {}
    for line in sys.stdin:
        match line.split():
            case ["add", pid, stage, grace]:
                groups[int(pid)] = (int(stage), float(grace))
            case ["gone", pid]:
                groups.pop(int(pid), None)
            case ["done"]:
                return 0
    end_groups(groups)
    return 1


if __name__ == "__main__":
    sys.exit(main())
