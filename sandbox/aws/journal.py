"""The records of what happens to a stack."""

from __future__ import annotations

import uuid
from typing import Any

from sandbox.aws.clock import Scheduler
from sandbox.aws.events import Events
from sandbox.aws.places import Place
from sandbox.aws.stack import STACK_TYPE, Stack


class Journal:
    """Records each change of a stack or of its resources, as stack events and as EventBridge events."""

    def __init__(self, scheduler: Scheduler, events: Events, place: Place) -> None:
        self._scheduler = scheduler
        self._events = events
        self._place = place

    def set_status(self, stack: Stack, status: str, reason: str | None = None) -> None:
        """Set the status of a stack; record and send the event."""
        stack.status, stack.reason = status, reason
        self._record_event(stack, stack.name, STACK_TYPE, stack.id, status, reason)
        detail: dict[str, Any] = {
            "stack-id": stack.id,
            "status-details": {"status": status, "status-reason": reason or ""},
        }
        if stack.token:
            detail["client-request-token"] = stack.token
        self._events.queue_event(
            "aws.cloudformation",
            "CloudFormation Stack Status Change",
            [stack.id],
            detail,
            self._scheduler.now(),
            self._place,
        )

    def record_resource(
        self, stack: Stack, name: str, kind: str, physical_id: str, status: str, reason: str | None = None
    ) -> None:
        """Record the status of a resource."""
        self._record_event(stack, name, kind, physical_id, status, reason)
        stack.summaries[name] = {
            "LogicalResourceId": name,
            "PhysicalResourceId": physical_id or None,
            "ResourceType": kind,
            "LastUpdatedTimestamp": self._scheduler.now(),
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
        }

    def _record_event(
        self, stack: Stack, name: str, kind: str, physical_id: str, status: str, reason: str | None
    ) -> None:
        unique = uuid.uuid4()
        stack.events.append(
            {
                "StackId": stack.id,
                "EventId": str(unique) if kind == STACK_TYPE else f"{name}-{status}-{unique}",
                "StackName": stack.name,
                "LogicalResourceId": name,
                "PhysicalResourceId": physical_id,
                "ResourceType": kind,
                "Timestamp": self._scheduler.now(),
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
                "ClientRequestToken": stack.token,
            }
        )
