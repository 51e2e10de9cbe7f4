"""`python -m sandbox.scale`: measures what an organization costs at rest, during a resync and per push.

Everything runs as real processes: `deployer up --sandbox` with its Redis, web, scheduler and worker processes, against
the simulated GitHub with one bare git repository for each repository, and the simulated AWS. Both answer over HTTP
with the latency of the real services. deployer deploys one environment; all other environments are copies of its
stack and record.
"""

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from sandbox.scale.burst import Burst
from sandbox.scale.measurements import Measurements
from sandbox.scale.organization import Organization, Size
from sandbox.waiting import WaitTimeoutError


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sandbox.scale", description=__doc__)
    parser.add_argument("--repositories", type=int, default=1000)
    parser.add_argument("--environments", type=int, default=10, help="environments of each repository")
    parser.add_argument("--processes", type=int, default=4, help="worker processes")
    parser.add_argument(
        "--latency", type=float, default=0.05, help="seconds that each call to GitHub or AWS takes"
    )
    parser.add_argument(
        "--rest", type=float, default=30, help="seconds for which idle processes are measured"
    )
    parser.add_argument(
        "--burst", type=int, default=0, help="measure only so many new branches, pushed within a minute"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    size = Size(
        given.repositories, given.environments, given.processes, given.latency, given.rest, given.burst
    )
    if size.repositories < 4 or size.environments < 1:
        parser.error("--repositories must be at least 4, --environments at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no process is left running
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="deployer-scale-") as name:
        organization = Organization(size, Path(name))
        try:
            with organization.home.running():
                organization.start()
                measured = Burst(organization, size.burst) if size.burst else Measurements(organization)
                for what, number in measured.measure():
                    found[what] = number
                    if not given.json:
                        _print_row(what, number, first=len(found) == 1)
        except (WaitTimeoutError, RuntimeError) as error:
            sys.stderr.write(f"{organization.home.output()[-6000:]}\nsandbox.scale: {error}\n")
            return 1
    if given.json:
        print(json.dumps(found, indent=2))
    return 0


def _print_row(what: str, number: float, *, first: bool) -> None:
    """Print a row of the table in docs/scale.md."""
    if first:
        print("| measured | |\n|---|---|")
    print(f"| {what} | {number:,.0f} |" if number >= 100 else f"| {what} | {number:.3g} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
