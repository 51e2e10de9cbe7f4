"""The regions of the simulated accounts: roles, limits, rates."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aws_harness import (
    BUCKET,
    BUILDSPEC,
    PIPELINE_TEMPLATE,
    Aws,
    Receiver,
    Repository,
    eventually,
    expect_error,
    given,
)

PRODUCTION = "210987654321"
DEPLOYER = f"arn:aws:iam::{PRODUCTION}:role/deployer"
WHERE = """\
Resources:
  Site: {Type: AWS::S3::Bucket}
  Note: {Type: AWS::SSM::Parameter, Properties: {Name: /note, Type: String, Value: !Ref "AWS::Region"}}
  Topic: {Type: AWS::SNS::Topic, Properties: {TopicName: news}}
Outputs:
  Where: {Value: !Sub "${AWS::AccountId} ${AWS::Region}"}
  Topic: {Value: !Ref Topic}
"""


def assumed(aws: Aws, **more: str) -> dict[str, str]:
    """The keys that AssumeRole returns for deployer's role in production."""
    found = aws.client("sts").assume_role(RoleArn=DEPLOYER, RoleSessionName="test", **more)["Credentials"]
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }


def trusting(principal: Any, **conditions: Any) -> str:
    statement = {
        "Effect": "Allow",
        "Principal": principal,
        "Action": "sts:AssumeRole",
        "Condition": conditions,
    }
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def shown(aws: Aws, path: str = "state") -> dict[str, Any]:
    """The JSON of an endpoint below /_sandbox/."""
    return dict(json.loads(aws.get(f"/_sandbox/{path}")[1]))


