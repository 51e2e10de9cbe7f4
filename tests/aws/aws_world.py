"""deployer against the simulated AWS, in real time but faster: queues on fakeredis, tasks run one after another."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.retries.adaptive import ClientRateLimiter

from deployer.aws import clients as aws_client
from deployer.aws.cloud import AwsClouds
from deployer.deployment.reconcile import ReconcilerOptions
from deployer.model.environments import Environment, Kind
from deployer.model.refs import ZERO_SHA
from deployer.model.targets import Target
from deployer.redis_store.aws.sharing import RedisSharing
from sandbox.aws import overview
from sandbox.aws.server import Server
from tests.unit.world import HELLO, World, environment

BUCKET = "deployer-artifacts"
COMMITS = 3  # commits of each branch
_SECONDS = 90.0
_ACTION = {"Owner": "AWS", "Version": "1"}
TEMPLATE: dict[str, Any] = {
    "Parameters": {name: {"Type": "String"} for name in ("PipelineName", "RepoBranch")},
    "Resources": {
        "AppRole": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {"Statement": []}}},
        "Pipeline": {
            "Type": "AWS::CodePipeline::Pipeline",
            "Properties": {
                "Name": {"Ref": "PipelineName"},
                "PipelineType": "V2",
                "RoleArn": {"Fn::GetAtt": ["AppRole", "Arn"]},
                "ArtifactStore": {"Type": "S3", "Location": BUCKET},
                "Stages": [
                    {
                        "Name": "Source",
                        "Actions": [
                            {
                                "Name": "Checkout",
                                "ActionTypeId": {
                                    **_ACTION, "Category": "Source", "Provider": "CodeStarSourceConnection"
                                },
                                "Configuration": {
                                    "ConnectionArn": "arn:aws:codeconnections:us-east-1:123456789012:connection/1",
                                    "FullRepositoryId": HELLO.full_name,
                                    "BranchName": {"Ref": "RepoBranch"},
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
                                    **_ACTION, "Category": "Deploy", "Provider": "CloudFormation"
                                },
                                "Configuration": {
                                    "ActionMode": "CREATE_UPDATE",
                                    "StackName": {"Fn::Sub": "${PipelineName}-app"},
                                    "RoleArn": {"Fn::GetAtt": ["AppRole", "Arn"]},
                                    "TemplatePath": "Source::app.json",
                                    "TemplateConfiguration": "Source::stack.json",
                                },
                                "InputArtifacts": [{"Name": "Source"}],
                            }
                        ],
                    },
                ],
            },
        },
    },
}  # fmt: skip


def pipeline_template(**resources: Any) -> str:
    """The template of the pipeline, with more resources."""
    return json.dumps({**TEMPLATE, "Resources": {**TEMPLATE["Resources"], **resources}})


def _application(number: int) -> dict[str, Any]:
    """The application template at the n-th commit of a branch; every commit changes it."""
    versioned = {"VersioningConfiguration": {"Status": "Enabled"}}
    note = {"Type": "String", "Value": str(number)}
    return {
        "Resources": {
            "Files": {"Type": "AWS::S3::Bucket", "Properties": versioned},
            "Note": {"Type": "AWS::SSM::Parameter", "Properties": note},
        }
    }


@contextmanager
def without_retry_waits() -> Iterator[pytest.MonkeyPatch]:
    """Set credentials and remove the waits before retries of AWS calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setattr(aws_client, "_backoff", lambda _state: 0.0)
        # botocore waits many seconds after a throttled call
        patch.setattr(ClientRateLimiter, "on_sending_request", lambda *_, **__: None)
        yield patch


