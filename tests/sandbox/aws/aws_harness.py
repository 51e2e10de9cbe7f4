"""The helpers of these tests: a git repository, a receiver of events, clients of the simulated AWS."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from sandbox.aws import motostores, server
from sandbox.aws.places import Place

REPOSITORY = "acme/hello"
PIPELINE_TEMPLATE = (Path(__file__).parent / "pipeline.yml").read_text()
APPLICATION = """\
Parameters: {Greeting: {Type: String, Default: hello}}
Resources:
  Site:
    Type: AWS::S3::Bucket
    Properties:
      WebsiteConfiguration: {IndexDocument: index.html}
Outputs:
  BucketName: {Value: !Ref Site}
  Greeting: {Value: !Ref Greeting}
"""
BUCKET = "Resources:\n  Site: {Type: AWS::S3::Bucket}\n"
PARAMETER = """\
Parameters:
  Value: {Type: String, Default: one}
  Secret: {Type: String, NoEcho: true, Default: hidden}
Resources:
  First: {Type: AWS::SSM::Parameter, Properties: {Name: /first, Type: String, Value: !Ref Value}}
  Second: {Type: AWS::SSM::Parameter, Properties: {Name: /second, Type: String, Value: !Sub "${First}-${Value}"}}
Outputs:
  Said: {Value: !Join ["/", [!Ref Value, !GetAtt First.Value]]}
"""
BUILDSPEC = """\
version: 0.2
env:
  variables: {WHO: world, GREETING: overridden}
  exported-variables: [RESULT]
phases:
  install:
    commands: [mkdir -p site]
  build:
    commands:
      - cd site
      - export RESULT=made
      - echo "<h1>$GREETING $WHO $CODEBUILD_RESOLVED_SOURCE_VERSION</h1>" > index.html
      - python -c 'import sys; print("python", sys.version_info.major)'
      - cd ..
  post_build:
    commands: ['test -f fail && exit 7 || true']
artifacts:
  base-directory: site
  files: ['**/*']
