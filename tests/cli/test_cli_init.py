"""Tests of what `init` writes for each kind of repository."""

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from deployer.cli import main
from deployer.cli.repository_facts import collect_facts
from deployer.model.errors import PermanentError
from deployer.templates.findings import Finding

STARTER = Path(__file__).parents[2] / "deployer" / "cli" / "starter"
SAM = "Transform: AWS::Serverless-2016-10-31\nResources: {}\n"
NODE = json.dumps({"scripts": {"test": "node --test"}})
PYTEST = {"requirements.txt": "flask\n", "tests/test_a.py": "import pytest\n"}
# the files of a repository, its kind, and the commands of its builds in order, without those of the deployment
KINDS: dict[str, tuple[dict[str, str], str, list[str]]] = {
    "site": ({"index.html": ""}, "a static site (index.html)", ["python3 deploy/check_site.py ."]),
    "site in a folder": (
        {"public/index.html": "", "README.md": ""},
        "a static site (public/index.html)",
        ["python3 deploy/check_site.py public"],
    ),
    "python with unittest": (
        {"setup.py": "", "tests/test_a.py": "import unittest\n"},
        "a Python project (setup.py)",
        [
            "python3 -m venv .venv && . .venv/bin/activate",
            "python3 -m pip install --quiet '.'",
            "python3 -m unittest discover -s tests",
        ],
    ),
    "python with pytest": (
        PYTEST,
        "a Python project (requirements.txt)",
        [
            "python3 -m venv .venv && . .venv/bin/activate",
            "python3 -m pip install --quiet -r requirements.txt",
            "python3 -m pip install --quiet pytest",
            "python3 -m pytest",
        ],
    ),
    "python with an extra": (
        {
            "pyproject.toml": "[project]\nname='a'\n[project.optional-dependencies]\ntest=['pytest']\n",
            "requirements-dev.txt": "",
        },
        "a Python project (pyproject.toml)",
        [
            "python3 -m venv .venv && . .venv/bin/activate",
            "python3 -m pip install --quiet -r requirements-dev.txt",
            "python3 -m pip install --quiet '.[test]'",
            "python3 -m pip install --quiet pytest",
            "python3 -m pytest",
        ],
    ),
    "python without tests": (
        {"pyproject.toml": "[tool.ruff]\n"},
        "a Python project (pyproject.toml)",
        ["python3 -m venv .venv && . .venv/bin/activate", "python3 -m compileall -q -x '[.]venv' ."],
    ),
    "node": (
        {"package.json": json.dumps({"scripts": {"build": "x", "test": "y"}}), "package-lock.json": "{}"},
        "a Node package (package.json)",
        ["npm ci", "npm run build", "npm test"],
    ),
    "node with pnpm": (
        {"package.json": NODE, "pnpm-lock.yaml": ""},
        "a Node package (package.json)",
        ["corepack enable && pnpm install --frozen-lockfile", "pnpm test"],
    ),
    "node without tests": (
        {"package.json": json.dumps({"scripts": {"test": 'echo "Error: no test specified" && exit 1'}})},
        "a Node package (package.json)",
        ["npm install", 'echo "package.json has no tests"'],
    ),
    "dockerfile": (
        {"Dockerfile": "FROM scratch\n"},
        "a Dockerfile (Dockerfile)",
        ["docker build --tag app ."],
    ),
    "dockerfile with tests": (
        {"Dockerfile": "FROM python AS base\nfrom base as Test\n"},
        "a Dockerfile (Dockerfile)",
        ["docker build --target Test .", "docker build --tag app ."],
    ),
    "dockerfile of a node package": (
        {"Dockerfile": "FROM node\n", "package.json": NODE},
        "a Dockerfile (Dockerfile)",
        ["npm install", "npm test", "docker build --tag app ."],
    ),
    "sam": (
        {"template.yaml": SAM},
        "a SAM application (template.yaml)",
        [
            "sam build",
            'sam package --s3-bucket "$ARTIFACT_STORE" --use-json --output-template-file packaged.json',
            "python3 deploy/prepare_app.py packaged.json",
        ],
    ),
    "cdk in a node package": (
        {"cdk.json": "{}", "package.json": NODE, "Dockerfile": ""},
        "a CDK application (cdk.json)",
        [
            "npm install",
            "npm test",
            "npx --yes aws-cdk@2 synth --quiet --output cdk.out",
            "python3 deploy/prepare_app.py cdk.out",
        ],
    ),
    "another template": ({"template.yaml": "Resources: {}\n"}, "", ['echo "nothing to build yet"']),
}


class _Silent:
    """The port `Linter`: has nothing to say."""

    def __init__(self, _seconds: float) -> None:
        pass

    def findings(
        self, _name: str, _template: str, _regions: Sequence[str], _conditions: Mapping[str, bool]
    ) -> list[Finding]:
        """See `Linter.findings`."""
        return []


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without settings that are set where the tests run."""
    monkeypatch.delenv("DEPLOYER_TARGETS", raising=False)
    monkeypatch.delenv("DEPLOYER_UNFENCED", raising=False)


@pytest.fixture
def unlinted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cfn-lint, which takes seconds."""
    monkeypatch.setattr("deployer.cli.commands.validate.CfnLint", _Silent)


