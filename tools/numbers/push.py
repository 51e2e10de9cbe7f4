"""The path of one push through the modules.

The push runs in this process, with a fake Redis and the doubles of the tests. A call of a function enters its module;
an import or a return does not.
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

from deployer.queue.items import Task
from tests.unit.world import HELLO, TEMPLATE, World, sha
from tools.numbers.code import PRODUCT
from web.application import create_app

BRANCH = "refs/heads/feature"
EARLIER_BRANCH = "refs/heads/earlier"
_KEY = "the-key-of-this-measurement"
# modules of values are used everywhere; the web only passes the delivery on
_LEFT_OUT = ("deployer/model/", "web/")


@dataclass
class Trace:
    """The entered modules, in order."""

    root: Path
    entered: list[str] = field(default_factory=list)

    def record_call(self, frame: FrameType, event: str, _: object) -> None:
        """Record the module of a called function; a callback of `sys.setprofile`."""
        if event != "call":
            return
        file = frame.f_code.co_filename
        if file.startswith(str(self.root)):
            path = Path(file).relative_to(self.root)
            if path.parts[0] in PRODUCT and not str(path).startswith(_LEFT_OUT):
                self.entered.append(str(path))

    @property
    def modules(self) -> set[str]:
        """The entered modules."""
        return set(self.entered)

    @property
    def changes(self) -> int:
        """How many calls enter another module than the call before."""
        return sum(before != after for before, after in pairwise(self.entered))

    @property
    def reentered_packages(self) -> int:
        """How many times a package is entered again after another package."""
        packages = [package_of(each) for each in self.entered]
        changes = sum(before != after for before, after in pairwise(packages))
        return changes + 1 - len(set(packages)) if packages else 0


def package_of(path: str) -> str:
    """The package of a module, such as `deployer/queue`; a module directly in `deployer/` is its own package."""
    parts = Path(path).parts
    return "/".join(parts[:2]) if parts[0] == "deployer" else parts[0]


@contextmanager
def trace_calls(root: Path) -> Iterator[Trace]:
    """Trace the calls inside the block."""
    trace = Trace(root)
    sys.setprofile(trace.record_call)
    try:
        yield trace
    finally:
        sys.setprofile(None)


class Receiving(World):
    """A world with the web application."""

    settings: ClassVar = {**World.settings, "DEPLOYER_GITHUB_WEBHOOK_SECRET": _KEY}

    def __init__(self, client: Any = None) -> None:
        super().__init__(client)
        self.web = create_app(self.deployer).test_client()

    def post(self) -> None:
        """Post nothing on GitHub, because that is no part of a push's path."""

    def receive_push(self, ref: str, commit: str) -> None:
        """Deliver the webhook of a push."""
        repository = {"full_name": str(HELLO), "id": 1, "default_branch": "main"}
        body = json.dumps(
            {"ref": ref, "before": "0" * 40, "after": commit, "repository": repository}
        ).encode()
        signature = hmac.new(_KEY.encode(), body, hashlib.sha256).hexdigest()
        headers = {
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": f"push-{Path(ref).name}-{commit[-4:]}",
            "X-Hub-Signature-256": f"sha256={signature}",
        }
        answer = self.web.post("/webhooks/github", data=body, headers=headers)
        if answer.status_code != 202:
            raise RuntimeError(f"the webhook of the push was rejected: {answer.get_data(as_text=True)}")


def trace_push(root: Path) -> dict[str, Trace]:
    """Trace a push to a new branch: `whole` from the delivery to its outcome, `sync` the first task only."""
    _run_world(lambda world: world.run())  # for late imports and caches
    with trace_calls(root) as whole:
        _run_world(lambda world: world.run())
    traces: dict[str, Trace] = {}

    def first_task(world: Receiving) -> None:
        [message] = world.sent
        with trace_calls(root) as traces["sync"]:
            world.runner.carry_out(Task(message.task), message.repository, message.environment, message.token)

    _run_world(first_task)
    return {"whole": whole, **traces}


def _run_world(act: Callable[[Receiving], None]) -> None:
    """Push a branch to a world whose processes have built their parts: an earlier push made them do so."""
    profile = sys.getprofile()
    sys.setprofile(None)
    world = Receiving()
    for branch in (EARLIER_BRANCH, BRANCH):
        world.host.push(HELLO, branch, sha(1), files={"pipeline.yml": TEMPLATE})
    world.receive_push(EARLIER_BRANCH, sha(1))
    world.run()
    world.sent.clear()
    sys.setprofile(profile)
    world.receive_push(BRANCH, sha(1))
    act(world)
