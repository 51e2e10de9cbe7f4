"""The checks of names, enums and keys of resources and actions, with AWS's error texts."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.aws.actiontypes import check_action
from sandbox.aws.propertychecks import check_properties
from sandbox.aws.protocol import AwsError
from sandbox.aws.resources import ResourceError

TRUST = {"Version": "2012-10-17", "Statement": []}
PROJECT = {
    "ServiceRole": "arn:aws:iam::123456789012:role/build",
    "Artifacts": {"Type": "CODEPIPELINE"},
    "Source": {"Type": "CODEPIPELINE"},
    "Environment": {"Type": "LINUX_CONTAINER", "Image": "standard", "ComputeType": "BUILD_GENERAL1_SMALL"},
}


def environment(**changes: str) -> dict[str, Any]:
    return {**PROJECT, "Environment": {**PROJECT["Environment"], **changes}}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("kind", "properties", "text"),
    [
        (
            "AWS::IAM::Role",
            {"AssumeRolePolicyDocument": TRUST, "RoleName": "r" * 65},
            (
                f"1 validation error detected: Value '{'r' * 65}' at 'roleName' failed to satisfy constraint: "
                "Member must have length less than or equal to 64"
            ),
        ),
        (
            "AWS::IAM::User",
            {"UserName": "u" * 65},
            "at 'userName' failed to satisfy constraint: Member must have length less than or equal to 64",
        ),
        (
            "AWS::IAM::ManagedPolicy",
            {"PolicyDocument": TRUST, "ManagedPolicyName": "p" * 129},
            "at 'policyName' failed to satisfy constraint: Member must have length less than or equal to 128",
        ),
        ("AWS::IAM::Role", {}, "#: required key [AssumeRolePolicyDocument] not found"),
        (
            "AWS::S3::Bucket",
            {"BucketName": "b" * 64},
            "Bucket name should be between 3 and 63 characters long",
        ),
        ("AWS::S3::Bucket", {"BucketName": "Site"}, "Bucket name should not contain uppercase characters"),
        (
            "AWS::S3::Bucket",
            {"AccessControl": "Open"},
            "#/AccessControl: failed validation constraint for keyword [enum]",
        ),
        ("AWS::S3::Bucket", {"Naem": "site"}, "#: extraneous key [Naem] is not permitted"),
        ("AWS::S3::Bucket", {"Tags": "all"}, "#/Tags: expected type: JSONArray, found: String"),
        (
            "AWS::CodeBuild::Project",
            environment(ComputeType="LARGE"),
            (
                "Value 'LARGE' at 'environment.computeType' failed to satisfy constraint: "
                "Member must satisfy enum value set: [BUILD_GENERAL1_SMALL,"
            ),
        ),
        ("AWS::CodeBuild::Project", environment(Type="LINUX"), "Value 'LINUX' at 'environment.type'"),
        (
            "AWS::CodeBuild::Project",
            {**PROJECT, "TimeoutInMinutes": 4},
            "at 'timeoutInMinutes' failed to satisfy constraint: Member must have value greater than or equal to 5",
        ),
        ("AWS::SQS::Queue", {"QueueName": "q" * 81}, "1 to 80 in length"),
        ("AWS::SNS::Topic", {"TopicName": "t" * 257}, "#/TopicName: expected maxLength: 256, actual: 257"),
        (
            "AWS::KMS::Alias",
            {"AliasName": "pipeline-key", "TargetKeyId": "k"},
            "#/AliasName: failed validation constraint for keyword [pattern]",
        ),
    ],
)
def test_aws_refuses_these_properties(kind: str, properties: dict[str, Any], text: str) -> None:
    with pytest.raises(ResourceError) as refusal:
        check_properties(kind, "Thing", properties)

    assert text in str(refusal.value)


@pytest.mark.parametrize(
    ("kind", "properties"),
    [
        ("AWS::IAM::Role", {"AssumeRolePolicyDocument": TRUST, "RoleName": "r" * 64}),
        ("AWS::S3::Bucket", {"BucketName": "b" * 63}),
        ("AWS::CodeBuild::Project", {**PROJECT, "TimeoutInMinutes": "60", "Name": "a-b"}),
        ("AWS::KMS::Alias", {"AliasName": "alias/pipeline-key", "TargetKeyId": "k"}),
    ],
)
def test_aws_accepts_these_properties(kind: str, properties: dict[str, Any]) -> None:
    check_properties(kind, "Thing", properties)


def action(kind: str, configuration: dict[str, str], *, inputs: int = 1, outputs: int = 0) -> dict[str, Any]:
    category, owner, provider = kind.split("/")
    return {
        "name": "Act",
        "actionTypeId": {"category": category, "owner": owner, "provider": provider, "version": "1"},
        "configuration": configuration,
        "inputArtifacts": [{"name": f"In{n}"} for n in range(inputs)],
        "outputArtifacts": [{"name": f"Out{n}"} for n in range(outputs)],
    }


@pytest.mark.parametrize(
    ("declared", "text"),
    [
        (
            action(
                "Source/ThirdParty/GitHub", {"Owner": "a", "Repo": "b", "Branch": "c"}, inputs=0, outputs=1
            ),
            "Action configuration for action 'Act' is missing required configuration 'OAuthToken'",
        ),
        (
            action("Deploy/AWS/CloudFormation", {"StackName": "app"}),
            "Action configuration for action 'Act' is missing required configuration 'ActionMode'",
        ),
        (
            action("Deploy/AWS/ECS", {"ClusterName": "c"}),
            "Action configuration for action 'Act' is missing required configuration 'ServiceName'",
        ),
        (
            action("Deploy/AWS/CodeDeploy", {"ApplicationName": "a", "DeploymentGroupName": "g"}, inputs=0),
            "Action Act declares 0 input artifacts which is less than the minimum count (1)",
        ),
        (
            action("Approval/AWS/Manual", {}),
            "Action Act declares 1 input artifacts which is more than the maximum count (0)",
        ),
        (action("Compute/AWS/Commands", {}), "Action Act must have a non-empty commands field"),
        (
            action("Deploy/AWS/S3", {"BucketName": "b", "Extract": "true", "Bucket": "c"}),
            "Action configuration for action 'Act' contains unknown configuration 'Bucket'",
        ),
        (
            action("Deploy/AWS/Nowhere", {}),
            (
                "ActionType (Category: 'Deploy', Provider: 'Nowhere', Owner: 'AWS', Version: '1') in action 'Act' "
                "is not available in region EU_WEST_1"
            ),
        ),
    ],
)
def test_create_pipeline_refuses_these_actions(declared: dict[str, Any], text: str) -> None:
    with pytest.raises(AwsError) as refusal:
        check_action(declared, "eu-west-1")

    assert refusal.value.code == "InvalidActionDeclarationException"
    assert str(refusal.value) == text


def test_actions_that_are_not_simulated_are_accepted_with_a_complete_configuration() -> None:
    check_action(action("Deploy/AWS/ECS", {"ClusterName": "c", "ServiceName": "s"}), "us-east-1")
    check_action(action("Invoke/AWS/StepFunctions", {"StateMachineArn": "arn"}), "us-east-1")
    check_action(
        action("Deploy/AWS/CloudFormationStackSet", {"StackSetName": "s", "TemplatePath": "A::t.yml"}),
        "us-east-1",
    )
