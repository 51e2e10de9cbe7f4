"""CodePipeline's CloudFormation actions with change sets: CHANGE_SET_REPLACE, CHANGE_SET_EXECUTE."""

from __future__ import annotations

from typing import Any

from sandbox.aws.changesets import UNCHANGED, ChangeSets
from sandbox.aws.clock import Process
from sandbox.aws.executions import ActionError
from sandbox.aws.pipelines import ActionRun
from sandbox.aws.stack import Plan, Stack
from sandbox.aws.stacks import Stacks

_POLL_SECONDS = 0.3


def replace_change_set(
    stacks: Stacks,
    run: ActionRun,
    stack: Stack | None,
    plan: Plan,
    tags: dict[str, str] | None,
) -> Process:
    """Create the action's change set in place of one of its name; return its stack.

    A stack that does not exist is created in REVIEW_IN_PROGRESS. As in AWS, a change set without changes is no failure.
    """
    settings, change_sets = run.configuration, ChangeSets(stacks)
    named = {"StackName": settings["StackName"], "ChangeSetName": settings["ChangeSetName"]}
    creates = stack is None or stack.status == "REVIEW_IN_PROGRESS"
    if stack is not None:
        change_sets.operations["DeleteChangeSet"](named)
    given: dict[str, Any] = {
        **named,
        "ChangeSetType": "CREATE" if creates else "UPDATE",
        "Capabilities": [c.strip() for c in settings.get("Capabilities", "").split(",") if c.strip()],
    }
    if tags is not None:
        given["Tags"] = [{"Key": k, "Value": v} for k, v in tags.items()]
    if settings.get("RoleArn"):
        given["RoleARN"] = settings["RoleArn"]
    made = change_sets.create_change_set(given, plan)
    run.external_id = made["StackId"]
    stack = stacks.get(made["StackId"])
    change = stack.change_sets[named["ChangeSetName"]]
    while change.status in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
        yield _POLL_SECONDS
    if change.status != "CREATE_COMPLETE" and change.reason != UNCHANGED:
        raise ActionError(f"Change set {change.name} is in the state {change.status}: {change.reason}")
    run.summary = f"Change set {change.name} was created."
    return stack


def execute_change_set(stacks: Stacks, run: ActionRun, stack: Stack | None) -> Process:
    """Execute the action's change set; wait until the stack has finished; return the stack."""
    name = run.configuration["ChangeSetName"]
    change = stack.change_sets.get(name) if stack is not None else None
    if stack is None or change is None:
        raise ActionError(f"ChangeSet [{name}] does not exist", "ConfigurationError")
    run.external_id = stack.id
    if change.reason == UNCHANGED:
        run.summary = "There are no changes to execute."
        return stack
    token = f"pipeline-{run.id}"
    request = {"StackName": stack.id, "ChangeSetName": name, "ClientRequestToken": token}
    ChangeSets(stacks).operations["ExecuteChangeSet"](request)
    while stack.status.endswith("_IN_PROGRESS"):
        yield _POLL_SECONDS
    if stack.status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise ActionError(f"Stack {stack.name} is in the state {stack.status}: {stack.failure_reason(token)}")
    run.summary = f"Stack {stack.status}"
    return stack
