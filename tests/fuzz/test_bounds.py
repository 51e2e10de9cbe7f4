"""The worst inputs end as they should, within their budget and a bounded memory, each in a process of its own.

All of the check of a `deploy/` folder is bounded by a count of steps, the same on every machine: what is not refused
took less. Most inputs, and their budgets, are a fourth of what they may be (see `tests.fuzz.bounded`). At full size the
slowest takes 1.5 s of CPU here; the bound of seconds only finds work that is not counted. A file of 1 MB
may take 700 MB of addresses, of which it uses 250; a payload of 25 MB may take 1,400, since JSON of nothing but `{}`
becomes 700 MB of Python's objects, and only who knows the webhook's secret can send it.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import large
from tests.fuzz.bounded import MEMORY, SECONDS

ENDS = {
    **{("template", name): end for name, (_, end) in large.TEMPLATES.items()},
    **{("parameters", name): end for name, (_, end) in large.PARAMETERS.items()},
    **{("payload", name): end for name, (_, _, end) in large.PAYLOADS.items()},
}


@pytest.fixture(scope="module")
def results() -> dict[tuple[str, str], tuple[str, float, int, float]]:
    """How each input ended, the seconds of CPU, the MB of memory and the share of its budget."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.bounded"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    return {(kind, name): (ended, *more) for kind, name, ended, *more in rows}


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("kind", "name"), ENDS)
def test_the_worst_inputs_end_in_bounds(
    results: dict[tuple[str, str], tuple[str, float, int, float]], kind: str, name: str
) -> None:
    ended, seconds, memory, share = results[kind, name]
    assert ENDS[kind, name] in ended
    assert ended.isprintable()
    assert len(ended) <= 600
    assert share <= 1 or ended != "release"
    assert seconds <= SECONDS[kind]
    assert memory <= MEMORY[kind]


# each end is told above; here, that the command line tells it: one refused unread, one by the reader, one afterwards
@pytest.mark.parametrize("name", ["1 MB and a byte", "deep lists", "small values"])
def test_validate_tells_one_line(tmp_path: Path, name: str) -> None:
    make, end = large.TEMPLATES[name]
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "pipeline.yml").write_bytes(make())
    ran = subprocess.run(
        [sys.executable, "-m", "deployer", "validate", tmp_path], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    (line,) = ran.stdout.splitlines()
    assert end in line
    assert ran.stderr.splitlines() == [
        "cfn-lint: skipped until this is fixed",
        f"deployer: {tmp_path}/deploy has 1 problem",
    ]
