"""A minute of injected faults breaks no promise; the checker detects every deliberate breakage."""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import as_text
from tests.chaos.run import Chaos, Plan, Report
from tests.threads import run_at_once

KILLS = ("kill a worker", "kill the supervised worker")
RESTARTS = ("restart a worker", "restart the supervised worker", "restart the scheduler", "reload the web")
# calls that change something: a worker that gets a queue too early makes such a call while the other worker's runs
ORDERS = ("CreateStack", "UpdateStack", "StartPipelineExecution")
BREAKAGES: dict[str, dict[str, Any]] = {
    "fencing": {
        "faults": ("slow AWS", "stop a worker"),
        "slow": 1,
        "slow_calls": ORDERS,
        "seconds": 20,
        "repositories": 2,  # so that other items wait for the queue whose worker is lost
    },
    "early-ack": {"faults": ("slow AWS", *KILLS), "slow": 0.4, "seconds": 12},
    "never-renewed": {"faults": ("slow AWS",), "slow": 0.8, "slow_calls": ORDERS, "seconds": 20},
    "seen-first": {"faults": ("clear faults",), "seconds": 8},
    "payload-is-truth": {
        "faults": ("mix webhooks up",),
        "seconds": 20,
        "habits": ("new", "burst"),
        "pace": 0.3,
        "patience": 60,  # a webhook that arrives after the next one waits until GitHub's API has caught up
    },
    "unwarned": {
        "faults": ("clear faults",),
        "seconds": 40,  # branches of the first half expire during the run
        "habits": ("new",),
        "repositories": 12,
        "pace": 1,
    },
    "no-supersede": {"faults": ("mix webhooks up",), "seconds": 20, "habits": ("tag",), "repositories": 2},
}

QUICK = ("seen-first", "fencing")  # these run in `make test`, the others in `make mutants`
PROMISES = {
    "unwarned": "no environment expires without a warning"
}  # breakages for which this promise must be among the broken ones


@pytest.mark.timeout(400)
def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    report = Chaos(Plan(60, seed=20), tmp_path).run()
    assert not report.violations, as_text(report)
    assert sum(report.deliveries.values()) > 50, as_text(report)
    assert sum(report.faults.values()) > 15, as_text(report)


@pytest.fixture(scope="module")
def single_fault_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Future[Report]]:
    """Two runs with one kind of fault each, in parallel, because they wait most of the time."""
    plans = {
        "restarts": Plan(20, seed=1, repositories=12, pace=0.3, faults=RESTARTS),
        "wipe": Plan(20, seed=1, repositories=12, pace=0.3, faults=("clear faults",), wipe=True),
    }
    jobs = {name: Chaos(plan, tmp_path_factory.mktemp(name)).run for name, plan in plans.items()}
    return run_at_once(jobs, len(jobs))


@pytest.mark.timeout(400)  # the first of the two tests waits for both runs
def test_a_rolling_restart_under_load_loses_or_duplicates_nothing(
    single_fault_runs: dict[str, Future[Report]],
) -> None:
    report = single_fault_runs["restarts"].result()
    assert not report.violations, as_text(report)
    assert set(report.deliveries) == {"202"}, as_text(report)
    assert set(report.faults) == set(RESTARTS), as_text(report)


@pytest.mark.timeout(400)
def test_a_wiped_redis_is_restored(single_fault_runs: dict[str, Future[Report]]) -> None:
    report = single_fault_runs["wipe"].result()
    assert not report.violations, as_text(report)


@pytest.mark.timeout(600)
def test_a_lost_delivery_or_two_simultaneous_calls_are_detected(tmp_path: Path) -> None:
    _assert_all_detected(tmp_path, QUICK)


@pytest.mark.mutants
@pytest.mark.timeout(900)
def test_every_other_breakage_is_detected(tmp_path: Path) -> None:
    _assert_all_detected(tmp_path, [each for each in BREAKAGES if each not in QUICK])


def _assert_all_detected(directory: Path, breakages: Sequence[str]) -> None:
    with ThreadPoolExecutor(2) as pool:  # the runs wait most of the time
        detected = dict(
            zip(breakages, pool.map(lambda each: _broken_promises(directory, each), breakages), strict=True)
        )
    assert all(detected.values()), detected


def _broken_promises(directory: Path, breakage: str) -> list[str]:
    """The promises that a broken product breaks in at most five runs, because a fault must meet the breakage first."""
    for seed in range(3, 8):
        how = {"seed": seed, "repositories": 5, "pace": 0.4, "patience": 30, "breakage": breakage}
        report = Chaos(Plan(**{**how, **BREAKAGES[breakage]}), directory / f"{breakage}-{seed}").run()
        promises = [promise for each in report.violations for promise in (each.promises or [each.promise])]
        if promises and PROMISES.get(breakage, promises[0]) in promises:
            return promises
    return []
