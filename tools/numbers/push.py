"""Follows one push through the code: which modules its tasks enter, and how often they change from one to another.

It runs in this process, with a fake Redis and the doubles of the tests. A module is entered when one of its functions
is called. A module that is only imported, or returned to, does not count.
"""

import hashlib
import hmac
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, ClassVar

from deployer.model.records import Task
from tests.unit.world import HELLO, TEMPLATE, World, sha
from tools.numbers.code import PRODUCT
from web.application import create_app

BRANCH = "refs/heads/feature"
_KEY = "the-key-of-this-measurement"
# values are used everywhere and are no station on the way; the web only hands the delivery on
_LEFT_OUT = ("deployer/model/", "web/")


@dataclass
class Trace:
    """The modules that were entered, in order."""

    root: Path
    entered: list[str] = field(default_factory=list)

    def call(self, frame: FrameType, event: str, _: object) -> None:
        """For `sys.setprofile`: note the module of a function that is called."""
        if event != "call":
            return
        file = frame.f_code.co_filename
        if file.startswith(str(self.root)):
            path = Path(file).relative_to(self.root)
            if path.parts[0] in PRODUCT and not str(path).startswith(_LEFT_OUT):
                self.entered.append(str(path))

    @property
    def modules(self) -> set[str]:
        """Every module that was entered."""
        return set(self.entered)

    @property
    def changes(self) -> int:
        """How often a call enters another module than the call before it."""
        return sum(before != after for before, after in pairwise(self.entered))

    @property
    def reentered_packages(self) -> int:
        """How often a package is entered again after another one."""
        packages = [package_of(each) for each in self.entered]
        changes = sum(before != after for before, after in pairwise(packages))
        return changes + 1 - len(set(packages)) if packages else 0


def package_of(path: str) -> str:
    """The package of a module: `deployer/queue`; of one directly in `deployer/`, the module itself."""
    parts = Path(path).parts
    return "/".join(parts[:2]) if parts[0] == "deployer" else parts[0]


@contextmanager
def tracing(root: Path) -> Iterator[Trace]:
    """Trace what is called within."""
    trace = Trace(root)
    sys.setprofile(trace.call)
    try:
        yield trace
    finally:
        sys.setprofile(None)


class Receiving(World):
    """A world with the web in front."""

    settings: ClassVar = {**World.settings, "DEPLOYER_GITHUB_WEBHOOK_SECRET": _KEY}

    def __init__(self, client: Any = None) -> None:
        super().__init__(client)
        self.web = create_app(self.deployer).test_client()

    def receive_push(self, ref: str, commit: str) -> None:
        """GitHub sends a push."""
        repository = {"full_name": str(HELLO), "id": 1, "default_branch": "main"}
        body = json.dumps(
            {"ref": ref, "before": "0" * 40, "after": commit, "repository": repository}
        ).encode()
        signature = hmac.new(_KEY.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": f"push-{commit[-4:]}",
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        answer = self.web.post("/webhooks/github", data=body, headers=headers)
        if answer.status_code != 202:
            raise RuntimeError(f"the push was refused: {answer.get_data(as_text=True)}")


def follow(root: Path) -> dict[str, Trace]:
    """Trace a push to a new branch: `whole` from the delivery to its outcome, `sync` the task that decides."""
    _run(lambda world: world.run())  # imports what is imported late, and fills caches
    with tracing(root) as whole:
        _run(lambda world: world.run())
    traces: dict[str, Trace] = {}

    def first_task(world: Receiving) -> None:
        [message] = world.sent
        with tracing(root) as traces["sync"]:
            world.runner.carry_out(Task(message.task), message.repository, message.environment, message.token)

    _run(first_task)
    return {"whole": whole, **traces}


def _run(act: Callable[[Receiving], None]) -> None:
    profile = sys.getprofile()
    sys.setprofile(None)
    world = Receiving()
    world.host.push(HELLO, BRANCH, sha(1), files={"pipeline.yml": TEMPLATE})
    sys.setprofile(profile)
    world.receive_push(BRANCH, sha(1))
    act(world)
