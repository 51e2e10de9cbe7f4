"""The S3 calls of deployer: it writes to an artifact bucket, or empties the buckets of a stack."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from deployer.aws.clients import AwsClients, call_with_retries, read_pages
from deployer.aws.cloudformation import resource_from_summary, single_line
from deployer.aws.errors import error_code, is_not_found, is_temporary_code, required_member, translate_errors
from deployer.model.errors import PermanentError, TransientError
from deployer.model.targets import Target
from deployer.templates.document import read_document
from deployer.templates.folder_files import UnreadableError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

_BUCKET_TYPE = "AWS::S3::Bucket"
_STACK_TYPE = "AWS::CloudFormation::Stack"
# Statuses of resources that the stack itself created. After CREATE_FAILED, the id may name another owner's bucket.
_CREATED_STATUSES = frozenset(
    {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_FAILED", "IMPORT_COMPLETE", "DELETE_FAILED"}
)
_BATCH_SIZE = 1000  # objects; the maximum of one DeleteObjects request
EMPTYING_SECONDS = (
    20.0  # for one call, which must end well within a lease although a bucket may hold millions of objects
)
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


def empty_stack_buckets(clients: AwsClients, arn: str, assert_lease: Callable[[], None]) -> bool:
    """Delete the objects in the buckets of a stack for about `EMPTYING_SECONDS`.

    Args:
        clients: clients of the stack's account in its region.
        arn: the stack's ARN.
        assert_lease: see `empty_bucket`.

    Returns:
        Whether the deletion of the stack may begin: its buckets are empty, or its template cannot be parsed and they
        stay as they are.
    """
    deadline = time.monotonic() + EMPTYING_SECONDS
    try:
        names = buckets_to_empty(clients.cloudformation, arn)
    except ClientError as error:
        if is_not_found(error):
            return True
        raise
    owner = arn.split(":")[4]  # the stack's account, which also owns its buckets
    return all(empty_bucket(clients.s3, bucket, owner, deadline, assert_lease) for bucket in names)


def buckets_to_empty(cloudformation: "CloudFormationClient", arn: str) -> list[str]:
    """Return the buckets that the stack or its nested stacks created, without those that the templates retain."""
    found = {
        each.name: (each.type, each.id)
        for page in read_pages(cloudformation.list_stack_resources, StackName=arn)
        for each in map(resource_from_summary, required_member(page, "StackResourceSummaries"))
        if each.type in {_BUCKET_TYPE, _STACK_TYPE} and each.id and each.status in _CREATED_STATUSES
    }
    if not found:
        return []
    try:
        template = required_member(
            call_with_retries(lambda: cloudformation.get_template(StackName=arn)), "TemplateBody"
        )
    except RecursionError:  # botocore parses a JSON template, which may be nested too deeply for Python
        template = None
    retained = retained_resources(template)
    if retained is None:
        log.warning("the buckets of stack %s are not emptied, because its template cannot be parsed", arn)
        return []
    deleted = [each for name, each in found.items() if name not in retained]
    nested = [
        bucket
        for resource_type, identifier in deleted
        if resource_type == _STACK_TYPE
        for bucket in buckets_to_empty(cloudformation, identifier)
    ]
    return [identifier for resource_type, identifier in deleted if resource_type == _BUCKET_TYPE] + nested


def retained_resources(template: Any) -> set[str] | None:
    """Return the logical ids of the resources that outlive the stack; None if the template cannot be parsed.

    A pipeline may have built this template from a branch's files, so its content is not trusted. It is parsed with the
    same limits as the files in `deploy/`.
    """
    if isinstance(template, str):
        text = template.lstrip("\ufeff")
        # JSON is parsed as JSON, because it may contain tabs, which YAML forbids
        suffix = "json" if text.lstrip()[:1] == "{" else "yml"
        try:
            template = read_document(f"pipeline.{suffix}", text.encode()).fields
        except (UnreadableError, UnicodeEncodeError):
            return None
    resources = template.get("Resources") if isinstance(template, Mapping) else None
    if not isinstance(resources, Mapping):
        return None
    # A computed policy (`!If`) is not a string. The resource then counts as retained, because data loss is worse.
    policies = {
        str(name): each.get("DeletionPolicy", "Delete") if isinstance(each, Mapping) else "Delete"
        for name, each in resources.items()
    }
    return {name for name, policy in policies.items() if policy != "Delete"}


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
