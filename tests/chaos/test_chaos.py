"""A minute of faults breaks no promise, and the checker sees every deliberate breakage."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.chaos.__main__ import told
from tests.chaos.run import Chaos, Plan, Report

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


@pytest.mark.timeout(400)
def test_every_deliberate_breakage_is_seen(tmp_path: Path) -> None:
    def broken(breakage: str) -> Report:
        faults, seconds = BREAKAGES[breakage]
        plan = Plan(seconds, seed=3, repositories=5, pace=0.4, faults=faults, patience=20, breakage=breakage)
        return Chaos(plan, tmp_path / breakage).run()

    with ThreadPoolExecutor(2) as pool:  # they wait most of the time
        reports = dict(zip(BREAKAGES, pool.map(broken, BREAKAGES), strict=True))
    unseen = [told(report) for report in reports.values() if not report.violations]
    assert not unseen, "\n".join(unseen)
