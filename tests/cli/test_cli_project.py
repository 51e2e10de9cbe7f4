"""Tests of `validate` and `init`, without settings and Redis."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deployer.cli import main
from deployer.model.environments import Kind
from deployer.templates.findings import Finding

SAMPLE = Path(__file__).parents[2] / "sandbox" / "sample"
GOOD = "Resources: {Pipeline: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}}\n"


_BOUNDARY = "arn:aws:iam::123456789012:policy/deployer-own/deployer-development-boundary"
EXAMPLES = (
    "example values limit what a template may name:"
    f" permissions_boundary {_BOUNDARY}, role_path /deployer/development/, allowed_roles none;"
    " set it to the value of your installation\n"
)
UNSET = f"DEPLOYER_TARGETS is not set, so {EXAMPLES}"


class _Silent:
    """The port `Linter`: has nothing to say."""

    def __init__(self, _seconds: float) -> None:
        pass

    def findings(
        self, _name: str, _template: str, _regions: Sequence[str], _conditions: Mapping[str, bool]
    ) -> list[Finding]:
        """See `Linter.findings`."""
        return []


def run(*arguments: str | Path) -> Result:
    """Run a command."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="deployer")


@pytest.fixture(autouse=True)
def unlinted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cfn-lint, which takes seconds; one test has it."""
    monkeypatch.setattr("deployer.cli.commands.validate.CfnLint", _Silent)
    monkeypatch.delenv("DEPLOYER_TARGETS", raising=False)
    monkeypatch.delenv("DEPLOYER_UNFENCED", raising=False)


def folder(path: Path, **files: str) -> Path:
    """A working copy with these files in `deploy/`; `_` stands for a dot."""
    (path / "deploy").mkdir()
    for name, text in files.items():
        (path / "deploy" / name.replace("_", ".")).write_text(text)
    return path


def test_init_writes_what_validate_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("init", tmp_path)
    assert result.exit_code == 0
    assert [line.rpartition("/")[2] for line in result.stdout.splitlines()] == [
        "pipeline.yml",
        "pipeline.parameters.yml",
        "buildspec.yml",
    ]
    assert result.stderr.startswith("the kind of repository is unknown; write the commands")
    monkeypatch.undo()  # with cfn-lint
    checked = run("validate", tmp_path)
    assert (checked.exit_code, checked.stderr) == (0, UNSET)
    assert checked.stdout == f"{tmp_path}/deploy is valid for development, staging, production\n"
    boundary = "arn:aws:iam::111111111111:policy/boundary"
    targets = f"{{development: {{account: '111111111111', permissions_boundary: '{boundary}'}}}}"
    monkeypatch.setenv("DEPLOYER_TARGETS", targets)
    monkeypatch.setattr("deployer.cli.commands.validate.CfnLint", _Silent)
    assert run("validate", tmp_path).stdout == checked.stdout


@pytest.mark.parametrize("name", ["pipeline.json", "pipeline.parameters.yml", "buildspec.yml"])
def test_init_overwrites_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / name).write_text("mine")
    result = run("init", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"deployer: {tmp_path}/deploy has {name} already; nothing was written\n"
    assert [found.name for found in (tmp_path / "deploy").iterdir()] == [name]


def test_validate_takes_the_sample(tmp_path: Path) -> None:
    shutil.copytree(SAMPLE / "deploy", tmp_path / "deploy")
    result = run("validate", tmp_path)
    assert result.exit_code == 0
    assert result.stderr == UNSET


def test_a_problem_of_every_environment_is_told_once(tmp_path: Path) -> None:
    result = run("validate", folder(tmp_path, pipeline_yml="Resources: {}\n"))
    assert result.exit_code == 1
    assert result.stdout == (
        "deploy/pipeline.yml:1: no resource of type AWS::CodePipeline::Pipeline: each environment needs its pipeline\n"
    )
    assert result.stderr.splitlines()[-1] == f"deployer: {tmp_path}/deploy has 1 problem"


def test_problems_of_some_environments(tmp_path: Path) -> None:
    template = "Parameters: {Size: {Type: String}}\n" + GOOD
    values = {"staging": {"Size": "1"}, "production": {"Size": "1", "Sise": "2"}}
    path = folder(tmp_path, pipeline_yml=template, pipeline_parameters_json=json.dumps(values))
    result = run("validate", path)
    given, declared = result.stdout.splitlines()
    assert declared.startswith("deploy/pipeline.yml:1: parameter Size has no default")
    assert declared.endswith("(development)")
    assert given.startswith("deploy/pipeline.parameters.json:1: Sise has a value here")
    assert given.endswith("(production)")
    found = json.loads(run("validate", path, "--json").stdout)["problems"]
    assert [(each["file"], each["environments"]) for each in found] == [
        ("deploy/pipeline.parameters.json", ["production"]),
        ("deploy/pipeline.yml", ["development"]),
    ]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "deploy/pipeline.yml: it is missing; create it (.yaml and .json work too)"),
        ({"pipeline_json": "{"}, "deploy/pipeline.json:1: not JSON"),
        ({"pipeline_yml": "a: [\n"}, "deploy/pipeline.yml:1: not YAML"),
        (
            {"deployer_yml": "branches:\n\t- main\n"},
            "deploy/deployer.yml:2: not YAML: a tab is used for indentation; YAML allows only spaces",
        ),
        ({"pipeline_yml": GOOD, "pipeline_json": "{}"}, "keep one of them"),
        ({"pipeline_yml": GOOD, "pipeline_parameters_json": "[]"}, "deploy/pipeline.parameters.json"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, files: dict[str, str], words: str) -> None:
    result = run("validate", folder(tmp_path, **files))
    assert result.exit_code == 1
    assert words in result.stdout


LINK, MODULE = "a symbolic link, which deployer does not follow", "a submodule, which deployer does not read"
FILE_IN_ITS_PLACE = "nothing is deployed until the file itself is committed in its place"
FOLDER_IN_ITS_PLACE = "nothing is deployed until a folder is committed in its place"


@pytest.mark.parametrize("target", ["../elsewhere.yml", "/etc/hostname", "nowhere"])
def test_a_symbolic_link_is_a_problem_wherever_it_leads(tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere.yml").write_text(GOOD)
    path = folder(tmp_path, pipeline_yml=GOOD)
    (path / "deploy" / "deployer.yml").symlink_to(target)
    (path / "deploy" / "pipeline.parameters.yml").mkdir()
    (path / "deploy" / "scripts").symlink_to("..")
    result = run("validate", path)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"deploy/deployer.yml: it is {LINK}; {FILE_IN_ITS_PLACE}",
        f"deploy/pipeline.parameters.yml: it is a folder; {FILE_IN_ITS_PLACE}",
    ]


def test_a_submodule_is_a_problem_whether_checked_out_or_not(tmp_path: Path) -> None:
    path = folder(tmp_path, pipeline_yml=GOOD)
    (path / "deploy" / "deployer.yml").mkdir()
    (path / ".gitmodules").write_text('[submodule "x"]\n\tpath = deploy/deployer.yml\n\turl = ../x\n')
    (path / "deploy" / "pipeline.parameters.json" / ".git").mkdir(parents=True)
    (path / "deploy" / "vendor" / ".git").mkdir(parents=True)
    assert run("validate", path).stdout.splitlines() == [
        f"deploy/deployer.yml: it is {MODULE}; {FILE_IN_ITS_PLACE}",
        f"deploy/pipeline.parameters.json: it is {MODULE}; {FILE_IN_ITS_PLACE}",
    ]


@pytest.mark.parametrize("kind", ["link", "dangling link", "submodule"])
def test_a_folder_that_is_none_is_a_problem(tmp_path: Path, kind: str) -> None:
    (tmp_path / "ops").mkdir()
    (tmp_path / "ops" / "pipeline.yml").write_text(GOOD)
    if kind == "submodule":
        (tmp_path / "ops" / ".git").write_text("gitdir: elsewhere")
        (tmp_path / "ops").rename(tmp_path / "deploy")
    else:
        (tmp_path / "deploy").symlink_to("nowhere" if kind == "dangling link" else "ops")
    what = MODULE if kind == "submodule" else LINK
    assert run("validate", tmp_path).stdout == f"deploy/: it is {what}; {FOLDER_IN_ITS_PLACE}\n"


def test_an_executable_file_and_a_working_copy_behind_a_link_are_good(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    folder(tmp_path / "copy", pipeline_yml=GOOD)
    (tmp_path / "copy" / "deploy" / "pipeline.yml").chmod(0o755)
    (tmp_path / "link").symlink_to("copy")
    assert run("validate", tmp_path / "link").exit_code == 0


def test_validate_lints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    result = run("validate", folder(tmp_path, pipeline_yml=GOOD), "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    told = {"level": "error", "file": "deploy/pipeline.yml", "line": 1, "lines": [1], "environments": [*Kind]}
    assert {**told, "text": "Pipeline: RoleArn is missing [E3003]"} in found["problems"]


@pytest.mark.parametrize("command", ["config", "validate"])
def test_a_settings_file_that_is_not_text_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(folder(tmp_path, pipeline_yml=GOOD))
    (tmp_path / ".env").write_bytes(b"DEPLOYER_TARGETS=\xff\xfe\n")
    result = run(command)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("deployer: .env cannot be read: 'utf-8' codec can't decode byte 0xff")


def test_validate_stops_a_slow_cfn_lint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("deployer.cli.commands.validate._LINT_SECONDS", 0.0)
    result = run("validate", folder(tmp_path, pipeline_yml=GOOD))
    assert (result.exit_code, result.stderr) == (0, f"{UNSET}cfn-lint: stopped after 0 s\n")


ROLE = """
  BuildRole:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {Statement: []}
