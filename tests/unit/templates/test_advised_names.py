"""The names that a template gives, and the names that deployer advises: AWS must accept every one of them."""

import json
import re
from typing import Any

import pytest

from deployer.model.environments import NAME_LIMIT, Environment, Kind, Repository
from deployer.model.refs import Ref
from deployer.templates.evaluation.resource_names import NAME_LIMITS, NAME_PROPERTIES, NAMES_REQUIRED
from deployer.templates.name_findings import branch_name_for
from deployer.templates.release import check_release

PIPELINE = {"Type": "AWS::CodePipeline::Pipeline", "Properties": {"Name": {"Ref": "PipelineName"}}}
PARAMETERS = {"PipelineName": {"Type": "String"}, "Suffix": {"Type": "String", "Default": "x"}}


def found(
    resources: dict[str, Any], branch: str = "feature/example", kind: Kind = Kind.DEVELOPMENT, **more: Any
) -> list[str]:
    """Level and message of each finding of a template with a pipeline and these resources."""
    ref = Ref.of_branch(branch)
    environment = Environment(
        Repository("owner", "repository"), kind, ref if kind is Kind.DEVELOPMENT else None
    )
    template = {"Parameters": PARAMETERS, "Resources": {"Pipeline": PIPELINE, **resources}, **more}
    files = {"pipeline.yml": json.dumps(template).encode()}
    checked = check_release(environment, ref, branch, "0" * 40, files, {})
    return [f"{each.level} {each.message}" for each in checked.findings]


def named(kind: str, name: Any) -> dict[str, Any]:
    """One resource of a type with a name."""
    return {"One": {"Type": kind, "Properties": {NAME_PROPERTIES[kind]: name}}}


@pytest.mark.parametrize("kind", sorted(NAME_PROPERTIES))
@pytest.mark.parametrize(
    "text", ["key", "alias/pipeline-key", "/aws/codebuild/a-project", "x" * 300, "q.fifo"]
)
def test_the_advised_name_fits_on_every_branch(kind: str, text: str) -> None:
    told = [each for each in found(named(kind, text)) if "on every branch" in each]
    assert len(told) == 1
    advised = re.search(r"write !Sub (\S+?)(,|$)", told[0])
    key = NAME_PROPERTIES[kind]
    if advised:
        name = advised[1].replace("${PipelineName}", "p" * NAME_LIMIT)
        assert len(name) <= NAME_LIMITS.get(kind, 10_000)
        assert "/" not in text or name.startswith(text[: text.rindex("/") + 1])
        assert re.fullmatch(r"[A-Za-z0-9]", name[-1])
    elif kind != "AWS::CodePipeline::Pipeline":
        assert f"leave {key} out" in told[0]
    assert (f"leave {key} out" in told[0]) == (
        kind not in NAMES_REQUIRED and kind != "AWS::CodePipeline::Pipeline"
    )


@pytest.mark.parametrize(
    ("text", "limit", "advised"),
    [
        ("alias/pipeline-key", 256, "alias/${PipelineName}-pipeline-key"),
        ("/aws/codebuild/a", 512, "/aws/codebuild/${PipelineName}-a"),
        ("a" * 60, 255, "${PipelineName}-" + "a" * 40),
        ("a-b-c-d-e-f-g-h-i-j-k-l-m-n", 128, "${PipelineName}-a-b-c-d-e-f-g-h-i-j-k-l-m-n"),
        ("administrator-access-for-builds", 128, "${PipelineName}-administrator-access-for-bu"),
        ("role", 64, ""),
        ("alias/", 256, "alias/${PipelineName}-name"),
    ],
)
def test_a_name_for_every_branch(text: str, limit: int, advised: str) -> None:
    assert branch_name_for(text, limit) == advised


def test_a_role_gets_no_name_that_a_long_branch_would_break() -> None:
    (told,) = found(named("AWS::IAM::Role", "deployer"))
    assert told == (
        "error One is named 'deployer' on every branch, but AWS allows a name only once;"
        " leave RoleName out, and AWS chooses a name that fits"
    )


