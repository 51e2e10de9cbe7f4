"""Each service of docker-compose.yml as its container runs it: its exact command, with its own variables alone.

One push goes the whole way between them. Every secret is a text that is found nowhere else, so whatever a process
shows is searched for all of them.
"""

import base64
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis
import yaml
from ops_kit import Process, answer, environment

from deployer.local.embedded_redis import prepare
from sandbox.aws import server as aws_server
from sandbox.github import server as github_server
from sandbox.github.git import ZERO, Person
from sandbox.installation import call, command_of, descendants, free_port, wait_for
from tests.ops.test_shipping import SERVICES, WHO_MAY_KNOW, program

REPOSITORY, BUCKET, TOKEN_PARAMETER = "acme/hello", "artifacts", "seen-by-the-stack"
TEMPLATE = """
Parameters:
  PipelineName: {Type: String}
  RepoBranch: {Type: String}
  RepoToken: {Type: String, NoEcho: true}
Resources:
  Seen: {Type: AWS::SSM::Parameter, Properties: {Name: seen-by-the-stack, Type: String, Value: !Ref RepoToken}}
  Pipeline:
    Type: AWS::CodePipeline::Pipeline
    Properties:
      Name: !Ref PipelineName
      RoleArn: !Sub arn:aws:iam::${AWS::AccountId}:role/pipeline
      ArtifactStore: {Type: S3, Location: artifacts}
      Stages:
        - Name: Source
          Actions:
            - Name: Source
              ActionTypeId: {Category: Source, Owner: AWS, Provider: CodeStarSourceConnection, Version: '1'}
              Configuration:
                ConnectionArn: arn:aws:codeconnections:us-east-1:123456789012:connection/x
                FullRepositoryId: acme/hello
                BranchName: !Ref RepoBranch
                DetectChanges: false
              OutputArtifacts: [{Name: SourceOutput}]
        - Name: Deploy
          Actions:
            - Name: Site
              ActionTypeId: {Category: Deploy, Owner: AWS, Provider: S3, Version: '1'}
              Configuration: {BucketName: artifacts, Extract: false, ObjectKey: site.zip}
              InputArtifacts: [{Name: SourceOutput}]
"""


def canary(name: str) -> str:
    """A secret that can be searched for; that of GitHub has the form of a personal token."""
    return f"{'ghp_' * (name == 'DEPLOYER_GITHUB_TOKEN')}canary-of-{name.lower().replace('_', '-')}-7f3a"


@dataclass
class Containers:
    """All services of Compose, on simulated far ends."""

    web: str
    flower: str
    processes: dict[str, Process]
    variables: dict[str, dict[str, str]]
    redis_url: str
    aws: str

    def api(self, path: str) -> Any:
        found = call("GET", f"{self.web}{path}", headers=self.bearer)
        assert found.status == 200, found.text
        return found

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {canary('DEPLOYER_API_TOKEN')}"}


def variables(dotenv: dict[str, str], name: str) -> dict[str, str]:
    """What Compose gives to a service's container: a variable without a value has that of `.env`, if any."""
    given = {}
    for variable, value in SERVICES[name]["environment"].items():
        if value is None and variable in dotenv:
            given[variable] = dotenv[variable]
        elif value is not None:
            given[variable] = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: dotenv[found[1]], value)
    return given


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    root = tmp_path_factory.mktemp("containers")
    kept = prepare(root / "redis", with_password=True)
    web, flower = free_port(), free_port()
    processes: dict[str, Process] = {}
    server = subprocess.Popen(kept.command)
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    github = github_server.create(
        data_dir=root / "github",
        webhook_url=f"http://127.0.0.1:{web}/webhooks/github",
        webhook_secret=canary("DEPLOYER_GITHUB_WEBHOOK_SECRET"),
    )
    aws = aws_server.create(github_url=github.url, speed=40).start()
    try:
        github.start()
        wait_for("Redis is ready", kept.is_ready)
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        boto3.client("s3", endpoint_url=aws.url, **keys).create_bucket(Bucket=BUCKET)
        dotenv = {
            **{name: canary(name) for name in WHO_MAY_KNOW},
            "DEPLOYER_GITHUB_APP_PRIVATE_KEY": "",
            "DEPLOYER_TARGETS": yaml.safe_dump(
                {
                    "development": {
                        "role": "arn:aws:iam::123456789012:role/dev",
                        "external_id": canary("EXTERNAL_ID"),
                    }
                }
            ),
            "FLOWER_BASIC_AUTH": f"ada:{canary('FLOWER_BASIC_AUTH')}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SESSION_TOKEN": canary("AWS_SESSION_TOKEN"),
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": aws.url,
            "DEPLOYER_REPOSITORIES": "acme/*",
            "DEPLOYER_ARTIFACT_BUCKET": BUCKET,
            "DEPLOYER_GITHUB_API_URL": f"{github.url}/api/v3",
            "DEPLOYER_PUBLIC_URL": f"http://127.0.0.1:{web}",
            "DEPLOYER_GIVE_TOKEN": "yes",
            "DEPLOYER_UNFENCED": "yes",
            "DEPLOYER_POLL_SECONDS": "0.2",
            "DEPLOYER_CONCURRENCY": "1",
            "DEPLOYER_LOG_LEVEL": "DEBUG",
        }
        # what Compose fixes for its own network is this machine's here
        fixed = {
            "DEPLOYER_REDIS_URL": kept.url,
            "DEPLOYER_WEB_HOST": "127.0.0.1",
            "DEPLOYER_WEB_PORT": str(web),
        }
        given = {name: variables(dotenv, name) for name in SERVICES if name != "redis"}
        for name, own in given.items():
            own.update({each: value for each, value in fixed.items() if each in own})
            command = program([part.replace("5555", str(flower)) for part in SERVICES[name]["command"]])
            (root / name).mkdir()
            processes[name] = Process(command, root / name, environment(own))
        made = Containers(
            f"http://127.0.0.1:{web}", f"http://127.0.0.1:{flower}", processes, given, kept.url, aws.url
        )
        wait_for("the web is ready", lambda: (found := answer(f"{made.web}/readyz")) and found.status == 200)
        push(github, root / "files")
        yield made
        for each in processes.values():
            each.send(signal.SIGTERM)
        assert {name: each.ends(20) for name, each in processes.items()} == dict.fromkeys(processes, 0)
    finally:
        for each in processes.values():
            each.kill_all()
        github.stop()
        aws.stop()
        server.kill()
        server.wait()
        os.close(kept.lock)


