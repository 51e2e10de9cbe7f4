"""Measures what deployer needs at rest: the time of `deployer --help`, and the memory of its processes."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox.bench.tables import Table, Value
from sandbox.installation import Installation
from sandbox.processes import command_of, descendants

_STARTS = 7
_REST_SECONDS = 3.0
_ROLES = {"web": "gunicorn", "worker": "--app=workers worker", "scheduler": "workers.scheduler"}


def measure_footprint() -> Iterator[Table]:
    """Measure the command line, then the processes of `deployer up --sandbox` that have done nothing yet."""
    bare = _median_seconds([sys.executable, "-c", "pass"])
    rows: list[dict[str, Value]] = [
        {"footprint": "Python that does nothing: seconds", "value": bare},
        {
            "footprint": "`deployer --help`: seconds",
            "value": _median_seconds([str(Path(sys.executable).with_name("deployer")), "--help"]),
        },
    ]
    with tempfile.TemporaryDirectory(prefix="deployer-bench-") as name:
        home = Installation(Path(name), {"DEPLOYER_CONCURRENCY": "1"})
        with home.running():
            time.sleep(_REST_SECONDS)
            for role, words in _ROLES.items():
                own = [pid for pid in descendants(home.pid) if words in command_of(pid)]
                pids = sorted({each for pid in own for each in descendants(pid)})
                rows.append({"footprint": f"{role}: processes", "value": len(pids)})
                for what in ("Rss", "Pss"):
                    megabytes = sum(_memory(pid, what) for pid in pids)
                    rows.append({"footprint": f"{role}: {what}, all its processes: MB", "value": megabytes})
    yield Table("footprint", rows)


def _median_seconds(command: list[str]) -> float:
    times = []
    for _ in range(_STARTS):
        started = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def _memory(pid: int, what: str) -> float:
    report = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(report.partition(f"\n{what}:")[2].split()[0]) * 1024 / 1e6
