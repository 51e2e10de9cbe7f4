"""CloudFormation's answers as the core's values, and the emptying of a stack's buckets."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from deployer.adapters.aws_answers import AnswerError, needed
from deployer.adapters.aws_client import code, passes, retried, says_missing
from deployer.errors import PermanentError, ThrottledError, TransientError
from deployer.folder_files import UnreadableError
from deployer.stacks import Failure, Resource, Stack
from deployer.template import read_document

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

_BUCKET_TYPE = "AWS::S3::Bucket"
_STACK_TYPE = "AWS::CloudFormation::Stack"
# of what the stack itself has made; where a creation failed, the id may be that of somebody else's bucket
_MADE = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_FAILED", "IMPORT_COMPLETE", "DELETE_FAILED"})
_BATCH = 1000  # what one DeleteObjects takes
EMPTYING_SECONDS = 20.0  # of one call; well within a lease, since a bucket may hold millions
# what the failure of another resource did to this one: a consequence, never the cause
_CANCELLED = re.compile(r"Resource (?:creation|update|deletion) cancelled", re.IGNORECASE)


def read(described: Any) -> Stack:
    """A stack from one entry of DescribeStacks."""
    changed = described.get("LastUpdatedTime") or described.get("CreationTime")
    return Stack(
        arn=str(needed(described, "StackId")),
        name=str(needed(described, "StackName")),
        status=str(needed(described, "StackStatus")),
        tags={needed(tag, "Key"): needed(tag, "Value") for tag in described.get("Tags", [])},
        reason=_line(described.get("StackStatusReason")),
        protected=bool(described.get("EnableTerminationProtection")),
        parent=str(described.get("ParentId") or ""),
        changed_at=changed.timestamp() if changed else 0,
        parameters=_hash_of(described.get("Parameters", [])),
    )


def _hash_of(parameters: Iterable[Any]) -> str:
    """Tells whether parameters differ; of those with NoEcho AWS shows asterisks."""
    values = sorted((needed(each, "ParameterKey"), each.get("ParameterValue", "")) for each in parameters)
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16] if values else ""


def resource(summary: Any) -> Resource:
    """A resource from one entry of ListStackResources."""
    return Resource(
        name=str(needed(summary, "LogicalResourceId")),
        type=str(needed(summary, "ResourceType")),
        id=str(summary.get("PhysicalResourceId") or ""),
        status=str(needed(summary, "ResourceStatus")),
        reason=_line(summary.get("ResourceStatusReason")),
    )


def pages(
    operation: Callable[..., Any], patience: float = 0, *, cursor: str = "NextToken", **query: Any
) -> Iterator[Any]:
    """Every page of an answer.

    Args:
        operation: the call.
        patience: how long it waits, in seconds and all in all, for the turns of further pages: else what was read
            would be read once more.
        cursor: the member of an answer that names the next page, and the argument that asks for it.
        query: its arguments.

    Raises:
        AnswerError: a page names itself as the next one, so that there would be no end.
    """
    while True:
        try:
            page = retried(lambda: operation(**query))
        except ThrottledError as error:
            seconds = error.retry_after or 1.0
            if cursor not in query or seconds > patience:
                raise
            patience -= seconds
            time.sleep(seconds)
            continue
        yield page
        if not page.get(cursor):
            return
        if page[cursor] == query.get(cursor):
            raise AnswerError(f"AWS's answer makes no sense: a page names itself as its {cursor}")
        query[cursor] = page[cursor]


def failure(events: Iterable[Any]) -> Failure | None:
    """The first resource that failed in the stack's last operation, and its reason.

    Args:
        events: the stack's events, newest first; read no further than the operation's beginning.
    """
    own = own_reason = cause = None
    token = None
    for event in events:
        token = token or event.get("ClientRequestToken")
        if event.get("ClientRequestToken") not in (None, token):
            break  # an earlier operation's
        status, reason = str(event.get("ResourceStatus", "")), _line(event.get("ResourceStatusReason"))
        if event.get("PhysicalResourceId") == needed(event, "StackId"):
            told = Failure(needed(event, "StackName"), "", reason)
            own = own or (told if status.endswith("_FAILED") and reason else None)
            own_reason = told if "following resource(s) failed" in reason else own_reason
            if status.endswith("_IN_PROGRESS") and reason == "User Initiated":
                break
        elif status.endswith("_FAILED") and not _CANCELLED.search(reason):
            resource_type = str(event.get("ResourceType", ""))
            cause = Failure(needed(event, "LogicalResourceId"), resource_type, reason or status)
    return cause or own or own_reason


def buckets(cloudformation: "CloudFormationClient", arn: str) -> list[str]:
    """The buckets that the stack has made and its deletion will delete, also those of stacks within it."""
    found = {
        each.name: (each.type, each.id)
        for page in pages(cloudformation.list_stack_resources, StackName=arn)
        for each in map(resource, needed(page, "StackResourceSummaries"))
        if each.type in {_BUCKET_TYPE, _STACK_TYPE} and each.id and each.status in _MADE
    }
    if not found:
        return []
    try:
        template = needed(retried(lambda: cloudformation.get_template(StackName=arn)), "TemplateBody")
    except RecursionError:  # botocore reads a template in JSON, which may be nested without end
        template = None
    retained = _retained(template)
    if retained is None:
        log.warning("the buckets of stack %s are left as they are: its template cannot be read", arn)
        return []
    deleted = [each for name, each in found.items() if name not in retained]
    inner = [
        bucket for kind, id_ in deleted if kind == _STACK_TYPE for bucket in buckets(cloudformation, id_)
    ]
    return [id_ for kind, id_ in deleted if kind == _BUCKET_TYPE] + inner


def _retained(template: Any) -> set[str] | None:
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


def empty(s3: "S3Client", bucket: str, owner: str, deadline: float, guard: Callable[[], None]) -> bool:
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
        while batch := _versions(s3, bucket, owner):
            guard()
            _delete(s3, bucket, owner, batch)
            if time.monotonic() >= deadline:
                return False
        while uploads := _uploads(s3, bucket, owner):
            guard()
            for upload in uploads:
                _abort(s3, bucket, owner, upload)
            if time.monotonic() >= deadline:
                return False
    except ClientError as error:
        if not says_missing(error):
            raise
    return True


def _uploads(s3: "S3Client", bucket: str, owner: str) -> list[Any]:
    page = retried(lambda: s3.list_multipart_uploads(Bucket=bucket, ExpectedBucketOwner=owner))
    needed(page, "Bucket")  # only an answer of S3 has it; another one must not pass for an empty list
    return list(page.get("Uploads", []))


def _versions(s3: "S3Client", bucket: str, owner: str) -> list[Any]:
    page = retried(lambda: s3.list_object_versions(Bucket=bucket, ExpectedBucketOwner=owner, MaxKeys=_BATCH))
    needed(page, "Name")  # only an answer of S3 has it; another one must not pass for an empty list
    listed: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    return [{"Key": needed(each, "Key"), "VersionId": needed(each, "VersionId")} for each in listed]


def _delete(s3: "S3Client", bucket: str, owner: str, objects: list[Any]) -> None:
    answer = retried(
        lambda: s3.delete_objects(
            Bucket=bucket, ExpectedBucketOwner=owner, Delete={"Objects": objects, "Quiet": True}
        )
    )
    if errors := answer.get("Errors"):
        # S3 answers 200, and for a single object that it is unwell or asked too fast: no client repeats that
        lasting = [each for each in errors if not passes(each.get("Code", ""))]
        if not lasting and len(errors) < len(objects):
            return  # what is left is listed again
        first = (lasting or errors)[0]
        fault = PermanentError if lasting else TransientError
        raise fault(
            f"bucket {bucket}: {len(errors)} objects cannot be deleted, the first is {first.get('Key')}:"
            f" {first.get('Code')}: {_line(first.get('Message'))}"
        )


def _abort(s3: "S3Client", bucket: str, owner: str, upload: Any) -> None:
    try:
        retried(
            lambda: s3.abort_multipart_upload(
                Bucket=bucket,
                ExpectedBucketOwner=owner,
                Key=needed(upload, "Key"),
                UploadId=needed(upload, "UploadId"),
            )
        )
    except ClientError as error:
        if code(error) != "NoSuchUpload":
            raise


def _line(text: object) -> str:
    return " ".join(str(text or "").split())
