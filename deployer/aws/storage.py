"""What a stack stores and CloudFormation does not delete: the content of its buckets and of its ECR repositories."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from deployer.aws.buckets import empty_bucket
from deployer.aws.clients import AwsClients, call_with_retries, read_pages
from deployer.aws.cloudformation import resource_from_summary
from deployer.aws.errors import is_not_found, required_member
from deployer.aws.images import delete_images
from deployer.model.errors import PermanentError
from deployer.templates.document import read_document
from deployer.templates.folder_files import UnreadableError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient

log = logging.getLogger(__name__)

_BUCKET_TYPE = "AWS::S3::Bucket"
_REPOSITORY_TYPE = "AWS::ECR::Repository"
_STACK_TYPE = "AWS::CloudFormation::Stack"
# Statuses of resources that the stack itself created. After CREATE_FAILED, the id may name another owner's bucket.
_CREATED_STATUSES = frozenset(
    {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_FAILED", "IMPORT_COMPLETE", "DELETE_FAILED"}
)
EMPTYING_SECONDS = (
    20.0  # for one call, which must end well within a lease although a bucket may hold millions of objects
)


def empty_stack_storage(clients: AwsClients, arn: str, assert_lease: Callable[[], None]) -> bool:
    """Delete what the buckets and the ECR repositories of a stack contain for about `EMPTYING_SECONDS`.

    Args:
        clients: clients of the stack's account in its region.
        arn: the stack's ARN.
        assert_lease: see `empty_bucket`.

    Returns:
        Whether the deletion of the stack may begin: nothing is left to empty, or its template cannot be parsed and its
        buckets and repositories stay as they are.

    Raises:
        PermanentError: AWS refuses to empty one of them; the others are empty.
    """
    deadline = time.monotonic() + EMPTYING_SECONDS
    try:
        found = stores_to_empty(clients.cloudformation, arn)
    except ClientError as error:
        if is_not_found(error):
            return True
        raise
    owner = arn.split(":")[4]  # the stack's account, which also owns its buckets and repositories
    all_empty, refused = True, None
    for kind, name in found:
        try:
            if kind == _BUCKET_TYPE:
                is_empty = empty_bucket(clients.s3, name, owner, deadline, assert_lease)
            else:
                is_empty = delete_images(clients.ecr, name, owner, deadline, assert_lease)
        except PermanentError as error:
            refused = refused or error
            continue
        all_empty = all_empty and is_empty
    if refused and all_empty:
        raise refused
    return all_empty


def stores_to_empty(cloudformation: "CloudFormationClient", arn: str) -> list[tuple[str, str]]:
    """Return the buckets and repositories that the stack or its nested stacks created, by type and name.

    Those that the templates retain are left out.
    """
    found = {
        each.name: (each.type, each.id)
        for page in read_pages(cloudformation.list_stack_resources, StackName=arn)
        for each in map(resource_from_summary, required_member(page, "StackResourceSummaries"))
        if each.type in {_BUCKET_TYPE, _REPOSITORY_TYPE, _STACK_TYPE}
        and each.id
        and each.status in _CREATED_STATUSES
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
        log.warning("nothing in stack %s is emptied, because its template cannot be parsed", arn)
        return []
    deleted = [each for name, each in found.items() if name not in retained]
    nested = [
        store
        for resource_type, identifier in deleted
        if resource_type == _STACK_TYPE
        for store in stores_to_empty(cloudformation, identifier)
    ]
    return [each for each in deleted if each[0] != _STACK_TYPE] + nested


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
