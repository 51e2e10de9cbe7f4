"""Runs targets: under atheris for some seconds, or once with one input."""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
INPUT_SECONDS = 10  # what takes longer is a finding; the slowest input of this size takes a tenth of it
INPUT_BYTES = (
    16_384  # large inputs are tried by test_bounds.py: a fuzzer that makes megabytes makes few of them
)
MEMORY = 1024  # MB of addresses; a target takes 160
_START_SECONDS = 60  # to import, and to end
MISSING = (
    "atheris is not installed: it has wheels for CPython 3.11 to 3.13 on Linux x86_64 only;"
    " make test replays the corpus without it"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the fuzzer found.

    Attributes:
        target: which was run.
        path: the input, or None where the process ended without naming one.
        output: what the process printed last.
    """

    target: str
    path: Path | None
    output: str

    def __str__(self) -> str:
        if self.path is None:
            return f"{self.target}: ended without an input\n{self.output}"
        again = f"{sys.executable} -m tests.fuzz --input {self.path} {self.target}"
        return f"{self.target}: FOUND {self.path}\n{self.output}\nrepeat it with: {again}"


def available() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def fuzz(
    target: str,
    seconds: int,
    scratch: Path,
    *,
    inputs: int = -1,
    seed: int = 0,
    module: str = "tests.fuzz.targets",
) -> Finding | None:
    """Run one target under atheris, from its corpus.

    Args:
        target: its name in the module's TARGETS.
        seconds: how long at most.
        scratch: new interesting inputs go to a folder of the target in it, findings beside it.
        inputs: how many at most, with those of the corpus; -1 for as many as there is time for.
        seed: of every choice; 0 for a random one.
        module: where the target is.
    """
    grown = scratch / target
    grown.mkdir(parents=True, exist_ok=True)
    seeds = [str(found) for found in [CORPUS / target] if found.is_dir()]
    command = [
        sys.executable, "-m", "tests.fuzz.child", module, target,
        f"-max_total_time={seconds}", f"-timeout={INPUT_SECONDS}", "-rss_limit_mb=0",
        f"-max_len={INPUT_BYTES}", f"-runs={inputs}", f"-seed={seed}", f"-dict={HERE / 'tokens.dict'}",
        f"-artifact_prefix={scratch}/{target}-", "-print_final_stats=1",
        str(grown), *seeds,
    ]  # fmt: skip
    log = scratch / f"{target}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=HERE.parents[1], stdout=output, stderr=output)
        try:
            code = process.wait(seconds + INPUT_SECONDS + _START_SECONDS)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            process.kill()
            process.wait()
    if code == 0:
        return None
    made = sorted(scratch.glob(f"{target}-*"))
    return Finding(target, made[0] if made else None, log.read_text(errors="replace")[-4000:])


def runs(target: str, scratch: Path) -> int:
    """How many inputs the last run of a target tried."""
    words = (scratch / f"{target}.log").read_text(errors="replace").split()
    return int(words[words.index("stat::number_of_executed_units:") + 1])
