"""The handler of nested stacks."""

from __future__ import annotations

from typing import Any

from sandbox.aws import stackrequests as requests
from sandbox.aws.clock import Process
from sandbox.aws.places import Place
from sandbox.aws.protocol import AwsError
from sandbox.aws.resources import Context, Handler, Resource, ResourceError, generated_name
from sandbox.aws.stack import Plan, Stack
from sandbox.aws.stacks import Stacks

_POLL_SECONDS = 0.3
_CAPABILITIES = ("CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND")
_SETTLED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE")


class NestedStackHandler(Handler):
    """Nested stacks: each is a stack with the tags and the role of its parent, which also deletes it."""

    def __init__(self, place: Place, stacks: Stacks) -> None:
        super().__init__(place)
        self._stacks = stacks

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        nested = self._stacks.create(
            generated_name(context.stack_name, logical_id, 128),
            self._nested_plan(properties),
            tags=_nested_tags(context, properties),
            token=None,
            role_arn=context.role_arn,
            capabilities=_CAPABILITIES,
            parent_id=context.stack_id,
        )
        return Resource(logical_id, kind, nested.id, properties, model=nested)

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:
        nested, plan = self._nested_stack(resource), self._nested_plan(properties)
        tags = _nested_tags(context, properties)
        if not self._stacks.is_unchanged(nested, plan, tags):
            self._stacks.update(nested, plan, tags=tags, token=None, capabilities=_CAPABILITIES)
            resource.model = nested
        resource.properties = properties
        return resource

    def delete(self, resource: Resource) -> None:
        resource.model = self._nested_stack(resource)
        self._stacks.delete(resource.model, token=None)

    def wait_until_done(self, resource: Resource) -> Process:
        # `model` is set only while an operation runs, because the status of an earlier operation says nothing about it.
        nested, resource.model = resource.model, None
        if nested is None:
            return
        while nested.status.endswith("_IN_PROGRESS"):
            yield _POLL_SECONDS
        if nested.status not in _SETTLED:
            raise ResourceError(
                f"Embedded stack {nested.id} was not successful: {nested.failure_reason(None)}"
            )

    def exists(self, resource: Resource) -> bool:
        return self._nested_stack(resource).status != "DELETE_COMPLETE"

    def attribute_value(self, resource: Resource, name: str) -> str:
        outputs = {
            f"Outputs.{o['OutputKey']}": o["OutputValue"] for o in self._nested_stack(resource).outputs
        }
        resource.attributes = outputs
        return super().attribute_value(resource, name)

    def _nested_stack(self, resource: Resource) -> Stack:
        return self._stacks.get(resource.physical_id)

    def _nested_plan(self, properties: dict[str, Any]) -> Plan:
        if "TemplateURL" not in properties:
            raise ResourceError("Value for TemplateURL is required")
        template = requests.requested_template(self._stacks, {"TemplateURL": properties["TemplateURL"]})
        values = {k: _as_text(v) for k, v in (properties.get("Parameters") or {}).items()}
        try:
            return Plan(template, values).checked()
        except AwsError as error:
            raise ResourceError(str(error)) from error


def _nested_tags(context: Context, properties: dict[str, Any]) -> dict[str, str]:
    return {**context.stack_tags, **{t["Key"]: t["Value"] for t in properties.get("Tags", [])}}


def _as_text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
