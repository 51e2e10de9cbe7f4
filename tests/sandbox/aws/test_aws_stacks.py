"""Operations on stacks of the simulated CloudFormation: statuses over time, errors, rollbacks, events."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from aws_harness import (
    BUCKET,
    PARAMETER,
    PIPELINE_TEMPLATE,
    Aws,
    Receiver,
    eventually,
    expect_error,
    given,
    statuses,
)

ROLE = """\
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {Version: 2012-10-17, Statement: []}
"""


def test_a_stack_is_in_progress_before_it_is_complete(aws: Aws, receiver: Receiver) -> None:
    stack_id = aws.create("one", PARAMETER, Tags=[{"Key": "a", "Value": "b"}], ClientRequestToken="t-1")

    assert aws.status("one") == "CREATE_IN_PROGRESS"
    assert aws.wait_until_stable("one") == "CREATE_COMPLETE"

    stack = aws.cloudformation.describe_stacks(StackName=stack_id)["Stacks"][0]
    assert stack["Tags"] == [{"Key": "a", "Value": "b"}]
    assert stack["Outputs"] == [{"OutputKey": "Said", "OutputValue": "one/one"}]
    assert {p["ParameterKey"]: p["ParameterValue"] for p in stack["Parameters"]} == {
        "Value": "one",
        "Secret": "****",
    }
    assert statuses(aws, "one", "First") == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]
    assert aws.client("ssm").get_parameter(Name="/second")["Parameter"]["Value"] == "/first-one"
    events = aws.cloudformation.describe_stack_events(StackName="one")["StackEvents"]
    assert {e["ClientRequestToken"] for e in events} == {"t-1"}
    assert events[0]["ResourceStatus"] == "CREATE_COMPLETE"
    assert all(a["Timestamp"] >= b["Timestamp"] for a, b in itertools.pairwise(events))
    kind = "CloudFormation Stack Status Change"
    eventually(lambda: receiver.event_states(kind) == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"])
    assert receiver.events[0]["detail"]["client-request-token"] == "t-1"
    assert receiver.events[0]["detail"]["stack-id"] == stack_id
    assert receiver.keys == {"sandbox"}


def test_a_failed_resource_rolls_back_the_creation(aws: Aws) -> None:
    aws.inject_faults(fail_resources=[{"resource": "Second", "on": "create", "reason": "no luck"}])

    aws.create("one", PARAMETER)

    assert aws.wait_until_stable("one") == "ROLLBACK_COMPLETE"
    assert statuses(aws, "one") == ["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"]
    events = aws.cloudformation.describe_stack_events(StackName="one")["StackEvents"]
    failed = [e for e in events if e["ResourceStatus"] == "CREATE_FAILED"]
    assert [e["ResourceStatusReason"] for e in failed] == ["no luck"]
    assert statuses(aws, "one", "First")[-1] == "DELETE_COMPLETE"
    with expect_error("ValidationError", "is in ROLLBACK_COMPLETE state and can not be updated"):
        aws.cloudformation.update_stack(StackName="one", TemplateBody=PARAMETER)
    aws.cloudformation.delete_stack(StackName="one")
    eventually(lambda: not aws.cloudformation.describe_stacks()["Stacks"])


def test_an_update_touches_only_changed_resources_and_keeps_tags(aws: Aws) -> None:
    aws.create("one", PARAMETER, Tags=[{"Key": "a", "Value": "b"}])
    aws.wait_until_stable("one")

    aws.cloudformation.update_stack(StackName="one", TemplateBody=PARAMETER, Parameters=given(Value="two"))
    with expect_error("ValidationError", "is in UPDATE_IN_PROGRESS state and can not be updated"):
        aws.cloudformation.update_stack(StackName="one", TemplateBody=PARAMETER)

    assert aws.wait_until_stable("one") == "UPDATE_COMPLETE"
    assert "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS" in statuses(aws, "one")
    stack = aws.cloudformation.describe_stacks(StackName="one")["Stacks"][0]
    assert stack["Tags"] == [{"Key": "a", "Value": "b"}]
    assert stack["Outputs"][0]["OutputValue"] == "two/two"
    with expect_error("ValidationError", "No updates are to be performed."):
        aws.cloudformation.update_stack(
            StackName="one", TemplateBody=PARAMETER, Parameters=given(Value="two"), Tags=stack["Tags"]
        )


def test_a_failed_update_rolls_back_and_a_failed_rollback_can_be_continued(aws: Aws) -> None:
    aws.create("one", PARAMETER)
    aws.wait_until_stable("one")
    aws.inject_faults(
        fail_resources=[{"resource": "Second", "on": "update", "reason": "no luck", "count": 1}]
    )
    two = given(Value="two")

    aws.cloudformation.update_stack(StackName="one", TemplateBody=PARAMETER, Parameters=two)

    assert aws.wait_until_stable("one") == "UPDATE_ROLLBACK_COMPLETE"
    assert aws.client("ssm").get_parameter(Name="/first")["Parameter"]["Value"] == "one"
    again = {"resource": "First", "on": "update", "skip": 1}
    aws.inject_faults(fail_resources=[{"resource": "Second", "on": "update"}, again])
    aws.cloudformation.update_stack(StackName="one", TemplateBody=PARAMETER, Parameters=two)
    assert aws.wait_until_stable("one") == "UPDATE_ROLLBACK_FAILED"
    aws.request("DELETE", "/_sandbox/faults")
    aws.cloudformation.continue_update_rollback(StackName="one")
    assert aws.wait_until_stable("one") == "UPDATE_ROLLBACK_COMPLETE"
    assert aws.client("ssm").get_parameter(Name="/first")["Parameter"]["Value"] == "one"


def test_an_update_adds_replaces_and_removes_resources(aws: Aws) -> None:
    old = "Resources:\n  A: {Type: AWS::S3::Bucket, Properties: {BucketName: name-a}}\n"
    new = "Resources:\n  A: {Type: AWS::S3::Bucket, Properties: {BucketName: name-b}}\n  B: {Type: AWS::S3::Bucket}\n"
    aws.create("one", old)
    aws.wait_until_stable("one")

    aws.cloudformation.update_stack(StackName="one", TemplateBody=new)
    assert aws.wait_until_stable("one") == "UPDATE_COMPLETE"

    names = [b["Name"] for b in aws.s3.list_buckets()["Buckets"]]
    assert "name-b" in names
    assert "name-a" not in names
    assert len(names) == 2
    aws.cloudformation.update_stack(StackName="one", TemplateBody=old)
    assert aws.wait_until_stable("one") == "UPDATE_COMPLETE"
    assert [b["Name"] for b in aws.s3.list_buckets()["Buckets"]] == ["name-a"]


def test_a_deleted_stack_is_found_by_its_arn_only(aws: Aws, receiver: Receiver) -> None:
    stack_id = aws.create("one", BUCKET)
    aws.wait_until_stable("one")

    aws.cloudformation.delete_stack(StackName="one", ClientRequestToken="bye")
    assert aws.status("one") == "DELETE_IN_PROGRESS"

    eventually(lambda: aws.status(stack_id) == "DELETE_COMPLETE")
    with expect_error("ValidationError", "Stack with id one does not exist"):
        aws.status("one")
    aws.cloudformation.delete_stack(StackName="one")
    assert aws.cloudformation.describe_stacks()["Stacks"] == []
    listed = aws.cloudformation.list_stacks()["StackSummaries"]
    assert [(s["StackName"], s["StackStatus"]) for s in listed] == [("one", "DELETE_COMPLETE")]
    kind = "CloudFormation Stack Status Change"
    eventually(lambda: receiver.event_states(kind)[-1:] == ["DELETE_COMPLETE"])
    assert aws.create("one", BUCKET) != stack_id


def test_a_stack_can_be_deleted_during_its_creation(aws: Aws) -> None:
    stack_id = aws.create("one", PARAMETER)
    aws.cloudformation.delete_stack(StackName="one")
    eventually(lambda: aws.status(stack_id) == "DELETE_COMPLETE")


def test_a_stack_with_a_full_bucket_cannot_be_deleted(aws: Aws) -> None:
    stack_id = aws.create("one", BUCKET)
    aws.wait_until_stable("one")
    resources = aws.cloudformation.describe_stack_resources(StackName="one")["StackResources"]
    bucket = resources[0]["PhysicalResourceId"]
    aws.s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = aws.s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    marker = aws.s3.delete_object(Bucket=bucket, Key="k")["VersionId"]

    aws.cloudformation.delete_stack(StackName="one")

    assert aws.wait_until_stable("one") == "DELETE_FAILED"
    aws.cloudformation.delete_stack(StackName="one", RetainResources=["Site"])
    eventually(lambda: aws.status(stack_id) == "DELETE_COMPLETE")
    for left in (version, marker):
        aws.s3.delete_object(Bucket=bucket, Key="k", VersionId=left)
    aws.s3.delete_bucket(Bucket=bucket)


def test_a_stack_with_termination_protection_is_not_deleted(aws: Aws) -> None:
    stack_id = aws.create("one", BUCKET, EnableTerminationProtection=True)
    aws.wait_until_stable("one")
    with expect_error("ValidationError", "TerminationProtection is enabled"):
        aws.cloudformation.delete_stack(StackName="one")
    aws.cloudformation.update_termination_protection(StackName="one", EnableTerminationProtection=False)
    aws.cloudformation.delete_stack(StackName="one")
    eventually(lambda: aws.status(stack_id) == "DELETE_COMPLETE")


def test_a_repeated_token_is_the_same_request(aws: Aws) -> None:
    first = aws.create("one", BUCKET, ClientRequestToken="same")
    assert aws.create("one", BUCKET, ClientRequestToken="same") == first
    with expect_error("TokenAlreadyExistsException", "same"):
        aws.create("two", BUCKET, ClientRequestToken="same")
    with expect_error("AlreadyExistsException", r"Stack \[one\] already exists"):
        aws.create("one", BUCKET)


@pytest.mark.parametrize(
    ("template", "code", "message"),
    [
        ("Resources: {", "ValidationError", "Template format error: YAML not well-formed"),
        ("Resources: {}", "ValidationError", "At least one Resources member must be defined"),
        ("Resources: {A: {Type: AWS::No::Such}}", "ValidationError", "Unrecognized resource types"),
        (
            "Resources: {A: {Type: AWS::S3::Bucket, Properties: {BucketName: !Ref Nobody}}}",
            "ValidationError",
            "Unresolved resource dependencies",
        ),
        (ROLE, "InsufficientCapabilitiesException", r"Requires capabilities : \[CAPABILITY_IAM\]"),
        ("Parameters: {P: {Type: String}}\n" + BUCKET, "ValidationError", r"\[P\] must have values"),
        (BUCKET + "#" * 51_200, "ValidationError", "templateBody"),
    ],
)
def test_a_bad_request_is_refused(aws: Aws, template: str, code: str, message: str) -> None:
    with expect_error(code, message):
        aws.create("one", template)
    assert aws.cloudformation.describe_stacks()["Stacks"] == []


def test_unknown_parameters_and_bad_names_are_refused(aws: Aws) -> None:
    with expect_error("ValidationError", r"Parameters: \[X\] do not exist in the template"):
        aws.create("one", BUCKET, Parameters=given(X="1"))
    with expect_error("ValidationError", "stackName"):
        aws.create("1-one", BUCKET)
    with expect_error("ValidationError", r"Stack \[none\] does not exist"):
        aws.cloudformation.update_stack(StackName="none", TemplateBody=BUCKET)


def test_a_large_template_comes_from_a_bucket(aws: Aws) -> None:
    aws.s3.create_bucket(Bucket="templates")
    aws.s3.put_object(Bucket="templates", Key="a/b.yml", Body=(BUCKET + "#" * 60_000).encode())
    for number, url in enumerate(
        (f"{aws.url}/templates/a/b.yml", "https://templates.s3.amazonaws.com/a/b.yml")
    ):
        aws.cloudformation.create_stack(StackName=f"s{number}", TemplateURL=url)
        assert aws.wait_until_stable(f"s{number}") == "CREATE_COMPLETE"
    body = aws.cloudformation.get_template(StackName="s0")["TemplateBody"]
    assert "AWS::S3::Bucket" in json.dumps(body)


def seed_stacks(aws: Aws, template: str, *stacks: dict[str, Any]) -> tuple[int, str]:
    """Create finished stacks."""
    return aws.request("POST", "/_sandbox/stacks", {"template": template, "stacks": stacks})


def test_all_stacks_are_paged(aws: Aws) -> None:
    made = [{"name": f"s{number}", "parameters": {}, "tags": {}} for number in range(120)]
    assert seed_stacks(aws, BUCKET, *made)[0] == 200
    pages = list(aws.cloudformation.get_paginator("describe_stacks").paginate())
    assert [len(page["Stacks"]) for page in pages] == [100, 20]
    names = [s["StackName"] for page in pages for s in page["Stacks"]]
    assert sorted(names) == sorted(f"s{n}" for n in range(120))
    summaries = aws.cloudformation.get_paginator("list_stacks").paginate().build_full_result()
    assert len(summaries["StackSummaries"]) == 120
    limits = aws.cloudformation.describe_account_limits()["AccountLimits"]
    assert {"Name": "StackLimit", "Value": 2000} in limits


def test_finished_stacks_can_be_created(aws: Aws, receiver: Receiver) -> None:
    status, said = seed_stacks(
        aws, PIPELINE_TEMPLATE, {"name": "pipe", "parameters": {"Branch": "main"}, "tags": {"team": "one"}}
    )

    assert status == 200, said
    (stack,) = aws.cloudformation.describe_stacks(StackName="pipe")["Stacks"]
    assert (stack["StackStatus"], stack["Tags"]) == ("CREATE_COMPLETE", [{"Key": "team", "Value": "one"}])
    assert aws.cloudformation.describe_stack_events(StackName="pipe")["StackEvents"] == []
    assert aws.executions() == []
    assert receiver.events == []
    # afterwards the stacks behave like any other
    assert "already exists" in seed_stacks(aws, BUCKET, {"name": "pipe", "parameters": {}, "tags": {}})[1]
    aws.create_pipeline("other")
    assert len(aws.executions("other")) == 1
    aws.codepipeline.start_pipeline_execution(name="pipe")
    assert len(aws.executions()) == 1
    aws.cloudformation.delete_stack(StackName="pipe")
    assert eventually(
        lambda: "DELETE_COMPLETE" in receiver.event_states("CloudFormation Stack Status Change")
    )


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ({"stacks": []}, "must have 'template'"),
        ({"template": BUCKET, "stacks": [{"name": "x"}]}, "must have 'template'"),
        ({"template": BUCKET, "stacks": [{"name": "x", "parameters": {"A": "b"}, "tags": {}}]}, "[A]"),
    ],
)
def test_invalid_finished_stacks_are_refused(aws: Aws, order: dict[str, Any], said: str) -> None:
    status, answer = aws.request("POST", "/_sandbox/stacks", order)
    assert status == 400
    assert said in answer


def test_conditions_functions_and_waiters_work(aws: Aws) -> None:
    template = """\
