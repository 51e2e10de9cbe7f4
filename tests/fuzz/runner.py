"""The runner of targets under atheris."""

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
INPUT_SECONDS = 10  # a longer input is a finding; the slowest known input of this size takes a tenth
INPUT_BYTES = (
    16_384  # test_bounds.py tests large inputs, because a fuzzer creates only few inputs of megabytes
)
MEMORY = 1024  # MB of address space; a target needs 160
_START_SECONDS = 60  # for imports and the end of the process
MISSING = (
    "atheris is not installed: it has wheels for CPython 3.11 to 3.13 on Linux x86_64 only;"
    " make test replays the corpus without it"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding of the fuzzer.

    Attributes:
        target: name of the target.
        path: the input, or None if the process ended without one.
        output: the end of the output of the process.
    """

    target: str
    path: Path | None
    output: str

    def __str__(self) -> str:
        if self.path is None:
            return f"{self.target}: ended without an input\n{self.output}"
        again = f"{sys.executable} -m tests.fuzz --input {self.path} {self.target}"
        return f"{self.target}: FOUND {self.path}\n{self.output}\nrepeat with: {again}"


def has_atheris() -> bool:
    """Whether atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def run_fuzzer(
    target: str,
    seconds: int,
    scratch: Path,
    *,
    inputs: int = -1,
    seed: int = 0,
    module: str = "tests.fuzz.targets",
) -> Finding | None:
    """Run one target under atheris, starting from its corpus.

    Args:
        target: its name in TARGETS of the module.
        seconds: the time limit.
        scratch: directory for findings; new interesting inputs go to its subdirectory with the name of the target.
        inputs: the maximum number of inputs, including the corpus; -1 for no maximum.
        seed: seed of all random choices; 0 for a random seed.
        module: the module of the target.
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


def count_inputs(target: str, scratch: Path) -> int:
    """The number of inputs in the last run of a target."""
    words = (scratch / f"{target}.log").read_text(errors="replace").split()
    return int(words[words.index("stat::number_of_executed_units:") + 1])