"""
BOUNDED = f"""{ROLE}      Path: !Sub /deployer/${{Stage}}/
      PermissionsBoundary: !Ref PermissionsBoundary
"""
WITH = "Parameters: {PermissionsBoundary: {Type: String}, Stage: {Type: String}}\nResources:"
PIPELINE = "  Pipeline: {Type: AWS::CodePipeline::Pipeline, Properties: {Name: !Ref AWS::StackName}}\n"
FOREIGN = GOOD + "Outputs: {Other: {Value: 'arn:aws:iam::222222222222:role/Admin'}}\n"


@pytest.mark.parametrize(
    ("template", "targets", "problems", "note"),
    [
        (f"{WITH}{BOUNDED}{PIPELINE}", "", [], UNSET),
        (
            f"{WITH}{ROLE}{PIPELINE}",
            "",
            ["BuildRole needs PermissionsBoundary: ", "BuildRole needs Path: "],
            UNSET,
        ),
        (FOREIGN, "", ["arn:aws:iam::222222222222:role/Admin is not a role of this template"], UNSET),
        (
            FOREIGN,
            "development: {allowed_roles: ['arn:aws:iam::222222222222:role/*']}",
            [],
            "DEPLOYER_TARGETS has no permissions_boundary of development, so "
            + EXAMPLES.replace("none", "arn:aws:iam::222222222222:role/*"),
        ),
        (
            f"{WITH}{ROLE}{PIPELINE}",
            f"development: {{permissions_boundary: '{_BOUNDARY}'}}",
            ["BuildRole needs PermissionsBoundary: "],
            "",
        ),
    ],
)
def test_without_targets_the_rules_of_rights_are_applied_with_examples(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    template: str,
    targets: str,
    problems: list[str],
    note: str,
) -> None:
    monkeypatch.setenv("DEPLOYER_TARGETS", targets)
    path = folder(tmp_path, pipeline_yml=template)
    result = run("validate", path)
    assert result.exit_code == bool(problems)
    assert result.stderr.startswith(note or "deployer: ")
    told = result.stdout.splitlines()
    assert len(told) == max(len(problems), 1)
    assert all(problem in line for problem, line in zip(problems, told, strict=False))
    found = json.loads(run("validate", path, "--json").stdout)
    assert found["notes"] == ([note.rstrip()] if note else [])


def test_an_installation_without_a_fence_has_no_rules_of_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOYER_UNFENCED", "yes")
    result = run("validate", folder(tmp_path, pipeline_yml=FOREIGN))
    assert result.exit_code == 0
    assert result.stderr == "what a template may name was not checked, because DEPLOYER_UNFENCED is yes\n"
    monkeypatch.setenv("DEPLOYER_UNFENCED", "perhaps")
    result = run("validate", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("deployer: DEPLOYER_UNFENCED")


@pytest.mark.parametrize("in_file", [False, True])
def test_validate_knows_the_targets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_file: bool
) -> None:
    targets = "{development: {account: '111111111111'}}"
    if in_file:
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").write_text(f'DEPLOYER_TARGETS="{targets}"\n')
    else:
        monkeypatch.setenv("DEPLOYER_TARGETS", targets)
    template = GOOD + "Outputs: {Other: {Value: 'arn:aws:sns:eu-west-1:222222222222:alarms'}}\n"
    result = run("validate", folder(tmp_path, pipeline_yml=template))
    assert result.exit_code == 1
    assert result.stdout == (
        "deploy/pipeline.yml:2: arn:aws:sns:eu-west-1:222222222222:alarms is of account 222222222222; development is in"
        " 111111111111 (allow it by development.allowed_roles in DEPLOYER_TARGETS) (development)\n"
    )


def test_validate_tells_warnings_and_still_takes_it(tmp_path: Path) -> None:
    template = GOOD.replace(
        "Resources: {", "Resources: {Queue: {Type: AWS::SQS::Queue, Properties: {QueueName: jobs}}, "
    )
    result = run("validate", folder(tmp_path, pipeline_yml=template))
    assert result.exit_code == 0
    first, last = result.stdout.splitlines()
    assert first.startswith("deploy/pipeline.yml:1: warning: Queue is named 'jobs' on every branch")
    assert last == f"{tmp_path}/deploy is valid for development, staging, production"


def test_validate_notes_a_token_that_not_every_installation_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEPLOYER_TARGETS", "{development: {account: '111111111111'}}")
    template = "Parameters: {RepoToken: {Type: String, NoEcho: true}}\n" + GOOD
    result = run("validate", folder(tmp_path, pipeline_yml=template))
    assert result.exit_code == 0, result.stdout
    assert "some installations do not provide RepoToken: use ConnectionArn" in result.stderr


def _by_branch(tmp_path: Path) -> Path:
    template = "Parameters: {Size: {Type: Number, Default: 1}, Text: {Type: String, Default: x}}\n" + GOOD
    values = (
        "development: {Text: all}\n"
        "branches:\n"
        "  feature/*: {Size: 2}\n"
        "  bug/*: {Size: big}\n"
        "  feature/login: {Text: login}\n"
    )
    return folder(tmp_path, pipeline_yml=template, pipeline_parameters_yml=values)


def test_validate_checks_the_values_of_every_branch_pattern(tmp_path: Path) -> None:
    result = run("validate", _by_branch(tmp_path))
    assert (result.exit_code, result.stdout) == (
        1,
        "deploy/pipeline.parameters.yml:4: Size is 'big', which is not a number (development)\n",
    )


def test_validate_of_a_branch_shows_its_values(tmp_path: Path) -> None:
    path = _by_branch(tmp_path)
    for branch in ("feature/login", "refs/heads/feature/login"):
        result = run("validate", path, "--branch", branch)
        assert result.exit_code == 0, result.stdout
        assert result.stdout.splitlines()[0] == "feature/login: Size=2, Text=login"
    found = json.loads(run("validate", path, "--branch", "other", "--json").stdout)
    assert found["parameters"] == {"Text": "all"}
    assert run("validate", path, "--branch", "bug/1").exit_code == 1
    assert json.loads(run("validate", path, "--json").stdout)["parameters"] == {}
    wrong = run("validate", path, "--branch", "refs/tags/v1")
    assert wrong.exit_code == 2
    assert "refs/tags/v1 is a tag; name a branch" in wrong.stderr


def test_validate_reads_the_preferences(tmp_path: Path) -> None:
    result = run("validate", folder(tmp_path, pipeline_yml=GOOD, deployer_yml="\nteardwon: {}\n"))
    assert result.exit_code == 1
    assert result.stdout == (
        "deploy/deployer.yml:2: teardwon is unknown; "
        "use one of teardown, regions, ttl, warn, sleep, branches, tags, production, paths, url, pull_requests,"
        " skipped\n"
    )


def test_validate_of_a_folder_without_deploy(tmp_path: Path) -> None:
    result = run("validate", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == (
        f"deployer: {tmp_path}/deploy is not a folder; deployer init {tmp_path} writes one to start from\n"
    )
    assert run("validate", tmp_path / "nowhere").exit_code == 2


LITERAL = """
Resources:
  Pipeline:
    Type: AWS::CodePipeline::Pipeline
    Properties:
      Name: !Ref AWS::StackName
      Stages:
        - Name: Source
          Actions:
            - Name: Source
              ActionTypeId: {Category: Source, Owner: AWS, Provider: CodeStarSourceConnection, Version: "1"}
              Configuration:
                FullRepositoryId: acme/api
                BranchName: trunk
                DetectChanges: false
