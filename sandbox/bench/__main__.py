"""`make bench`: measures deployer next to other programs, all in one run on the same cores."""

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from sandbox.bench.footprint import measure_footprint
from sandbox.bench.growth import measure_growth
from sandbox.bench.lanes import measure_lanes
from sandbox.bench.operations import measure_operations
from sandbox.bench.orders import measure_orders
from sandbox.bench.receiver_load import measure_receivers
from sandbox.bench.tables import Table, replace_tables

_SECTIONS = ("receivers", "lanes", "orders", "footprint", "operations", "growth")
_CACHE = Path(".sandbox/bench")  # the alternatives that have been installed


def _measure(section: str, given: argparse.Namespace, directory: Path) -> Iterator[Table]:
    if section == "receivers":
        yield from measure_receivers(directory, given.rounds, given.seconds, download=given.download)
    elif section == "lanes":
        yield from measure_lanes(directory, given.tasks)
    elif section == "orders":
        yield from measure_orders(given.settling)
    elif section == "footprint":
        yield from measure_footprint()
    elif section == "growth":
        yield Table("growth", list(measure_growth(given.environments)))
    else:
        rows = measure_operations(given.times, given.waiting)
        yield Table(
            "operations",
            [
                {"operation": each.what, "us": each.micros, "ratio": each.ratio, "to": each.plain}
                for each in rows
            ],
        )


def main() -> int:
    """Measure and print; return the exit status."""
    parser = argparse.ArgumentParser(prog="sandbox.bench", description=__doc__)
    parser.add_argument(
        "--only", choices=_SECTIONS, action="append", help="measure only this; can be repeated"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of the receivers; the median counts")
    parser.add_argument("--seconds", type=float, default=1.5, help="seconds of each load of a receiver")
    parser.add_argument("--tasks", type=int, default=2000, help="queued tasks in the measurement of queues")
    parser.add_argument("--settling", type=int, default=1000, help="environments that settle during pushes")
    parser.add_argument("--times", type=int, default=200, help="calls in each round of the operations")
    parser.add_argument("--waiting", type=int, default=2000, help="queue items in a full queue")
    parser.add_argument(
        "--environments", type=int, default=10_000, help="environments in the largest measurement"
    )
    parser.add_argument(
        "--no-download", dest="download", action="store_false", help="compare only with Python programs"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--update", type=Path, metavar="PAGE", help="also replace the tables of this page")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process is left running
    started, tables = time.monotonic(), list[Table]()
    cache = _CACHE.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    for section in given.only or _SECTIONS:
        for table in _measure(section, given, cache):
            tables.append(table)
            if not given.json:
                print(f"{table.markdown()}\n", flush=True)
    if given.update:
        replace_tables(given.update, tables)
    if given.json:
        print(json.dumps({table.name: list(table.rows) for table in tables}, indent=2))
    else:
        print(f"measured in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
