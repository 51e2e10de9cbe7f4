"""`python -m tests.baseline`: record again what the tests of this folder compare, and print what has changed.

`python -m tests.baseline collected` prints how many tests each folder has, and how that differs from the recorded
number; with `--write` it records the new numbers.
"""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests.baseline.snapshot import FOLDER, as_text, differences, snapshot

COLLECTED = FOLDER / "collected.json"


def record() -> None:
    """Write the files of the snapshot."""
    for name, part in snapshot().items():
        print(differences(name, part) or f"{name}.json is unchanged")
        (FOLDER / f"{name}.json").write_text(as_text(part))


def collected() -> dict[str, int]:
    """The number of tests in each folder of `tests/`, as pytest collects them."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=FOLDER.parents[1])
    if done.returncode:
        raise SystemExit(f"collecting the tests ended with {done.returncode}: {done.stdout[-2000:]}")
    counts: Counter[str] = Counter()
    for line in done.stdout.splitlines():  # `tests/unit/model/test_refs.py: 30`
        file, colon, number = line.rpartition(": ")
        if colon and file.startswith("tests/"):
            counts[Path(file).parts[1]] += int(number)
    return dict(sorted(counts.items()))


def compare(*, write: bool) -> None:
    """Print the numbers of tests beside the recorded ones."""
    before: dict[str, int] = json.loads(COLLECTED.read_text()) if COLLECTED.exists() else {}
    now = collected()
    rows = [(name, before.get(name, 0), now.get(name, 0)) for name in sorted({*before, *now})]
    rows.append(("all", sum(before.values()), sum(now.values())))
    print(f"{'folder':12}{'recorded':>10}{'now':>8}{'change':>8}")
    for name, old, new in rows:
        print(f"{name:12}{old:>10}{new:>8}{new - old:>+8}")
    if write:
        COLLECTED.write_text(as_text(now))


if __name__ == "__main__":
    if sys.argv[1:2] == ["collected"]:
        compare(write="--write" in sys.argv)
    else:
        record()
