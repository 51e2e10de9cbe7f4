"""The adapter of the port `Linter`: cfn-lint in its own process, in words for people, and never in the way."""

import errno
import json
import multiprocessing
import re
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.aws import cfn_lint as linting
from deployer.aws.cfn_lint import CfnLint, explain_match, place_of_path
from deployer.model.errors import TransientError
from deployer.templates.findings import Finding

BROKEN = """\
Metadata: {cfn-lint: {config: {regions: [nowhere], ignore_checks: [E3012, E3024]}}}
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      BucketNme: x
      Tags: 5
"""


def look(template: str, **conditions: bool) -> list[Finding]:
    """What a linter that knows nothing yet says. A busy machine must not stop it."""
    return CfnLint(seconds=300, cpu_seconds=120).findings("pipeline.yml", template, [], conditions)


def test_what_is_wrong_is_told_in_words_with_its_line() -> None:
    # that the template asks for checks of a region that is none changes nothing; what it wants left out is
    text = "BucketNme is not known here; did you mean BucketName? [E3002]"
    assert look(BROKEN) == [Finding("error", "deploy/pipeline.yml", 6, text, subject="Bucket.BucketNme:")]


def test_a_template_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    linter = CfnLint()
    first = linter.findings("pipeline.yml", BROKEN, [], {})
    monkeypatch.setattr(linting.sys, "executable", "/nowhere/python")
    assert linter.findings("pipeline.yml", BROKEN, [], {}) == first != []
    (note,) = linter.findings("pipeline.yml", "Resources: {A: {}}\n", [], {})
    assert (note.level, note.text) == ("note", "could not be started: No such file or directory")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "/t/x"),
            "No space left on device (/t/x); see its disk",
        ),
        (
            FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"),
            "No usable temporary",
        ),
    ],
)
def test_without_room_for_a_directory_it_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, error: OSError, line: str
) -> None:
    def full(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    with pytest.raises(TransientError, match=re.escape(f"the worker's machine: {line}")):
        look(BROKEN)


@pytest.fixture
def instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets a shell script run in cfn-lint's place."""

    def put(script: str) -> None:
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)
        monkeypatch.setattr(linting.sys, "executable", str(path))

    return put


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("exec /bin/sleep 60", "stopped after 0.5 s"),
        ("kill -9 $$", "crashed on the template"),
        ("echo 'KeyError: 1' >&2; exit 1", "crashed on the template: KeyError: 1"),
        ("exit 0", "returned no result"),
        ("echo '\"KeyError x\"'", "cannot parse the template: KeyError x"),
    ],
)
def test_one_that_hangs_or_dies_is_a_note(instead: Callable[[str], None], script: str, text: str) -> None:
    instead(script)
    found = CfnLint(0.5 if "sleep" in script else 30).findings("pipeline.yml", "{}", [], {})
    assert found == [Finding("note", "deploy/pipeline.yml", None, text)]


def test_one_that_takes_much_processor_time_is_killed_for_it() -> None:
    """Each resource depends on each other one: cfn-lint takes four seconds for it, of which others would wait."""
    names = [f"T{number}" for number in range(150)]
    resources = {
        name: {"Type": "AWS::SNS::Topic", "DependsOn": [each for each in names if each != name]}
        for name in names
    }
    template = json.dumps({"Resources": resources})

    def used() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime

    before = used()
    found = CfnLint(cpu_seconds=1).findings("pipeline.yml", template, ["us-east-1"], {})
    assert found == [
        Finding(
            "note",
            "deploy/pipeline.yml",
            None,
            "stopped after 1 s of processor time",
        )
    ]
    assert used() - before < 2


def test_what_was_given_up_is_tried_again(instead: Callable[[str], None]) -> None:
    linter = CfnLint()
    instead("exit 1")
    assert linter.findings("pipeline.yml", "{}", [], {})[0].level == "note"
    instead("echo '[]'")
    assert linter.findings("pipeline.yml", "{}", [], {}) == []


