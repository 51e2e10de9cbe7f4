"""Resources of stacks in the simulated AWS: what is refused, what a deletion deletes, what remains."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from aws_harness import Aws, expect_error, given, load_models, statuses

from sandbox.aws import motostores

KEPT = """\
Resources:
  Topic: {Type: AWS::SNS::Topic, Properties: {TopicName: news}}
  Logs: {Type: AWS::Logs::LogGroup, Properties: {LogGroupName: /app/web}}
  Policy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      ManagedPolicyName: reader
      PolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Allow, Action: "s3:GetObject", Resource: "*"}]
      Roles: [!Ref Role]
  Role:
    Type: AWS::IAM::Role
    Properties: {AssumeRolePolicyDocument: {Version: "2012-10-17", Statement: []}}
  Key:
    Type: AWS::KMS::Key
    Properties: {KeyPolicy: {Version: "2012-10-17", Statement: []}, Tags: [{Key: team, Value: web}]}
  Alias: {Type: AWS::KMS::Alias, Properties: {AliasName: alias/web, TargetKeyId: !Ref Key}}
  Images: {Type: AWS::ECR::Repository, Properties: {RepositoryName: web}}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
  Queue: {Type: AWS::SQS::Queue}
  Parameter: {Type: AWS::SSM::Parameter, Properties: {Name: /web, Type: String, Value: x}}
  Alarm:
    Type: AWS::CloudWatch::Alarm
    Properties: {ComparisonOperator: GreaterThanThreshold, EvaluationPeriods: 1, AlarmName: busy}
Outputs:
  TopicArn: {Value: !GetAtt Topic.TopicArn}
  AlarmArn: {Value: !GetAtt Alarm.Arn}
  Uri: {Value: !GetAtt Images.RepositoryUri}
"""
NAMED = ["CAPABILITY_NAMED_IAM"]
ROLE = """\
Parameters: {PipelineName: {Type: String}}
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      RoleName: !Sub "${PipelineName}-adf-bootstrap-enable-cross-account-state"
      AssumeRolePolicyDocument: {Version: "2012-10-17", Statement: []}
