"""deployer against the simulated AWS in simulated time, so that tests never wait; every run is the same."""

import heapq
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import fakeredis
from aws_world import BUCKET, without_retry_waits

from deployer.aws.cloud import AwsClouds
from deployer.deployment.reconcile import ReconcilerOptions
from deployer.model.environments import Kind
from deployer.model.refs import Ref
from deployer.model.targets import Target
from deployer.redis_store.aws.sharing import RedisSharing
from sandbox.aws import overview, server, simulator, storage
from sandbox.aws.clock import Future, Scheduler, Task
from sandbox.aws.places import Place
from sandbox.aws.regions import Region
from sandbox.aws.sources import Commit, Repositories, SourceError
from tests.unit.world import HELLO, World

HOME, AWAY = Place(region="us-east-1"), Place(region="eu-west-1")
OTHER = Place("210987654321", "us-east-1")  # the account of staging and production
CONNECTION = "arn:aws:codeconnections:us-east-1:123456789012:connection/1"
_DEPLOYER = f"arn:aws:iam::{OTHER.account}:role/deployer"
_QUIET_SECONDS = 7200.0  # time limit for everything to come to rest
_TRUST = {"Statement": [{"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}]}


class Clock:
    """The simulated time in epoch seconds; every call returns a later time."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class SteppedScheduler(Scheduler):
    """The simulator's scheduler without threads: processes run in `advance`, blocking work runs immediately."""

    clock: Clock

    def start(self) -> None:
        """Do nothing, because there is no thread."""

    def run_in_thread(self, work: Callable[[], Any]) -> Future:
        future = Future()
        try:
            future.set((work(), None))
        except Exception as error:  # noqa: BLE001 - the waiting process receives it
            future.set((None, error))
        return future

    def advance(self, until: float) -> None:
        """Run every process that is due until a time."""
        with self.lock:
            while self._due and self._due[0][0] <= until:
                at, _, task, value = heapq.heappop(self._due)
                self.clock.now = max(self.clock.now, at)
                self._run_step(task, value)
        self.clock.now = max(self.clock.now, until)

    @property
    def next(self) -> float:
        """The time at which the next process is due; infinity if there is none."""
        with self.lock:
            return self._due[0][0] if self._due else float("inf")

    def _resume_task(self, task: Task, value: Any, delay: float = 0.0) -> None:
        with self.lock:
            heapq.heappush(self._due, (self.clock() + delay, next(self._number), task, value))


class Stage:
    """The simulated AWS with two accounts; many worlds share it one after another, because its start is slow."""

    def __init__(self, started: server.Server, clock: Clock) -> None:
        self.clock = clock
        self.url = started.url
        self.simulator = started.simulator
        self.redis = fakeredis.FakeRedis(decode_responses=True)
        self._people: dict[Place, Any] = {}
        for place in (HOME, AWAY):
            where = {"CreateBucketConfiguration": {"LocationConstraint": place.region}}
            name = f"{BUCKET}-{place.region}"
            self.client("s3", place).create_bucket(Bucket=name, **({} if place == HOME else where))
        got = self.client("sts", HOME).assume_role(RoleArn=_DEPLOYER, RoleSessionName="ada")["Credentials"]
        names = {"aws_access_key_id": "AccessKeyId", "aws_secret_access_key": "SecretAccessKey"}
        self._keys = {n: got[told] for n, told in {**names, "aws_session_token": "SessionToken"}.items()}
        self.client("s3", OTHER).create_bucket(Bucket=f"{BUCKET}-other")
        service = json.dumps({"Statement": []})
        for place in (HOME, OTHER):
            self.client("iam", place).create_role(RoleName="stacks", AssumeRolePolicyDocument=service)
        self.client("iam", OTHER).create_role(
            RoleName="deployer", AssumeRolePolicyDocument=json.dumps(_TRUST)
        )
        there = {"role_arn": _DEPLOYER, "allowed_roles": (CONNECTION,), "regions": (OTHER.region,)}
        there |= {"artifact_bucket": f"{BUCKET}-other", "account": OTHER.account}
        there |= {"service_role_arn": f"arn:aws:iam::{OTHER.account}:role/stacks"}
        self.targets = {
            Kind.DEVELOPMENT: Target(
                Kind.DEVELOPMENT, account=HOME.account, regions=(HOME.region, AWAY.region), allowed_roles=(),
                artifact_bucket=f"{BUCKET}-{{region}}",
                service_role_arn=f"arn:aws:iam::{HOME.account}:role/stacks",
            ),
            Kind.STAGING: Target(Kind.STAGING, **there),
            Kind.PRODUCTION: Target(Kind.PRODUCTION, **there),
        }  # fmt: skip
        self._clients: dict[Any, Any] = {}
        self.check_out: Callable[..., Commit]

    def client(self, service: str, place: Place) -> Any:
        """A boto3 client for the test itself."""
        keys = self._keys if place.account == OTHER.account else {}
        return boto3.client(service, region_name=place.region, endpoint_url=self.url, **keys)

    def cloudformation_client(self, place: Place) -> Any:
        """A CloudFormation client for the test itself."""
        if place not in self._people:
            self._people[place] = self.client("cloudformation", place)
        return self._people[place]

    def clouds(self) -> AwsClouds:
        """The adapter as in a worker that has just started; connections are reused."""
        made = AwsClouds(self.targets, RedisSharing(self.redis, rate=1000), endpoint_url=self.url)
        made._clients = self._clients
        return made

    def forget(self) -> None:
        """Remove every stack, all faults and the content of Redis; accounts stay."""
        self.redis.flushall()
        with self.simulator.scheduler.lock:
            self.simulator.scheduler.reset()
            self.simulator.faults.clear()
            for bucket in storage.bucket_names():
                storage.bucket(bucket).keys.clear()
            for region in self.simulator.regions:
                for stack in list(region.stacks.live.values()):
                    region.stacks.force_status(stack, "DELETE_COMPLETE")
            self.simulator.regions.reset()
            self.simulator.calls.clear()

    def fill_buckets(self) -> None:
        """Put an object into every bucket."""
        with self.simulator.scheduler.lock:
            for bucket in storage.bucket_names():
                storage._backend(bucket).put_object(bucket, "data", b"precious")

    def region_at(self, place: Place) -> Region:
        """The simulated region at a place."""
        return self.simulator.regions.at(place)

    @property
    def state(self) -> dict[str, Any]:
        """The state of the simulated AWS."""
        with self.simulator.scheduler.lock:
            return overview.state_json(self.simulator.regions)


class SteppedWorld(World):
    """A world whose environments are in the simulated AWS; source actions read the double of GitHub.

    Args:
        stage: the simulated AWS, which is emptied first.
        pace: the shortest step of the simulated time, in seconds.
    """

    options = ReconcilerOptions(poll_seconds=4)

    def __init__(self, stage: Stage, pace: float = 5.0) -> None:
        stage.forget()
        self.stage = stage
        self.pace = pace
        super().__init__(stage.redis)
        self.host.hooks[HELLO.key] = ("/webhooks/github", "", [])
        stage.check_out = self._check_out

    def make_clouds(self) -> AwsClouds:
        return self.stage.clouds()

    def _check_out(self, repository: str, branch: str, pin: str | None, into: Path) -> Commit:
        """Check out a commit of the double of GitHub for a source action."""
        name = pin or self.host.refs(HELLO).get(Ref.parse(f"refs/heads/{branch}"), "")
        if not name:
            raise SourceError(f"[GitHub] No Branch [{branch}] found in FullRepositoryName [{repository}]")
        into.mkdir(parents=True, exist_ok=True)
        for path, content in self.host._repos[HELLO.key].files[name].items():
            if path.startswith("./"):
                (into / path).write_bytes(content)
        return Commit(name, "a commit", "Ada", datetime.fromtimestamp(self.stage.clock.now, UTC))

    # --- time ---

    def step(self) -> None:
        now = self.stage.clock.now
        snoozed = [now + each for lane in self.lanes.lanes() for each in lane.snoozed.values()]
        first = min([self.stage.simulator.scheduler.next, *snoozed])
        self.stage.simulator.scheduler.advance(max(now + self.pace, first if first < now + 3600 else 0))
        self.sent.extend(self.lanes.sweep())

    def run(self, most: int = 0) -> None:  # noqa: ARG002
        deadline = self.stage.clock.now + _QUIET_SECONDS
        while True:
            self.tasks()
            if not self.lanes.lanes() and self.stage.simulator.scheduler.next == float("inf"):
                return
            assert self.stage.clock.now < deadline, f"not quiet: {self.lanes.lanes()} {self.told[-8:]}"
            self.step()

    def settle(self) -> None:
        """Let AWS come to rest while no worker runs."""
        self.stage.simulator.scheduler.advance(self.stage.clock.now + 600)


@contextmanager
def stage(root: Path) -> Iterator[Stage]:
    """A simulated AWS, with a simulated time for everything in this process."""
    clock = Clock()
    SteppedScheduler.clock = clock
    with without_retry_waits() as patch:
        patch.setattr(simulator, "Scheduler", SteppedScheduler)
        started = server.create(github_url=f"file://{root}", speed=1).start()
        made = Stage(started, clock)
        patch.setattr(Repositories, "check_out", lambda _, *given: made.check_out(*given))
        patch.setattr(time, "time", clock)
        yield made
        patch.undo()
        started.stop()