def test_it_sees_none_of_our_environment(
    instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEPLOYER_GITHUB_TOKEN", "hush")
    instead(f"/usr/bin/env > {tmp_path}/seen; echo '[]'")
    assert CfnLint().findings("pipeline.yml", "{}", [], {}) == []
    assert "hush" not in (tmp_path / "seen").read_text()


def _ask(found: "multiprocessing.Queue[list[Finding]]") -> None:
    found.put(CfnLint().findings("pipeline.yml", "{}", [], {}))


def test_a_daemonic_process_may_ask_too(instead: Callable[[str], None]) -> None:
    instead("echo '[]'")  # the children of Celery's pool are such
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[list[Finding]] = context.Queue()
    child = context.Process(target=_ask, args=(found,), daemon=True)
    child.start()
    try:
        assert found.get(timeout=30) == []
    finally:
        child.join()


@pytest.mark.parametrize(
    ("rule", "message", "path", "text"),
    [
        ("E3003", "'RoleArn' is a required property", "Resources P Properties", "P: RoleArn is missing"),
        ("E3012", "5 is not of type 'string'", "Resources P Properties A 0", "P.A[0]: 5 is not text"),
        (
            "E1020",
            "'Bukket' is not one of ['Bucket', 'Topic']",
            "Resources P Ref",
            "P: nothing in this template is named Bukket; did you mean Bucket?",
        ),
        (
            "E3030",
            "'x' is not one of ['a', 'b'] in ['eu-west-1']",
            "Outputs O",
            "Outputs.O: 'x' is not known; there are a, b",
        ),
        ("E9999", "Something new", "", "Something new"),
    ],
)
def test_messages_are_in_words(rule: str, message: str, path: str, text: str) -> None:
    assert f"{place_of_path(path.split())} {explain_match(rule, message)}".lstrip() == f"{text} [{rule}]"


def test_the_sample_passes() -> None:
    root = Path(__file__).parents[3]
    assert look((root / "sandbox/sample/deploy/pipeline.yml").read_text()) == []


ACTION = (
    "{Name: Go, Actions: [{Name: Gate,"
    " ActionTypeId: {Category: Approval, Owner: AWS, Provider: Manual, Version: '1'}}]}"
)
PIPELINE = """\
Parameters:
  Test: {Type: String, Default: "yes"}
Conditions:
  Tested: !Equals [!Ref Test, "yes"]
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: '2012-10-17'
        Statement: [{Effect: Allow, Principal: {Service: codepipeline.amazonaws.com}, Action: 'sts:AssumeRole'}]
  Pipeline:
    Type: AWS::CodePipeline::Pipeline
    Properties:
      RoleArn: !GetAtt Role.Arn
      ArtifactStore: {Type: S3, Location: bucket}
      Stages:
        - Name: Source
          Actions:
            - Name: Source
              ActionTypeId: {Category: Source, Owner: AWS, Provider: CodeStarSourceConnection, Version: '1'}
              Configuration: {ConnectionArn: arn, FullRepositoryId: a/b, BranchName: main, DetectChanges: false}
              OutputArtifacts: [{Name: Src}]
"""
DEPLOY = """\
        - Name: Deploy
          Actions:
            - Name: App
              ActionTypeId: {Category: Deploy, Owner: AWS, Provider: CloudFormation, Version: '1'}
              Configuration:
                ActionMode: CREATE_UPDATE
                StackName: app
                RoleArn: !Join ['', ['arn:', !Ref 'AWS::Partition', ':iam::123456789012:role/deploy']]
                TemplatePath: Src::app.yml
              InputArtifacts: [{Name: Src}]
"""
CONDITIONAL = f"{PIPELINE}        - !If [Tested, {ACTION}, !Ref AWS::NoValue]\n"


def _said(found: list[Finding]) -> list[tuple[str, str]]:
    return [(each.level, each.message) for each in found]


@pytest.mark.parametrize(
    ("conditions", "told"),
    [
        ({"Tested": True}, []),
        ({"Tested": False}, ["error"]),
        ({}, ["warning"]),  # only AWS knows how many stages there are
    ],
)
def test_stages_are_counted_after_the_conditions(conditions: dict[str, bool], told: list[str]) -> None:
    text = "Pipeline.Stages: it has 1 entries; at least 2 are needed [E3032]"
    assert _said(look(CONDITIONAL, **conditions)) == [(level, text) for level in told]


def test_a_joined_arn_is_no_finding() -> None:
    """Every pipeline that CDK synthesizes joins its ARNs so; E3703 repeats the hint I1022 as its own error."""
    used = "Outputs: {Used: {Condition: Tested, Value: !Ref Role}}\n"
    assert _said(look(PIPELINE + DEPLOY + used)) == []


@pytest.mark.parametrize(
    ("resource", "conditions", "told"),
    [
        # the place is used, or not, or nobody knows
        (
            "Condition: Tested, Properties: {Bad: 1}",
            {"Tested": True},
            "error X.Bad: Bad is not known here [E3002]",
        ),
        ("Condition: Tested, Properties: {Bad: 1}", {"Tested": False}, ""),
        ("Condition: Tested, Properties: {Bad: 1}", {}, "warning X.Bad: Bad is not known here [E3002]"),
        ("Properties: !If [Tested, {Bad: 1}, {DelaySeconds: 1}]", {"Tested": True}, "error X.Bad"),
        ("Properties: !If [Tested, {Bad: 1}, {DelaySeconds: 1}]", {"Tested": False}, ""),
        ("Properties: {DelaySeconds: !If [Tested, hallo, 1]}", {"Tested": True}, "error X.DelaySeconds"),
        ("Properties: {DelaySeconds: !If [Tested, hallo, 1]}", {"Tested": False}, ""),
        # CloudFormation looks for every name, also in a branch that it does not use
        (
            "Properties: {QueueName: !If [Tested, x, !Ref Nobody]}",
            {"Tested": True},
            "error X.QueueName[2]: nothing",
        ),
        # types of other publishers, and what cfn-lint guesses
        ("Type: MyOrg::Queues::Queue", {}, "warning X.Type: the type MyOrg::Queues::Queue is not known"),
    ],
)
def test_only_what_is_certain_rejects(resource: str, conditions: dict[str, bool], told: str) -> None:
    kind = "" if "Type:" in resource else "Type: AWS::SQS::Queue, "
    template = PIPELINE + DEPLOY + f"  X: {{{kind}{resource}}}\n"
    template += "Outputs: {Used: {Condition: Tested, Value: !Ref Role}}\n"
    levels = [f"{level} {text}" for level, text in _said(look(template, **conditions)) if "X" in text]
    assert [each for each in levels if not each.startswith(told or "-")] == []
    assert bool(levels) == bool(told)


def test_a_macro_may_still_change_everything() -> None:
    template = "Transform: [Mine]\nResources: {X: {Type: AWS::SQS::Queue, Properties: {Bad: !Ref Nobody}}}\n"
    assert {each.level for each in look(template)} == {"warning"}
    assert {each.level for each in look(template.replace("[Mine]", "AWS::LanguageExtensions"))} == {"error"}
