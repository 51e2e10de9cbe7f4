"""For each kind of repository: `init`, `validate`, a push that deploys it, and a deletion that leaves nothing."""

import itertools
import json
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from conftest import FAST

from deployer.model.environments import Environment, Repository
from deployer.model.refs import Ref
from sandbox.installation import Installation, WorkingCopy, call

_numbers = itertools.count(1)
_BRANCH = Ref.of_branch("feature/first")

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
# the last command of each build that does the repository's job
_LAST_COMMANDS = {
    "site": "python3 deploy/check_site.py public",
    "python": "python3 -m unittest discover -s tests",
    "node": "npm test",
    "docker": "docker build --tag app .",
    "sam": "python3 deploy/prepare_app.py packaged.json",
    "cdk": "python3 deploy/prepare_app.py cdk.out",
}


@pytest.fixture(scope="module")
def with_tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation whose builds find the tools of every kind of repository."""
    tools = tmp_path_factory.mktemp("tools")
    for name, program in _TOOLS.items():
        (tools / name).write_text(f"#!{sys.executable}{program}")
        (tools / name).chmod(0o755)
    settings = {**FAST, "PATH": os.pathsep.join([str(tools), os.environ["PATH"]])}
    with Installation(tmp_path_factory.mktemp("installation"), settings).running() as made:
        yield made


class Project:
    """A repository that `deployer init` made a pipeline for.

    Args:
        here: the installation.
        directory: for its clone.
        name: a key of `_REPOSITORIES`.
    """

    def __init__(self, here: Installation, directory: Path, name: str) -> None:
        self.here, self.full_name = here, f"starters-{next(_numbers)}/{name}"
        here.repository(self.full_name, sample=False)
        self.copy: WorkingCopy = here.clone(directory / name, self.full_name)
        self.copy.git("checkout", "-q", "-b", "main")
        self.copy.write("Before deployer", _REPOSITORIES[name])
        self.copy.push("HEAD:refs/heads/main")  # the first branch is the default branch
        self.environment = Environment.of_ref(Repository.parse(self.full_name), _BRANCH, "main")

    def push(self, message: str, files: dict[str, str]) -> dict[str, Any]:
        """Push a commit of the branch; return the environment's record at the end."""
        sha = self.copy.write(message, files)
        self.copy.push(f"HEAD:{_BRANCH}")
        return self.here.settled(_BRANCH.name, sha, self.full_name)

    def log(self) -> str:
        """The log of the newest build."""
        execution = self.here.executions(self.environment.stack_name)[-1]
        (url,) = [
            action["url"]
            for stage in execution["stages"]
            if stage["name"] == "Build"
            for action in stage["actions"]
        ]
        return call("GET", url).text

    def left_in_aws(self) -> list[str]:
        """Everything in AWS that belongs to the environment: names and ids."""
        name, state = self.environment.stack_name, self.here.aws_state()
        names = [
            each["name"] for kind in ("stacks", "pipelines", "projects", "roles") for each in state[kind]
        ]
        names += [*state["buckets"], *(each["id"] for each in state["leftovers"])]
        logs = boto3.client(
            "logs", region_name="us-east-1", endpoint_url=self.here.aws,
            aws_access_key_id="x", aws_secret_access_key="x",
        )  # fmt: skip
        names += [each["logGroupName"] for each in logs.describe_log_groups()["logGroups"]]
        return [each for each in names if name[:30] in each]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", _REPOSITORIES)
def test_a_starter_pipeline_does_its_job_and_ends_without_a_trace(
    with_tools: Installation, tmp_path: Path, name: str
) -> None:
    if name == "sam" and find_spec("sandbox.aws.transforms") is None:
        pytest.skip("the simulated CloudFormation has no transforms")
    here, project = with_tools, Project(with_tools, tmp_path, name)
    made = here.cli("init", str(project.copy.directory))
    assert made.returncode == 0, made.stderr
    checked = here.cli("validate", str(project.copy.directory))
    assert checked.returncode == 0, checked.stdout

    project.copy.git("checkout", "-q", "-b", _BRANCH.short)
    found = project.push("With deployer", {})
    stack = project.environment.stack_name
    assert found["outcome"] == "deployed", (found["reason"], project.log())
    assert f"Running command {_LAST_COMMANDS[name]}" in project.log()
    triggers = {each["trigger"] for each in here.executions(stack)}
    assert triggers <= {"CreatePipeline", "StartPipelineExecution"}  # the pipeline does not start itself
    if name in {"site", "sam", "cdk"}:
        application = here.stacks()[f"{stack}-app"]
        assert project.environment.owns(application["tags"])
        assert application["outputs"]["Url"].startswith("http")
    if name == "site":
        bucket = application["outputs"]["BucketName"]
        assert call("GET", f"{here.aws}/{bucket}/a/index.html").text == "the page"
        assert application["outputs"]["Url"] == f"http://{bucket}.s3-website-us-east-1.amazonaws.com"
    if name == "cdk":
        bucket, _, key = application["outputs"]["Asset"].partition("/")
        assert call("GET", f"{here.aws}/{bucket}/{key}").status == 200

    project.copy.git("push", "-q", "origin", f":{_BRANCH}")
    here.deleted(_BRANCH.name, project.full_name)
    assert project.left_in_aws() == []


def test_a_test_that_fails_stops_the_starter_pipeline(with_tools: Installation, tmp_path: Path) -> None:
    project = Project(with_tools, tmp_path, "site")
    assert with_tools.cli("init", str(project.copy.directory)).returncode == 0
    found = project.push("A broken link", {"public/index.html": '<a href="missing.html">a</a>'})
    assert found["outcome"] == "failed"
    assert "index.html: missing.html leads to no file" in project.log()
