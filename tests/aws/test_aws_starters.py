"""For each kind of repository: `init`, `validate`, a push that deploys it, and a deletion that leaves nothing."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from aws_world import BUCKET, AwsWorld, Simulation
from click.testing import CliRunner

from deployer.cli import main
from deployer.model.environments import Kind
from deployer.model.targets import Target
from deployer.templates.findings import Finding
from deployer.templates.folder_files import RECOGNIZED_FILES
from sandbox.http_calls import call
from tests.unit.world import environment

_REF = "refs/heads/feature/first"
_CONNECTION = "arn:aws:codeconnections:us-east-1:123456789012:connection/1"
_GIT = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]

# What a build calls that this machine need not have. Each stands for the real program; those that deploy write what it
# would write.
_TOOLS = {
    "npm": """
import sys
print("npm", *sys.argv[1:])
""",
    "docker": """
import sys
print("docker", *sys.argv[1:])
""",
    "sam": """
import json, sys, zipfile
from pathlib import Path
import boto3, yaml
built = Path(".aws-sam/build/template.yaml")
if sys.argv[1] == "build":
    built.parent.mkdir(parents=True)
    built.write_text(Path("template.yaml").read_text())
else:
    options = dict(zip(sys.argv[2:], sys.argv[3:]))
    bucket, template = options["--s3-bucket"], yaml.safe_load(built.read_text())
    for resource in template["Resources"].values():
        if code := resource.get("Properties", {}).get("CodeUri"):
            with zipfile.ZipFile("code.zip", "w") as archive:
                for path in Path(code).iterdir():
                    archive.write(path, path.name)
            boto3.client("s3").upload_file("code.zip", bucket, "code.zip")
            resource["Properties"]["CodeUri"] = f"s3://{bucket}/code.zip"
    Path(options["--output-template-file"]).write_text(json.dumps(template))
""",
    "npx": """
import shutil, sys
shutil.copytree("synthesized", sys.argv[sys.argv.index("--output") + 1])
""",
    "aws": """
import sys
from urllib.parse import urlsplit
import boto3
*_, source, target = sys.argv
where = urlsplit(target)
boto3.client("s3").upload_file(source, where.netloc, where.path.lstrip("/"))
""",
}
_CDK_BUCKET = "cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}"
_CDK_TEMPLATE = {
    "Resources": {
        "Data": {"Type": "AWS::S3::Bucket"},
        "Reader": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": {"Statement": []}}},
    },
    "Outputs": {
        "Url": {"Value": {"Fn::Sub": "https://${Data}.example.com"}},
        "Asset": {"Value": {"Fn::Sub": f"{_CDK_BUCKET}/asset.zip"}},
    },
}
_CDK_ASSETS = {
    "files": {
        "a": {
            "source": {"path": "asset.a", "packaging": "zip"},
            "destinations": {"current": {"bucketName": _CDK_BUCKET, "objectKey": "asset.zip"}},
        }
    }
}
_SAM_TEMPLATE = {
    "Transform": "AWS::Serverless-2016-10-31",
    "Resources": {
        "Hello": {
            "Type": "AWS::Serverless::Function",
            "Properties": {"Runtime": "python3.12", "Handler": "hello.handle", "CodeUri": "code"},
        }
    },
    "Outputs": {"Url": {"Value": {"Fn::Sub": "https://${Hello}.example.com"}}},
}
_PYTHON_TEST = "import unittest\nclass T(unittest.TestCase):\n    def test_it(self):\n        pass\n"
_REPOSITORIES: dict[str, dict[str, str]] = {
    "site": {"public/index.html": '<a href="a/">a</a>', "public/a/index.html": "the page"},
    "python": {"requirements.txt": "", "tests/test_it.py": _PYTHON_TEST},
    "node": {"package.json": json.dumps({"scripts": {"test": "node --test"}}), "package-lock.json": "{}"},
    "docker": {"Dockerfile": "FROM scratch AS test\nFROM scratch\n"},
    "sam": {"template.yaml": yaml.safe_dump(_SAM_TEMPLATE), "code/hello.py": "def handle(*_):\n    pass\n"},
    "cdk": {
        "cdk.json": "{}",
        "synthesized/App.template.json": json.dumps(_CDK_TEMPLATE),
        "synthesized/App.assets.json": json.dumps(_CDK_ASSETS),
        "synthesized/asset.a/index.py": "",
    },
}
# the commands of each build that do the repository's job
_COMMANDS = {
    "site": ["python3 deploy/check_site.py public"],
    "python": ["python3 -m unittest discover -s tests"],
    "node": ["npm ci", "npm test"],
    "docker": ["docker build --target test .", "docker build --tag app ."],
    "sam": ["sam build", "python3 deploy/prepare_app.py packaged.json"],
    "cdk": ["npx --yes aws-cdk@2 synth --quiet --output cdk.out", "python3 deploy/prepare_app.py cdk.out"],
}


# a pipeline that names its application's stack by a variable of the source action
_VARIABLE_NAME = """\
Parameters:
  PipelineName: {Type: String}
  RepoOwner: {Type: String}
  RepoName: {Type: String}
  RepoBranch: {Type: String}
  ConnectionArn: {Type: String}
  ArtifactStore: {Type: String}
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties: {AssumeRolePolicyDocument: {Statement: []}}
  Pipeline:
    Type: AWS::CodePipeline::Pipeline
    Properties:
      Name: !Ref PipelineName
      RoleArn: !GetAtt Role.Arn
      ArtifactStore: {Type: S3, Location: !Ref ArtifactStore}
      Stages:
        - Name: Source
          Actions:
            - Name: Source
              Namespace: S
              ActionTypeId: {Category: Source, Owner: AWS, Provider: CodeStarSourceConnection, Version: '1'}
              Configuration:
                ConnectionArn: !Ref ConnectionArn
                FullRepositoryId: !Sub ${RepoOwner}/${RepoName}
                BranchName: !Ref RepoBranch
                DetectChanges: false
              OutputArtifacts: [{Name: Src}]
        - Name: Deploy
          Actions:
            - Name: App
              ActionTypeId: {Category: Deploy, Owner: AWS, Provider: CloudFormation, Version: '1'}
              Configuration:
                ActionMode: CREATE_UPDATE
                StackName: app-#{S.AuthorDisplayName}
                RoleArn: !GetAtt Role.Arn
                TemplatePath: Src::app.yml
                TemplateConfiguration: Src::stack.json
              InputArtifacts: [{Name: Src}]
