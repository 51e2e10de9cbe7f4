"""Which buckets a teardown empties: those that the stack has made, and no other; and what S3 may refuse of it."""

import json
import time
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from deployer.adapters import aws_stacks
from deployer.errors import PermanentError, TransientError

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


# --- objects that S3 does not delete ------------------------------------------------------------------------------


def emptied(*refused: dict[str, str]) -> bool:
    """Empty a bucket of two objects, where S3 answers one batch after the other with these errors by key."""
    client = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    left = ["a", "b"]
    with Stubber(client) as stub:
        for errors in (*refused, {}):
            versions = [{"Key": key, "VersionId": "1"} for key in left]
            stub.add_response("list_object_versions", {"Versions": versions})
            told = [{"Key": key, "VersionId": "1", "Code": code} for key, code in errors.items()]
            stub.add_response("delete_objects", {"Errors": told})
            left = list(errors)
        stub.add_response("list_object_versions", {})
        stub.add_response("list_multipart_uploads", {})
        return aws_stacks.empty(client, "files", time.monotonic() + 60, lambda: None)


@pytest.mark.parametrize("code", ["InternalError", "SlowDown", "ServiceUnavailable"])
def test_an_object_that_s3_could_not_delete_just_now_is_deleted_with_the_next_batch(code: str) -> None:
    assert emptied({"b": code})


def test_a_bucket_of_which_nothing_can_be_deleted_just_now_is_no_users_fault() -> None:
    with pytest.raises(TransientError, match="2 objects cannot be deleted, the first is a: SlowDown"):
        emptied({"a": "SlowDown", "b": "InternalError"})


def test_an_object_that_s3_refuses_to_delete_is_told_before_what_only_passes() -> None:
    with pytest.raises(PermanentError, match="the first is b: AccessDenied"):
        emptied({"a": "SlowDown", "b": "AccessDenied"})