class Simulation:
    """The simulated AWS with the repository of its pipelines."""

    def __init__(self, server: Server, repository: Path) -> None:
        self.simulator = server.simulator
        self.url = server.url
        self.repository = repository
        subprocess.run(["git", "init", "-q", "--bare", str(repository)], check=True)
        self.s3 = self.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)

    def client(self, service: str, region: str = "us-east-1", **credentials: str) -> Any:
        """A boto3 client for the test itself."""
        return boto3.client(service, region_name=region, endpoint_url=self.url, **credentials)

    def reset(self) -> None:
        """Reset the simulated AWS."""
        self.simulator.reset()
        self.s3.create_bucket(Bucket=BUCKET)

    def with_service_role(self) -> Target:
        """The target of development, with a service role for CloudFormation."""
        made = self.client("iam").create_role(RoleName="cloudformation", AssumeRolePolicyDocument="{}")
        arn = made["Role"]["Arn"]
        # without an account, templates are not checked for permissions, which these tests do not need
        return Target(
            Kind.DEVELOPMENT, regions=("us-east-1",), artifact_bucket=BUCKET, service_role_arn=arn,
            allowed_roles=("*",),
        )  # fmt: skip

    @property
    def state(self) -> dict[str, Any]:
        """The state of the simulated AWS."""
        with self.simulator.scheduler.lock:
            return overview.state_json(self.simulator.regions)

    def force_status(self, stack: str, status: str, **how: Any) -> None:
        """Set the status of a stack."""
        with self.simulator.scheduler.lock:
            for region in self.simulator.regions:
                if found := region.stacks.live.get(stack):
                    region.stacks.force_status(found, status, **how)

    def resources_of(self, environment: Environment) -> dict[str, list[str]]:
        """The resources of an environment in AWS: names and ids by kind."""
        state, name = self.state, environment.stack_name
        named = {name, f"{name}-app"}
        return {
            "stacks": [each["name"] for each in state["stacks"] if each["name"] in named],
            "pipelines": [each["name"] for each in state["pipelines"] if each["name"] == name],
            "roles": [
                each["name"] for each in state["roles"] if each["name"].startswith(f"{name[:20]}-AppRole")
            ],
            "leftovers": [each["id"] for each in state["leftovers"] if each["stack"] in named],
        }

    def create_commits(
        self, refs: Iterable[str], files: Mapping[str, str] | None = None
    ) -> dict[str, list[str]]:
        """Create commits for each ref, perhaps with more files.

        The configuration of the application's stack has the tags of the ref's environment.
        """
        more = "".join(f"M 644 inline {k}\ndata {len(v)}\n{v}\n" for k, v in (files or {}).items())
        stream, refs = list[str](), list(refs)
        for ref in refs:
            tags = json.dumps({"Tags": environment(ref).tags})
            for number in range(COMMITS):
                application = json.dumps(_application(number))
                stream.append(
                    f"commit refs/keep/{ref}/{number}\nmark :{len(stream) + 1}\ncommitter Ada <ada@x> 1 +0000\n"
                    f"data {len(ref)}\n{ref}\nM 644 inline app.json\ndata {len(application)}\n{application}\n"
                    f"M 644 inline stack.json\ndata {len(tags)}\n{tags}\n{more}"
                )
        marks = self.repository / "marks"
        subprocess.run(
            ["git", "fast-import", "--quiet", "--force", f"--export-marks={marks}"],
            cwd=self.repository, input="\n".join(stream).encode(), check=True,
        )  # fmt: skip
        found = dict(line.split() for line in marks.read_text().splitlines())
        shas = [found[f":{mark}"] for mark in range(1, len(stream) + 1)]
        return {ref: shas[at * COMMITS : (at + 1) * COMMITS] for at, ref in enumerate(refs)}


class AwsWorld(World):
    """A world whose environments are in the simulated AWS.

    Args:
        simulation: the simulated AWS.
        targets: the targets of some kinds of environments; all others share one.
    """

    settings = {**World.settings, "DEPLOYER_RETRY_SECONDS": "0.05"}  # noqa: RUF012
    options = ReconcilerOptions(poll_seconds=0.03)

    def __init__(self, simulation: Simulation, *targets: Target) -> None:
        self.simulation = simulation
        self._targets = {kind: Target(kind, regions=("us-east-1",), artifact_bucket=BUCKET) for kind in Kind}
        self._targets.update({target.kind: target for target in targets})
        self.commits: dict[str, list[str]] = {}
        self.pushed: dict[str, int] = {}
        super().__init__()

    def make_clouds(self) -> AwsClouds:
        return AwsClouds(self._targets, RedisSharing(self.redis, rate=1000), endpoint_url=self.simulation.url)

    def create_commits(self, *refs: str, files: Mapping[str, str] | None = None) -> None:
        """Create commits for these refs, perhaps with more files."""
        self.commits.update(self.simulation.create_commits(refs, files))

    def push_commit(self, ref: str, number: int, **how: Any) -> str:
        """Push the n-th commit of a ref; return the delivery id."""
        sha = self.commits[ref][number]
        before = self.commits[ref][self.pushed[ref]] if ref in self.pushed else ZERO_SHA
        new = self.simulation.repository / "new-head"
        new.write_text(f"{sha}\n")
        new.replace(self._head_file(ref))  # replaced atomically, because git may read it at any time
        self.pushed[ref] = number
        return self.push(ref, sha, before, **{"template": pipeline_template(), **how})

    def delete_ref(self, ref: str) -> str:
        """Delete a ref; return the delivery id."""
        self._head_file(ref).unlink()
        return self.remove(ref, self.commits[ref][self.pushed.pop(ref)])

    def delete_ref_silently(self, ref: str) -> None:
        """Delete a ref without a webhook."""
        self._head_file(ref).unlink()
        self.pushed.pop(ref)
        self.host.remove(HELLO, ref)

    def _head_file(self, ref: str) -> Path:
        return self.simulation.repository / ref

    # --- time ---

    def step(self) -> None:
        threading.Event().wait(0.01)
        self.sent.extend(self.lanes.sweep())

    def run(self, most: int = 0) -> None:  # noqa: ARG002
        self.run_until(lambda: not self.lanes.lanes())

    def run_until(self, condition: Callable[[], Any]) -> None:
        """Run tasks until a condition is true."""
        deadline = time.monotonic() + _SECONDS
        while True:
            self.tasks()
            if condition():
                return
            assert time.monotonic() < deadline, f"not quiet: {self.lanes.lanes()} {self.told[-5:]}"
            self.step()

    # --- state ---

    def stack(self, ref: str, suffix: str = "") -> Mapping[str, Any] | None:
        """The stack of a ref's environment in AWS."""
        name = environment(ref).stack_name + suffix
        return next((each for each in self.simulation.state["stacks"] if each["name"] == name), None)

    def execution_results(self, ref: str) -> list[tuple[str, str]]:
        """Commit and status of the executions of a ref's pipeline, oldest first."""
        name = environment(ref).stack_name
        for each in self.simulation.state["pipelines"]:
            if each["name"] == name:
                return [(execution["sha"], execution["status"]) for execution in each["executions"]]
        return []