def test_each_account_and_region_has_its_own_stacks(aws: Aws, receiver: Receiver) -> None:
    keys = assumed(aws)
    places = {
        ("123456789012", "us-east-1"): aws.cloudformation,
        ("123456789012", "eu-west-1"): aws.client("cloudformation", region_name="eu-west-1"),
        (PRODUCTION, "us-east-1"): aws.client("cloudformation", **keys),
    }
    ids = {p: c.create_stack(StackName="one", TemplateBody=WHERE)["StackId"] for p, c in places.items()}

    for (account, region), calls in places.items():
        eventually(lambda c=calls: c.describe_stacks()["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE")
        (stack,) = calls.describe_stacks()["Stacks"]
        outputs = {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}
        assert stack["StackId"].startswith(f"arn:aws:cloudformation:{region}:{account}:stack/one/")
        assert outputs == {"Where": f"{account} {region}", "Topic": f"arn:aws:sns:{region}:{account}:news"}
        more = keys if account == PRODUCTION else {}
        note = aws.client("ssm", region_name=region, **more).get_parameter(Name="/note")
        assert note["Parameter"]["Value"] == region
        for other, stack_id in ids.items():
            if other != (account, region):
                with expect_error("ValidationError", "does not exist"):
                    calls.describe_stacks(StackName=stack_id)
    told = eventually(lambda: len(receiver.events) == 6 and receiver.events)
    assert {(e["account"], e["region"]) for e in told} == set(places)
    state = shown(aws)
    for kind in (state["stacks"], state["bucket_places"].values()):
        assert {(each["account"], each["region"]) for each in kind} == set(places)
    creations = shown(aws, "calls?operation=CreateStack")["calls"]
    assert [(c["account"], c["region"]) for c in creations] == list(places)
    assert "eu-west-1" in aws.get("/")[1]
    europe = {"status": "UPDATE_ROLLBACK_FAILED", "region": "eu-west-1"}
    assert aws.request("POST", "/_sandbox/stacks/one", europe)[0] == 200
    assert aws.status("one") == "CREATE_COMPLETE"
    assert (
        places["123456789012", "eu-west-1"].describe_stacks()["Stacks"][0]["StackStatus"] == europe["status"]
    )
    aws.request("POST", "/_sandbox/reset")
    assert shown(aws)["stacks"] == []
    assert shown(aws)["roles"] == []


def test_a_pipeline_works_in_another_account_and_region(aws: Aws, repository: Repository) -> None:
    shows = BUILDSPEC.replace("$GREETING $WHO", "$AWS_REGION $AWS_ACCESS_KEY_ID")
    repository.commit({"buildspec.yml": shows}, "show the place")
    keys = assumed(aws)
    place = {"region_name": "eu-west-1", **keys}
    aws.client("s3", **keys).create_bucket(Bucket="artifacts")
    stacks, pipelines = aws.client("cloudformation", **place), aws.client("codepipeline", **place)
    stacks.create_stack(
        StackName="pipe",
        TemplateBody=PIPELINE_TEMPLATE,
        Parameters=given(Branch="main"),
        Capabilities=["CAPABILITY_IAM"],
    )
    eventually(
        lambda: stacks.describe_stacks(StackName="pipe")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    )

    def ended() -> bool:
        (execution,) = pipelines.list_pipeline_executions(pipelineName="pipe")["pipelineExecutionSummaries"]
        return bool(execution["status"] != "InProgress")

    eventually(ended)
    (execution,) = shown(aws, "executions")["executions"]
    assert (execution["status"], execution["account"], execution["region"]) == (
        "Succeeded",
        PRODUCTION,
        "eu-west-1",
    )
    here = {"account": PRODUCTION, "region": "eu-west-1"}
    state = shown(aws)
    assert {s["name"]: (s["account"], s["region"]) for s in state["stacks"]} == {
        "pipe": (PRODUCTION, "eu-west-1"),
        "pipe-app": (PRODUCTION, "eu-west-1"),
    }
    (site,) = [s["outputs"]["BucketName"] for s in state["stacks"] if s["name"] == "pipe-app"]
    assert aws.get(f"/{site}/")[1].startswith("<h1>eu-west-1 ASIA")
    assert state["projects"] == [{"name": "pipe-build", **here}]
    assert [r["account"] for r in state["roles"]] == [PRODUCTION]
    assert aws.codepipeline.list_pipelines()["pipelines"] == []
    arn = pipelines.get_pipeline(name="pipe")["metadata"]["pipelineArn"]
    assert arn == f"arn:aws:codepipeline:eu-west-1:{PRODUCTION}:pipe"


def test_only_a_trusted_account_can_assume_a_role(aws: Aws) -> None:
    iam = aws.client("iam", **assumed(aws))  # the account has no role yet
    iam.create_role(
        RoleName="deployer",
        AssumeRolePolicyDocument=trusting(
            {"AWS": "arn:aws:iam::123456789012:root"}, StringEquals={"sts:ExternalId": "secret"}
        ),
    )
    keys = assumed(aws, ExternalId="secret")
    assert aws.client("sts", **keys).get_caller_identity()["Account"] == PRODUCTION
    for more in ({}, {"ExternalId": "other"}):
        with expect_error("AccessDenied", "is not authorized to perform: sts:AssumeRole"):
            assumed(aws, **more)
    for principal in ({"AWS": "111111111111"}, {"Service": "cloudformation.amazonaws.com"}):
        iam.update_assume_role_policy(RoleName="deployer", PolicyDocument=trusting(principal))
        with expect_error("AccessDenied", DEPLOYER):
            assumed(aws, ExternalId="secret")
    iam.create_role(RoleName="other", AssumeRolePolicyDocument=trusting("*"))
    iam.delete_role(RoleName="deployer")
    with expect_error("AccessDenied", DEPLOYER):
        assumed(aws)


def test_cloudformation_accepts_only_an_existing_role_of_its_account(aws: Aws) -> None:
    iam = aws.client("iam")
    role = iam.create_role(RoleName="service", AssumeRolePolicyDocument=trusting("*"))["Role"]["Arn"]
    aws.create("one", BUCKET, RoleARN=role)
    assert aws.wait_until_stable("one") == "CREATE_COMPLETE"
    with expect_error("ValidationError", "role/none is invalid or cannot be assumed"):
        aws.create("two", BUCKET, RoleARN="arn:aws:iam::123456789012:role/none")
    with expect_error("AccessDenied", "Cross-account pass role is not allowed"):
        aws.create("two", BUCKET, RoleARN=DEPLOYER)
    assert [s["name"] for s in shown(aws)["stacks"]] == ["one"]


def test_a_region_allows_no_more_stacks_and_pipelines_than_its_limits(aws: Aws) -> None:
    aws.s3.create_bucket(Bucket="artifacts")
    status, answer = aws.request(
        "POST", "/_sandbox/limits", {"region": "us-east-1", "stacks": 2, "pipelines": 0}
    )
    assert status == 200
    assert json.loads(answer)["limits"][0]["stacks"] == 2
    limits = aws.cloudformation.describe_account_limits()["AccountLimits"]
    assert {"Name": "StackLimit", "Value": 2} in limits
    aws.create("pipe", PIPELINE_TEMPLATE, Parameters=given(Branch="main"), Capabilities=["CAPABILITY_IAM"])
    assert aws.wait_until_stable("pipe") == "ROLLBACK_COMPLETE"
    events = aws.cloudformation.describe_stack_events(StackName="pipe")["StackEvents"]
    (why,) = [e["ResourceStatusReason"] for e in events if e["ResourceStatus"] == "CREATE_FAILED"]
    assert "Error Code: LimitExceededException" in why
    review = {"StackName": "r", "ChangeSetName": "c", "ChangeSetType": "CREATE", "TemplateBody": BUCKET}
    aws.cloudformation.create_change_set(**review)

    with expect_error("LimitExceededException", "2"):
        aws.create("three", BUCKET)
    aws.client("cloudformation", region_name="eu-west-1").create_stack(StackName="three", TemplateBody=BUCKET)

    used = {(each["region"], each["stacks_used"]) for each in shown(aws, "limits")["limits"]}
    assert used == {("us-east-1", 2), ("eu-west-1", 1)}
    assert aws.request("POST", "/_sandbox/limits", {"stacks": "many"})[0] == 400
    aws.request("POST", "/_sandbox/reset")
    assert {"Name": "StackLimit", "Value": 2000} in aws.cloudformation.describe_account_limits()[
        "AccountLimits"
    ]


def test_rates_apply_to_each_operation_in_each_region(aws: Aws) -> None:
    aws.inject_faults(rates={"cloudformation": {"DescribeStacks": 0.01, "*": 2}})
    europe = aws.client("cloudformation", region_name="eu-west-1")
    aws.cloudformation.describe_stacks()
    with expect_error("Throttling", "Rate exceeded"):
        aws.cloudformation.describe_stacks()
    europe.describe_stacks()
    aws.cloudformation.list_stacks()
    aws.codepipeline.list_pipelines()
    codes = [(c["region"], c["code"]) for c in shown(aws, "calls?operation=DescribeStacks")["calls"]]
    assert codes == [("us-east-1", "OK"), ("us-east-1", "Throttling"), ("eu-west-1", "OK")]
    aws.inject_faults(rates={"codepipeline": {"*": 0.01}})
    assert shown(aws, "faults")["rates"]["codepipeline"] == {"*": 0.01}
    aws.codepipeline.list_pipelines()
    with expect_error("ThrottlingException", "Rate exceeded"):
        aws.codepipeline.list_pipelines()
    for wrong in ({"rates": 1}, {"rates": {"s3": 1}}, {"rates": {"s3": {"*": 0}}}):
        assert aws.request("POST", "/_sandbox/faults", wrong)[0] == 400
    aws.request("DELETE", "/_sandbox/faults")
    aws.cloudformation.describe_stacks()


def test_faults_can_be_limited_to_a_region(aws: Aws) -> None:
    aws.inject_faults(fail_resources=[{"resource": "Site", "region": "eu-west-1"}])
    europe = aws.client("cloudformation", region_name="eu-west-1")
    stack_id = europe.create_stack(StackName="one", TemplateBody=BUCKET, OnFailure="DELETE")["StackId"]
    aws.create("one", BUCKET)
    assert aws.wait_until_stable("one") == "CREATE_COMPLETE"

    def status() -> str:
        return str(europe.describe_stacks(StackName=stack_id)["Stacks"][0]["StackStatus"])

    eventually(lambda: status() == "DELETE_COMPLETE")


def test_pipelines_are_paged(aws: Aws) -> None:
    aws.s3.create_bucket(Bucket="artifacts")
    for number in range(3):
        name = f"p{number}"
        aws.create(name, PIPELINE_TEMPLATE, Parameters=given(Branch="main"), Capabilities=["CAPABILITY_IAM"])
    eventually(lambda: all(aws.status(f"p{n}") == "CREATE_COMPLETE" for n in range(3)))
    pages = aws.codepipeline.get_paginator("list_pipelines").paginate(PaginationConfig={"PageSize": 2})
    assert [[p["name"] for p in page["pipelines"]] for page in pages] == [["p0", "p1"], ["p2"]]


@pytest.mark.parametrize("way", ["retain", "force"])
def test_resources_that_a_deleted_stack_did_not_delete_are_listed(aws: Aws, way: str) -> None:
    template = (
        f"{BUCKET}  Note: {{Type: AWS::SSM::Parameter, Properties: {{Name: /n, Type: String, Value: x}}}}\n"
    )
    stack_id = aws.create("one", template)
    aws.wait_until_stable("one")
    bucket = shown(aws)["stacks"][0]["resources"]["Site"]
    aws.s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    aws.cloudformation.delete_stack(StackName="one")
    assert aws.wait_until_stable("one") == "DELETE_FAILED"
    with expect_error("ValidationError", "Do not specify resources that are in the DELETE_COMPLETE state"):
        aws.cloudformation.delete_stack(StackName="one", RetainResources=["Note"])
    assert shown(aws)["leftovers"] == []

    how = {"RetainResources": ["Site"]} if way == "retain" else {"DeletionMode": "FORCE_DELETE_STACK"}
    aws.cloudformation.delete_stack(StackName="one", **how)

    eventually(lambda: aws.status(stack_id) == "DELETE_COMPLETE")
    calls = aws.cloudformation
    listed = calls.list_stack_resources(StackName=stack_id)["StackResourceSummaries"]
    wanted = {"Site": "DELETE_SKIPPED", "Note": "DELETE_COMPLETE"}
    assert {r["LogicalResourceId"]: r["ResourceStatus"] for r in listed} == wanted
    described = calls.describe_stack_resources(StackName=stack_id)["StackResources"]
    assert {r["LogicalResourceId"]: r["ResourceStatus"] for r in described} == wanted
    assert (
        calls.describe_stack_events(StackName=stack_id)["StackEvents"][0]["ResourceStatus"]
        == "DELETE_COMPLETE"
    )
    (left,) = shown(aws)["leftovers"]
    assert (left["stack_id"], left["logical_id"], left["id"]) == (stack_id, "Site", bucket)
    aws.s3.delete_object(Bucket=bucket, Key="k")
    aws.s3.delete_bucket(Bucket=bucket)
    assert shown(aws)["leftovers"] == []


def test_a_bucket_with_unfinished_uploads_can_be_deleted(aws: Aws) -> None:
    stack_id = aws.create("one", BUCKET)
    aws.wait_until_stable("one")
    bucket = shown(aws)["stacks"][0]["resources"]["Site"]
    upload = aws.s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    aws.s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"1")
    aws.cloudformation.delete_stack(StackName="one")
    eventually(lambda: aws.status(stack_id) == "DELETE_COMPLETE")
    assert shown(aws)["buckets"] == {}
