"""The scale measurement on real processes, of which certain counts must stay within bounds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORIES, ENVIRONMENTS, PUSHES = 12, 2, 3


def measure(directory: Path, *options: str) -> dict[str, float]:
    size = [f"--repositories={REPOSITORIES}", f"--environments={ENVIRONMENTS}", "--processes=2"]
    command = [
        sys.executable,
        "-m",
        "sandbox.scale",
        *size,
        "--latency=0.01",
        "--rest=0.1",
        "--json",
        *options,
    ]
    env = {**os.environ, "TMPDIR": str(directory)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240, env=env)
    assert done.returncode == 0, done.stderr
    assert list(directory.iterdir()) == []
    return dict(json.loads(done.stdout))


@pytest.mark.timeout(300)  # the measurement takes minutes on a busy machine
def test_calls_do_not_grow_with_the_number_of_environments(tmp_path: Path) -> None:
    found = measure(tmp_path)
    assert found["environments"] == REPOSITORIES * ENVIRONMENTS
    asked, scheduled = "resync of all by a person", "scheduled resync of all, with pushes"
    # one listing for the command, two for workers that start together, one for a worker that needs a newer one
    assert 1 <= found[f"{asked}: calls to AWS, pages of a listing"] <= 6
    assert found[f"{scheduled}: calls to AWS, pages of a listing"] == 0
    for what in (asked, scheduled):
        assert REPOSITORIES <= found[f"{what}: calls to GitHub"] < 12 * (REPOSITORIES + PUSHES)
        assert found[f"{what}: calls to GitHub by deployer's own count"] == found[f"{what}: calls to GitHub"]
        assert found[f"{what}: tasks"] >= REPOSITORIES
    assert found[f"{scheduled}: calls to AWS by deployer's own count"] == found[f"{scheduled}: calls to AWS"]
    assert found["Redis: bytes an environment, its record and one delivery"] < 6000


@pytest.mark.timeout(300)
def test_branches_that_are_pushed_at_once_all_get_their_pipelines(tmp_path: Path) -> None:
    branches = 2 * REPOSITORIES
    found = measure(tmp_path, f"--burst={branches}")
    assert found["calls of CreateStack until then"] == branches
    assert found["calls of DescribeStacks until then"] <= 3 * branches
