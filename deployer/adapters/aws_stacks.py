"""CloudFormation's answers as the core's values, and the emptying of a stack's buckets."""

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import yaml
from botocore.exceptions import ClientError

from deployer.adapters.aws_client import retried, says_missing
from deployer.errors import PermanentError
from deployer.stacks import Stack

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_s3 import S3Client

log = logging.getLogger(__name__)

_BUCKET_TYPE = "AWS::S3::Bucket"
_BATCH = 1000  # what one DeleteObjects takes
# what the failure of another resource did to this one: a consequence, never the cause
_CANCELLED = re.compile(r"Resource (?:creation|update|deletion) cancelled", re.IGNORECASE)


def read(described: Any) -> Stack:
    """A stack from one entry of DescribeStacks."""
    return Stack(
        arn=str(described["StackId"]),
        name=str(described["StackName"]),
        status=str(described["StackStatus"]),
        tags={tag["Key"]: tag["Value"] for tag in described.get("Tags", [])},
        reason=_line(described.get("StackStatusReason")),
    )


def pages(operation: Callable[..., Any], **query: Any) -> Iterator[Any]:
    """Every page of an answer that goes on by `NextToken`."""
    while True:
        page = retried(lambda: operation(**query))
        yield page
        if not page.get("NextToken"):
            return
        query["NextToken"] = page["NextToken"]


def failure(events: Iterable[Any]) -> str:
    """The first resource that failed in the stack's last operation, and its reason.

    Args:
        events: the stack's events, newest first; read no further than the operation's beginning.
    """
    own = own_reason = cause = ""
    token = None
    for event in events:
        token = token or event.get("ClientRequestToken")
        if event.get("ClientRequestToken") not in (None, token):
            break  # an earlier operation's
        status, reason = event["ResourceStatus"], _line(event.get("ResourceStatusReason"))
        if event.get("PhysicalResourceId") == event["StackId"]:
            own = own or (f"{event['StackName']}: {reason}" if status.endswith("_FAILED") and reason else "")
            own_reason = reason if "following resource(s) failed" in reason else own_reason
            if status.endswith("_IN_PROGRESS") and reason == "User Initiated":
                break
        elif status.endswith("_FAILED") and not _CANCELLED.search(reason):
            cause = f"{event['LogicalResourceId']} ({event['ResourceType']}): {reason or status}"
    return cause or own or own_reason


def buckets(cloudformation: "CloudFormationClient", arn: str) -> list[str]:
    """The stack's buckets that its deletion will delete."""
    found = {
        str(resource["LogicalResourceId"]): str(resource["PhysicalResourceId"])
        for page in pages(cloudformation.list_stack_resources, StackName=arn)
        for resource in page["StackResourceSummaries"]
        if resource["ResourceType"] == _BUCKET_TYPE
        and resource.get("PhysicalResourceId")
        and resource["ResourceStatus"] not in {"DELETE_COMPLETE", "DELETE_SKIPPED"}
    }
    if not found:
        return []
    retained = _retained(retried(lambda: cloudformation.get_template(StackName=arn))["TemplateBody"])
    if retained is None:
        log.warning("the buckets of stack %s are left as they are: its template cannot be read", arn)
        return []
    return [bucket for name, bucket in found.items() if name not in retained]


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


def empty(s3: "S3Client", bucket: str) -> int:
    """Delete every version and delete marker of a bucket and abort its uploads; one that is gone is fine.

    Raises:
        PermanentError: S3 refuses to delete something: a lock, or a right that is lacking.
    """
    count = 0
    try:
        while True:
            page = retried(lambda: s3.list_object_versions(Bucket=bucket, MaxKeys=_BATCH))
            listed = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
            if not listed:
                break
            objects = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in listed]
            answer = retried(
                lambda: s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})  # type: ignore[typeddict-item]  # noqa: B023
            )
            if errors := answer.get("Errors"):
                first = errors[0]
                raise PermanentError(
                    f"bucket {bucket}: {len(errors)} objects cannot be deleted, the first is {first.get('Key')}:"
                    f" {first.get('Code')}: {_line(first.get('Message'))}"
                )
            count += len(objects)
        _abort_uploads(s3, bucket)
    except ClientError as error:
        if not says_missing(error):
            raise
    return count


def _abort_uploads(s3: "S3Client", bucket: str) -> None:
    while uploads := retried(lambda: s3.list_multipart_uploads(Bucket=bucket)).get("Uploads"):
        for upload in uploads:
            try:
                retried(
                    lambda: s3.abort_multipart_upload(
                        Bucket=bucket,
                        Key=upload["Key"],  # noqa: B023
                        UploadId=upload["UploadId"],  # noqa: B023
                    )
                )
            except ClientError as error:
                if error.response["Error"].get("Code") != "NoSuchUpload":
                    raise


def _line(text: object) -> str:
    return " ".join(str(text or "").split())