"""


class _Silent:
    """The port `Linter`: has nothing to say; the tests of the command line have the real one."""

    def __init__(self, _seconds: float) -> None:
        pass

    def findings(
        self, _name: str, _template: str, _regions: Sequence[str], _conditions: Mapping[str, bool]
    ) -> list[Finding]:
        """See `Linter.findings`."""
        return []


class Project:
    """A repository that `deployer init` made a pipeline for, pushed as a branch.

    Args:
        simulation: the simulated AWS.
        directory: for its working copy.
        files: what the repository has before deployer.
    """

    def __init__(self, simulation: Simulation, directory: Path, files: dict[str, str]) -> None:
        simulation.reset()
        target = Target(
            Kind.DEVELOPMENT, regions=("us-east-1",), artifact_bucket=BUCKET, connection_arn=_CONNECTION
        )
        self.simulation, self.directory = simulation, directory
        self.world = AwsWorld(simulation, target)
        self.environment = environment(_REF)
        for name, text in files.items():
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(text)
        self.git("init", "-q")

    def git(self, *arguments: str) -> str:
        """Run git in the working copy; return its output."""
        return subprocess.run(
            [*_GIT, *arguments], cwd=self.directory, check=True, capture_output=True, text=True
        ).stdout.strip()

    def run_command(self, command: str) -> str:
        """Run a command of deployer on the working copy; return its output."""
        result = CliRunner().invoke(main, [command, str(self.directory)], prog_name="deployer")
        assert result.exit_code == 0, result.output
        return result.stdout

    def push(self) -> dict[str, Any]:
        """Push everything, and run deployer until all is quiet; return the execution of the pipeline."""
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "With deployer")
        self.git("push", "-q", "--force", str(self.simulation.repository), f"HEAD:{_REF}")
        folder = [each for each in (self.directory / "deploy").iterdir() if each.name in RECOGNIZED_FILES]
        files = {each.name: each.read_text() for each in folder}
        self.world.push(_REF, self.git("rev-parse", "HEAD"), template=files.pop("pipeline.yml"), files=files)
        self.world.run()
        (pipeline,) = self.simulation.state["pipelines"]
        assert pipeline["name"] == self.environment.stack_name
        # nothing starts the pipeline but its creation, whose execution deployer stops, and deployer
        creation, execution = pipeline["executions"]
        assert creation["trigger"] == "CreatePipeline"
        assert creation["status"] in {
            "Stopped",
            "Succeeded",
        }  # on a busy machine it may end before it is stopped
        return dict(execution)

    def delete(self) -> None:
        """Delete the branch, and run deployer until all is quiet."""
        before = self.git("rev-parse", "HEAD")
        self.git("push", "-q", str(self.simulation.repository), f":{_REF}")
        self.world.remove(_REF, before)
        self.world.run()

    def build_log(self, execution: dict[str, Any]) -> str:
        """The log of the build."""
        actions = [action for stage in execution["stages"] for action in stage["actions"]]
        (url,) = [action["url"] for action in actions if action["name"] == "Build"]
        return call("GET", url).text

    def left_in_aws(self) -> dict[str, list[str]]:
        """Everything in AWS but the artifact bucket, by kind."""
        state, logs = self.simulation.state, self.simulation.client("logs")
        return {
            **{
                kind: [each["name"] for each in state[kind]]
                for kind in ("stacks", "pipelines", "projects", "roles")
            },
            "buckets": [each for each in state["buckets"] if each != BUCKET],
            "leftovers": state["leftovers"],
            "functions": [
                each["FunctionName"]
                for each in self.simulation.client("lambda").list_functions()["Functions"]
            ],
            "log groups": [each["logGroupName"] for each in logs.describe_log_groups()["logGroups"]],
        }


@pytest.fixture(autouse=True)
def tools(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Builds find the tools of every kind of repository, and the checks need no settings."""
    folder = tmp_path_factory.mktemp("tools")
    for name, program in _TOOLS.items():
        (folder / name).write_text(f"#!{sys.executable}{program}")
        (folder / name).chmod(0o755)
    monkeypatch.setattr("deployer.cli.commands.validate.CfnLint", _Silent)
    monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
    monkeypatch.delenv("DEPLOYER_TARGETS", raising=False)
    monkeypatch.delenv("DEPLOYER_UNFENCED", raising=False)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", _REPOSITORIES)
