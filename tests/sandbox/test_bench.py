"""The benchmark measures every section; the numbers themselves are not tested."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sandbox.bench.lane_log import LaneLog, read_log
from sandbox.bench.tables import Table, replace_tables


def measure(tmp_path: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "sandbox.bench", "--no-download", "--json", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_operation_has_a_ratio(tmp_path: Path) -> None:
    found = measure(tmp_path, "--only=operations", "--times=2", "--waiting=20")
    assert len(found["operations"]) == 6
    assert all(row["ratio"] > 0 for row in found["operations"])


def test_every_operation_is_measured_at_each_size(tmp_path: Path) -> None:
    found = measure(tmp_path, "--only=growth", "--environments=1000")
    assert {len(row) for row in found["growth"]} == {10}
    push = next(row for row in found["growth"] if row["operation"].startswith("a push"))
    assert len({value for name, value in push.items() if name.endswith(": commands")}) == 1


def test_every_receiver_is_measured_and_redis_holds_what_it_accepted(tmp_path: Path) -> None:
    found = measure(tmp_path, "--only=receivers", "--rounds=1", "--seconds=0.2")
    names = [row["receiver"] for row in found["receivers"]]
    assert len(names) == 8
    assert sum("deployer" in name for name in names) == 4
    assert all(row["pushes/s"] > 0 for row in found["receivers"])
    assert {row["load"] for row in found["latencies"]} == {
        "half of its peak", "peak, 1,000 slow senders", "half of its peak, 1,000 slow senders",
    }  # fmt: skip


def test_deployer_keeps_the_order_of_every_repository(tmp_path: Path) -> None:
    found = measure(tmp_path, "--only=lanes", "--tasks=60")
    (deployer,) = [row for row in found["lanes"] if "deployer" in row["tasks of 5 ms"]]
    assert (deployer["order violations"], deployer["overlaps"], deployer["wasted runs"]) == (0, 0, 0)


def test_a_log_of_tasks_shows_wrong_order_overlaps_and_wasted_runs(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LaneLog(path)
    log.add_message()
    log.add_wasted()
    for number, began, ended in ((1, 0, 10), (3, 5, 15), (2, 20, 30)):
        log._append(f"task one {number} {began} {ended}")
    log._append("task two 1 5 10")
    found = read_log(path)
    assert (found.tasks, found.messages, found.wasted) == (4, 1, 1)
    assert (found.order_violations, found.overlaps) == (1, 1)
    assert found.seconds == pytest.approx(30e-9)
    assert found.last_lane == pytest.approx(5e-9)


def test_a_table_replaces_the_former_one_in_its_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before\n<!-- figures: one -->\n| old |\n<!-- end of figures -->\nAfter\n")
    replace_tables(
        page, [Table("one", [{"what": "a", "value": 1234.5}, {"what": "b", "value": None}], ["A note"])]
    )
    assert page.read_text() == (
        "Before\n<!-- figures: one -->\n| what | value |\n| --- | --- |\n| a | 1,234 |\n| b |  |\n\nA note\n\n"
        "<!-- end of figures -->\nAfter\n"
    )
    with pytest.raises(ValueError, match="no line <!-- figures: two -->"):
        replace_tables(page, [Table("two", [{"what": "a"}])])
