"""Reads each large input in a separate process with limits, which prints the result as a line of JSON.

A line has the kind and the name of the input, its result, the seconds of CPU, the MB of memory, and the share of its
budget (of steps or of characters, whichever is larger).

Most inputs are scaled down, because all inputs at full size take half a minute of CPU; `--whole` reads them at full
size.
"""

import gc
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from functools import partial

from deployer.github.webhook import parse_delivery
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import DeployerError
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.templates.evaluation.budget import CHARACTERS, STEPS, EvaluationBudget
from deployer.templates.folder_check import FolderQuestion, examine_folder
from deployer.templates.release import build_release
from tests.fuzz import large

_MB = 1024 * 1024
SCALE = 4
"""Most inputs and their budgets have a fourth of the allowed size, because steps are linear in the size."""
WHOLE = {
    *(("template", name) for name in ("1 MB", "1 MB and a byte", "small keys", "one long text", "policies")),
    ("parameters", "long key"),
    ("payload", "wide"),
}
"""Inputs at full size: one that no budget ends, the slowest one, and those that need the most memory."""
SECONDS = {"template": 8, "parameters": 8, "payload": 20}  # seconds of CPU
SCALED_SECONDS = {
    "template": 3,
    "parameters": 3,
    "payload": 5,
}  # less than at full size, because work may be quadratic
MEMORY = {"template": 700, "parameters": 700, "payload": 1400}  # MB of address space
_TEMPLATE = b"Parameters: {a: {Default: 1}}\n" + large.PIPELINE.encode()
_BRANCH = Ref.of_branch("feature/x")
_ENVIRONMENT = Environment(Repository("acme", "api"), Kind.DEVELOPMENT, _BRANCH)
_TARGET = Target(
    Kind.DEVELOPMENT, account="1" * 12, permissions_boundary="arn:aws:iam::111111111111:policy/b"
)
_HEADERS = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "d-1"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _make_release(scale: int, **files: bytes) -> float:
    budget = EvaluationBudget(STEPS // scale, CHARACTERS // scale)
    question = FolderQuestion(_ENVIRONMENT, _BRANCH, "feature/x", "a" * 40, files, {}, _TARGET, "us-east-1")
    try:
        build_release(question, examine_folder(question, budget)).accepted_release()
    except DeployerError as error:
        error.share = _budget_share(budget) * scale  # type: ignore[attr-defined]
        raise
    return _budget_share(budget) * scale


def _budget_share(budget: EvaluationBudget) -> float:
    return max(budget.steps_spent / STEPS, budget.characters_spent / CHARACTERS)


def _list_cases() -> Iterator[tuple[str, str, int, Callable[[], object]]]:
    """The kind, the name and the scale of each input, with a function that creates and reads it."""
    made = {
        **{("template", name): make for name, (make, _) in large.TEMPLATES.items()},
        **{("parameters", name): make for name, (make, _) in large.PARAMETERS.items()},
        **{("payload", name): make for name, (make, _, _) in large.PAYLOADS.items()},
    }
    for (kind, name), make in made.items():
        scale = 1 if (kind, name) in WHOLE or "--whole" in sys.argv else SCALE
        yield kind, name, scale, partial(_read_input, kind, name, scale, make)


def _read_input(kind: str, name: str, scale: int, make: Callable[[], bytes]) -> object:
    with large.scaled_inputs(scale):
        content = make()
    if kind == "template":
        return _make_release(scale, **{"pipeline.yml": content})
    if kind == "parameters":
        return _make_release(scale, **{"pipeline.yml": _TEMPLATE, "pipeline.parameters.json": content})
    _, is_form, _ = large.PAYLOADS[name]
    return parse_delivery({**_HEADERS, **(_FORM if is_form else {})}, content)


def _read_with_limits(kind: str, name: str, scale: int, read: Callable[[], object]) -> None:
    """Read one input and print the result, in a process that ends afterwards."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY[kind] * _MB, MEMORY[kind] * _MB))
    most = SECONDS[kind] if scale == 1 else SCALED_SECONDS[kind]
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    share = 0.0
    gc.disable()  # as in the process that evaluates a branch's files
    try:
        result = read()
        share = result if isinstance(result, float) else 0.0
        ended = "release"
    except DeployerError as error:
        ended, share = str(error), getattr(error, "share", 0.0)
    except Exception as error:  # noqa: BLE001  such errors are the findings
        ended = f"unexpected {type(error).__name__}: {error}"
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = round(used.ru_utime + used.ru_stime, 2)
    print(json.dumps([kind, name, ended, seconds, used.ru_maxrss // 1024, round(share, 9)]), flush=True)


def main() -> None:
    """Read all inputs, one after another."""
    for kind, name, scale, read in _list_cases():
        child = os.fork()
        if not child:
            try:
                _read_with_limits(kind, name, scale, read)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps([kind, name, f"killed by signal {status & 127}", 0, 0, 0]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
