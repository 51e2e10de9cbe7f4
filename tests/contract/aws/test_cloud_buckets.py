"""Which buckets a teardown empties: those that the stack has made, and no other; and what S3 may refuse of it."""

import json
import time
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from cloud_kit import SandboxKit, cloud, small

from deployer.aws import buckets as aws_buckets
from deployer.aws import storage
from deployer.aws.cloudformation import INLINE_LIMIT
from deployer.model.errors import PermanentError, TransientError
from deployer.templates.release import Release

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
        return [name for _, name in storage.stores_to_empty(client, stacks[0][0])]


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
            stub.add_response("list_object_versions", {"Name": "files", "Versions": versions})
            told = [{"Key": key, "VersionId": "1", "Code": code} for key, code in errors.items()]
            stub.add_response("delete_objects", {"Errors": told})
            left = list(errors)
        stub.add_response("list_object_versions", {"Name": "files"})
        stub.add_response("list_multipart_uploads", {"Bucket": "files"})
        return aws_buckets.empty_bucket(client, "files", "123456789012", time.monotonic() + 60, lambda: None)


@pytest.mark.parametrize("code", ["InternalError", "SlowDown", "ServiceUnavailable"])
def test_an_object_that_s3_could_not_delete_just_now_is_deleted_with_the_next_batch(code: str) -> None:
    assert emptied({"b": code})


def test_a_bucket_of_which_nothing_can_be_deleted_just_now_is_no_users_fault() -> None:
    with pytest.raises(TransientError, match="2 objects cannot be deleted, the first is a: SlowDown"):
        emptied({"a": "SlowDown", "b": "InternalError"})


def test_an_object_that_s3_refuses_to_delete_is_told_before_what_only_passes() -> None:
    with pytest.raises(PermanentError, match="the first is b: AccessDenied"):
        emptied({"a": "SlowDown", "b": "AccessDenied"})


# --- buckets of another account -----------------------------------------------------------------------------------

OWN, STRANGER = "123456789012", "210987654321"


def bucket_of_another_account(aws: SandboxKit, name: str) -> Any:
    """A client that acts in another account, and has made a bucket of this name there, with one object."""
    sts = boto3.client("sts", region_name="us-east-1", endpoint_url=aws.url)
    assumed = sts.assume_role(RoleArn=f"arn:aws:iam::{STRANGER}:role/any", RoleSessionName="stranger")
    s3 = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=aws.url,
        aws_access_key_id=assumed["Credentials"]["AccessKeyId"],
        aws_secret_access_key=assumed["Credentials"]["SecretAccessKey"],
        aws_session_token=assumed["Credentials"]["SessionToken"],
    )
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="theirs", Body=b"theirs")
    return s3


def keys(s3: Any, bucket: str) -> list[str]:
    return [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]]


@pytest.mark.parametrize("known", [{"account": OWN}, {"role_arn": f"arn:aws:iam::{OWN}:role/deployer"}])
def test_a_template_never_goes_into_a_bucket_of_another_account(
    aws: SandboxKit, known: dict[str, str]
) -> None:
    """Who owns the artifact bucket decides what is deployed: its name may have been free for a while."""
    bucket = f"taken-by-a-stranger-{next(iter(known)).replace('_', '-')}"
    theirs = bucket_of_another_account(aws, bucket)
    here = cloud(aws.url, artifact_bucket=bucket, **known)
    large = Release(small().template + " " * INLINE_LIMIT, {}, needs_token=False)

    told = rf"bucket {bucket}, which must be of account {OWN}: AWS refuses it"
    with pytest.raises(TransientError, match=rf"^writing to {told}"):
        here.check_artifact_bucket()
    with pytest.raises(TransientError, match=rf"^storing the template of stack x in {told}"):
        here.create_stack("x", large, "token-of-x")
    assert keys(theirs, bucket) == ["theirs"]
    assert here.stack("x") is None


def test_a_bucket_that_another_account_took_meanwhile_is_not_emptied(aws: SandboxKit) -> None:
    theirs = bucket_of_another_account(aws, "taken-meanwhile")
    with pytest.raises(ClientError, match="AccessDenied"):
        aws_buckets.empty_bucket(theirs, "taken-meanwhile", OWN, time.monotonic() + 60, lambda: None)
    assert keys(theirs, "taken-meanwhile") == ["theirs"]
    assert aws_buckets.empty_bucket(theirs, "taken-meanwhile", STRANGER, time.monotonic() + 60, lambda: None)


def test_every_call_that_deletes_says_whose_the_bucket_is() -> None:
    """Not the listing alone: the bucket may change hands between two calls."""
    client = boto3.client("s3", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    said: dict[str, str] = {}
    client.meta.events.register(
        "provide-client-params.s3",
        lambda params, model, **_: said.update({model.name: params["ExpectedBucketOwner"]}),
    )
    with Stubber(client) as stub:
        stub.add_response(
            "list_object_versions", {"Name": "files", "Versions": [{"Key": "a", "VersionId": "1"}]}
        )
        stub.add_response("delete_objects", {})
        stub.add_response("list_object_versions", {"Name": "files"})
        stub.add_response(
            "list_multipart_uploads", {"Bucket": "files", "Uploads": [{"Key": "b", "UploadId": "2"}]}
        )
        stub.add_response("abort_multipart_upload", {})
        stub.add_response("list_multipart_uploads", {"Bucket": "files"})
        assert aws_buckets.empty_bucket(client, "files", OWN, time.monotonic() + 60, lambda: None)
    calls = ("ListObjectVersions", "DeleteObjects", "ListMultipartUploads", "AbortMultipartUpload")
    assert said == dict.fromkeys(calls, OWN)
