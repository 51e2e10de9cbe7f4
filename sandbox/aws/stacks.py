"""CloudFormation's stacks and what happens to them: create, update, roll back, delete."""

from __future__ import annotations

import itertools
import logging
import uuid
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.aws.clock import Process, Scheduler, Task
from sandbox.aws.events import ACCOUNT, REGION, Events
from sandbox.aws.faults import Faults
from sandbox.aws.protocol import AwsError
from sandbox.aws.resources import Context, Handler, Resource, ResourceError
from sandbox.aws.template import Resolver, Template, invalid

log = logging.getLogger(__name__)

RESOURCE_SECONDS = 0.6
_STACK_TYPE = "AWS::CloudFormation::Stack"

UPDATABLE = frozenset(
    {
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "UPDATE_ROLLBACK_COMPLETE",
        "IMPORT_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE",
    }
)
# Measured on the real service: a creation may be deleted while it runs or rolls back, an update may not.
_NOT_DELETABLE = frozenset(
    {
        "UPDATE_IN_PROGRESS",
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    }
)


@dataclass
class Plan:
    """What a stack is made from."""

    template: Template
    parameters: dict[str, str]


@dataclass
class Stack:
    """A stack: its plan, its resources, and its history of events (oldest first)."""

    id: str
    name: str
    number: int
    plan: Plan
    tags: dict[str, str]
    created: datetime
    role_arn: str | None = None
    capabilities: list[str] = field(default_factory=list)
    notification_arns: list[str] = field(default_factory=list)
    protected: bool = False
    on_failure: str = "ROLLBACK"
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

    def failure(self, token: str | None) -> str:
        """Why the operation with this token failed: its first failed resource, else the stack's reason."""
        for event in self.events:
            failed = event["ResourceStatus"].endswith("_FAILED") and event["ResourceType"] != _STACK_TYPE
            if failed and event.get("ClientRequestToken") == token:
                return f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}"
        return self.reason or self.status


