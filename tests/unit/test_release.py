import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.environments import Environment, Kind, Repository
from deployer.errors import PermanentError
from deployer.refs import Ref
from deployer.release import Release, build_release

REPOSITORY = Repository.parse("acme/hello")
BRANCH = Ref.of_branch("feature/x")
SHA = "a" * 40
TEMPLATE = """
Parameters:
  PipelineName: {Type: String}
  Stage: {Type: String}
  Greeting: {Type: String}
  Size: {Type: Number, Default: 1}
Resources:
  Pipeline:
    Type: AWS::CodePipeline::Pipeline
    Properties:
      Name: !Ref PipelineName
      RoleArn: !GetAtt Role.Arn
      Text: !Sub "${Stage}-x"
"""
PARAMETERS = json.dumps({"development": [{"ParameterKey": "Greeting", "ParameterValue": "hi"}]})


def _build(files: dict[str, str], kind: Kind = Kind.DEVELOPMENT, ref: Ref = BRANCH) -> Release:
    environment = Environment(REPOSITORY, kind, ref if kind is Kind.DEVELOPMENT else None)
    content = {name: text.encode() for name, text in files.items()}
    return build_release(environment, ref, "feature/x", SHA, content, {"ArtifactStore": "bucket"})


def test_a_release_has_template_parameters_and_tags() -> None:
    release = _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": PARAMETERS})
    environment = Environment(REPOSITORY, Kind.DEVELOPMENT, BRANCH)
    assert release.template == TEMPLATE
    assert release.parameters == {
        "PipelineName": environment.stack_name,
        "Stage": "development",
        "Greeting": "hi",
    }
    assert environment.owns(release.tags)
    assert release.tags["deployer:commit"] == SHA
    assert release.tags["deployer:digest"] == release.digest


@pytest.mark.parametrize(
    "parameters",
    [
        '{"development": {"Greeting": "hi"}}',
        '{"development": [{"ParameterKey": "Greeting", "ParameterValue": "hi"}]}',
    ],
)
@pytest.mark.parametrize(
    "name", ["pipeline.parameters.json", "pipeline.parameters.yml", "pipeline.parameters.yaml"]
)
def test_parameters_come_as_lists_or_maps_in_json_or_yaml(parameters: str, name: str) -> None:
    assert _build({"pipeline.yml": TEMPLATE, name: parameters}).parameters["Greeting"] == "hi"


def test_a_branch_cannot_pose_as_production() -> None:
    parameters = '{"development": {"Stage": "production", "Greeting": "x"}}'
    assert (
        _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": parameters}).parameters["Stage"]
        == "development"
    )


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "deploy/pipeline.yml (or .yaml, .json) is missing"),
        ({"pipeline.yml": TEMPLATE, "pipeline.json": "{}"}, "keep one of them"),
        ({"pipeline.yml": "a: [1"}, "deploy/pipeline.yml line"),
        ({"pipeline.json": "{"}, "deploy/pipeline.json line 1"),
        ({"pipeline.yml": "- a"}, "is not a mapping"),
        ({"pipeline.yml": "Resources: {}"}, "AWS::CodePipeline::Pipeline"),
        ({"pipeline.yml": TEMPLATE}, "parameter Greeting"),
        ({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": "[]"}, "is not a mapping"),
        (
            {"pipeline.yml": TEMPLATE, "pipeline.parameters.json": '{"development": 1}'},
            "neither a list nor a mapping",
        ),
        ({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": '{"development": [{}]}'}, "entry 1"),
        (
            {
                "pipeline.yml": TEMPLATE,
                "pipeline.parameters.json": '{"development": {"Greeting": "x", "Gretting": "y"}}',
            },
            "gives Gretting",
        ),
        ({"pipeline.yml": "a: &x 1\nb: *x"}, "aliases"),
        (
            {"pipeline.yml": TEMPLATE.replace("Greeting: {Type: String}", "RepoToken: {Type: String}")},
            "must say NoEcho",
        ),
    ],
)
def test_what_is_wrong_is_named(files: dict[str, str], message: str) -> None:
    with pytest.raises(PermanentError) as caught:
        _build(files)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_text_is_named() -> None:
    environment = Environment(REPOSITORY, Kind.STAGING)
    with pytest.raises(PermanentError, match="not UTF-8"):
        build_release(environment, BRANCH, "main", SHA, {"pipeline.yml": b"\xff\xfe"}, {})


def test_the_token_is_never_among_the_parameters() -> None:
    template = TEMPLATE.replace("Greeting: {Type: String}", "RepoToken: {Type: String, NoEcho: true}")
    release = _build({"pipeline.yml": template})
    assert release.needs_token
    assert "RepoToken" not in release.parameters


def test_the_digest_tells_a_change_and_only_a_change() -> None:
    one = _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": PARAMETERS})
    same = _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": PARAMETERS})
    other = _build({"pipeline.yml": TEMPLATE, "pipeline.parameters.json": PARAMETERS.replace("hi", "ho")})
    assert one.digest == same.digest != other.digest


@given(st.binary(max_size=200))
def test_any_bytes_are_a_release_or_a_clear_refusal(content: bytes) -> None:
    for name in ("pipeline.yml", "pipeline.json"):
        environment = Environment(REPOSITORY, Kind.DEVELOPMENT, BRANCH)
        with pytest.raises(PermanentError):
            build_release(environment, BRANCH, "x", SHA, {name: content}, {})