LONG = "${PipelineName}-adf-bootstrap-enable-cross-account-state"


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("AWS::IAM::Role", LONG, "error One is named 'repository-feature-example-"),
        ("AWS::IAM::Role", "${PipelineName}-role", "warning the name of One has up to 105 characters"),
        ("AWS::IAM::Role", "${Suffix}-${AWS::StackName}", "warning the name of One has up to 102 characters"),
        ("AWS::S3::Bucket", LONG, "error One is named 'repository-feature-example-"),
        ("AWS::S3::Bucket", "${PipelineName}", "warning the name of One has up to 100 characters"),
        ("AWS::IAM::ManagedPolicy", "${PipelineName}-policy", ""),
        ("AWS::IAM::ManagedPolicy", LONG, "warning the name of One has up to 141 characters"),
        ("AWS::CodeBuild::Project", "${PipelineName}-build", ""),
        ("AWS::SNS::Topic", LONG, ""),
    ],
)
def test_a_name_that_is_too_long_is_found(kind: str, name: str, told: str) -> None:
    found_ones = found(named(kind, {"Fn::Sub": name}))
    assert [each.startswith(told) for each in found_ones] == [True] * bool(told)
    assert all("; AWS allows" in each and "leave" in each for each in found_ones)


def test_a_long_name_of_one_environment_is_an_error_only_there() -> None:
    name = {"Fn::Sub": LONG}
    (told,) = found(named("AWS::IAM::Role", name), "a" * 80)
    assert told.startswith("error One is named 'repository-aaaa")
    assert "which has 141 characters; AWS allows 64: leave RoleName out" in told
    assert [each[:5] for each in found(named("AWS::IAM::Role", name), "main", Kind.STAGING)] == ["error"]
    short = {"Fn::Sub": "${PipelineName}-r"}
    assert found(named("AWS::IAM::Role", short), "main", Kind.STAGING) == []


@pytest.mark.parametrize("condition", ["Unknown", "False"])
def test_a_name_that_is_perhaps_not_given_rejects_nothing(condition: str) -> None:
    conditions = {
        "Unknown": {"Fn::Equals": [{"Ref": "Stored"}, "a"]},
        "False": {"Fn::Equals": ["a", "b"]},
    }
    parameters = {**PARAMETERS, "Stored": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": "/a"}}
    more = {"Conditions": conditions, "Parameters": parameters}
    role = named("AWS::IAM::Role", {"Fn::Sub": LONG})
    role["One"]["Condition"] = condition
    assert [each[:7] for each in found(role, **more)] == ["warning"] * (condition == "Unknown")
    name = {"Fn::If": [condition, {"Fn::Sub": LONG}, {"Ref": "AWS::NoValue"}]}
    assert [each[:7] for each in found(named("AWS::IAM::Role", name), **more)] == ["warning"] * (
        condition == "Unknown"
    )


def _deploying(stack: str) -> dict[str, Any]:
    action = {
        "ActionTypeId": {"Category": "Deploy", "Owner": "AWS", "Provider": "CloudFormation", "Version": "1"},
        "Configuration": {"StackName": {"Fn::Sub": stack}},
    }
    stages = [{"Name": "Deploy", "Actions": [action]}]
    return {"Pipeline": {**PIPELINE, "Properties": {**PIPELINE["Properties"], "Stages": stages}}}


def test_the_stack_of_an_action_gets_a_name_that_fits() -> None:
    told = [each for each in found(_deploying("x" * 50)) if "same stack" in each]
    assert told[0].endswith("write !Sub ${PipelineName}-" + "x" * 27)
    (told_long,) = [each for each in found(_deploying("${PipelineName}-" + "x" * 40)) if "AWS allows" in each]
    assert told_long.startswith("warning the name of the stack of Pipeline has up to 141 characters")