"""


@pytest.fixture(scope="module", autouse=True)
def models() -> None:
    load_models(*motostores.STORES)


def state(aws: Aws) -> dict[str, Any]:
    return dict(json.loads(aws.get("/_sandbox/state")[1]))


def reason(aws: Aws, stack: str, resource: str) -> str:
    """The reason of the latest failure of a resource."""
    events = aws.cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    failed = [
        e for e in events if e["LogicalResourceId"] == resource and e["ResourceStatus"].endswith("_FAILED")
    ]
    return str(failed[0]["ResourceStatusReason"])


def failures(aws: Aws, stack: str) -> list[str]:
    events = aws.cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
    return [str(e["ResourceStatusReason"]) for e in events if e["ResourceStatus"].endswith("_FAILED")]


def delete(aws: Aws, stack_id: str) -> str:
    aws.cloudformation.delete_stack(StackName=stack_id)
    return aws.wait_until_stable(stack_id)


def test_what_a_stack_deletes_no_longer_exists(aws: Aws) -> None:
    stack = aws.create("kept", KEPT, Capabilities=NAMED)
    assert aws.wait_until_stable("kept") == "CREATE_COMPLETE", failures(aws, "kept")
    key = aws.client("kms").list_aliases()["Aliases"][0]["TargetKeyId"]
    tags = aws.client("kms").list_resource_tags(KeyId=key)["Tags"]
    assert tags == [{"TagKey": "team", "TagValue": "web"}]
    assert state(aws)["unmanaged"] == []

    assert delete(aws, stack) == "DELETE_COMPLETE"

    assert aws.client("sns").list_topics()["Topics"] == []
    assert aws.client("logs").describe_log_groups()["logGroups"] == []
    assert aws.client("iam").list_policies(Scope="Local")["Policies"] == []
    assert aws.client("ecr").describe_repositories()["repositories"] == []
    assert "alias/web" not in [a["AliasName"] for a in aws.client("kms").list_aliases()["Aliases"]]
    assert aws.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"] == "PendingDeletion"
    shown = state(aws)
    assert (shown["leftovers"], shown["unmanaged"]) == ([], [])


def test_what_a_stack_retains_is_listed_by_its_kind(aws: Aws) -> None:
    inline = KEPT.replace("{Type:", "{DeletionPolicy: Retain, Type:")
    document = inline.replace("    Type:", "    DeletionPolicy: Retain\n    Type:")
    stack = aws.create("kept", document, Capabilities=NAMED)
    assert aws.wait_until_stable("kept") == "CREATE_COMPLETE"

    assert delete(aws, stack) == "DELETE_COMPLETE"

    shown = state(aws)
    assert {left["type"] for left in shown["leftovers"]} == set(
        re.findall(r"AWS::[A-Za-z]+::[A-Za-z]+", KEPT)
    )
    assert shown["unmanaged"] == []


def test_a_role_name_that_iam_refuses_fails_the_creation(aws: Aws) -> None:
    aws.create("long", ROLE, Parameters=given(PipelineName="hello-" + "b" * 20), Capabilities=NAMED)

    assert aws.wait_until_stable("long") == "ROLLBACK_COMPLETE"
    assert (
        "at 'roleName' failed to satisfy constraint: Member must have length less than or equal to 64"
        in reason(aws, "long", "Role")
    )
    aws.create("short", ROLE, Parameters=given(PipelineName="hello-b"), Capabilities=NAMED)
    assert aws.wait_until_stable("short") == "CREATE_COMPLETE"


def test_an_alias_needs_a_key_and_a_name_of_its_own(aws: Aws) -> None:
    alias = (
        '{Resources: {A: {Type: "AWS::KMS::Alias", Properties: {AliasName: alias/key, TargetKeyId: KEY}}}}'
    )
    aws.create("lost", alias.replace("KEY", "1234abcd-12ab-34cd-56ef-1234567890ab"))
    assert aws.wait_until_stable("lost") == "ROLLBACK_COMPLETE"
    assert "does not exist" in reason(aws, "lost", "A")

    key = aws.client("kms").create_key()["KeyMetadata"]["KeyId"]
    aws.create("first", alias.replace("KEY", key))
    assert aws.wait_until_stable("first") == "CREATE_COMPLETE"
    aws.create("second", alias.replace("KEY", key))
    assert aws.wait_until_stable("second") == "ROLLBACK_COMPLETE"
    assert "already exists" in reason(aws, "second", "A")
    aws.create("plain", alias.replace("alias/key", "key").replace("KEY", key))
    assert aws.wait_until_stable("plain") == "ROLLBACK_COMPLETE"


def test_a_repository_with_images_is_deleted_only_if_it_may_be_emptied(aws: Aws) -> None:
    template = (
        "Resources: {R: {Type: AWS::ECR::Repository, Properties: {RepositoryName: web, EmptyOnDelete: %s}}}"
    )
    manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json"})
    for empties, ended in (("false", "DELETE_FAILED"), ("true", "DELETE_COMPLETE")):
        stack = aws.create(f"images-{empties}", (template % empties).replace("web", f"web-{empties}"))
        assert aws.wait_until_stable(stack) == "CREATE_COMPLETE"
        aws.client("ecr").put_image(repositoryName=f"web-{empties}", imageManifest=manifest, imageTag="v1")

        assert delete(aws, stack) == ended

    assert "cannot be deleted because it still contains images" in reason(aws, "images-false", "R")


def test_a_type_that_is_only_stored_has_a_unique_name_and_checked_properties(aws: Aws) -> None:
    alarm = "Resources: {A: {Type: AWS::CloudWatch::Alarm, Properties: {AlarmName: busy, EvaluationPeriods: 1, %s}}}"
    aws.create("first", alarm % "ComparisonOperator: GreaterThanThreshold")
    assert aws.wait_until_stable("first") == "CREATE_COMPLETE"

    aws.create("second", alarm % "ComparisonOperator: GreaterThanThreshold")
    assert aws.wait_until_stable("second") == "ROLLBACK_COMPLETE"
    assert reason(aws, "second", "A") == (
        "Resource of type 'AWS::CloudWatch::Alarm' with identifier 'busy' already exists."
    )
    aws.create("third", alarm % "Comparison: More")
    assert aws.wait_until_stable("third") == "ROLLBACK_COMPLETE"
    assert "#: extraneous key [Comparison] is not permitted" in reason(aws, "third", "A")


def test_a_custom_resource_is_not_simulated(aws: Aws) -> None:
    aws.create("custom", "Resources: {C: {Type: Custom::Thing, Properties: {ServiceToken: arn}}}")

    assert aws.wait_until_stable("custom") == "ROLLBACK_COMPLETE"
    assert reason(aws, "custom", "C").startswith("Not simulated: the custom resource C")


def test_a_template_with_a_transform_needs_a_capability_of_its_own(aws: Aws) -> None:
    template = (
        "Transform: AWS::LanguageExtensions\nParameters: {Names: {Type: CommaDelimitedList}}\n"
        "Resources:\n  Fn::ForEach::Topics: [N, !Ref Names, {'Topic${N}': {Type: AWS::SNS::Topic}}]\n"
    )
    with expect_error("InsufficientCapabilitiesException", r"\[CAPABILITY_AUTO_EXPAND\]"):
        aws.create("loop", template, Parameters=given(Names="a,b"))

    aws.create("loop", template, Parameters=given(Names="a,b"), Capabilities=["CAPABILITY_AUTO_EXPAND"])
    assert aws.wait_until_stable("loop") == "CREATE_COMPLETE"
    assert statuses(aws, "loop", "Topicb")[-1] == "CREATE_COMPLETE"
    processed = aws.cloudformation.get_template(StackName="loop")["TemplateBody"]
    assert set(processed["Resources"]) == {"Topica", "Topicb"}
    aws.cloudformation.update_stack(
        StackName="loop",
        UsePreviousTemplate=True,
        Parameters=given(Names="b,c"),
        Capabilities=["CAPABILITY_AUTO_EXPAND"],
    )
    assert aws.wait_until_stable("loop") == "UPDATE_COMPLETE"
    assert len(aws.client("sns").list_topics()["Topics"]) == 2
