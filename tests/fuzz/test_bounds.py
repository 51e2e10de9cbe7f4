"""The worst inputs stay within their budget, each in a separate process with limited memory.

A budget of steps bounds the whole check of a `deploy/` folder, with the same count on every machine; an accepted folder
needed fewer steps. Most inputs and their budgets have a fourth of the allowed size (see `tests.fuzz.bounded`). At full
size the slowest input takes 1.5 s of CPU here; the limit of seconds only finds work that is not counted. A file of 1 MB
may need 700 MB of address space, of which it uses 250. A payload of 25 MB may need 1,400 MB, because JSON that consists
of `{}` becomes 700 MB of Python objects; only somebody who knows the webhook secret can send it.
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
    """For each input its result, the seconds of CPU, the MB of memory and the share of its budget."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.bounded"], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    rows = [json.loads(line) for line in ran.stdout.splitlines()]
    return {(kind, name): (ended, *more) for kind, name, ended, *more in rows}


@pytest.mark.timeout(400)
@pytest.mark.parametrize(("kind", "name"), ENDS)
def test_the_worst_inputs_stay_within_their_bounds(
    results: dict[tuple[str, str], tuple[str, float, int, float]], kind: str, name: str
) -> None:
    ended, seconds, memory, share = results[kind, name]
    assert ENDS[kind, name] in ended
    assert ended.isprintable()
    assert len(ended) <= 600
    assert share <= 1 or ended != "release"
    assert seconds <= SECONDS[kind]
    assert memory <= MEMORY[kind]


# The command line prints the result too: of one input that is rejected unread, one rejected by the reader, one later.
@pytest.mark.parametrize("name", ["1 MB and a byte", "deep lists", "small values"])
def test_validate_prints_one_line(tmp_path: Path, name: str) -> None:
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
