"""CloudFormation's API: from a call's parameters to what happens to the stacks, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from sandbox.aws import storage
from sandbox.aws.operations import Plan, Stack
from sandbox.aws.protocol import AwsError
from sandbox.aws.stacks import Stacks
from sandbox.aws.template import Template, invalid

LONGEST_BODY = 51_200
_LONGEST_OBJECT = 1_000_000
_MOST_TAGS = 50
_PAGE = 50
_EVENTS_PAGE = 100
_STACK_LIMIT = 2000
_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]*")
_TOKEN = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")

Parameters = Mapping[str, Any]


class CloudFormation:
    """Answers CloudFormation's calls; every call is made with the simulator's lock held."""

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
            "UpdateStack": self._update_stack,
            "UpdateTerminationProtection": self._update_termination_protection,
            "ValidateTemplate": self._validate_template,
        }

    def call(self, operation: str, given: Parameters) -> dict[str, Any]:
        """The result of a call; `AwsError` when it is refused."""
        if operation not in self._operations:
            raise AwsError("InvalidAction", f"The simulator does not know CloudFormation's {operation}", 501)
        token = given.get("ClientRequestToken")
        if token is not None and (len(token) > 128 or not _TOKEN.fullmatch(token)):
            raise _constraint("clientRequestToken", token, _TOKEN.pattern)
        return self._operations[operation](given)

    # ---- changes

    def _create_stack(self, given: Parameters) -> dict[str, Any]:
        name = given.get("StackName", "")
        if len(name) > 128 or not _NAME.fullmatch(name):
            raise _constraint("stackName", name, _NAME.pattern)
        if len(self._stacks.live) >= _STACK_LIMIT:
            raise AwsError("LimitExceededException", f"Limit for stack has been exceeded: {_STACK_LIMIT}")
        if given.get("DisableRollback") and given.get("OnFailure"):
            raise invalid("You can specify either DisableRollback or OnFailure, but not both.")
        on_failure = given.get("OnFailure") or ("DO_NOTHING" if given.get("DisableRollback") else "ROLLBACK")
        stack = self._stacks.create(
            name,
            Plan(self._template(given), self._parameters(given, None)),
            tags=_tags(given) or {},
            token=given.get("ClientRequestToken"),
            role_arn=given.get("RoleARN"),
            capabilities=given.get("Capabilities", []),
            on_failure=on_failure,
            protected=bool(given.get("EnableTerminationProtection")),
            notification_arns=given.get("NotificationARNs", []),
        )
        return {"StackId": stack.id}

    def _update_stack(self, given: Parameters) -> dict[str, Any]:
        stack = self._live(given)
        self._stacks.update(
            stack,
            Plan(self._template(given, stack), self._parameters(given, stack)),
            tags=_tags(given),
            token=given.get("ClientRequestToken"),
            role_arn=given.get("RoleARN"),
            capabilities=given.get("Capabilities", []),
        )
        return {"StackId": stack.id}

    def _delete_stack(self, given: Parameters) -> dict[str, Any]:
        # Deleting what does not exist is no error.
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
        self._stacks.continue_rollback(self._live(given), token=token, skip=skip)
        return {}

    def _cancel_update_stack(self, given: Parameters) -> dict[str, Any]:
        self._stacks.cancel_update(self._live(given), token=given.get("ClientRequestToken"))
        return {}

    def _update_termination_protection(self, given: Parameters) -> dict[str, Any]:
        stack = self._live(given)
        stack.protected = bool(given["EnableTerminationProtection"])
        return {"StackId": stack.id}

    # ---- reading

    def _describe_stacks(self, given: Parameters) -> dict[str, Any]:
        if given.get("StackName"):
            return {"Stacks": [_described(self._stacks.get(given["StackName"]))]}
        stacks, token = _page(list(self._stacks.live.values()), given.get("NextToken"))
        return {"Stacks": [_described(s) for s in stacks], "NextToken": token}

    def _list_stacks(self, given: Parameters) -> dict[str, Any]:
        wanted = given.get("StackStatusFilter")
        known = [*self._stacks.live.values(), *self._stacks.gone.values()]
        stacks, token = _page([s for s in known if not wanted or s.status in wanted], given.get("NextToken"))
        summaries = [
            {
                "StackId": s.id,
                "StackName": s.name,
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
        stack = self._found(given)
        start = _offset(given.get("NextToken"), "e")
        # The token counts from the oldest event, so that new ones do not shift the pages.
        end = start if start is not None else len(stack.events)
        first = max(end - _EVENTS_PAGE, 0)
        page = stack.events[first:end][::-1]
        return {"StackEvents": page, "NextToken": f"e{first}" if first else None}

    def _list_stack_resources(self, given: Parameters) -> dict[str, Any]:
        return {"StackResourceSummaries": list(self._found(given).summaries.values())}

    def _describe_stack_resources(self, given: Parameters) -> dict[str, Any]:
        stack = self._stacks.get(given.get("StackName", ""))
        wanted = given.get("LogicalResourceId")
        resources = [
            _resource(stack, summary) for name, summary in stack.summaries.items() if wanted in (None, name)
        ]
        return {"StackResources": resources}

    def _describe_stack_resource(self, given: Parameters) -> dict[str, Any]:
        stack, name = self._found(given), given["LogicalResourceId"]
        if name not in stack.summaries:
            raise invalid(f"Resource {name} does not exist for stack {stack.name}")
        detail = _resource(stack, stack.summaries[name])
        detail["LastUpdatedTimestamp"] = detail.pop("Timestamp")
        return {"StackResourceDetail": detail}

    def _get_template(self, given: Parameters) -> dict[str, Any]:
        body = self._stacks.get(given["StackName"]).plan.template.body
        return {"TemplateBody": body, "StagesAvailable": ["Original", "Processed"]}

    def _validate_template(self, given: Parameters) -> dict[str, Any]:
        template = self._template(given)
        needed = template.capabilities()
        return {
            "Parameters": [
                {
                    "ParameterKey": key,
                    "DefaultValue": None if slot.get("Default") is None else str(slot["Default"]),
                    "NoEcho": template.secret(key),
                    "Description": slot.get("Description"),
                }
                for key, slot in template.parameters.items()
            ],
            "Description": template.description or None,
            "Capabilities": needed,
            "CapabilitiesReason": "The following resource(s) require capabilities: IAM" if needed else None,
        }

    @staticmethod
    def _describe_account_limits(_given: Parameters) -> dict[str, Any]:
        limits = {"StackLimit": _STACK_LIMIT, "StackOutputsLimit": 200, "ConcurrentResourcesLimit": 2500}
        return {"AccountLimits": [{"Name": k, "Value": v} for k, v in limits.items()]}

    # ---- what the operations share

    def _found(self, given: Parameters) -> Stack:
        stack = self._stacks.find(given.get("StackName", ""))
        if stack is None:
            raise invalid(f"Stack [{given.get('StackName', '')}] does not exist")
        return stack

    def _live(self, given: Parameters) -> Stack:
        stack = self._found(given)
        if stack.status == "DELETE_COMPLETE":
            raise invalid(f"Stack [{stack.name}] does not exist")
        return stack

    def _template(self, given: Parameters, stack: Stack | None = None) -> Template:
        body, url = given.get("TemplateBody"), given.get("TemplateURL")
        if given.get("UsePreviousTemplate") and stack:
            return stack.plan.template
        if (body is None) == (url is None):
            raise invalid("Either Template URL or Template Body must be specified.")
        if body is None:
            body = _fetched(str(url))
        elif len(body.encode()) > LONGEST_BODY:
            raise invalid(
                f"1 validation error detected: Value '{body[:100]}...' at 'templateBody' failed to satisfy "
                f"constraint: Member must have length less than or equal to {LONGEST_BODY}"
            )
        return self._stacks.template(body)

    def _parameters(self, given: Parameters, stack: Stack | None) -> dict[str, str]:
        values = {}
        for item in given.get("Parameters", []):
            key = item["ParameterKey"]
            if not item.get("UsePreviousValue"):
                values[key] = item.get("ParameterValue", "")
            elif stack is None or key not in stack.plan.parameters:
                raise invalid(
                    f"Invalid input for parameter key {key}. Cannot specify usePreviousValue as true"
                )
            else:
                values[key] = stack.plan.parameters[key]
        return values


def _constraint(field: str, value: str, pattern: str) -> AwsError:
    return invalid(
        f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: "
        f"Member must satisfy regular expression pattern: {pattern} and have length less than or equal to 128"
    )


def _tags(given: Parameters) -> dict[str, str] | None:
    if "Tags" not in given:
        return None
    tags = {t["Key"]: t.get("Value", "") for t in given["Tags"]}
    if len(tags) > _MOST_TAGS:
        raise invalid(
            "1 validation error detected: Value at 'tags' failed to satisfy constraint: "
            f"Member must have length less than or equal to {_MOST_TAGS}"
        )
    if reserved := [k for k in tags if k.lower().startswith("aws:")]:
        raise invalid(f"aws: prefixed tag key names are not allowed for external use. ({reserved[0]})")
    return tags


def _fetched(url: str) -> str:
    """The text of a template in the simulated S3."""
    parts = urlsplit(url)
    path = unquote(parts.path).lstrip("/")
    host = parts.hostname or ""
    bucket, _, rest = host.partition(".s3")
    if rest and bucket:
        key = path
    else:
        bucket, _, key = path.partition("/")
    try:
        content, _ = storage.read(bucket, key)
    except storage.NoSuchObjectError as error:
        raise invalid(f"S3 error: The specified key does not exist. ({error})") from error
    if len(content) > _LONGEST_OBJECT:
        raise invalid(f"Template may not exceed {_LONGEST_OBJECT} bytes in size.")
    return content.decode()


def _offset(token: str | None, kind: str) -> int | None:
    if token is None:
        return None
    if not re.fullmatch(rf"{kind}\d+", token):
        raise invalid("The NextToken is not valid")
    return int(token[len(kind) :])


def _page(stacks: list[Stack], token: str | None) -> tuple[list[Stack], str | None]:
    """A page of stacks, newest first; the token names the last one shown, so that changes shift nothing."""
    before = _offset(token, "s")
    ordered = sorted(stacks, key=lambda s: s.number, reverse=True)
    rest = [s for s in ordered if before is None or s.number < before]
    page = rest[:_PAGE]
    return page, f"s{page[-1].number}" if len(rest) > _PAGE else None


def _resource(stack: Stack, summary: dict[str, Any]) -> dict[str, Any]:
    plain = {k: v for k, v in summary.items() if k != "LastUpdatedTimestamp"}
    return {
        **plain,
        "StackName": stack.name,
        "StackId": stack.id,
        "Timestamp": summary["LastUpdatedTimestamp"],
    }


def _described(stack: Stack) -> dict[str, Any]:
    template = stack.plan.template
    parameters = [
        {"ParameterKey": k, "ParameterValue": "****" if template.secret(k) else v}
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
        "EnableTerminationProtection": stack.protected,
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
    }
