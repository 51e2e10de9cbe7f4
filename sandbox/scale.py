"""`python -m sandbox.scale`: what an organization costs that has come to rest, and how long a push waits meanwhile.

Redis, lanes, ledger, inventory, resync and tasks are the product's own, in this one process. AWS and GitHub are not:
their answers are made in memory, in no time. Calls are counted as the services page them, 100 stacks or refs each.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from deployer.bootstrap import Deployer, build
from deployer.environments import Environment, Kind, Repository
from deployer.events import Push
from deployer.ledger import EnvironmentRecord, Task, Work
from deployer.ports import Dispatch, Done, Facts, Head, HookDelivery, Room, Status
from deployer.refs import ZERO_SHA, Ref
from deployer.release import Release
from deployer.stacks import Stack
from deployer.targets import Target
from sandbox.bench import redis_server
from workers.tasks import Runner

_PAGE = 100
_PUSHES = 20
_THREADS = 2
_COMMIT = "a" * 40
_STAGES = ("Source", "Build", "Deploy")
_TEMPLATE = (
    b"Resources: {Pipeline: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}}\n"
)


class Far:
    """The ports `Host`, `Clouds`, `Cloud` and `Queue`, as far as the measurements come.

    Attributes:
        calls: calls by the far end, as the services would count them.
        created: when a stack's creation was ordered, by its name (monotonic clock).
    """

    region = "us-east-1"
    is_app = False

    def __init__(self, repositories: Sequence[Repository], environments: int) -> None:
        self.refs_of_one = [
            Ref.of_branch(f"feature/number-{n}" if n else "main") for n in range(environments)
        ]
        self.pushed: set[Ref] = set()
        self.places = [
            Environment.of_ref(each, ref, "main") for each in repositories for ref in self.refs_of_one
        ]
        self.calls: Counter[str] = Counter()
        self.created: dict[str, float] = {}
        self.sent: SimpleQueue[Dispatch] = SimpleQueue()

    # GitHub

    def default_branch(self, _repository: Repository) -> str:
        self.calls["github"] += 1
        return "main"

    def facts(self, repository: Repository) -> Facts:
        self.calls["github"] += max(1, -(-len(self.refs_of_one) // _PAGE))
        return Facts(1, repository.full_name, "main", refs=dict.fromkeys(self.refs_of_one, _COMMIT))

    def deliveries(self, *_: object) -> list[HookDelivery]:
        self.calls["github"] += 2  # its webhook, and one page
        return []

    def head(self, _repository: Repository, _ref: Ref) -> Head:
        self.calls["github"] += 1
        return Head(_COMMIT, _COMMIT)

    def files(self, *_: object) -> dict[str, bytes]:
        self.calls["github"] += 2
        return {"pipeline.yml": _TEMPLATE}

    def post(self, _repository: Repository, _sha: str, _status: Status) -> None:
        self.calls["github"] += 1

    # AWS

    def target(self, kind: Kind) -> Target:
        return Target(kind, regions=(self.region,), artifact_bucket="bench")

    def at(self, _kind: Kind, _region: str = "") -> "Far":
        return self

    def every(self) -> "list[Far]":
        return [self]

    def stacks(self) -> Iterator[Stack]:
        for number, place in enumerate(self.places):
            self.calls["aws"] += number % _PAGE == 0
            name = place.stack_name
            arn = f"arn:aws:cloudformation:us-east-1:123456789012:stack/{name}/{number:036}"
            tags = {**place.tags, "deployer:commit": _COMMIT, "deployer:digest": "d" * 32}
            yield Stack(arn, name, "CREATE_COMPLETE", tags, changed_at=1.0)

    def stack(self, _name: str) -> None:
        self.calls["aws"] += 1

    def known_room(self) -> Room:
        return self.room()

    def room(self) -> Room:
        return Room(self.region, 0, 2000, 0, 1000)

    def create_stack(self, name: str, _release: Release, _token: str) -> str:
        self.calls["aws"] += 1
        self.created[name] = time.monotonic()
        return name

    # Celery

    def send(self, dispatch: Dispatch) -> None:
        self.sent.put(dispatch)


class Bench:
    """A deployer at rest, with so many repositories and environments."""

    def __init__(self, url: str, repositories: int, environments: int) -> None:
        os.environ |= {"DEPLOYER_REDIS_URL": url, "DEPLOYER_REPOSITORIES": "bench/*"}
        self.repositories = [Repository.parse(f"bench/service-{n}") for n in range(repositories)]
        self.far = Far(self.repositories, environments)
        self.deployer: Deployer = build()
        vars(self.deployer).update(host=self.far, clouds=self.far, queue=self.far, linter=None)
        self.runner = Runner(self.deployer)
        self._stop = threading.Event()

    def fill(self) -> None:
        """Let the ledger know every environment as deployed."""
        lanes = self.deployer.lanes
        for place in self.far.places:
            accepted = lanes.accept(place.repository, Work(place.key), f"push-{place.stack_name}", "push")
            token = accepted.dispatch.token if accepted.dispatch else 0
            lanes.begin(place.repository, token)
            record = EnvironmentRecord(
                place.repository.full_name, place.key, place.stack_name, ref="refs/heads/x", state="deployed",
                commit=_COMMIT, outcome="deployed", reason="aaaaaaaaaaaa went through every stage", region="us-east-1",
                stages=[{"name": name, "status": "succeeded", "reason": "", "url": ""} for name in _STAGES],
            )  # fmt: skip
            lanes.finish(place.repository, token, Done("deployed", record.reason, record))

    def ask(self, age: float) -> None:
        """Ask for a resync of all."""
        for each in self.repositories:
            self.deployer.intake.resync(each, age)

    def work(self) -> None:
        """Work off what is sent, until it is told to stop; a thread's whole life."""
        while not self._stop.is_set():
            try:
                each = self.far.sent.get(timeout=0.05)
            except Empty:
                continue
            self.runner.carry_out(Task(each.task), each.repository, each.environment, each.token)

    def resync(self, age: float) -> float:
        """Seconds that a resync of all takes."""
        started = time.monotonic()
        self.ask(age)
        while not self.far.sent.empty() or any(lane.status != "idle" for lane in self.deployer.lanes.lanes()):
            time.sleep(0.05)
        return time.monotonic() - started

    def pushes(self, name: str, *, during: bool) -> list[float]:
        """Seconds from a push to the order of its stack, of several pushes one after the other."""
        if during:
            self.ask(900)
        found = []
        for number in range(_PUSHES):
            ref, repository = Ref.of_branch(f"{name}-{number}"), self.repositories[-1 - number]
            place = Environment(repository, Kind.DEVELOPMENT, ref)
            started = time.monotonic()
            self.deployer.intake.github(Push(f"{name}-{number}", repository, ref, ZERO_SHA, _COMMIT, "main"))
            while place.stack_name not in self.far.created:
                time.sleep(0.002)
            found.append(self.far.created[place.stack_name] - started)
        return found

    def measure(self) -> Iterator[tuple[str, float]]:
        """Each number with what it tells."""
        client: Any = self.deployer.client
        count = len(self.far.places)

        def memory() -> int:
            return int(client.info("memory")["used_memory"])

        empty = memory()
        self.fill()
        filled = memory()
        yield "environments", count
        yield "Redis: bytes an environment, ledger and one delivery", (filled - empty) / count
        threads = [threading.Thread(target=self.work) for _ in range(_THREADS)]
        for each in threads:
            each.start()
        try:
            self.far.calls.clear()
            yield "resync of all by a person: seconds", self.resync(0)
            yield "resync of all by a person: calls to AWS", self.far.calls["aws"]
            yield "Redis: bytes an environment, listing and resyncs", (memory() - filled) / count
            self.far.calls.clear()
            yield "scheduled resync of all with a listing at hand: seconds", self.resync(900)
            yield "scheduled resync of all with a listing at hand: calls to AWS", self.far.calls["aws"]
            yield "scheduled resync of all: calls to GitHub", self.far.calls["github"]
            for name, during in (("alone", False), ("during a resync of all", True)):
                took = self.pushes(name.replace(" ", "-"), during=during)
                yield f"push to CreateStack, {name}: seconds, middle", statistics.median(took)
                yield f"push to CreateStack, {name}: seconds, worst of {_PUSHES}", max(took)
        finally:
            self._stop.set()
            for each in threads:
                each.join()


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="sandbox.scale", description=__doc__)
    parser.add_argument("--repositories", type=int, default=1000)
    parser.add_argument("--environments", type=int, default=10, help="of each repository")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args()
    found = {}
    with redis_server() as url:
        for name, number in Bench(url, given.repositories, given.environments).measure():
            found[name] = number
            if not given.json:
                print(f"{name:<66} {number:>12,.3f}", flush=True)
    if given.json:
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
