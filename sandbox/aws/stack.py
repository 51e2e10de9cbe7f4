"""CloudFormation's stacks as data, with their change sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.aws.clock import Task
from sandbox.aws.resources import Resource
from sandbox.aws.template import Template

STACK_TYPE = "AWS::CloudFormation::Stack"


@dataclass
class Plan:
    """The template of a stack, with the values of its parameters."""

    template: Template
    parameters: dict[str, str]

    def checked(self) -> Plan:
        """The plan with the defaults of parameters, after the template's transforms.

        Raises:
            AwsError: ValidationError, because a value or the template is not valid.
        """
        values = self.template.check_parameters(self.parameters)
        return Plan(self.template.with_values(values), values)


@dataclass
class ChangeSet:
    """A change set; `imports` has physical ids by logical ids."""

    id: str
    name: str
    kind: str
    plan: Plan
    tags: dict[str, str] | None
    created: datetime
    description: str | None = None
    role_arn: str | None = None
    capabilities: list[str] = field(default_factory=list)
    imports: dict[str, str] = field(default_factory=dict)
    status: str = "CREATE_PENDING"
    reason: str | None = None
    execution: str = "UNAVAILABLE"


@dataclass
class Stack:
    """A stack: its plan, its resources, and its events (oldest first)."""

    id: str
    name: str
    number: int
    plan: Plan
    tags: dict[str, str]
    created: datetime
    role_arn: str | None = None
    role_existed: bool = False
    capabilities: list[str] = field(default_factory=list)
    notification_arns: list[str] = field(default_factory=list)
    protected: bool = False
    parent_id: str | None = None
    on_failure: str = "ROLLBACK"
    preserves: bool = False
    status: str = ""
    reason: str | None = None
    token: str | None = None
    updated: datetime | None = None
    deleted: datetime | None = None
    resources: dict[str, Resource] = field(default_factory=dict)
    superseded: list[Resource] = field(default_factory=list)
    summaries: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)
    former: Plan | None = None
    former_tags: dict[str, str] = field(default_factory=dict)
    operation: Task | None = None
    change_sets: dict[str, ChangeSet] = field(default_factory=dict)

    def find_superseded(self, logical_id: str, properties: dict[str, Any]) -> Resource | None:
        """The resource with these properties that an update replaced but did not delete yet."""
        wanted = logical_id, properties
        return next((r for r in self.superseded if (r.logical_id, r.properties) == wanted), None)

    def failure_reason(self, token: str | None) -> str:
        """The reason for which the operation with this token failed.

        It is the reason of the first failed resource, or the reason of the stack's status.
        """
        for event in self.events:
            failed = event["ResourceStatus"].endswith("_FAILED") and event["ResourceType"] != STACK_TYPE
            if failed and event.get("ClientRequestToken") == token:
                return f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
        return self.reason or self.status