class Stacks:
    """All stacks of the account; every method is called with the simulator's lock held."""

    def __init__(self, scheduler: Scheduler, faults: Faults, events: Events) -> None:
        self._scheduler = scheduler
        self._faults = faults
        self._events = events
        self.handlers: dict[str, Handler] = {}
        self.live: dict[str, Stack] = {}
        self.gone: dict[str, Stack] = {}
        self._tokens: dict[str, tuple[str, str, Any]] = {}
        self._number = itertools.count(1)

    def reset(self) -> None:
        """Forget all stacks."""
        self.live.clear()
        self.gone.clear()
        self._tokens.clear()

    def template(self, body: str) -> Template:
        """Read and check a template."""
        return Template(body, self.handlers.__contains__)

    def find(self, name: str) -> Stack | None:
        """A stack by name or ARN; a deleted one by its ARN only."""
        if name in self.live:
            return self.live[name]
        for stack in self.live.values():
            if stack.id == name:
                return stack
        return self.gone.get(name)

    def get(self, name: str) -> Stack:
        """A stack by name or ARN; ValidationError as the real service words it."""
        stack = self.find(name)
        if stack is None:
            raise invalid(f"Stack with id {name} does not exist")
        return stack

    # ---- the four operations

    def create(
        self,
        name: str,
        plan: Plan,
        *,
        tags: Mapping[str, str],
        token: str | None,
        role_arn: str | None = None,
        capabilities: Collection[str] = (),
        on_failure: str = "ROLLBACK",
        protected: bool = False,
        notification_arns: Iterable[str] = (),
    ) -> Stack:
        """Start creating a stack."""
        request = ("create", name, (plan.template.body, plan.parameters, dict(tags), role_arn))
        if seen := self._seen(token, request):
            return seen
        if name in self.live:
            raise AwsError("AlreadyExistsException", f"Stack [{name}] already exists")
        plan.template.check_capabilities(capabilities)
        values = plan.template.check_parameters(plan.parameters)
        stack = Stack(
            id=f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{name}/{uuid.uuid4()}",
            name=name,
            number=next(self._number),
            plan=Plan(plan.template, values),
            tags=dict(tags),
            created=self._scheduler.now(),
            role_arn=role_arn,
            capabilities=list(capabilities),
            notification_arns=list(notification_arns),
            protected=protected,
            on_failure=on_failure,
            token=token,
        )
        self.live[name] = stack
        self._remember(token, request, stack)
        self._mark(stack, "CREATE_IN_PROGRESS", "User Initiated")
        stack.operation = self._scheduler.spawn(self._create(stack))
        return stack

    def update(
        self,
        stack: Stack,
        plan: Plan,
        *,
        tags: Mapping[str, str] | None,
        token: str | None,
        role_arn: str | None = None,
        capabilities: Collection[str] = (),
    ) -> Stack:
        """Start updating a stack; `tags` of None leaves them as they are."""
        wanted_tags = stack.tags if tags is None else dict(tags)
        request = ("update", stack.name, (plan.template.body, plan.parameters, wanted_tags, role_arn))
        if seen := self._seen(token, request):
            return seen
        if stack.status not in UPDATABLE:
            raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")
        plan.template.check_capabilities(capabilities)
        values = plan.template.check_parameters(plan.parameters)
        if self.unchanged(stack, Plan(plan.template, values), tags):
            raise invalid("No updates are to be performed.")
        stack.former, stack.former_tags = stack.plan, stack.tags
        stack.plan, stack.tags = Plan(plan.template, values), wanted_tags
        stack.capabilities = list(capabilities)
        stack.role_arn = role_arn or stack.role_arn
        stack.token = token
        stack.updated = self._scheduler.now()
        self._remember(token, request, stack)
        self._mark(stack, "UPDATE_IN_PROGRESS", "User Initiated")
        stack.operation = self._scheduler.spawn(self._update(stack))
        return stack

    @staticmethod
    def unchanged(stack: Stack, plan: Plan, tags: Mapping[str, str] | None) -> bool:
        """Whether an update would change nothing."""
        same_tags = tags is None or dict(tags) == stack.tags
        values = {**plan.template.defaults(), **plan.parameters}
        same_plan = plan.template.content == stack.plan.template.content and values == stack.plan.parameters
        return stack.status in UPDATABLE and same_plan and same_tags

    def delete(
        self,
        stack: Stack,
        *,
        token: str | None,
        role_arn: str | None = None,
        retain: Collection[str] = (),
        force: bool = False,
    ) -> None:
        """Start deleting a stack."""
        if stack.status == "DELETE_COMPLETE":
            return
        request = ("delete", stack.name, (sorted(retain), force))
        if self._seen(token, request) or stack.status == "DELETE_IN_PROGRESS":
            return
        if stack.protected:
            raise invalid(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        if stack.status in _NOT_DELETABLE:
            raise invalid(f"Stack:{stack.id} is in {stack.status} state and can not be deleted.")
        if (retain or force) and stack.status != "DELETE_FAILED":
            what = "RetainResources" if retain else "DeletionMode FORCE_DELETE_STACK"
            raise invalid(
                f"Invalid operation on stack [{stack.id}]. {what} can only be specified "
                "when the stack is in the DELETE_FAILED state."
            )
        if stack.operation:
            self._scheduler.cancel(stack.operation)
        stack.token = token
        stack.role_arn = role_arn or stack.role_arn
        self._remember(token, request, stack)
        self._mark(stack, "DELETE_IN_PROGRESS", "User Initiated")
        stack.operation = self._scheduler.spawn(self._delete(stack, retain, force=force))

    def continue_rollback(self, stack: Stack, *, token: str | None, skip: Collection[str] = ()) -> None:
        """Take up a rollback that failed."""
        request = ("continue", stack.name, sorted(skip))
        if self._seen(token, request):
            return
        if stack.status != "UPDATE_ROLLBACK_FAILED":
            raise invalid(
                f"Stack:{stack.id} is in {stack.status} state and can not continue an update rollback."
            )
        stack.token = token
        self._remember(token, request, stack)
        self._mark(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        stack.operation = self._scheduler.spawn(self._roll_back_update(stack, skip))

    def cancel_update(self, stack: Stack, *, token: str | None) -> None:
        """Turn a running update back."""
        if stack.status != "UPDATE_IN_PROGRESS" or stack.operation is None:
            raise invalid(f"CancelUpdateStack cannot be called from current stack status {stack.status}")
        self._scheduler.cancel(stack.operation)
        stack.token = token or stack.token
        self._mark(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        stack.operation = self._scheduler.spawn(self._roll_back_update(stack))

    def _seen(self, token: str | None, request: tuple[str, str, Any]) -> Stack | None:
        """The stack of an identical earlier request with this token; an error if the token was used otherwise."""
        if token is None or token not in self._tokens:
            return None
        verb, stack_id, content = self._tokens[token]
        stack = self.find(stack_id)
        if stack is None or (verb == "create" and stack.status == "DELETE_COMPLETE"):
            return None
        if (verb, stack.name, content) != request:
            raise AwsError("TokenAlreadyExistsException", f"Client request token {token} already exists")
        return stack

    def _remember(self, token: str | None, request: tuple[str, str, Any], stack: Stack) -> None:
        if token is not None:
            self._tokens[token] = (request[0], stack.id, request[2])

    # ---- the processes

    def _create(self, stack: Stack) -> Process:
        resolver = self._resolver(stack)
        for name in stack.plan.template.order:
            if not resolver.active(stack.plan.template.resources[name]):
                continue
            failed = yield from self._make(stack, resolver, name)
            if not failed:
                continue
            reason = f"The following resource(s) failed to create: [{name}]. "
            if stack.on_failure == "DO_NOTHING":
                return self._mark(stack, "CREATE_FAILED", reason)
            if stack.on_failure == "DELETE":
                self._mark(stack, "DELETE_IN_PROGRESS", reason + "Delete requested by user.")
                yield from self._delete(stack, ())
                return None
            self._mark(stack, "ROLLBACK_IN_PROGRESS", reason + "Rollback requested by user.")
            left = yield from self._remove(stack, self._in_delete_order(stack))
            if left:
                why = f"The following resource(s) failed to delete: [{', '.join(left)}]. "
                return self._mark(stack, "ROLLBACK_FAILED", why)
            return self._mark(stack, "ROLLBACK_COMPLETE")
        return self._finish(stack, "CREATE_COMPLETE")

    def _make(self, stack: Stack, resolver: Resolver, name: str) -> Process:
        """Create one resource; gives whether it failed."""
        declared = stack.plan.template.resources[name]
        self._resource_event(stack, name, declared["Type"], "", "CREATE_IN_PROGRESS")
        yield RESOURCE_SECONDS
        try:
            self._fail_if_ordered(stack, name, declared["Type"], "create")
            properties = resolver.value(declared.get("Properties") or {})
            handler = self.handlers[declared["Type"]]
            context = Context(stack.name, stack.tags)
            resource = handler.create(context, name, declared["Type"], properties)
        except Exception as error:  # noqa: BLE001 - whatever moto raises is the resource's failure
            self._resource_event(stack, name, declared["Type"], "", "CREATE_FAILED", _why(error))
            return True
        resource.deletion_policy = declared.get("DeletionPolicy", "Delete")
        stack.resources[name] = resource
        self._resource_event(stack, name, resource.type, resource.physical_id, "CREATE_COMPLETE")
        return False

    def _update(self, stack: Stack) -> Process:
        failed = yield from self._converge(stack)
        if failed:
            name, verb = failed
            why = f"The following resource(s) failed to {verb.lower()}: [{name}]. "
            self._mark(stack, "UPDATE_ROLLBACK_IN_PROGRESS", why)
            yield from self._roll_back_update(stack)
            return
        self._mark(stack, "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        yield from self._clean_up(stack)
        self._finish(stack, "UPDATE_COMPLETE")

    def _roll_back_update(self, stack: Stack, skip: Collection[str] = ()) -> Process:
        if stack.former is not None:
            stack.plan, stack.tags, stack.former = stack.former, stack.former_tags, None
        failed = yield from self._converge(stack, skip=skip)
        if failed:
            why = f"The following resource(s) failed to update: [{failed[0]}]. "
            self._mark(stack, "UPDATE_ROLLBACK_FAILED", why)
            return
        self._mark(stack, "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        yield from self._clean_up(stack)
        self._finish(stack, "UPDATE_ROLLBACK_COMPLETE")

    def _converge(self, stack: Stack, skip: Collection[str] = ()) -> Process:
        """Make the resources what the plan says; gives the first failure as (logical id, verb), or None."""
        resolver = self._resolver(stack)
        for name in stack.plan.template.order:
            declared = stack.plan.template.resources[name]
            if name in skip or not resolver.active(declared):
                continue
            if name not in stack.resources:
                if (yield from self._make(stack, resolver, name)):
                    return name, "CREATE"
                continue
            try:
                properties = resolver.value(declared.get("Properties") or {})
            except Exception as error:  # noqa: BLE001 - whatever moto raises is the resource's failure
                self._resource_event(stack, name, declared["Type"], "", "UPDATE_FAILED", _why(error))
                return name, "UPDATE"
            stack.resources[name].deletion_policy = declared.get("DeletionPolicy", "Delete")
            if properties == stack.resources[name].properties:
                continue
            if (yield from self._change(stack, name, properties)):
                return name, "UPDATE"
        return None

    def _change(self, stack: Stack, name: str, properties: dict[str, Any]) -> Process:
        """Update or replace one resource; gives whether it failed."""
        resource = stack.resources[name]
        handler = self.handlers[resource.type]
        self._resource_event(stack, name, resource.type, resource.physical_id, "UPDATE_IN_PROGRESS")
        yield RESOURCE_SECONDS
        try:
            self._fail_if_ordered(stack, name, resource.type, "update")
            context = Context(stack.name, stack.tags)
            if not handler.replaces(resource.properties, properties):
                stack.resources[name] = handler.update(context, resource, properties)
            elif kept := _former(stack, name, properties):
                # A rollback returns to the resource that the update had replaced and not yet removed.
                stack.superseded.remove(kept)
                stack.superseded.append(resource)
                stack.resources[name] = kept
            else:
                stack.resources[name] = handler.create(context, name, resource.type, properties)
                stack.superseded.append(resource)
        except Exception as error:  # noqa: BLE001 - whatever moto raises is the resource's failure
            self._resource_event(
                stack, name, resource.type, resource.physical_id, "UPDATE_FAILED", _why(error)
            )
            return True
        changed = stack.resources[name]
        self._resource_event(stack, name, changed.type, changed.physical_id, "UPDATE_COMPLETE")
        return False

    def _clean_up(self, stack: Stack) -> Process:
        """Remove what the plan no longer has; what cannot be removed is left behind, as in AWS."""
        resolver = self._resolver(stack)
        planned = stack.plan.template.resources
        unplanned = [
            n for n in reversed(stack.resources) if n not in planned or not resolver.active(planned[n])
        ]
        replaced, stack.superseded = stack.superseded, []
        for resource in replaced:
            yield from self._drop(stack, resource)
        left = yield from self._remove(stack, unplanned)
        for name in left:
            stack.resources.pop(name)
            log.info("stack %s: %s was left behind by the clean-up", stack.name, name)

    def _delete(self, stack: Stack, retain: Collection[str], *, force: bool = False) -> Process:
        for resource in stack.superseded:
            yield from self._drop(stack, resource)
        stack.superseded = []
        failed = yield from self._remove(stack, self._in_delete_order(stack), retain)
        if failed and not force:
            why = f"The following resource(s) failed to delete: [{', '.join(failed)}]. "
            return self._mark(stack, "DELETE_FAILED", why)
        stack.deleted = self._scheduler.now()
        stack.outputs = []
        self.live.pop(stack.name, None)
        self.gone[stack.id] = stack
        return self._mark(stack, "DELETE_COMPLETE")

    def _remove(self, stack: Stack, names: Iterable[str], retain: Collection[str] = ()) -> Process:
        """Delete resources; gives the names of those that could not be."""
        failed = []
        for name in names:
            resource = stack.resources[name]
            if name in retain or resource.deletion_policy == "Retain":
                self._resource_event(stack, name, resource.type, resource.physical_id, "DELETE_SKIPPED")
                stack.resources.pop(name)
            elif (yield from self._drop(stack, resource)):
                stack.resources.pop(name)
            else:
                failed.append(name)
        return failed

    def _drop(self, stack: Stack, resource: Resource) -> Process:
        """Delete one resource; gives whether that worked."""
        name, kind, physical_id = resource.logical_id, resource.type, resource.physical_id
        self._resource_event(stack, name, kind, physical_id, "DELETE_IN_PROGRESS")
        yield RESOURCE_SECONDS
        try:
            self._fail_if_ordered(stack, name, kind, "delete")
            self.handlers[kind].delete(resource)
        except Exception as error:  # noqa: BLE001 - whatever moto raises is the resource's failure
            self._resource_event(stack, name, kind, physical_id, "DELETE_FAILED", _why(error))
            return False
        self._resource_event(stack, name, kind, physical_id, "DELETE_COMPLETE")
        return True

    # ---- what the processes share

    def _fail_if_ordered(self, stack: Stack, name: str, kind: str, verb: str) -> None:
        if why := self._faults.resource_failure(stack.name, name, kind, verb):
            raise ResourceError(why)

    @staticmethod
    def _in_delete_order(stack: Stack) -> list[str]:
        order = stack.plan.template.order
        rest = [n for n in stack.resources if n not in order]
        return rest + [n for n in reversed(order) if n in stack.resources]

    def _finish(self, stack: Stack, status: str) -> None:
        stack.former = None
        resolver = self._resolver(stack)
        outputs = []
        for key, output in stack.plan.template.outputs.items():
            if not resolver.active(output):
                continue
            try:
                shown: dict[str, Any] = {
                    "OutputKey": key,
                    "OutputValue": str(resolver.value(output.get("Value", ""))),
                    "Description": output.get("Description"),
                }
                if "Export" in output:
                    shown["ExportName"] = str(resolver.value(output["Export"]["Name"]))
            except (AwsError, ResourceError) as error:
                log.warning("stack %s: output %s: %s", stack.name, key, error)
                continue
            outputs.append(shown)
        stack.outputs = outputs
        self._mark(stack, status)

    def _resolver(self, stack: Stack) -> Resolver:
        def reference(name: str) -> str:
            if name in stack.resources:
                return stack.resources[name].physical_id
            raise invalid(f"Template error: unresolved reference to {name}")

        def attribute(name: str, attribute: str) -> str:
            if name not in stack.resources:
                raise invalid(f"Template error: instance of Fn::GetAtt references undefined resource {name}")
            resource = stack.resources[name]
            return self.handlers[resource.type].attribute(resource, attribute)

        def export(name: str) -> str:
            for other in self.live.values():
                for output in other.outputs:
                    if output.get("ExportName") == name:
                        return str(output["OutputValue"])
            raise invalid(f"No export named {name} found.")

        pseudo = {
            "AWS::AccountId": ACCOUNT,
            "AWS::NotificationARNs": stack.notification_arns,
            "AWS::Partition": "aws",
            "AWS::Region": REGION,
            "AWS::StackId": stack.id,
            "AWS::StackName": stack.name,
            "AWS::URLSuffix": "amazonaws.com",
        }
        values = {**pseudo, **stack.plan.parameters}
        return Resolver(stack.plan.template, values, reference, attribute, export)

    def _mark(self, stack: Stack, status: str, reason: str | None = None) -> None:
        stack.status, stack.reason = status, reason
        self._record(stack, stack.name, _STACK_TYPE, stack.id, status, reason)
        detail: dict[str, Any] = {
            "stack-id": stack.id,
            "status-details": {"status": status, "status-reason": reason or ""},
        }
        if stack.token:
            detail["client-request-token"] = stack.token
        self._events.emit(
            "aws.cloudformation",
            "CloudFormation Stack Status Change",
            [stack.id],
            detail,
            self._scheduler.now(),
        )

    def _resource_event(
        self, stack: Stack, name: str, kind: str, physical_id: str, status: str, reason: str | None = None
    ) -> None:
        self._record(stack, name, kind, physical_id, status, reason)
        stack.summaries[name] = {
            "LogicalResourceId": name,
            "PhysicalResourceId": physical_id or None,
            "ResourceType": kind,
            "LastUpdatedTimestamp": self._scheduler.now(),
            "ResourceStatus": status,
            "ResourceStatusReason": reason,
        }

    def _record(
        self, stack: Stack, name: str, kind: str, physical_id: str, status: str, reason: str | None
    ) -> None:
        unique = uuid.uuid4()
        stack.events.append(
            {
                "StackId": stack.id,
                "EventId": str(unique) if kind == _STACK_TYPE else f"{name}-{status}-{unique}",
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


def _former(stack: Stack, name: str, properties: dict[str, Any]) -> Resource | None:
    return next((r for r in stack.superseded if (r.logical_id, r.properties) == (name, properties)), None)


def _why(error: Exception) -> str:
    if isinstance(error, ResourceError | AwsError):
        return str(error)
    return str(getattr(error, "message", None) or error or repr(error))
