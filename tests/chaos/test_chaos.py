"""A minute of faults breaks no promise, and the checker sees every deliberate breakage."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.__main__ import told
from tests.chaos.run import Chaos, Plan

KILLS = ("kill a worker", "kill the supervised worker")
BREAKAGES = {
    "fencing": (("slow AWS", "stop a worker"), 25),
    "early-ack": (KILLS, 12),
    "never-renewed": (("slow AWS",), 20),
    "seen-first": (("mend",), 8),
    "payload-is-truth": (("mix webhooks up",), 20),
}


@pytest.mark.timeout(400)
def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    report = Chaos(Plan(60, seed=20), tmp_path).run()
    assert not report.violations, told(report)
    assert sum(report.deliveries.values()) > 50, told(report)
    assert sum(report.faults.values()) > 15, told(report)


@pytest.mark.timeout(600)
def test_every_deliberate_breakage_is_seen(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:  # they wait most of the time
        seen = dict(zip(BREAKAGES, pool.map(lambda each: _seen(tmp_path, each), BREAKAGES), strict=True))
    assert all(seen.values()), seen


def _seen(directory: Path, breakage: str) -> list[str]:
    """The promises that a broken product breaks, within at most three histories: it has to be hit by a fault."""
    faults, seconds = BREAKAGES[breakage]
    for seed in (3, 4, 5):
        plan = Plan(seconds, seed, repositories=5, pace=0.4, faults=faults, patience=12, breakage=breakage)
        report = Chaos(plan, directory / f"{breakage}-{seed}").run()
        if report.violations:
            return [each.promise for each in report.violations]
    return []