def run(*arguments: str | Path) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="deployer")


def write(top: Path, files: dict[str, str]) -> Path:
    """A working copy with these files."""
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


def commands(top: Path) -> list[str]:
    """The commands of the generated buildspec, without the one that writes the tags."""
    phases = yaml.safe_load((top / "deploy/buildspec.yml").read_text())["phases"]
    found = [each for phase in phases.values() for each in phase["commands"]]
    return [each for each in found if "STACK_CONFIGURATION" not in each]


@pytest.mark.usefixtures("unlinted")
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_repository_gets_its_pipeline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    files, kind, expected = KINDS[name]
    result = run("init", write(tmp_path, files))
    assert result.exit_code == 0, result.stderr
    if kind:
        assert result.stderr.splitlines()[0] == f"this is {kind}"
    assert commands(tmp_path) == expected
    checked = run("validate", tmp_path)
    assert (checked.exit_code, checked.stdout.count("\n")) == (0, 1), checked.stdout
    monkeypatch.setenv("DEPLOYER_UNFENCED", "yes")
    assert run("validate", tmp_path).exit_code == 0


@pytest.mark.parametrize("name", ["site", "node", "dockerfile", "sam", "cdk in a node package"])
def test_cfn_lint_has_nothing_to_say(tmp_path: Path, name: str) -> None:
    assert run("init", write(tmp_path, KINDS[name][0])).exit_code == 0
    checked = run("validate", tmp_path)
    assert (checked.exit_code, checked.stdout) == (
        0,
        f"{tmp_path}/deploy is valid for development, staging, production\n",
    )
    assert "cfn-lint" not in checked.stderr


class _Template(yaml.SafeLoader):
    """Reads a template; a short form of a function becomes its argument."""


