"""CloudFormation's answers as the core's values, and the emptying of a stack's buckets."""

import hashlib
import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import yaml
from botocore.exceptions import ClientError

from deployer.adapters.aws_client import passes, retried, says_missing
from deployer.errors import PermanentError, ThrottledError, TransientError
from deployer.stacks import Failure, Resource, Stack

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
        arn=str(described["StackId"]),
        name=str(described["StackName"]),
        status=str(described["StackStatus"]),
        tags={tag["Key"]: tag["Value"] for tag in described.get("Tags", [])},
        reason=_line(described.get("StackStatusReason")),
        protected=bool(described.get("EnableTerminationProtection")),
        parent=str(described.get("ParentId") or ""),
        changed_at=changed.timestamp() if changed else 0,
        parameters=_hash_of(described.get("Parameters", [])),
    )


def _hash_of(parameters: Iterable[Any]) -> str:
    """Tells whether parameters differ; of those with NoEcho AWS shows asterisks."""
    values = sorted((each["ParameterKey"], each.get("ParameterValue", "")) for each in parameters)
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16] if values else ""


def resource(summary: Any) -> Resource:
    """A resource from one entry of ListStackResources."""
    return Resource(
        name=str(summary["LogicalResourceId"]),
        type=str(summary["ResourceType"]),
        id=str(summary.get("PhysicalResourceId") or ""),
        status=str(summary["ResourceStatus"]),
        reason=_line(summary.get("ResourceStatusReason")),
    )


def pages(operation: Callable[..., Any], patience: float = 0, **query: Any) -> Iterator[Any]:
    """Every page of an answer that goes on by `NextToken`.

    Args:
        operation: the call.
        patience: how long it waits, in seconds and all in all, for the turns of further pages: else what was read
            would be read once more.
        query: its arguments.
    """
    while True:
        try:
            page = retried(lambda: operation(**query))
        except ThrottledError as error:
            seconds = error.retry_after or 1.0
            if "NextToken" not in query or seconds > patience:
                raise
            patience -= seconds
            time.sleep(seconds)
            continue
        yield page
        if not page.get("NextToken"):
            return
        query["NextToken"] = page["NextToken"]


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
        status, reason = event["ResourceStatus"], _line(event.get("ResourceStatusReason"))
        if event.get("PhysicalResourceId") == event["StackId"]:
            told = Failure(event["StackName"], "", reason)
            own = own or (told if status.endswith("_FAILED") and reason else None)
            own_reason = told if "following resource(s) failed" in reason else own_reason
            if status.endswith("_IN_PROGRESS") and reason == "User Initiated":
                break
        elif status.endswith("_FAILED") and not _CANCELLED.search(reason):
            cause = Failure(event["LogicalResourceId"], event["ResourceType"], reason or status)
    return cause or own or own_reason


def buckets(cloudformation: "CloudFormationClient", arn: str) -> list[str]:
    """The buckets that the stack has made and its deletion will delete, also those of stacks within it."""
    found = {
        str(resource["LogicalResourceId"]): (
            str(resource["ResourceType"]),
            str(resource["PhysicalResourceId"]),
        )
        for page in pages(cloudformation.list_stack_resources, StackName=arn)
        for resource in page["StackResourceSummaries"]
        if resource["ResourceType"] in {_BUCKET_TYPE, _STACK_TYPE}
        and resource.get("PhysicalResourceId")
        and resource["ResourceStatus"] in _MADE
    }
    if not found:
        return []
    retained = _retained(retried(lambda: cloudformation.get_template(StackName=arn))["TemplateBody"])
    if retained is None:
        log.warning("the buckets of stack %s are left as they are: its template cannot be read", arn)
        return []
    deleted = [each for name, each in found.items() if name not in retained]
    inner = [
        bucket for kind, id_ in deleted if kind == _STACK_TYPE for bucket in buckets(cloudformation, id_)
    ]
    return [id_ for kind, id_ in deleted if kind == _BUCKET_TYPE] + inner


class _Loader(yaml.SafeLoader):
    """YAML as CloudFormation writes it: `!Ref x` and its kin do not matter here."""


_Loader.add_multi_constructor("!", lambda _loader, _suffix, _node: None)


def _retained(template: Any) -> set[str] | None:
    """Logical ids of the resources that are to outlive the stack; None if the template cannot be read."""
    try:
        if isinstance(template, str):
            text = template.lstrip("\ufeff")
            # tabs are whitespace in JSON but forbidden in YAML
            template = json.loads(text) if text.lstrip()[:1] == "{" else yaml.load(text, Loader=_Loader)  # noqa: S506
        return {
            str(name)
            for name, resource in template["Resources"].items()
            # a policy that is computed (`!If`) is read as None: better spare one too many
            if resource.get("DeletionPolicy", "Delete") != "Delete"
        }
    except (ValueError, KeyError, TypeError, AttributeError, yaml.YAMLError):
        return None


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
    return list(page.get("Uploads", []))


def _versions(s3: "S3Client", bucket: str, owner: str) -> list[Any]:
    page = retried(lambda: s3.list_object_versions(Bucket=bucket, ExpectedBucketOwner=owner, MaxKeys=_BATCH))
    listed: list[Any] = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
    return [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in listed]


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
                Bucket=bucket, ExpectedBucketOwner=owner, Key=upload["Key"], UploadId=upload["UploadId"]
            )
        )
    except ClientError as error:
        if error.response["Error"].get("Code") != "NoSuchUpload":
            raise


def _line(text: object) -> str:
    return " ".join(str(text or "").split())
