"""Why a stack's last operation failed, by its events."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from deployer.aws.errors import required_member, single_line
from deployer.model.stacks import Failure

# CloudFormation cancels a resource because another one failed: a consequence, never the cause.
_CANCELLED = re.compile(r"Resource (?:creation|update|deletion) cancelled", re.IGNORECASE)


def first_failure(events: Iterable[Any]) -> Failure | None:
    """Return the resource that failed first in the stack's last operation, with its reason; None if none failed.

    Args:
        events: the stack's events, newest first. They are read only back to the start of the operation.
    """
    own = own_reason = cause = None
    for event in _events_of_last_operation(events):
        status, reason = str(event.get("ResourceStatus", "")), single_line(event.get("ResourceStatusReason"))
        if event.get("PhysicalResourceId") == required_member(event, "StackId"):
            own_failure = Failure(required_member(event, "StackName"), "", reason)
            own = own or (own_failure if status.endswith("_FAILED") and reason else None)
            own_reason = own_failure if "following resource(s) failed" in reason else own_reason
            if status.endswith("_IN_PROGRESS") and reason == "User Initiated":
                break
        elif status.endswith("_FAILED") and not _CANCELLED.search(reason):
            resource_type = str(event.get("ResourceType", ""))
            cause = Failure(required_member(event, "LogicalResourceId"), resource_type, reason or status)
    return cause or own or own_reason


def _events_of_last_operation(events: Iterable[Any]) -> Iterator[Any]:
    """Yield a stack's events, newest first, up to the first event with the request token of an earlier operation."""
    token = None
    for event in events:
        token = token or event.get("ClientRequestToken")
        if event.get("ClientRequestToken") not in (None, token):
            return
        yield event
