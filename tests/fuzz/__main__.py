"""`make fuzz`: runs each target under atheris for some time, or one target once with `--input`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.runner import MISSING, count_inputs, has_atheris, run_fuzzer
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run the targets; return 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="tests.fuzz", description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}; by default all"
    )
    parser.add_argument("--seconds", type=int, default=60, help="seconds for each target (60)")
    parser.add_argument("--input", type=Path, help="a file that one target reads once")
    parser.add_argument(
        "--scratch",
        type=Path,
        help="directory for new inputs, which are also read; by default a new directory",
    )
    given = parser.parse_args()
    if unknown := [each for each in given.targets if each not in TARGETS]:
        parser.error(f"no target {unknown[0]}; the targets are {', '.join(TARGETS)}")
    if given.seconds < 1:
        parser.error("--seconds must be at least 1")
    if given.input:
        if len(given.targets) != 1 or not given.input.is_file():
            parser.error("--input requires one file and one target")
        TARGETS[given.targets[0]](given.input.read_bytes())
        print(f"{given.targets[0]}: {given.input} breaks nothing")
        return 0
    if not has_atheris():
        raise SystemExit(MISSING)
    scratch = given.scratch or Path(tempfile.mkdtemp(prefix="deployer-fuzz-"))
    found = 0
    for target in given.targets or TARGETS:
        finding = run_fuzzer(target, given.seconds, scratch)
        print(finding or f"{target}: nothing found in {count_inputs(target, scratch):,} inputs", flush=True)
        found += finding is not None
    print(f"{found} findings; new inputs and logs are in {scratch}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