def push(github: github_server.GitHubServer, folder: Path) -> None:
    """Push a branch, which makes GitHub send a webhook."""
    (folder / "deploy").mkdir(parents=True)
    (folder / "deploy" / "pipeline.yml").write_text(TEMPLATE)
    repository, _ = github.hub.create(REPOSITORY)
    commit = repository.git.commit_directory(folder, "Deploy", Person("Ada", "ada@example.com", ""))
    repository.git.update_ref("refs/heads/main", commit, ZERO)
    with github.hub.changing_refs(repository):
        repository.git.update_ref("refs/heads/feature", commit, ZERO)


def ended(containers: Containers) -> dict[str, Any]:
    """The branch's environment, once the push has its outcome."""

    def look() -> Any:
        found = containers.api("/api/v1/environments").json["environments"]
        mine = [each for each in found if each["environment"] == "development:refs/heads/feature"]
        return [each for each in mine if each["outcome"] in {"deployed", "failed", "dead-lettered"}]

    return dict(wait_for("the push has its outcome", look)[0])


def test_a_push_is_deployed(containers: Containers) -> None:
    made = ended(containers)
    assert made["outcome"] == "deployed", made["reason"]
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    seen = boto3.client("ssm", endpoint_url=containers.aws, **keys).get_parameter(Name=TOKEN_PARAMETER)
    assert seen["Parameter"]["Value"] == canary("DEPLOYER_GITHUB_TOKEN"), "the token went to CloudFormation"
    with redis.Redis.from_url(containers.redis_url, decode_responses=True) as client:
        wait_for("the scheduler tells that it is alive", lambda: client.get("deployer:beat:scheduler"))


@pytest.mark.parametrize("name", ["worker", "scheduler"])
def test_the_health_check_needs_no_other_variables(containers: Containers, name: str, tmp_path: Path) -> None:
    check = program(SERVICES[name]["healthcheck"]["test"][1:])
    done = subprocess.run(
        check, cwd=tmp_path, env=environment(containers.variables[name]), capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_running_unfenced_is_logged_and_shown(containers: Containers) -> None:
    for name in ("worker", "scheduler"):
        containers.processes[name].says(
            "DEPLOYER_UNFENCED is yes. DEPLOYER_TARGETS: development has no service_role"
        )
    page = wait_for(
        "the dashboard warns",
        lambda: (text := containers.api("/").text) and "DEPLOYER_UNFENCED" in text and text,
    )
    assert "everybody who can push a branch can use AWS permissions" in page


def shown_by(containers: Containers, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Everything that people and machines get to see, each with its place."""
    for name, process in containers.processes.items():
        yield f"the log of {name}", process.output
        for pid in [process.pid, *descendants(process.pid)]:
            yield f"the command line of {name}", command_of(pid)
    for path in ("/", "/repositories", "/metrics", "/readyz"):
        yield path, containers.api(path).text
    for path in ("environments", "activity", "dead-letters", "lanes", "repositories", "openapi.json"):
        found = call("GET", f"{containers.web}/api/v1/{path}", headers=containers.bearer)
        yield path, found.text
    made = ended(containers)
    for path in (f"/environments/{made['id']}", f"/api/v1/environments/{made['id']}"):
        yield path, containers.api(path).text
    password = base64.b64encode(f"ada:{canary('FLOWER_BASIC_AUTH')}".encode()).decode()
    for path in ("/tasks", "/api/tasks", "/broker"):
        found = call("GET", f"{containers.flower}{path}", headers={"Authorization": f"Basic {password}"})
        yield f"Flower's {path}", found.text
    with redis.Redis.from_url(containers.redis_url) as client:
        for key in client.scan_iter():
            yield f"Redis: {key!r}", repr(client.dump(key))
    everything: dict[str, str] = {}
    for own in containers.variables.values():
        everything.update(own)
    for arguments in (["doctor"], ["why", REPOSITORY, "feature"]):
        done = subprocess.run(
            program(["deployer", *arguments]), cwd=tmp_path, env=environment(everything),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        yield f"deployer {' '.join(arguments)}", done.stdout + done.stderr


def test_no_secret_is_shown_anywhere(containers: Containers, tmp_path: Path) -> None:
    password = containers.redis_url.partition("//")[2].rpartition("@")[0].lstrip(":")
    names = [*WHO_MAY_KNOW, "EXTERNAL_ID", "AWS_SESSION_TOKEN"]
    secrets = {"the password of Redis": password, **{name: canary(name) for name in names}}
    assert len(password) > 15
    looked = 0
    for place, text in shown_by(containers, tmp_path):
        found = [
            name for name, secret in secrets.items() if secret in text or json.dumps(secret)[1:-1] in text
        ]
        assert found == [], f"{found} in {place}"
        looked += len(text)
    assert looked > 20_000