def _construct_argument(loader: _Template, _suffix: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    assert isinstance(node, yaml.MappingNode)
    return loader.construct_mapping(node, deep=True)


_Template.add_multi_constructor("!", _construct_argument)  # type: ignore[no-untyped-call]


def actions(top: Path) -> list[dict[str, Any]]:
    """The actions of the generated pipeline."""
    template = yaml.load((top / "deploy/pipeline.yml").read_text(), _Template)  # noqa: S506  a SafeLoader
    stages = template["Resources"]["Pipeline"]["Properties"]["Stages"]
    return [action for stage in stages for action in stage["Actions"]]


@pytest.mark.usefixtures("unlinted")
@pytest.mark.parametrize("name", KINDS)
def test_the_pipeline_never_starts_itself_and_the_application_has_the_tags(tmp_path: Path, name: str) -> None:
    files = KINDS[name][0]
    run("init", write(tmp_path, files))
    if not collect_facts(tmp_path).deploys:  # what the file itself says
        text = (tmp_path / "deploy/pipeline.yml").read_text()
        (command,) = re.findall(r"^ *# +(sed .*)$", text, re.MULTILINE)
        assert [each["Name"] for each in actions(tmp_path)] == ["Source", "Build"]
        subprocess.run(["sh", "-c", command], check=True, cwd=tmp_path)
        assert run("validate", tmp_path).exit_code == 0
        assert "STACK_CONFIGURATION" in (tmp_path / "deploy/buildspec.yml").read_text()
        yaml.safe_load((tmp_path / "deploy/buildspec.yml").read_text())
    source, _, app, *_ = actions(tmp_path)
    assert source["Configuration"]["DetectChanges"] is False
    assert app["Configuration"]["TemplateConfiguration"] == "BuildOutput::stack.json"
    assert app["Configuration"]["StackName"] == "${PipelineName}-app"


def test_generated_files_explain_themselves(tmp_path: Path) -> None:
    for name, (files, _, _) in KINDS.items():
        top = write(tmp_path / name, files)
        run("init", top)
        for path in (top / "deploy").iterdir():
            text = path.read_text()
            assert "#" in text or text.startswith('"""'), path
            assert not re.search(r"^#:|@[a-z-]+@", text, re.MULTILINE), path
            assert max(map(len, text.splitlines())) <= 135, path


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("package.json", "{", "package.json is not JSON"),
        ("pyproject.toml", "a = [", "pyproject.toml is not TOML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, words: str) -> None:
    with pytest.raises(PermanentError, match=words):
        collect_facts(write(tmp_path, {name: text}))
    result = run("init", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert not (tmp_path / "deploy").exists()


# --- the programs that the files contain ---


def load_program(name: str) -> ModuleType:
    """A starter program as a module."""
    spec = importlib.util.spec_from_file_location(name, STARTER / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("page", "broken"),
    [
        (
            '<a href="https://example.com/x"></a><a href="//x/y"></a><a href="#top"></a><a href="mailto:a@b"></a>',
            [],
        ),
        ('<a href="about/"></a><a href="/about/index.html?x=1#y"></a><img src="a%20b.png">', []),
        ('<a href="missing.html"></a>', ["index.html: missing.html"]),
        ('<script src="/js/x.js"></script>', ["index.html: /js/x.js"]),
        ('<a href=""></a><a></a>', []),
    ],
)
def test_the_links_of_a_site_are_checked(tmp_path: Path, page: str, broken: list[str]) -> None:
    write(
        tmp_path,
        {
            "index.html": page,
            "about/index.html": '<a href="../index.html"></a>',
            "a b.png": "",
            "deploy/x.html": page,
        },
    )
    assert list(load_program("check_site").broken_links(tmp_path)) == broken
    program = [sys.executable, STARTER / "check_site.py", tmp_path]
    assert subprocess.run(program, check=False, capture_output=True).returncode == bool(broken)


def test_every_role_of_an_application_gets_path_and_boundary() -> None:
    template = {
        "Globals": {"StateMachine": {"Role": "arn"}},
        "Resources": {
            "Role": {"Type": "AWS::IAM::Role"},
            "Policy": {"Type": "AWS::IAM::ManagedPolicy", "Properties": {"Path": "/x/"}},
            "User": {"Type": "AWS::IAM::User", "Properties": {}},
            "Function": {"Type": "AWS::Serverless::Function", "Properties": {"Handler": "a.b"}},
            "With": {"Type": "AWS::Serverless::Function", "Properties": {"Role": "arn"}},
            "Machine": {"Type": "AWS::Serverless::StateMachine"},
            "Bucket": {"Type": "AWS::S3::Bucket"},
        },
    }
    environment = {"STAGE": "staging", "PERMISSIONS_BOUNDARY": "arn:b"}
    load_program("prepare_app").bound_roles(template, environment)
    found = {name: each.get("Properties") for name, each in template["Resources"].items()}
    assert found == {
        "Role": {"Path": "/deployer/staging/", "PermissionsBoundary": "arn:b"},
        "Policy": {"Path": "/deployer/staging/"},
        "User": {"PermissionsBoundary": "arn:b"},
        "Function": {"Handler": "a.b", "RolePath": "/deployer/staging/", "PermissionsBoundary": "arn:b"},
        "With": {"Role": "arn"},
        "Machine": None,
        "Bucket": None,
    }
    without = {"Resources": {"Role": {"Type": "AWS::IAM::Role"}}}
    load_program("prepare_app").bound_roles(without, {"STAGE": "production", "PERMISSIONS_BOUNDARY": ""})
    assert without["Resources"]["Role"]["Properties"] == {"Path": "/deployer/production/"}


_CDK_BUCKET = "cdk-hnb659fds-assets-${AWS::AccountId}-${AWS::Region}"


def _cdk_output(top: Path, **more: Any) -> Path:
    template = {
        "Parameters": {"BootstrapVersion": {"Type": "AWS::SSM::Parameter::Value<String>"}},
        "Rules": {"CheckBootstrapVersion": {}},
        "Resources": {"F": {"Type": "T", "Properties": {"Code": {"S3Bucket": {"Fn::Sub": _CDK_BUCKET}}}}},
    }
    destinations = {"current": {"bucketName": _CDK_BUCKET, "objectKey": "abc.zip"}}
    manifest = {
        "files": {
            "abc": {"source": {"path": "asset.abc", "packaging": "zip"}, "destinations": destinations},
            "own": {"source": {"path": "App.template.json"}, "destinations": destinations},
        },
        **more,
    }
    return write(
        top,
        {
            "App.template.json": json.dumps(template),
            "AppSub.nested.template.json": "{}",
            "App.assets.json": json.dumps(manifest),
            "asset.abc/index.py": "",
        },
    )


def test_a_cdk_application_needs_no_bucket_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = load_program("prepare_app")
    uploaded = []
    monkeypatch.setattr(program.subprocess, "run", lambda command, check: uploaded.append((command, check)))
    template = program.read_cdk_template(_cdk_output(tmp_path), "artifacts")
    assert template == {
        "Resources": {"F": {"Type": "T", "Properties": {"Code": {"S3Bucket": {"Fn::Sub": "artifacts"}}}}}
    }
    archive = f"{tmp_path}/asset.abc.zip"
    assert uploaded == [(["aws", "s3", "cp", "--only-show-errors", archive, "s3://artifacts/abc.zip"], True)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Other.template.json": "{}"}, "deploys one stack, but the CDK application has App, Other"),
        ({"App.assets.json": '{"dockerImages": {"x": {}}}'}, "has a container image"),
    ],
)
def test_a_cdk_application_that_the_pipeline_cannot_deploy_fails_the_build(
    tmp_path: Path, change: dict[str, str], words: str
) -> None:
    write(_cdk_output(tmp_path / "cdk.out"), change)
    environment = {"ARTIFACT_STORE": "artifacts", "STAGE": "development", "STACK_CONFIGURATION": "{}"}
    program = [sys.executable, STARTER / "prepare_app.py", "cdk.out"]
    done = subprocess.run(program, check=False, capture_output=True, cwd=tmp_path, env=environment, text=True)
    assert (done.returncode, words in done.stderr) == (1, True)
