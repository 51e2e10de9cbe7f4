"""CloudFormation's API, which maps calls to operations on stacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sandbox.aws import stackrequests as requests
from sandbox.aws.changesets import ChangeSets
from sandbox.aws.protocol import AwsError
from sandbox.aws.stack import Stack
from sandbox.aws.stackrequests import Parameters
from sandbox.aws.stacks import Stacks
from sandbox.aws.template import validation_error

_EVENTS_PAGE = 100


class CloudFormation:
    """Answers CloudFormation's calls; the caller holds the simulator's lock."""

    def __init__(self, stacks: Stacks) -> None:
        self._stacks = stacks
        self._operations: dict[str, Callable[[Parameters], dict[str, Any]]] = {
            "ContinueUpdateRollback": self._continue_update_rollback,
            "CancelUpdateStack": self._cancel_update_stack,
            "CreateStack": self._create_stack,
            "DeleteStack": self._delete_stack,
            "DescribeAccountLimits": self._describe_account_limits,
            "DescribeStackEvents": self._describe_stack_events,
            "DescribeStackResource": self._describe_stack_resource,
            "DescribeStackResources": self._describe_stack_resources,
            "DescribeStacks": self._describe_stacks,
            "GetTemplate": self._get_template,
            "ListStackResources": self._list_stack_resources,
            "ListStacks": self._list_stacks,
            "RollbackStack": self._rollback_stack,
            "UpdateStack": self._update_stack,
            "UpdateTerminationProtection": self._update_termination_protection,
            "ValidateTemplate": self._validate_template,
            **ChangeSets(stacks).operations,
        }

    def call(self, operation: str, given: Parameters) -> dict[str, Any]:
        """The result of a call.

        Raises:
            AwsError: the call is refused.
        """
        if operation not in self._operations:
            raise AwsError("InvalidAction", f"The simulator does not know CloudFormation's {operation}", 501)
        requests.check_token(given.get("ClientRequestToken"))
        return self._operations[operation](given)

    # ---- changes

    def _create_stack(self, given: Parameters) -> dict[str, Any]:
        name = given.get("StackName", "")
        requests.check_name("stackName", name)
        if given.get("DisableRollback") and given.get("OnFailure"):
            raise validation_error("You can specify either DisableRollback or OnFailure, but not both.")
        on_failure = given.get("OnFailure") or ("DO_NOTHING" if given.get("DisableRollback") else "ROLLBACK")
        stack = self._stacks.create(
            name,
            requests.requested_plan(self._stacks, given),
            tags=requests.requested_tags(given) or {},
            token=given.get("ClientRequestToken"),
            role_arn=given.get("RoleARN"),
            capabilities=given.get("Capabilities", []),
            on_failure=on_failure,
            protected=bool(given.get("EnableTerminationProtection")),
            notification_arns=given.get("NotificationARNs", []),
        )
        return {"StackId": stack.id}

    def _update_stack(self, given: Parameters) -> dict[str, Any]:
        stack = requests.live_stack(self._stacks, given)
        self._stacks.update(
            stack,
            requests.requested_plan(self._stacks, given, stack),
            tags=requests.requested_tags(given),
            token=given.get("ClientRequestToken"),
            role_arn=given.get("RoleARN"),
            capabilities=given.get("Capabilities", []),
            preserves=bool(given.get("DisableRollback")),
        )
        return {"StackId": stack.id}

    def _delete_stack(self, given: Parameters) -> dict[str, Any]:
        # As in AWS, deleting a missing stack is no error.
        if stack := self._stacks.find(given["StackName"]):
            self._stacks.delete(
                stack,
                token=given.get("ClientRequestToken"),
                role_arn=given.get("RoleARN"),
                retain=given.get("RetainResources", []),
                force=given.get("DeletionMode") == "FORCE_DELETE_STACK",
            )
        return {}

    def _continue_update_rollback(self, given: Parameters) -> dict[str, Any]:
        token = given.get("ClientRequestToken")
        skip = [str(name).rsplit(".", 1)[-1] for name in given.get("ResourcesToSkip", [])]
        self._stacks.continue_rollback(
            requests.live_stack(self._stacks, given), token=token, role_arn=given.get("RoleARN"), skip=skip
        )
        return {}

    def _rollback_stack(self, given: Parameters) -> dict[str, Any]:
        stack = requests.live_stack(self._stacks, given)
        self._stacks.roll_back(stack, token=given.get("ClientRequestToken"), role_arn=given.get("RoleARN"))
        return {"StackId": stack.id}

    def _cancel_update_stack(self, given: Parameters) -> dict[str, Any]:
        self._stacks.cancel_update(
            requests.live_stack(self._stacks, given), token=given.get("ClientRequestToken")
        )
        return {}

    def _update_termination_protection(self, given: Parameters) -> dict[str, Any]:
        stack = requests.live_stack(self._stacks, given)
        stack.protected = bool(given["EnableTerminationProtection"])
        return {"StackId": stack.id}

    # ---- reading

    def _describe_stacks(self, given: Parameters) -> dict[str, Any]:
        if given.get("StackName"):
            return {"Stacks": [self._stack_description(self._stacks.get(given["StackName"]))]}
        stacks, token = requests.stack_page(list(self._stacks.live.values()), given.get("NextToken"))
        return {"Stacks": [self._stack_description(s) for s in stacks], "NextToken": token}

    def _stack_description(self, stack: Stack) -> dict[str, Any]:
        return _stack_fields(stack, self._stacks.root_stack(stack))

    def _list_stacks(self, given: Parameters) -> dict[str, Any]:
        wanted = given.get("StackStatusFilter")
        known = [*self._stacks.live.values(), *self._stacks.gone.values()]
        stacks, token = requests.stack_page(
            [s for s in known if not wanted or s.status in wanted], given.get("NextToken")
        )
        summaries = [
            {
                "StackId": s.id,
                "StackName": s.name,
                "ParentId": s.parent_id,
                "TemplateDescription": s.plan.template.description or None,
                "CreationTime": s.created,
                "LastUpdatedTime": s.updated,
                "DeletionTime": s.deleted,
                "StackStatus": s.status,
                "StackStatusReason": s.reason,
                "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
            }
            for s in stacks
        ]
        return {"StackSummaries": summaries, "NextToken": token}

    def _describe_stack_events(self, given: Parameters) -> dict[str, Any]:
        stack = requests.existing_stack(self._stacks, given)
        start = requests.page_offset(given.get("NextToken"), "e")
        # The token counts from the oldest event, so that new events do not shift the pages.
        end = start if start is not None else len(stack.events)
        first = max(end - _EVENTS_PAGE, 0)
        page = stack.events[first:end][::-1]
        return {"StackEvents": page, "NextToken": f"e{first}" if first else None}

    def _list_stack_resources(self, given: Parameters) -> dict[str, Any]:
        return {
            "StackResourceSummaries": list(requests.existing_stack(self._stacks, given).summaries.values())
        }

    def _describe_stack_resources(self, given: Parameters) -> dict[str, Any]:
        if physical_id := given.get("PhysicalResourceId"):
            return {"StackResources": self._resources_of_same_stack(physical_id)}
        stack = self._stacks.get(given.get("StackName", ""))
        wanted = given.get("LogicalResourceId")
        resources = [
            _resource_fields(stack, summary)
            for name, summary in stack.summaries.items()
            if wanted in (None, name)
        ]
        return {"StackResources": resources}

    def _resources_of_same_stack(self, physical_id: str) -> list[dict[str, Any]]:
        """All resources of the live stack that has a resource of this physical id."""
        for stack in self._stacks.live.values():
            if any(each.get("PhysicalResourceId") == physical_id for each in stack.summaries.values()):
                return [_resource_fields(stack, summary) for summary in stack.summaries.values()]
        raise validation_error(f"Stack for {physical_id} does not exist")

    def _describe_stack_resource(self, given: Parameters) -> dict[str, Any]:
        stack, name = requests.existing_stack(self._stacks, given), given["LogicalResourceId"]
        if name not in stack.summaries:
            raise validation_error(f"Resource {name} does not exist for stack {stack.name}")
        detail = _resource_fields(stack, stack.summaries[name])
        detail["LastUpdatedTimestamp"] = detail.pop("Timestamp")
        return {"StackResourceDetail": detail}

    def _get_template(self, given: Parameters) -> dict[str, Any]:
        template = self._stacks.get(given["StackName"]).plan.template
        original = not template.transforms or given.get("TemplateStage") == "Original"
        body = template.body if original else json.dumps(template.processed)
        return {"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]}

    def _validate_template(self, given: Parameters) -> dict[str, Any]:
        template = requests.requested_template(self._stacks, given)
        needed = template.required_capabilities()
        return {
            "Parameters": [
                {
                    "ParameterKey": key,
                    "DefaultValue": None if slot.get("Default") is None else str(slot["Default"]),
                    "NoEcho": template.is_secret(key),
                    "Description": slot.get("Description"),
                }
                for key, slot in template.parameters.items()
            ],
            "Description": template.description or None,
            "DeclaredTransforms": template.transforms,
            "Capabilities": needed,
            "CapabilitiesReason": "The following resource(s) require capabilities: IAM" if needed else None,
        }

    def _describe_account_limits(self, _given: Parameters) -> dict[str, Any]:
        limits = {
            "StackLimit": self._stacks.limit,
            "StackOutputsLimit": 200,
            "ConcurrentResourcesLimit": 2500,
        }
        return {"AccountLimits": [{"Name": k, "Value": v} for k, v in limits.items()]}


def _resource_fields(stack: Stack, summary: dict[str, Any]) -> dict[str, Any]:
    plain = {k: v for k, v in summary.items() if k != "LastUpdatedTimestamp"}
    return {
        **plain,
        "StackName": stack.name,
        "StackId": stack.id,
        "Timestamp": summary["LastUpdatedTimestamp"],
    }


def _stack_fields(stack: Stack, root: Stack) -> dict[str, Any]:
    template = stack.plan.template
    parameters = [
        {"ParameterKey": k, "ParameterValue": "****" if template.is_secret(k) else v}
        for k, v in stack.plan.parameters.items()
    ]
    return {
        "StackId": stack.id,
        "StackName": stack.name,
        "Description": template.description or None,
        "Parameters": parameters or None,
        "CreationTime": stack.created,
        "DeletionTime": stack.deleted,
        "LastUpdatedTime": stack.updated,
        "RollbackConfiguration": {},
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason,
        "DisableRollback": stack.on_failure == "DO_NOTHING",
        "NotificationARNs": stack.notification_arns,
        "Capabilities": stack.capabilities or None,
        "Outputs": stack.outputs or None,
        "RoleARN": stack.role_arn,
        "Tags": [{"Key": k, "Value": v} for k, v in stack.tags.items()],
        "EnableTerminationProtection": root.protected,
        "ParentId": stack.parent_id,
        "RootId": root.id if root is not stack else None,
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
    }
