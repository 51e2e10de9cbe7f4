"""The S3 buckets that deployer uses: its own artifact bucket, and those of a stack, which a teardown empties."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from deployer.adapters.aws_client import AwsClients, call_with_retries, read_pages
from deployer.adapters.aws_errors import (
    error_code,
    is_not_found,
    is_temporary_code,
    required_member,
    translate_errors,
)
from deployer.adapters.aws_stacks import resource_from_summary, single_line
from deployer.errors import PermanentError, TransientError
from deployer.targets import Target
from deployer.template import UnreadableError
from deployer.template import read as read_document

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

_BUCKET_TYPE = "AWS::S3::Bucket"
_STACK_TYPE = "AWS::CloudFormation::Stack"
# of what the stack itself has made; where a creation failed, the id may be that of somebody else's bucket
_CREATED_STATUSES = frozenset(
    {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_FAILED", "IMPORT_COMPLETE", "DELETE_FAILED"}
)
_BATCH_SIZE = 1000  # what one DeleteObjects takes
EMPTYING_SECONDS = 20.0  # of one call; well within a lease, since a bucket may hold millions
_TEMPLATE_FOLDER = "deployer/templates"  # where they are in the artifact bucket


class ArtifactBucket:
    """The bucket of a target's account that holds large templates.

    Args:
        target: whose bucket it is.
        clients: of the target's account and the region.
    """

    def __init__(self, target: Target, clients: AwsClients) -> None:
        self._aws = clients
        self._bucket = target.bucket(clients.region)
        # S3 refuses a bucket of this name that is another account's, which would decide what is deployed
        self._owner: dict[str, Any] = {"ExpectedBucketOwner": of} if (of := target.account_id) else {}

    def check_writable(self) -> None:
        """Write a small object. One call."""
        with translate_errors(f"writing into {self._description()}", artifact_bucket=True):
            key = f"{_TEMPLATE_FOLDER}/probe.txt"
            body = b"deployer doctor"
            call_with_retries(
                lambda: self._aws.s3.put_object(Bucket=self._bucket, Key=key, Body=body, **self._owner)
            )

    def store_template(self, stack: str, content: bytes) -> str:
        """Write the template of a stack and return its address. One call."""
        key = f"{_TEMPLATE_FOLDER}/{hashlib.sha256(content).hexdigest()}.template"
        with translate_errors(
            f"storing the template of stack {stack} in {self._description()}", artifact_bucket=True
        ):
            call_with_retries(
                lambda: self._aws.s3.put_object(Bucket=self._bucket, Key=key, Body=content, **self._owner)
            )
        # CloudFormation reads path-style addresses too, whatever dots the bucket's name has
        return f"{self._aws.s3.meta.endpoint_url}/{self._bucket}/{key}"

    def _description(self) -> str:
        owner = self._owner.get("ExpectedBucketOwner")
        return f"bucket {self._bucket}{f', which must be of account {owner}' if owner else ''}"


def empty_stack_buckets(clients: AwsClients, arn: str, assert_lease: Callable[[], None]) -> bool:
    """Delete what the buckets of a stack hold, for about twenty seconds; whether nothing is left. See the port."""
    deadline = time.monotonic() + EMPTYING_SECONDS
    try:
        names = buckets_to_empty(clients.cloudformation, arn)
    except ClientError as error:
        if is_not_found(error):
            return True
        raise
    owner = arn.split(":")[4]  # a stack's buckets are of the stack's account
    return all(empty_bucket(clients.s3, bucket, owner, deadline, assert_lease) for bucket in names)


def buckets_to_empty(cloudformation: "CloudFormationClient", arn: str) -> list[str]:
    """The buckets that the stack has made and its deletion will delete, also those of stacks within it."""
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
    except RecursionError:  # botocore reads a template in JSON, which may be nested without end
        template = None
    retained = retained_resources(template)
    if retained is None:
        log.warning("the buckets of stack %s are left as they are: its template cannot be read", arn)
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
    """Logical ids of the resources that are to outlive the stack; None if the template cannot be read.

    A pipeline made the template from a branch's files, and nobody but CloudFormation has read it before. So reading it
    takes no more than a check of `deploy/` may take.
    """
    if isinstance(template, str):
        text = template.lstrip("\ufeff")
        # tabs are whitespace in JSON but forbidden in YAML
        suffix = "json" if text.lstrip()[:1] == "{" else "yml"
        try:
            template = read_document(f"pipeline.{suffix}", text.encode()).fields
        except (UnreadableError, UnicodeEncodeError):
            return None
    resources = template.get("Resources") if isinstance(template, Mapping) else None
    if not isinstance(resources, Mapping):
        return None
    # a policy that is computed (`!If`) is no text: better spare one too many
    policies = {
        str(name): each.get("DeletionPolicy", "Delete") if isinstance(each, Mapping) else "Delete"
        for name, each in resources.items()
    }
    return {name for name, policy in policies.items() if policy != "Delete"}


def empty_bucket(
    s3: "S3Client", bucket: str, owner: str, deadline: float, assert_lease: Callable[[], None]
) -> bool:
    """Delete versions and delete markers of a bucket and abort its uploads; one that is gone is empty.

    Args:
        bucket: its name.
        owner: its account; S3 refuses every call where that is another one, which took the name meanwhile.
        deadline: when no further batch is begun, by the monotonic clock; one batch there is always.
        guard: called before each batch; what it raises ends the emptying.

    Returns:
        Whether nothing is left.

    Raises:
        PermanentError: S3 refuses to delete something: a lock, or a right that is lacking.
        TransientError: S3 is unwell or asked too fast, and nothing of a batch could be deleted.
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
    required_member(
        page, "Bucket"
    )  # only an answer of S3 has it; another one must not pass for an empty list
    return list(page.get("Uploads", []))


def _list_versions(s3: "S3Client", bucket: str, owner: str) -> list[Any]:
    page = call_with_retries(
        lambda: s3.list_object_versions(Bucket=bucket, ExpectedBucketOwner=owner, MaxKeys=_BATCH_SIZE)
    )
    required_member(page, "Name")  # only an answer of S3 has it; another one must not pass for an empty list
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
        # S3 answers 200, and for a single object that it is unwell or asked too fast: no client repeats that
        permanent = [each for each in errors if not is_temporary_code(each.get("Code", ""))]
        if not permanent and len(errors) < len(objects):
            return  # what is left is listed again
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
