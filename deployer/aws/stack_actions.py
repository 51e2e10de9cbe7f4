"""The runs of a pipeline's CloudFormation actions, as ListActionExecutions returns them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from deployer.aws.errors import required_member
from deployer.aws.pipeline_definition import STACK_ACTION, deployed_stack
from deployer.environment.cloud_region import StackAction


def stack_actions(details: Iterable[Any]) -> list[StackAction]:
    """Return the runs of actions that create or update stacks.

    Args:
        details: entries of ListActionExecutions.
    """
    return [run for run in map(_stack_action, details) if run is not None]


def _stack_action(detail: Any) -> StackAction | None:
    given = detail.get("input") or {}
    kind = given.get("actionTypeId") or {}
    if (kind.get("category"), kind.get("provider")) != STACK_ACTION:
        return None
    # the resolved one has the values of variables; AWS reports it once the action has begun to work
    configuration = given.get("resolvedConfiguration") or given.get("configuration") or {}
    name = deployed_stack(configuration)
    if not name:
        return None
    role = str(given.get("roleArn") or "").split(":")
    ended = detail.get("status") != "InProgress"
    return StackAction(
        id=str(required_member(detail, "actionExecutionId")),
        stack=_reported_arn(detail, name) or name,
        region=str(given.get("region") or ""),
        account=role[4] if len(role) > 4 else "",
        began_at=_epoch_seconds(detail.get("startTime")),
        ended_at=_epoch_seconds(detail.get("lastUpdateTime")) if ended else 0,
    )


def _reported_arn(detail: Any, stack_name: str) -> str:
    """The ARN of the stack that a run reports; empty if it reports another one, such as that of a change set."""
    result = (detail.get("output") or {}).get("executionResult") or {}
    reported = str(result.get("externalExecutionId") or "")
    return reported if reported.startswith("arn:") and f":stack/{stack_name}/" in reported else ""


def _epoch_seconds(at: datetime | None) -> float:
    return at.timestamp() if at else 0
