"""A minute of faults breaks no promise, and the checker sees every deliberate breakage."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.__main__ import told
from tests.chaos.run import Chaos, Plan, Report

KILLS = ("kill a worker", "kill the supervised worker")
RESTARTS = ("restart a worker", "restart the supervised worker", "restart the scheduler", "reload the web")
# what changes anything: whoever is given a lane too soon looks, and is at this while it is under way
ORDERS = ("CreateStack", "UpdateStack", "StartPipelineExecution")
BREAKAGES: dict[str, dict[str, Any]] = {
    "fencing": {
        "faults": ("slow AWS", "stop a worker"),
        "slow": 1,
        "slow_calls": ORDERS,
        "seconds": 20,
        "repositories": 2,  # others wait for the lane that is given up
    },
    "early-ack": {"faults": ("slow AWS", *KILLS), "slow": 0.4, "seconds": 12},
    "never-renewed": {"faults": ("slow AWS",), "slow": 0.8, "slow_calls": ORDERS, "seconds": 20},
    "seen-first": {"faults": ("mend",), "seconds": 8},
    "payload-is-truth": {
        "faults": ("mix webhooks up",),
        "seconds": 20,
        "habits": ("new", "burst"),
        "pace": 0.3,
        "patience": 60,  # a push that comes after the next one waits for GitHub to catch up
    },
    "unwarned": {
        "faults": ("mend",),
        "seconds": 40,  # what is made in the first half ends in it
        "habits": ("new",),
        "repositories": 12,
        "pace": 1,
    },
    "no-supersede": {"faults": ("mix webhooks up",), "seconds": 20, "habits": ("tag",), "repositories": 2},
}

QUICK = ("seen-first", "fencing")  # what `make test` looks at; `make mutants` looks at the others
PROMISES = {"unwarned": "nothing ends without a warning"}  # where it must be this one


@pytest.mark.timeout(400)
def test_a_minute_of_faults_breaks_no_promise(tmp_path: Path) -> None:
    report = Chaos(Plan(60, seed=20), tmp_path).run()
    assert not report.violations, told(report)
    assert sum(report.deliveries.values()) > 50, told(report)
    assert sum(report.faults.values()) > 15, told(report)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Report]]]:
    """Two histories without faults but one, side by side: they wait most of the time."""
    plans = {
        "restarts": Plan(20, seed=1, repositories=12, pace=0.3, faults=RESTARTS),
        "wipe": Plan(20, seed=1, repositories=12, pace=0.3, faults=("mend",), wipe=True),
    }
    with ThreadPoolExecutor(len(plans)) as pool:
        yield {
            name: pool.submit(Chaos(plan, tmp_path_factory.mktemp(name)).run) for name, plan in plans.items()
        }


@pytest.mark.timeout(200)
def test_a_rolling_restart_under_load_loses_and_doubles_nothing(calm: dict[str, Future[Report]]) -> None:
    report = calm["restarts"].result()
    assert not report.violations, told(report)
    assert set(report.deliveries) == {"202"}, told(report)
    assert set(report.faults) == set(RESTARTS), told(report)


@pytest.mark.timeout(200)
def test_what_a_wiped_redis_held_is_restored(calm: dict[str, Future[Report]]) -> None:
    report = calm["wipe"].result()
    assert not report.violations, told(report)


@pytest.mark.timeout(300)
def test_a_lost_delivery_and_two_calls_at_once_are_seen(tmp_path: Path) -> None:
    _all_are_seen(tmp_path, QUICK)


@pytest.mark.mutants
@pytest.mark.timeout(900)
def test_every_other_breakage_is_seen(tmp_path: Path) -> None:
    _all_are_seen(tmp_path, [each for each in BREAKAGES if each not in QUICK])


def _all_are_seen(directory: Path, breakages: Sequence[str]) -> None:
    with ThreadPoolExecutor(2) as pool:  # they wait most of the time
        seen = dict(zip(breakages, pool.map(lambda each: _seen(directory, each), breakages), strict=True))
    assert all(seen.values()), seen


def _seen(directory: Path, breakage: str) -> list[str]:
    """The promises that a broken product breaks, within at most five histories: it has to be hit by a fault."""
    for seed in range(3, 8):
        how = {"seed": seed, "repositories": 5, "pace": 0.4, "patience": 30, "breakage": breakage}
        report = Chaos(Plan(**{**how, **BREAKAGES[breakage]}), directory / f"{breakage}-{seed}").run()
        promises = [promise for each in report.violations for promise in (each.promises or [each.promise])]
        if promises and PROMISES.get(breakage, promises[0]) in promises:
            return promises
    return []
