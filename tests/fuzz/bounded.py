"""Reads each large input in a process with limits of its own, and prints what came of it as one line of JSON.

Each line has the kind and name of the input, how it ended, the seconds of CPU and the MB of memory it took, and the
share of its budget: of steps or of characters, whichever is more.
"""

import gc
import json
import os
import resource
import sys
from collections.abc import Callable

from deployer.environments import Environment, Kind, Repository
from deployer.errors import DeployerError
from deployer.evaluation_budget import CHARACTERS, STEPS, EvaluationBudget
from deployer.events import parse_github
from deployer.folder_check import FolderQuestion, examine
from deployer.refs import Ref
from deployer.release import release_of
from deployer.targets import Target
from tests.fuzz import large

_MB = 1024 * 1024
SECONDS = {"template": 8, "parameters": 8, "payload": 20}  # of CPU
MEMORY = {"template": 700, "parameters": 700, "payload": 1400}  # MB of addresses
_TEMPLATE = b"Parameters: {a: {Default: 1}}\n" + large.PIPELINE.encode()
_BRANCH = Ref.of_branch("feature/x")
_ENVIRONMENT = Environment(Repository("acme", "api"), Kind.DEVELOPMENT, _BRANCH)
_TARGET = Target(
    Kind.DEVELOPMENT, account="1" * 12, permissions_boundary="arn:aws:iam::111111111111:policy/b"
)
_HEADERS = {"X-GitHub-Event": "push", "X-GitHub-Delivery": "d-1"}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _release(**files: bytes) -> float:
    budget = EvaluationBudget()
    question = FolderQuestion(_ENVIRONMENT, _BRANCH, "feature/x", "a" * 40, files, {}, _TARGET, "us-east-1")
    try:
        release_of(question, examine(question, budget)).accepted()
    except DeployerError as error:
        error.share = _share(budget)  # type: ignore[attr-defined]
        raise
    return _share(budget)


def _share(budget: EvaluationBudget) -> float:
    return max(budget.steps / STEPS, budget.characters / CHARACTERS)


def _cases() -> list[tuple[str, str, Callable[[], object]]]:
    return [
        *(
            ("template", name, lambda make=make: _release(**{"pipeline.yml": make()}))
            for name, (make, _) in large.TEMPLATES.items()
        ),
        *(
            (
                "parameters",
                name,
                lambda make=make: _release(**{"pipeline.yml": _TEMPLATE, "pipeline.parameters.json": make()}),
            )
            for name, (make, _) in large.PARAMETERS.items()
        ),
        *(
            (
                "payload",
                name,
                lambda make=make, form=form: parse_github({**_HEADERS, **(_FORM if form else {})}, make()),
            )
            for name, (make, form, _) in large.PAYLOADS.items()
        ),
    ]


def _limited(kind: str, name: str, read: Callable[[], object]) -> None:
    """Read one input and print what came of it; in a process that ends then."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY[kind] * _MB, MEMORY[kind] * _MB))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS[kind], SECONDS[kind]))
    share = 0.0
    gc.disable()  # as it is where a branch's files are evaluated
    try:
        told = read()
        share = told if isinstance(told, float) else 0.0
        ended = "release"
    except DeployerError as error:
        ended, share = str(error), getattr(error, "share", 0.0)
    except Exception as error:  # noqa: BLE001  this is what is looked for
        ended = f"unexpected {type(error).__name__}: {error}"
    used = resource.getrusage(resource.RUSAGE_SELF)
    seconds = round(used.ru_utime + used.ru_stime, 2)
    print(json.dumps([kind, name, ended, seconds, used.ru_maxrss // 1024, round(share, 9)]), flush=True)


def main() -> None:
    """Read all of them, one after another."""
    for kind, name, read in _cases():
        child = os.fork()
        if not child:
            try:
                _limited(kind, name, read)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            print(json.dumps([kind, name, f"killed by signal {status & 127}", 0, 0, 0]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
