"""The two clouds that the contract is held against: the double, and the adapter before the simulated AWS."""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import boto3
import fakeredis
import pytest

from deployer.aws import buckets as aws_buckets
from deployer.aws import storage
from deployer.aws.cloud import AwsCloud, AwsClouds
from deployer.environment.cloud_region import CloudRegion
from deployer.model.environments import Kind, Repository
from deployer.model.source_actions import SourceLocation
from deployer.model.stacks import Phase
from deployer.model.targets import Target
from deployer.redis_store.aws.sharing import RedisSharing
from deployer.templates.release import Release
from sandbox.aws.server import Server
from tests.doubles import FakeCloud

REPOSITORY = "acme/shop"
HERE = SourceLocation(Repository.parse(REPOSITORY), "main")
BUCKET = "deployer-artifacts"
_SECONDS = 20.0
_PIPELINE: dict[str, Any] = {
    "Name": {"Ref": "PipelineName"},
    "PipelineType": "V2",
    "RoleArn": "arn:aws:iam::123456789012:role/pipeline",
    "ArtifactStore": {"Type": "S3", "Location": BUCKET},
    "Stages": [
        {
            "Name": "Source",
            "Actions": [
                {
                    "Name": "Checkout",
                    "ActionTypeId": {
                        "Category": "Source",
                        "Owner": "AWS",
                        "Provider": "CodeStarSourceConnection",
                        "Version": "1",
                    },
                    "Configuration": {
                        "ConnectionArn": "arn:aws:codeconnections:us-east-1:123456789012:connection/1",
                        "FullRepositoryId": REPOSITORY,
                        "BranchName": "main",
                        "DetectChanges": False,
                    },
                    "OutputArtifacts": [{"Name": "Source"}],
                }
            ],
        },
        {
            "Name": "Deploy",
            "Actions": [
                {
                    "Name": "App",
                    "ActionTypeId": {
                        "Category": "Deploy",
                        "Owner": "AWS",
                        "Provider": "CloudFormation",
                        "Version": "1",
                    },
                    "Configuration": {
                        "ActionMode": "CREATE_UPDATE",
                        "StackName": {"Fn::Sub": "${PipelineName}-app"},
                        "TemplatePath": "Source::app.json",
                        "ParameterOverrides": {"Fn::Sub": '{"Note": "${Note}"}'},
                    },
                    "InputArtifacts": [{"Name": "Source"}],
                }
            ],
        },
    ],
}
TEMPLATE: dict[str, Any] = {
    "Parameters": {"PipelineName": {"Type": "String"}, "Note": {"Type": "String"}},
    "Resources": {
        "Files": {
            "Type": "AWS::S3::Bucket",
            "Properties": {"VersioningConfiguration": {"Status": "Enabled"}},
        },
        "Pipeline": {"Type": "AWS::CodePipeline::Pipeline", "Properties": _PIPELINE},
    },
}
_APPLICATION = {
    "Parameters": {"Note": {"Type": "String"}},
    "Resources": {
        "Kept": {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": {"Ref": "Note"}}}
    },
}


def release(name: str, sha: str, note: str = "one", **tags: str) -> Release:
    """What a stack of this name is to be made from."""
    template, parameters = json.dumps(TEMPLATE), {"PipelineName": name, "Note": note}
    owned = {"deployer:managed": "true", "deployer:repository": REPOSITORY, "deployer:commit": sha, **tags}
    return Release(template, parameters, needs_token=False, tags=owned)


def small(**resources: Any) -> Release:
    """A release that needs no repository."""
    wanted = resources or {"Kept": {"Type": "AWS::CloudFormation::WaitConditionHandle"}}
    return Release(
        json.dumps({"Resources": wanted}), {}, needs_token=False, tags={"deployer:managed": "true"}
    )


class Kit(Protocol):
    """A cloud, and what a test may do to it behind its back."""

    cloud: CloudRegion

    def commit(self) -> str:
        """A new head of the branch that pipelines build by themselves."""
        ...

    def until(self, condition: Callable[[], Any]) -> None:
        """Let time pass until something holds."""
        ...

    def slowly(self) -> AbstractContextManager[None]:
        """While this holds, what is ordered takes much longer than a call."""
        ...

    def fail_next(self, verb: str, reason: str) -> None:
        """Let a resource of the next stack operation fail, or (`execution`) the deployment of an execution."""
        ...

    def fill(self, name: str) -> None:
        """Put three versions into the bucket of a stack."""
        ...

    def emptying_slowly(self) -> AbstractContextManager[None]:
        """While this holds, one call deletes no more than two versions."""
        ...


def settled(kit: Kit, name: str) -> str:
    """Wait until nothing is under way on a stack; gives its status."""

    def at_rest() -> bool:
        stack = kit.cloud.stack(name)
        return stack is None or stack.phase not in (Phase.BUSY, Phase.DELETING)

    kit.until(at_rest)
    found = kit.cloud.stack(name)
    return found.status if found else ""


def created(kit: Kit, name: str, sha: str) -> str:
    """Create a stack, wait for it and for the execution that starts by itself; gives the ARN."""
    arn = kit.cloud.create_stack(name, release(name, sha), f"create-{name}")
    assert settled(kit, arn) == "CREATE_COMPLETE"
    kit.until(lambda: [e for e in kit.cloud.executions(name) if e.ended])
    return arn


class DoubleKit:
    """The double."""

    def __init__(self) -> None:
        self._head = ""
        self._number = 0
        self.fake = FakeCloud(head=lambda _name: self._head)
        self.fake.stages = ("Source", "Deploy")
        self.fake.deploys = lambda pipeline: [f"{pipeline}-app"]
        self.cloud: CloudRegion = self.fake

    def commit(self) -> str:
        self._number += 1
        self._head = f"{self._number:040x}"
        return self._head

    def until(self, condition: Callable[[], Any]) -> None:
        for _ in range(50):
            if condition():
                return
            self.fake.advance()
        raise AssertionError("it never came to be")

    def slowly(self) -> AbstractContextManager[None]:
        return nullcontext()

    def fail_next(self, verb: str, reason: str) -> None:
        if verb == "execution":
            self.fake.fail_next_execution(reason, stage="Deploy")
        else:
            getattr(self.fake, f"fail_next_{verb}")(reason)

    def fill(self, name: str) -> None:
        self.fake.buckets[name] = 3

    @contextmanager
    def emptying_slowly(self) -> Iterator[None]:
        self.fake.emptied_at_once = 2
        yield


def clouds(url: str, *targets: Target, client: Any = None, **options: Any) -> AwsClouds:
    """AWS at this address, asked as fast as tests go."""
    wanted = {kind: Target(kind, regions=("us-east-1",), artifact_bucket=BUCKET) for kind in Kind}
    wanted.update({target.kind: target for target in targets})
    rate = options.pop("rate", 1000)
    sharing = RedisSharing(client or fakeredis.FakeRedis(decode_responses=True), rate)
    return AwsClouds(wanted, sharing, **{"endpoint_url": url, **options})


def cloud(url: str, client: Any = None, options: dict[str, Any] | None = None, **target: Any) -> AwsCloud:
    """The development's cloud at this address.

    Args:
        client: a Redis, by default its own.
        options: of `AwsClouds`.
        target: what `Target` takes.
    """
    given = {"regions": ("us-east-1",), "artifact_bucket": BUCKET, **target}
    return clouds(url, Target(Kind.DEVELOPMENT, **given), client=client, **(options or {})).at(
        Kind.DEVELOPMENT
    )


class SandboxKit:
    """The adapter; the simulator and the repository are shared by all tests."""

    def __init__(self, server: Server, repository: Path) -> None:
        self.simulator = server.simulator
        self.url = server.url
        self.cloud: CloudRegion = cloud(server.url)
        self.s3 = boto3.client("s3", region_name="us-east-1", endpoint_url=server.url)
        self._repository = repository

    def commit(self) -> str:
        return commit(self._repository)

    def until(self, condition: Callable[[], Any]) -> None:
        never, deadline = threading.Event(), time.monotonic() + _SECONDS
        while not condition():
            assert time.monotonic() < deadline, "it never came to be"
            never.wait(0.02)

    @contextmanager
    def slowly(self) -> Iterator[None]:
        speed, self.simulator.scheduler.speed = self.simulator.scheduler.speed, 1.0
        yield
        self.simulator.scheduler.speed = speed

    def fail_next(self, verb: str, reason: str) -> None:
        self.until(self._nothing_runs)  # what an earlier test left under way must not take the failure
        if verb == "execution":
            self.simulator.faults.add({"fail_actions": {"action": "App", "reason": reason, "count": 1}})
        else:
            order = {"resource": "Pipeline", "on": verb, "reason": reason, "count": 1}
            self.simulator.faults.add({"fail_resources": order})

    def _nothing_runs(self) -> bool:
        client = boto3.client("cloudformation", region_name="us-east-1", endpoint_url=self.url)
        pages = client.get_paginator("describe_stacks").paginate()
        return not any(s["StackStatus"].endswith("_IN_PROGRESS") for page in pages for s in page["Stacks"])

    def fill(self, name: str) -> None:
        client = boto3.client("cloudformation", region_name="us-east-1", endpoint_url=self.url)
        found = client.describe_stack_resource(StackName=name, LogicalResourceId="Files")
        bucket = found["StackResourceDetail"]["PhysicalResourceId"]
        for body in (b"one", b"two"):
            self.s3.put_object(Bucket=bucket, Key="data", Body=body)
        self.s3.delete_object(Bucket=bucket, Key="data")

    @contextmanager
    def emptying_slowly(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aws_buckets, "_BATCH_SIZE", 2)
            patch.setattr(storage, "EMPTYING_SECONDS", 0.0)
            yield

    @contextmanager
    def calls(self) -> Iterator[list[str]]:
        """The operations asked of AWS within."""
        before, made = len(self.simulator.calls.list_calls()), list[str]()
        yield made
        made += [call["operation"] for call in self.simulator.calls.list_calls()[before:]]


def commit(repository: Path) -> str:
    """Make a commit of the application in a bare repository, beside a work tree."""
    tree = repository.with_suffix(".tree")
    people = {f"GIT_{who}_{what}": "ada@x" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, **people}

    def git(*command: str, cwd: Path = tree) -> str:
        done = subprocess.run(["git", *command], cwd=cwd, env=env, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    if not tree.exists():
        tree.mkdir(parents=True)
        git("init", "-q", "--bare", str(repository))
        git("init", "-q", "-b", "main")
        (tree / "app.json").write_text(json.dumps(_APPLICATION))
        git("add", "-A")
    git("commit", "-q", "--allow-empty", "-m", "a commit")
    git("push", "-q", str(repository), "main")
    return git("rev-parse", "HEAD")


def named(request_name: str) -> str:
    """A stack's name made of a test's."""
    return re.sub(r"[^a-z0-9]+", "-", request_name.lower())[:80].strip("-")
