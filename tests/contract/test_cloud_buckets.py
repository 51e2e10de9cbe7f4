"""Which buckets a teardown empties: those that the stack has made, and no other."""

import json
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from deployer.adapters import aws_stacks

ARN = "arn:aws:cloudformation:eu-west-1:123456789012:stack/hello/1"
INNER = "arn:aws:cloudformation:eu-west-1:123456789012:stack/hello-Inner-1/2"


def found(*stacks: tuple[str, dict[str, tuple[str, str, str]], dict[str, Any]]) -> list[str]:
    """The buckets of the first of some stacks: ARN, resources (type, id and status by name), and template."""
    client = boto3.client(
        "cloudformation", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    with Stubber(client) as stub:
        for arn, resources, template in stacks:
            listed = [
                {
                    "LogicalResourceId": name,
                    "ResourceType": kind,
                    "PhysicalResourceId": identity,
                    "ResourceStatus": status,
                    "LastUpdatedTimestamp": 0,
                }
                for name, (kind, identity, status) in resources.items()
            ]
            stub.add_response("list_stack_resources", {"StackResourceSummaries": listed}, {"StackName": arn})
            if template:
                body = {"TemplateBody": json.dumps({"Resources": template})}
                stub.add_response("get_template", body, {"StackName": arn})
        return aws_stacks.buckets(client, stacks[0][0])


@pytest.mark.parametrize("status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_FAILED", "DELETE_FAILED"])
def test_a_bucket_of_the_stack_is_emptied(status: str) -> None:
    assert found((ARN, {"Files": ("AWS::S3::Bucket", "files", status)}, {"Files": {}})) == ["files"]


@pytest.mark.parametrize(
    "status", ["CREATE_FAILED", "CREATE_IN_PROGRESS", "DELETE_COMPLETE", "DELETE_SKIPPED"]
)
def test_a_bucket_that_the_stack_did_not_make_is_let_alone(status: str) -> None:
    """Its name was taken already: what the failed resource names is somebody else's."""
    assert found((ARN, {"Files": ("AWS::S3::Bucket", "production-files", status)}, {})) == []


def test_a_bucket_of_a_stack_within_it_is_emptied() -> None:
    outer = {
        "Inner": ("AWS::CloudFormation::Stack", INNER, "CREATE_COMPLETE"),
        "Kept": ("AWS::CloudFormation::Stack", f"{INNER}0", "CREATE_COMPLETE"),
    }
    inner = {"Files": ("AWS::S3::Bucket", "files", "CREATE_COMPLETE")}
    kept = {"Inner": {}, "Kept": {"DeletionPolicy": "Retain"}}
    assert found((ARN, outer, kept), (INNER, inner, {"Files": {}})) == ["files"]