Parameters: {Env: {Type: String, Default: prod, AllowedValues: [prod, dev]}}
Mappings: {Sizes: {prod: {n: "3"}, dev: {n: "1"}}}
Conditions: {Prod: !Equals [!Ref Env, prod], Dev: !Not [!Condition Prod]}
Resources:
  Log: {Type: AWS::SSM::Parameter, Condition: Prod, Properties: {Type: String, Value: !FindInMap [Sizes, !Ref Env, n]}}
  Dev: {Type: AWS::SSM::Parameter, Condition: Dev, Properties: {Type: String, Value: x}}
Outputs:
  Where: {Value: !Sub "${AWS::Region}:${AWS::AccountId}:${AWS::StackName}:${!kept}"}
  Which: {Value: !If [Prod, !Select [1, !Split [",", "a,b"]], !Ref Dev], Export: {Name: which}}
"""
    aws.create("one", template)
    aws.cloudformation.get_waiter("stack_create_complete").wait(
        StackName="one", WaiterConfig={"Delay": 1, "MaxAttempts": 20}
    )
    stack = aws.cloudformation.describe_stacks(StackName="one")["Stacks"][0]
    values = {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}
    assert values == {"Where": "us-east-1:123456789012:one:${kept}", "Which": "b"}
    listed = aws.cloudformation.list_stack_resources(StackName="one")["StackResourceSummaries"]
    assert [r["LogicalResourceId"] for r in listed] == ["Log"]
    with expect_error("ValidationError", "must be one of AllowedValues"):
        aws.create("two", template, Parameters=given(Env="test"))
    assert aws.cloudformation.validate_template(TemplateBody=ROLE)["Capabilities"] == ["CAPABILITY_IAM"]


def test_a_stack_with_a_deleted_role_cannot_be_deleted(aws: Aws) -> None:
    template = f"{ROLE}Outputs: {{Arn: {{Value: !GetAtt Role.Arn}}}}\n"
    first = aws.create("roles", template, Capabilities=["CAPABILITY_IAM"])
    assert aws.wait_until_stable("roles") == "CREATE_COMPLETE"
    role = aws.cloudformation.describe_stacks(StackName="roles")["Stacks"][0]["Outputs"][0]["OutputValue"]
    second = aws.create("app", BUCKET, RoleARN=role)
    aws.wait_until_stable("app")
    aws.cloudformation.delete_stack(StackName="roles")
    eventually(lambda: aws.status(first) == "DELETE_COMPLETE")

    with expect_error("ValidationError", "is invalid or cannot be assumed"):
        aws.cloudformation.delete_stack(StackName="app")

    aws.cloudformation.delete_stack(StackName="app", RoleARN="arn:aws:iam::123456789012:role/any")
    eventually(lambda: aws.status(second) == "DELETE_COMPLETE")


def test_the_resources_that_forward_events_are_created_and_deleted(aws: Aws) -> None:
    template = """\
