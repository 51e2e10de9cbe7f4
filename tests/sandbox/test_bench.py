"""The benchmark reports ratios; the numbers themselves are not tested."""

import json
import subprocess
import sys


def test_every_measurement_has_a_ratio() -> None:
    command = [sys.executable, "-m", "sandbox.bench", "--times=2", "--waiting=20", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 6
    assert all(row["ratio"] > 0 for row in rows)
