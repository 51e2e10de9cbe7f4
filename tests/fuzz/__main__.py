"""`make fuzz`: each target for a while under atheris, one after another; or one target once, with `--input`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.runner import MISSING, available, fuzz, runs
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run; returns 1 if something was found."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--input", type=Path, help="a file to give to one target, once")
    parser.add_argument(
        "--scratch", type=Path, help="where new inputs go, and are taken from; a new one by default"
    )
    given = parser.parse_args()
    if unknown := [each for each in given.targets if each not in TARGETS]:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if given.seconds < 1:
        parser.error("--seconds must be at least 1")
    if given.input:
        if len(given.targets) != 1 or not given.input.is_file():
            parser.error("--input takes a file, and one target")
        TARGETS[given.targets[0]](given.input.read_bytes())
        print(f"{given.targets[0]}: {given.input} breaks nothing")
        return 0
    if not available():
        raise SystemExit(MISSING)
    scratch = given.scratch or Path(tempfile.mkdtemp(prefix="deployer-fuzz-"))
    found = 0
    for target in given.targets or TARGETS:
        finding = fuzz(target, given.seconds, scratch)
        print(finding or f"{target}: nothing found in {runs(target, scratch):,} inputs", flush=True)
        found += finding is not None
    print(f"{found} findings; new inputs and logs are in {scratch}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
