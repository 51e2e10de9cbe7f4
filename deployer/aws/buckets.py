"""The S3 calls of deployer: it writes to an artifact bucket, or empties a bucket."""

import hashlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from deployer.aws.clients import AwsClients, call_with_retries
from deployer.aws.errors import (
    error_code,
    is_not_found,
    is_temporary_code,
    required_member,
    single_line,
    translate_errors,
)
from deployer.model.errors import PermanentError, TransientError
from deployer.model.targets import Target

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BATCH_SIZE = 1000  # objects; the maximum of one DeleteObjects request
_TEMPLATE_FOLDER = "deployer/templates"  # key prefix in the artifact bucket


class ArtifactBucket:
    """The bucket that holds templates which are too large for a request.

    Args:
        target: the target that the bucket belongs to.
        clients: clients of the target's account in this region.
    """

    def __init__(self, target: Target, clients: AwsClients) -> None:
        self._aws = clients
        self._bucket = target.bucket(clients.region)
        # S3 rejects the request if another account owns a bucket of this name: that account could change the template.
        self._owner: dict[str, Any] = {"ExpectedBucketOwner": of} if (of := target.account_id) else {}

    def check_writable(self) -> None:
        """Write a small object to prove that deployer may write to the bucket. One call."""
        with translate_errors(f"writing to {self._description()}", artifact_bucket=True):
            key = f"{_TEMPLATE_FOLDER}/probe.txt"
            body = b"deployer doctor"
            call_with_retries(
                lambda: self._aws.s3.put_object(Bucket=self._bucket, Key=key, Body=body, **self._owner)
            )

    def store_template(self, stack: str, content: bytes) -> str:
        """Store a template and return its URL for CloudFormation. One call.

        Args:
            stack: the stack's name, for error texts.
            content: the template.
        """
        key = f"{_TEMPLATE_FOLDER}/{hashlib.sha256(content).hexdigest()}.template"
        with translate_errors(
            f"storing the template of stack {stack} in {self._description()}", artifact_bucket=True
        ):
            call_with_retries(
                lambda: self._aws.s3.put_object(Bucket=self._bucket, Key=key, Body=content, **self._owner)
            )
        # CloudFormation accepts path-style URLs, which work for every bucket name, also one with dots.
        return f"{self._aws.s3.meta.endpoint_url}/{self._bucket}/{key}"

    def _description(self) -> str:
        owner = self._owner.get("ExpectedBucketOwner")
        return f"bucket {self._bucket}{f', which must be of account {owner}' if owner else ''}"


def empty_bucket(
    s3: "S3Client", bucket: str, owner: str, deadline: float, assert_lease: Callable[[], None]
) -> bool:
    """Delete all object versions and delete markers of a bucket, then abort its multipart uploads.

    Args:
        s3: the client.
        bucket: the bucket's name.
        owner: the bucket's account. S3 rejects each call if another account owns a bucket of this name now.
        deadline: the first batch is always deleted; no later one starts after this time (monotonic clock, seconds).
        assert_lease: called before each batch; an exception from it ends the emptying.

    Returns:
        Whether the bucket is empty. A bucket that does not exist counts as empty.

    Raises:
        PermanentError: S3 refuses to delete an object, because of an object lock or a missing permission.
        TransientError: S3 has a server error or throttles, and deleted no object of a batch.
    """
    try:
        while batch := _list_versions(s3, bucket, owner):
            assert_lease()
            _delete_batch(s3, bucket, owner, batch)
            if time.monotonic() >= deadline:
                return False
        while uploads := _list_uploads(s3, bucket, owner):
            assert_lease()
            for upload in uploads:
                _abort_upload(s3, bucket, owner, upload)
            if time.monotonic() >= deadline:
                return False
    except ClientError as error:
        if not is_not_found(error):
            raise
    return True


def _list_uploads(s3: "S3Client", bucket: str, owner: str) -> list[Any]:
    page = call_with_retries(lambda: s3.list_multipart_uploads(Bucket=bucket, ExpectedBucketOwner=owner))
    # S3 always returns this member. Without it the response is not S3's, and must not count as an empty list.
    required_member(page, "Bucket")
    return list(page.get("Uploads", []))


def _list_versions(s3: "S3Client", bucket: str, owner: str) -> list[Any]:
    page = call_with_retries(
        lambda: s3.list_object_versions(Bucket=bucket, ExpectedBucketOwner=owner, MaxKeys=_BATCH_SIZE)
    )
    # S3 always returns this member. Without it the response is not S3's, and must not count as an empty list.
    required_member(page, "Name")
    listed: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    return [
        {"Key": required_member(each, "Key"), "VersionId": required_member(each, "VersionId")}
        for each in listed
    ]


def _delete_batch(s3: "S3Client", bucket: str, owner: str, objects: list[Any]) -> None:
    answer = call_with_retries(
        lambda: s3.delete_objects(
            Bucket=bucket, ExpectedBucketOwner=owner, Delete={"Objects": objects, "Quiet": True}
        )
    )
    if errors := answer.get("Errors"):
        # S3 returns HTTP 200 with an error for a single object. No client retries that, not even for throttling.
        permanent = [each for each in errors if not is_temporary_code(each.get("Code", ""))]
        if not permanent and len(errors) < len(objects):
            return  # the next listing returns the remaining objects
        first = (permanent or errors)[0]
        error_type = PermanentError if permanent else TransientError
        raise error_type(
            f"bucket {bucket}: {len(errors)} objects cannot be deleted, the first is {first.get('Key')}:"
            f" {first.get('Code')}: {single_line(first.get('Message'))}"
        )


def _abort_upload(s3: "S3Client", bucket: str, owner: str, upload: Any) -> None:
    try:
        call_with_retries(
            lambda: s3.abort_multipart_upload(
                Bucket=bucket,
                ExpectedBucketOwner=owner,
                Key=required_member(upload, "Key"),
                UploadId=required_member(upload, "UploadId"),
            )
        )
    except ClientError as error:
        if error_code(error) != "NoSuchUpload":
            raise