"""


@pytest.mark.parametrize(
    ("url", "head", "told"),
    [
        ("", "", ["13: no source action reads this repository: Full", "14: no source action reads this repository at"]),
        ("git@github.com:acme/other.git", "trunk", ["13: no source action reads this repository: FullRepositoryId"]),
        # this repository, whose default branch is trunk: only a branch cannot have the literal name
        ("git@github.com:acme/api.git", "trunk", []),
        ("https://github.com/Acme/API", "trunk", []),
        ("http://x@127.0.0.1:8081/acme/api.git/", "trunk", []),
        ("git@github.com:acme/api.git", "", ["14: no source action reads this repository at"]),
    ],
)  # fmt: skip
def test_the_remote_of_the_working_copy_says_which_repository_and_default_branch_are_meant(
    tmp_path: Path, url: str, head: str, told: list[str]
) -> None:
    top = folder(tmp_path, pipeline_yml=LITERAL)
    if url:
        (top / ".git" / "refs" / "remotes" / "origin").mkdir(parents=True)
        other = '[remote "fork"]\n\turl = git@github.com:someone/api.git\n'
        (top / ".git" / "config").write_text(f'{other}[remote "origin"]\n\turl = {url}\n\tfetch = +x\n')
    if head:
        (top / ".git" / "refs" / "remotes" / "origin" / "HEAD").write_text(
            f"ref: refs/remotes/origin/{head}\n"
        )
    found = json.loads(run("validate", top, "--json").stdout)["problems"]
    everywhere = [f"{each['line']}: {each['text']}" for each in found if "staging" in each["environments"]]
    assert len(everywhere) == len(told), everywhere
    for text, expected in zip(everywhere, told, strict=True):
        assert text.startswith(expected)
    assert any("BranchName is 'trunk'" in each["text"] for each in found), "in development it is always wrong"