"""


class Repository:
    """A bare repository with a work tree that pushes to it."""

    def __init__(self, root: Path) -> None:
        self.url = f"file://{root}"
        self._bare = root / f"{REPOSITORY}.git"
        self._tree = root / "tree"
        self._git("init", "-q", "--bare", str(self._bare), cwd=root)
        self._git("init", "-q", "-b", "main", str(self._tree), cwd=root)
        self._git("remote", "add", "origin", str(self._bare))
        self.commit({"buildspec.yml": BUILDSPEC, "app.yml": APPLICATION}, "the first")

    def commit(self, files: dict[str, str], subject: str, *, branch: str = "main") -> str:
        """Commit files and push them; return the commit."""
        for name, content in files.items():
            path = self._tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self._git("add", "-A")
        self._git("commit", "-q", "-m", subject)
        self._git("push", "-q", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return self._git("rev-parse", "HEAD")

    def drop_last_commit(self) -> None:
        """Remove the last commit from main by a force push."""
        self._git("reset", "-q", "--hard", "HEAD~1")
        self._git("push", "-q", "--force", "origin", "HEAD:refs/heads/main")

    def tag(self, name: str) -> None:
        """Push an annotated tag."""
        self._git("tag", "-a", "-m", name, name)
        self._git("push", "-q", "origin", name)

    def _git(self, *command: str, cwd: Path | None = None) -> str:
        env = {
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{
                f"GIT_{who}_{what}": "test@example.org"
                for who in ("AUTHOR", "COMMITTER")
                for what in ("NAME", "EMAIL")
            },
        }
        done = subprocess.run(
            ["git", *command], cwd=cwd or self._tree, env=env, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()


class Receiver:
    """Receives the simulator's events; the first `refuse` of them are refused."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.refuse = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                refused = receiver.refuse > 0
                receiver.refuse -= refused
                if not refused:
                    receiver.keys.add(self.headers["X-Deployer-Event-Key"])
                    receiver.events.append(json.loads(body))
                self.send_response(503 if refused else 202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_message: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks/aws"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        """Stop the receiver."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def event_states(self, detail_type: str, **detail: str) -> list[str]:
        """The states in the events of a type, in the order of arrival."""
        chosen = [e["detail"] for e in self.events if e["detail-type"] == detail_type]
        return [
            d["state"] if "state" in d else d["status-details"]["status"]
            for d in chosen
            if all(d.get(k) == v for k, v in detail.items())
        ]


class Aws:
    """A running simulator with clients for it."""

    def __init__(self, running: server.Server) -> None:
        self.url = running.url
        self.cloudformation = self.client("cloudformation")
        self.codepipeline = self.client("codepipeline")
        self.s3 = self.client("s3")

    def client(self, service: str, **settings: Any) -> Any:
        """A client without retries, so that a test sees each answer."""
        usual = {
            "region_name": "us-east-1",
            "aws_access_key_id": "test",
            "aws_secret_access_key": "test",
        }
        return boto3.client(
            service,
            endpoint_url=self.url,
            **{**usual, **settings},
            config=Config(
                retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}, read_timeout=20
            ),
        )

    def get(self, path: str) -> tuple[int, str]:
        """The status and the body of an unsigned GET request."""
        return self.request("GET", path)

    def request(self, method: str, path: str, content: Any = None) -> tuple[int, str]:
        """The status and the body of an unsigned request."""
        body = None if content is None else json.dumps(content).encode()
        wanted = urllib.request.Request(self.url + path, body, method=method)  # noqa: S310 - a local URL
        try:
            with urllib.request.urlopen(wanted, timeout=20) as answer:  # noqa: S310 - as above
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, refusal.read().decode()

    def inject_faults(self, **orders: Any) -> None:
        """Inject faults."""
        status, answer = self.request("POST", "/_sandbox/faults", orders)
        assert status == 200, answer

    def status(self, stack: str) -> str:
        """A stack's status."""
        return str(self.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"])

    def wait_until_stable(self, stack: str) -> str:
        """The status of a stack after its operation has ended."""
        eventually(lambda: not self.status(stack).endswith("_IN_PROGRESS"))
        return self.status(stack)

    def create(self, name: str, template: str, **more: Any) -> str:
        """Start creating a stack."""
        return str(self.cloudformation.create_stack(StackName=name, TemplateBody=template, **more)["StackId"])

    def create_pipeline(self, name: str = "pipe", *, branch: str = "main", **parameters: str) -> None:
        """Create a stack with the pipeline of these tests; wait until it is complete."""
        if "artifacts" not in [b["Name"] for b in self.s3.list_buckets()["Buckets"]]:
            self.s3.create_bucket(Bucket="artifacts")
        values = {"Branch": branch, **parameters}
        self.create(
            name,
            PIPELINE_TEMPLATE,
            Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in values.items()],
            Capabilities=["CAPABILITY_IAM"],
        )
        assert self.wait_until_stable(name) == "CREATE_COMPLETE"

    def executions(self, pipeline: str = "pipe") -> list[dict[str, Any]]:
        """A pipeline's executions, newest first."""
        answer = self.codepipeline.list_pipeline_executions(pipelineName=pipeline)
        return list(answer["pipelineExecutionSummaries"])

    def execution(self, execution_id: str, pipeline: str = "pipe") -> dict[str, Any]:
        """One execution."""
        answer = self.codepipeline.get_pipeline_execution(
            pipelineName=pipeline, pipelineExecutionId=execution_id
        )
        return dict(answer["pipelineExecution"])

    def wait_until_ended(self, execution_id: str | None = None, pipeline: str = "pipe") -> dict[str, Any]:
        """An execution (by default the newest) after its end."""
        chosen = execution_id or self.executions(pipeline)[0]["pipelineExecutionId"]
        running = ("InProgress", "Stopping")
        eventually(lambda: self.execution(chosen, pipeline)["status"] not in running)
        return self.execution(chosen, pipeline)

    def stages(self, pipeline: str = "pipe") -> dict[str, dict[str, Any]]:
        """The states of a pipeline's stages by name."""
        answer = self.codepipeline.get_pipeline_state(name=pipeline)
        return {s["stageName"]: s for s in answer["stageStates"]}

    def action(self, name: str, pipeline: str = "pipe") -> dict[str, Any]:
        """The latest run of an action."""
        answer = self.codepipeline.list_action_executions(pipelineName=pipeline)
        return dict(next(a for a in answer["actionExecutionDetails"] if a["actionName"] == name))


def eventually(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until a condition is true and return its value; fail at the time limit."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not true within {seconds:g} s"
        time.sleep(0.01)
    return value


def load_models(*kinds: str) -> None:
    """Import moto's models of types before a call waits for them, which takes too long on a busy machine."""
    for kind in kinds:
        motostores.is_stored(kind, Place(), "")


def given(**values: str) -> list[dict[str, str]]:
    """Parameters in the form of CloudFormation's API."""
    return [{"ParameterKey": k, "ParameterValue": v} for k, v in values.items()]


def statuses(aws: Aws, stack: str, name: str | None = None) -> list[str]:
    """The statuses of a stack (or of a resource) in the order of their events."""
    events = aws.cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    wanted = name or events[-1]["LogicalResourceId"]
    return [e["ResourceStatus"] for e in reversed(events) if e["LogicalResourceId"] == wanted]


def expect_error(code: str, message: str) -> pytest.RaisesExc[ClientError]:
    """Expects a ClientError with this code and a message that matches."""

    def has_code(error: ClientError) -> bool:
        return bool(error.response["Error"]["Code"] == code)

    return pytest.RaisesExc(ClientError, match=message, check=has_code)
