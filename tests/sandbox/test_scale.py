"""The measurements of scale run; what they say is for people to read."""

import json
import subprocess
import sys


def test_what_must_not_grow_with_the_number_of_environments() -> None:
    command = [sys.executable, "-m", "sandbox.scale", "--repositories=25", "--environments=4", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["environments"] == 100
    assert found["scheduled resync of all with a listing at hand: calls to AWS"] == 0
    assert found["scheduled resync of all: calls to GitHub"] == 25
