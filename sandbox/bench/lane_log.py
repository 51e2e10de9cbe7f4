"""What the tasks of a measurement did, in a file to which several processes append."""

import os
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

TASK_SECONDS = 0.005
_VARIABLE = "DEPLOYER_BENCH_LANE_LOG"


class LaneLog:
    """Appends a line for each run of a task and for each message.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    @classmethod
    def from_environment(cls) -> "LaneLog":
        """The log that the measurement names to its workers."""
        return cls(Path(os.environ.get(_VARIABLE, os.devnull)))

    @staticmethod
    def variables(path: Path) -> dict[str, str]:
        """The environment variables of a worker that appends to this file."""
        return {_VARIABLE: str(path)}

    def run_task(self, repository: str, number: int) -> None:
        """Work for 5 ms."""
        started = time.monotonic_ns()
        time.sleep(TASK_SECONDS)
        self._append(f"task {repository} {number} {started} {time.monotonic_ns()}")

    def add_message(self) -> None:
        """Note that a worker received a message."""
        self._append("message")

    def add_wasted(self) -> None:
        """Note that a task ran without doing its work."""
        self._append("wasted")

    def _append(self, line: str) -> None:
        os.write(self._file, f"{line}\n".encode())


@dataclass(frozen=True)
class LaneResult:
    """What the log says.

    Attributes:
        tasks: how many did their work.
        seconds: from the start of the first to the end of the last.
        messages: that workers received.
        wasted: runs that did no work.
        order_violations: tasks that began after a later task of their repository.
        overlaps: tasks that began before the former task of their repository had ended.
        last_lane: seconds until a task of each repository had begun.
    """

    tasks: int
    seconds: float
    messages: int
    wasted: int
    order_violations: int
    overlaps: int
    last_lane: float


def read_log(path: Path) -> LaneResult:
    """Read the file of a measurement that has ended."""
    lines = path.read_text().splitlines() if path.exists() else []
    by_repository: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    for line in lines:
        kind, *fields = line.split(" ")
        if kind == "task":
            number, began, ended = map(int, fields[1:])
            by_repository[fields[0]].append((began, ended, number))
    violations = overlaps = 0
    for runs in by_repository.values():
        runs.sort()
        highest, latest_end = -1, 0
        for began, ended, number in runs:
            violations += number < highest
            overlaps += began < latest_end
            highest, latest_end = max(highest, number), max(latest_end, ended)
    everything = [each for runs in by_repository.values() for each in runs]
    first = min((each[0] for each in everything), default=0)
    last = max((each[1] for each in everything), default=0)
    return LaneResult(
        tasks=len(everything),
        seconds=(last - first) / 1e9,
        messages=lines.count("message"),
        wasted=lines.count("wasted"),
        order_violations=violations,
        overlaps=overlaps,
        last_lane=(max((runs[0][0] for runs in by_repository.values()), default=first) - first) / 1e9,
    )
