"""The worst inputs end as they should, within 20 s of CPU and a bounded memory, each in a process of its own.

The slowest takes 2 s here; ten times as much leaves room for a slow machine, and is a third of a lease. A file of 1 MB
may take 700 MB of addresses, of which it uses 130; a payload of 25 MB may take 1,400, since JSON of nothing but `{}`
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
def results() -> dict[tuple[str, str], tuple[str, float, int]]:
    """How each input ended, the seconds of CPU and the MB of memory."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.bounded"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    return {(kind, name): (ended, seconds, memory) for kind, name, ended, seconds, memory in rows}


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("kind", "name"), ENDS)
def test_the_worst_inputs_end_in_bounds(
    results: dict[tuple[str, str], tuple[str, float, int]], kind: str, name: str
) -> None:
    ended, seconds, memory = results[kind, name]
    assert ENDS[kind, name] in ended
    assert ended.isprintable()
    assert len(ended) <= 600
    assert seconds <= SECONDS
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
        "cfn-lint: skipped until this is mended",
        f"deployer: {tmp_path}/deploy has 1 problem",
    ]