Resources:
  Key:
    Type: AWS::Events::Connection
    Properties: {AuthorizationType: API_KEY}
  Receiver:
    Type: AWS::Events::ApiDestination
    Properties: {ConnectionArn: !GetAtt Key.Arn, HttpMethod: POST, InvocationEndpoint: https://example.org}
  Rule:
    Type: AWS::Events::Rule
    Properties:
      Name: deployer
      EventPattern: {source: [aws.cloudformation]}
      Targets: [{Id: deployer, Arn: !GetAtt Receiver.Arn}]
"""
    stack_id = aws.create("one", template)
    assert aws.wait_until_stable("one") == "CREATE_COMPLETE"
    events = aws.client("events")
    assert [t["Id"] for t in events.list_targets_by_rule(Rule="deployer")["Targets"]] == ["deployer"]
    aws.cloudformation.delete_stack(StackName="one")
    eventually(lambda: aws.status(stack_id) == "DELETE_COMPLETE")
    assert events.list_rules()["Rules"] == []


def test_dynamic_references_are_resolved(aws: Aws) -> None:
    aws.client("ssm").put_parameter(Name="/word", Value="stored", Type="String")
    aws.client("secretsmanager").create_secret(Name="pass", SecretString='{"word": "hidden"}')
    template = """\
Parameters: {Word: {Type: "AWS::SSM::Parameter::Value<String>", Default: /word}}
Resources: {Log: {Type: AWS::SSM::Parameter, Properties: {Type: String, Value: x}}}
Outputs:
  Said: {Value: !Sub "${Word} {{resolve:ssm:/word}} {{resolve:secretsmanager:pass:SecretString:word}}"}
"""
    aws.create("one", template)
    assert aws.wait_until_stable("one") == "CREATE_COMPLETE"
    stack = aws.cloudformation.describe_stacks(StackName="one")["Stacks"][0]
    assert stack["Outputs"][0]["OutputValue"] == "stored stored hidden"
    aws.create("two", template.replace("resolve:ssm:/word", "resolve:ssm:/none"))
    assert aws.wait_until_stable("two") == "ROLLBACK_COMPLETE"
