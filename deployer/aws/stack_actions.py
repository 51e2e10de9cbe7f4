"""The CloudFormation actions of pipelines: the stacks that they name, and their runs."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from deployer.aws.errors import required_member
from deployer.environment.cloud_region import StackAction


def deployed_stacks(definition: Any) -> list[str]:
    """Return the names of the stacks that the definition's CloudFormation actions deploy, the last one first."""
    found: dict[str, None] = {}
    for stage in required_member(definition, "stages"):
        for action in sorted(required_member(stage, "actions"), key=lambda action: action.get("runOrder", 1)):
            if _deploys_stack(required_member(action, "actionTypeId")):
                name = _stack_name(action.get("configuration", {}))
                if name:
                    found.setdefault(name)
    return list(reversed(found))


def stack_actions(details: Iterable[Any]) -> list[StackAction]:
    """Return the runs of actions that create or update stacks.

    Args:
        details: entries of ListActionExecutions.
    """
    return [run for run in map(_stack_action, details) if run is not None]


def _stack_action(detail: Any) -> StackAction | None:
    given = detail.get("input") or {}
    if not _deploys_stack(given.get("actionTypeId") or {}):
        return None
    # the resolved one has the values of variables; AWS reports it once the action has begun to work
    configuration = given.get("resolvedConfiguration") or given.get("configuration") or {}
    name = _stack_name(configuration)
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


def _deploys_stack(kind: Any) -> bool:
    return (kind.get("category"), kind.get("provider")) == ("Deploy", "CloudFormation")


def _stack_name(configuration: Any) -> str:
    """The name of the stack that an action creates or updates; empty if there is none, or a variable is in it."""
    name = str(configuration.get("StackName") or "")
    return "" if "#{" in name or configuration.get("ActionMode") == "DELETE_ONLY" else name


def _epoch_seconds(at: datetime | None) -> float:
    return at.timestamp() if at else 0
