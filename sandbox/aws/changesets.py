"""CloudFormation's change sets, which bring stacks into statuses that no other call leads to."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from sandbox.aws import stackrequests as requests
from sandbox.aws.clock import Process
from sandbox.aws.operations import RESOURCE_SECONDS
from sandbox.aws.protocol import AwsError
from sandbox.aws.stack import ChangeSet, Plan, Stack
from sandbox.aws.stackrequests import Parameters
from sandbox.aws.stacks import Stacks
from sandbox.aws.template import validation_error

UNCHANGED = (
    "The submitted information didn't contain changes. Submit different information to create a change set."
)


class ChangeSets:
    """Answers the calls about change sets; the caller holds the simulator's lock."""

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks
        self.operations: dict[str, Callable[[Parameters], dict[str, Any]]] = {
            "CreateChangeSet": self.create_change_set,
            "DeleteChangeSet": self._delete_change_set,
            "DescribeChangeSet": self._describe_change_set,
            "ExecuteChangeSet": self._execute_change_set,
            "ListChangeSets": self._list_change_sets,
        }

    def create_change_set(self, given: Parameters, plan: Plan | None = None) -> dict[str, Any]:
        """Create a change set; `plan` is given if the template was not sent with the request."""
        stack_name, name = given.get("StackName", ""), given.get("ChangeSetName", "")
        kind = given.get("ChangeSetType", "UPDATE")
        requests.check_name("changeSetName", name)
        stack = self._stacks.find(stack_name)
        if stack is not None and stack.status == "DELETE_COMPLETE":
            stack = None
        _check_status(stack, stack_name, name, kind)
        if stack is not None and name in stack.change_sets:
            raise AwsError("AlreadyExistsException", f"ChangeSet {name} already exists")
        plan = plan or requests.requested_plan(self._stacks, given, stack)
        plan = plan.checked()
        plan.template.check_capabilities(given.get("Capabilities", []), expands=False)
        imports = {
            r["LogicalResourceId"]: next(iter(r["ResourceIdentifier"].values()))
            for r in given.get("ResourcesToImport", [])
        }
        if kind == "IMPORT" and (not imports or set(imports) - set(plan.template.resources)):
            raise validation_error("ResourcesToImport must name resources of the template")
        if stack is None:
            requests.check_name("stackName", stack_name)
            stack = self._stacks.create_for_review(stack_name, plan)
        change = ChangeSet(
            id=self._stacks.place.arn("cloudformation", f"changeSet/{name}/{uuid.uuid4()}"),
            name=name,
            kind=kind,
            plan=plan,
            tags=requests.requested_tags(given),
            created=self._stacks.scheduler.now(),
            description=given.get("Description"),
            role_arn=given.get("RoleARN"),
            capabilities=list(given.get("Capabilities", [])),
            imports=imports,
        )
        stack.change_sets[name] = change
        self._stacks.scheduler.spawn(self._prepare_change_set(stack, change))
        return {"Id": change.id, "StackId": stack.id}

    def _prepare_change_set(self, stack: Stack, change: ChangeSet) -> Process:
        change.status = "CREATE_IN_PROGRESS"
        yield RESOURCE_SECONDS
        if change.kind == "UPDATE" and self._stacks.is_unchanged(stack, change.plan, change.tags):
            change.status, change.reason = "FAILED", UNCHANGED
        else:
            change.status, change.execution = "CREATE_COMPLETE", "AVAILABLE"

    def _execute_change_set(self, given: Parameters) -> dict[str, Any]:
        stack, change = self._find_change_set(given)
        if change.execution != "AVAILABLE":
            raise AwsError(
                "InvalidChangeSetStatus",
                f"ChangeSet [{change.id}] cannot be executed in its current execution status of [{change.execution}]",
            )
        token, preserves = given.get("ClientRequestToken"), bool(given.get("DisableRollback"))
        self._stacks.execute_change_set(stack, change, token=token, preserves=preserves)
        for other in stack.change_sets.values():
            other.execution = "OBSOLETE"
        change.execution = "EXECUTE_COMPLETE"
        return {}

    def _delete_change_set(self, given: Parameters) -> dict[str, Any]:
        try:
            stack, change = self._find_change_set(given)
        except AwsError:
            # As in AWS, deleting a missing change set is no error, and the stack stays, even in REVIEW_IN_PROGRESS.
            return {}
        del stack.change_sets[change.name]
        return {}

    def _describe_change_set(self, given: Parameters) -> dict[str, Any]:
        stack, change = self._find_change_set(given)
        template = change.plan.template
        parameters = [
            {"ParameterKey": k, "ParameterValue": "****" if template.is_secret(k) else v}
            for k, v in change.plan.parameters.items()
        ]
        return {
            **_change_set_summary(stack, change),
            "Parameters": parameters or None,
            "Capabilities": change.capabilities or None,
            "Tags": [{"Key": k, "Value": v} for k, v in (change.tags or {}).items()],
            "Changes": [{"Type": "Resource", "ResourceChange": c} for c in _resource_changes(stack, change)],
        }

    def _list_change_sets(self, given: Parameters) -> dict[str, Any]:
        stack = requests.live_stack(self._stacks, given)
        return {"Summaries": [_change_set_summary(stack, change) for change in stack.change_sets.values()]}

    def _find_change_set(self, given: Parameters) -> tuple[Stack, ChangeSet]:
        name = given.get("ChangeSetName", "")
        stacks = (
            [requests.live_stack(self._stacks, given)]
            if given.get("StackName")
            else self._stacks.live.values()
        )
        for stack in stacks:
            for change in stack.change_sets.values():
                if name in (change.id, change.name):
                    return stack, change
        raise AwsError("ChangeSetNotFound", f"ChangeSet [{name}] does not exist", 404)


def _check_status(stack: Stack | None, stack_name: str, name: str, kind: str) -> None:
    if stack is None:
        if kind == "UPDATE":
            raise validation_error(f"Stack [{stack_name}] does not exist")
    elif kind == "CREATE" and stack.status != "REVIEW_IN_PROGRESS":
        raise validation_error(
            f"Stack [{stack.name}] already exists and cannot be created again with the changeSet [{name}]."
        )
    elif kind == "UPDATE" or (kind == "IMPORT" and stack.status != "REVIEW_IN_PROGRESS"):
        Stacks.check_updatable(stack, preserves=True)


def _change_set_summary(stack: Stack, change: ChangeSet) -> dict[str, Any]:
    return {
        "ChangeSetName": change.name,
        "ChangeSetId": change.id,
        "StackId": stack.id,
        "StackName": stack.name,
        "Description": change.description,
        "CreationTime": change.created,
        "ExecutionStatus": change.execution,
        "Status": change.status,
        "StatusReason": change.reason,
    }


def _resource_changes(stack: Stack, change: ChangeSet) -> list[dict[str, Any]]:
    wanted = change.plan.template.resources
    actions = {
        name: "Import" if name in change.imports else "Modify" if name in stack.resources else "Add"
        for name in wanted
    }
    actions |= {name: "Remove" for name in stack.resources if name not in wanted}
    kinds = {name: r.type for name, r in stack.resources.items()} | {n: w["Type"] for n, w in wanted.items()}
    return [{"Action": a, "LogicalResourceId": n, "ResourceType": kinds[n]} for n, a in actions.items()]
