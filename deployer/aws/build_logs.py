"""The log groups that CodeBuild creates for projects: no stack has them, so no stack deletes them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from deployer.aws.clients import AwsClients, call_with_retries, read_pages
from deployer.aws.errors import is_not_found, is_permission_missing, required_member, shorten_line
from deployer.environment.cloud_region import BuildLogs

_PROJECT_TYPE = "AWS::CodeBuild::Project"
_GROUP_TYPE = "AWS::Logs::LogGroup"
_STACK_TYPE = "AWS::CloudFormation::Stack"
_EVENT_PAGES = 20  # of a hundred events each
# the statuses that prove that the stack itself has created a resource
_CREATED = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE"})


@dataclass
class ResourceHistory:
    """What the events of a stack tell of its resources of some types, by physical id.

    Attributes:
        began_at: the time of the first event of each resource (epoch seconds).
        created: the resources that the stack has created.
        deleted: the resources whose newest event says that they are deleted.
        types: the type of each resource.
    """

    began_at: dict[str, float] = field(default_factory=dict)
    created: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    types: dict[str, str] = field(default_factory=dict)

    def of_type(self, resource_type: str) -> list[str]:
        """The physical ids of the resources of a type."""
        return [each for each, found in self.types.items() if found == resource_type]


def find_build_logs(clients: AwsClients, arn: str) -> list[BuildLogs]:
    """Return the log groups of the projects that a deleted stack or its nested stacks created and deleted.

    A project may have any name. Its log group belongs to it only if the project was there first: an older group was
    written by another project that had the name before.
    """
    history = resource_history(_read_events(clients, arn), own=arn)
    groups = history.of_type(_GROUP_TYPE)
    found = []
    for project in history.of_type(_PROJECT_TYPE):
        name = f"/aws/codebuild/{project}"
        # a template that declares the group says itself what becomes of it
        if name not in groups and project in history.created & history.deleted:
            found += _find_group(clients, name, history.began_at[project])
    nested = [each for each in history.of_type(_STACK_TYPE) if each in history.created & history.deleted]
    return found + [logs for each in nested for logs in find_build_logs(clients, each)]


def delete_log_group(clients: AwsClients, name: str) -> str:
    """Delete a log group, and return why AWS refuses that; empty if the group is gone."""
    try:
        call_with_retries(lambda: clients.logs.delete_log_group(logGroupName=name))
    except ClientError as error:
        if is_permission_missing(error):
            return shorten_line(error)
        if not is_not_found(error):
            raise
    return ""


def resource_history(events: Iterable[Any], own: str) -> ResourceHistory:
    """Return what a stack's events tell of its projects, log groups and nested stacks.

    Args:
        events: the events, newest first.
        own: the stack's ARN, under which its own events are.
    """
    history = ResourceHistory()
    for event in events:
        identity, kind = str(event.get("PhysicalResourceId") or ""), str(event.get("ResourceType", ""))
        if kind not in {_PROJECT_TYPE, _GROUP_TYPE, _STACK_TYPE} or identity in {"", own}:
            continue
        status = event.get("ResourceStatus")
        if identity not in history.types and status == "DELETE_COMPLETE":
            history.deleted.add(identity)
        if status in _CREATED:
            history.created.add(identity)
        history.types[identity] = kind
        history.began_at[identity] = required_member(event, "Timestamp").timestamp()
    return history


def _read_events(clients: AwsClients, arn: str) -> Iterator[Any]:
    """Yield the stack's latest events, newest first; none if AWS no longer has the stack."""
    try:
        for page in islice(
            read_pages(clients.cloudformation.describe_stack_events, StackName=arn), _EVENT_PAGES
        ):
            yield from required_member(page, "StackEvents")
    except ClientError as error:
        if not is_not_found(error):
            raise


def _find_group(clients: AwsClients, name: str, project_began_at: float) -> list[BuildLogs]:
    """Return the log group of a project, if it exists."""
    try:
        answer = call_with_retries(lambda: clients.logs.describe_log_groups(logGroupNamePrefix=name))
    except ClientError as error:
        if is_permission_missing(error):
            return [BuildLogs(name, f"deployer may not see whether it exists: {shorten_line(error)}")]
        raise
    for group in required_member(answer, "logGroups"):
        if group.get("logGroupName") == name:
            is_older = group.get("creationTime", 0) / 1000 < project_began_at
            return [BuildLogs(name, "it is older than the project, so another project wrote it" * is_older)]
    return []
