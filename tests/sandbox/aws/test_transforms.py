"""Transforms, loops and rules of templates in the simulated CloudFormation."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sandbox.aws.handlers import Handlers
from sandbox.aws.places import Place
from sandbox.aws.protocol import AwsError
from sandbox.aws.template import Template

LOOP = """
Transform: AWS::LanguageExtensions
Parameters:
  Names: {Type: CommaDelimitedList, Default: "one,two"}
Mappings: {Sizes: {small: {List: [a-b, c]}}}
Resources:
"""


def processed(body: str, **values: str) -> Template:
    template = Template(body, Handlers(Place()).__contains__)
    return template.with_values(template.check_parameters(values))


def refusal(body: str, **values: str) -> str:
    with pytest.raises(AwsError) as found:
        processed(body, **values)
    return str(found.value)


def test_a_loop_makes_a_resource_of_each_item() -> None:
    template = processed(
        LOOP + "  Fn::ForEach::Buckets:\n    - Which\n    - [A, B]\n"
        "    - 'Bucket${Which}': {Type: AWS::S3::Bucket, Properties: {BucketName: !Sub 'site-${Which}-x'}}\n"
    )

    assert set(template.resources) == {"BucketA", "BucketB"}
    assert template.resources["BucketB"]["Properties"] == {"BucketName": {"Fn::Sub": "site-B-x"}}


def test_a_loop_runs_over_the_values_of_a_parameter() -> None:
    body = LOOP + "  Fn::ForEach::Topics: [Which, !Ref Names, {'Topic${Which}': {Type: AWS::SNS::Topic}}]\n"

    assert set(processed(body).resources) == {"Topicone", "Topictwo"}
    assert set(processed(body, Names="x, y, z").resources) == {"Topicx", "Topicy", "Topicz"}


def test_a_loop_runs_over_a_mapping_and_inside_another_loop() -> None:
    template = processed(
        LOOP + "  Fn::ForEach::Outer:\n    - X\n    - !FindInMap [Sizes, small, List]\n"
        "    - Fn::ForEach::Inner: [Y, [P, Q], {'T&{X}${Y}': "
        "{Type: AWS::SNS::Topic, Properties: {TopicName: !Ref X}}}]\n"
    )

    assert set(template.resources) == {"TabP", "TabQ", "TcP", "TcQ"}
    assert template.resources["TabQ"]["Properties"]["TopicName"] == "a-b"


@pytest.mark.parametrize(
    ("loop", "text"),
    [
        ("[Which, [A]]", "Transform AWS::LanguageExtensions failed with: Fn::ForEach layout is incorrect."),
        ("[Names, [A], {}]", "Fn::ForEach identifier Names conflicts with a parameter"),
        ("[Which, !Ref Nothing, {}]", "Fn::ForEach could not resolve Ref"),
        (
            "[Which, [A, B], {Same: {Type: AWS::SNS::Topic}}]",
            "Fn::ForEach produces the key Same more than once",
        ),
    ],
)
def test_loops_that_cloudformation_refuses(loop: str, text: str) -> None:
    assert text in refusal(LOOP + f"  Fn::ForEach::Loop: {loop}\n")


def test_a_loop_without_its_transform_is_no_resource() -> None:
    body = "Resources: {'Fn::ForEach::Loop': [Which, [A], {'T${Which}': {Type: AWS::SNS::Topic}}]}"

    assert "must contain a Type member" in refusal(body)


def test_other_transforms_are_not_simulated() -> None:
    assert (
        refusal("Transform: Macro\nResources: {T: {Type: AWS::SNS::Topic}}")
        == "Not simulated: the transform Macro"
    )


# ---- AWS::Serverless


def expanded(resources: str, **sections: Any) -> dict[str, str]:
    document = {"Transform": "AWS::Serverless-2016-10-31", **sections, "Resources": yaml.safe_load(resources)}
    return {name: r["Type"] for name, r in processed(yaml.safe_dump(document)).resources.items()}


FUNCTION = (
    "F: {Type: AWS::Serverless::Function, Properties: {InlineCode: x, Handler: a.b, Runtime: python3.12%s}}"
)


@pytest.mark.parametrize(
    ("resources", "made"),
    [
        (FUNCTION % "", {"F": "AWS::Lambda::Function", "FRole": "AWS::IAM::Role"}),
        (FUNCTION % ", Role: 'arn:aws:iam::123456789012:role/r'", {"F": "AWS::Lambda::Function"}),
        (
            FUNCTION % ", Events: {Tick: {Type: Schedule, Properties: {Schedule: rate(1 day)}}}",
            {
                "F": "AWS::Lambda::Function",
                "FRole": "AWS::IAM::Role",
                "FTick": "AWS::Events::Rule",
                "FTickPermission": "AWS::Lambda::Permission",
            },
        ),
        (
            FUNCTION % ", Events: {Get: {Type: Api, Properties: {Path: /, Method: get}}}",
            {
                "F": "AWS::Lambda::Function",
                "FRole": "AWS::IAM::Role",
                "FGetPermission": "AWS::Lambda::Permission",
                "ServerlessRestApi": "AWS::ApiGateway::RestApi",
                "ServerlessRestApiDeployment": "AWS::ApiGateway::Deployment",
                "ServerlessRestApiProdStage": "AWS::ApiGateway::Stage",
            },
        ),
        ("T: {Type: AWS::Serverless::SimpleTable}", {"T": "AWS::DynamoDB::Table"}),
        (
            "A: {Type: AWS::Serverless::HttpApi}",
            {"A": "AWS::ApiGatewayV2::Api", "AApiGatewayDefaultStage": "AWS::ApiGatewayV2::Stage"},
        ),
        (
            "L: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: 's3://b/k.zip'}}",
            {"L": "AWS::Lambda::LayerVersion"},
        ),
    ],
)
def test_serverless_resources_stand_for_others(resources: str, made: dict[str, str]) -> None:
    assert expanded(resources) == made


def test_globals_are_merged_into_each_function() -> None:
    document = {
        "Transform": "AWS::Serverless-2016-10-31",
        "Globals": {"Function": {"Timeout": 9, "Environment": {"Variables": {"A": "1", "B": "1"}}}},
        "Resources": yaml.safe_load(FUNCTION % ", Environment: {Variables: {B: '2'}}"),
    }
    properties = processed(yaml.safe_dump(document)).resources["F"]["Properties"]

    assert properties["Timeout"] == 9
    assert properties["Environment"]["Variables"] == {"A": "1", "B": "2"}


def test_a_local_path_of_code_is_refused_as_aws_refuses_it() -> None:
    resources = (
        "F: {Type: AWS::Serverless::Function, Properties: {CodeUri: src/, Handler: a.b, Runtime: python3.12}}"
    )
    body = f"Transform: AWS::Serverless-2016-10-31\nResources: {{{resources}}}"

    assert refusal(body) == (
        "Transform AWS::Serverless-2016-10-31 failed with: Invalid Serverless Application Specification document. "
        "Number of errors found: 1. Resource with id [F] is invalid. 'CodeUri' is not a valid S3 Uri of the form "
        "'s3://bucket/key' with optional versionId query parameter."
    )


def test_serverless_types_need_the_transform() -> None:
    assert "Unrecognized resource types: [AWS::Serverless::Function]" in refusal(
        "Resources: {F: {Type: AWS::Serverless::Function}}"
    )


# ---- rules

RULES = """
Parameters: {Stage: {Type: String}, Sizes: {Type: CommaDelimitedList, Default: "a,b"}}
Rules:
  Live:
    RuleCondition: !Equals [!Ref Stage, production]
    Assertions:
      - {Assert: !EachMemberIn [!Ref Sizes, [a, b, c]], AssertDescription: sizes are a to c}
      - {Assert: !Not [!Contains [[x, y], !Ref Stage]], AssertDescription: no x}
Resources: {T: {Type: AWS::SNS::Topic}}
"""


def test_a_rule_checks_values_of_parameters() -> None:
    assert processed(RULES, Stage="production").resources
    assert processed(RULES, Stage="development", Sizes="q").resources
    assert "sizes are a to c" in refusal(RULES, Stage="production", Sizes="a,q")