def test_a_starter_pipeline_does_its_job_and_ends_without_a_trace(
    simulation: Simulation, tmp_path: Path, name: str
) -> None:
    project = Project(simulation, tmp_path, _REPOSITORIES[name])
    project.run_command("init")
    project.run_command("validate")
    execution = project.push()
    log = project.build_log(execution)
    assert execution["status"] == "Succeeded", (project.world.told, log)
    assert [each for each in _COMMANDS[name] if f"Running command {each}\n" not in log] == []

    application = project.world.stack(_REF, "-app")
    assert (application is not None) == (name in {"site", "sam", "cdk"})
    if application:
        assert project.environment.owns(application["tags"])
        assert application["outputs"]["Url"].startswith("http")
    if application and name == "site":
        bucket = application["outputs"]["BucketName"]
        page = simulation.s3.get_object(Bucket=bucket, Key="a/index.html")["Body"].read()
        assert page == b"the page"
        assert application["outputs"]["Url"] == f"{simulation.s3.meta.endpoint_url}/{bucket}"
    if application and name == "cdk":
        bucket, _, key = application["outputs"]["Asset"].partition("/")
        assert simulation.s3.get_object(Bucket=bucket, Key=key)["Body"].read(2) == b"PK"

    project.delete()
    assert {kind: found for kind, found in project.left_in_aws().items() if found} == {}


def test_a_test_that_fails_ends_the_starter_pipeline(simulation: Simulation, tmp_path: Path) -> None:
    project = Project(simulation, tmp_path, {"index.html": '<a href="missing.html">a</a>'})
    project.run_command("init")
    execution = project.push()
    assert execution["status"] == "Failed"
    assert "index.html: missing.html leads to no file of the site" in project.build_log(execution)
    assert project.world.stack(_REF, "-app") is None


def test_a_stack_named_by_a_variable_is_found_by_its_tags(simulation: Simulation, tmp_path: Path) -> None:
    files = {
        "deploy/pipeline.yml": _VARIABLE_NAME,
        "app.yml": "Resources: {Data: {Type: AWS::S3::Bucket}}\n",
        "stack.json": json.dumps({"Tags": environment(_REF).tags}),
    }
    project = Project(simulation, tmp_path, files)
    execution = project.push()
    assert execution["status"] == "Succeeded", project.world.told
    assert {each["name"] for each in simulation.state["stacks"]} == {
        "app-Ada",
        project.environment.stack_name,
    }
    project.delete()
    assert {kind: found for kind, found in project.left_in_aws().items() if found} == {}
