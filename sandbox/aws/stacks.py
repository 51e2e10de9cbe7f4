"""CloudFormation's stacks, and which requests for them are accepted."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sandbox.aws import storage
from sandbox.aws.clock import Scheduler
from sandbox.aws.events import ACCOUNT, REGION, Events
from sandbox.aws.faults import Faults
from sandbox.aws.operations import Operations, Plan, Stack
from sandbox.aws.protocol import AwsError
from sandbox.aws.template import Template, invalid

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


class Stacks:
    """All stacks of the account; every method is called with the simulator's lock held."""

    def __init__(self, scheduler: Scheduler, faults: Faults, events: Events) -> None:
        self._scheduler = scheduler
        self._operations = Operations(scheduler, faults, events)
        self.handlers = self._operations.handlers
        self.live = self._operations.live
        self.gone = self._operations.gone
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
            role_existed=role_arn is not None and storage.role_exists(role_arn),
            capabilities=list(capabilities),
            notification_arns=list(notification_arns),
            protected=protected,
            on_failure=on_failure,
            token=token,
        )
        self.live[name] = stack
        self._remember(token, request, stack)
        self._operations.mark(stack, "CREATE_IN_PROGRESS", "User Initiated")
        stack.operation = self._scheduler.spawn(self._operations.create(stack))
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
        self._assume(stack, role_arn)
        stack.former, stack.former_tags = stack.plan, stack.tags
        stack.plan, stack.tags = Plan(plan.template, values), wanted_tags
        stack.capabilities = list(capabilities)
        stack.token = token
        stack.updated = self._scheduler.now()
        self._remember(token, request, stack)
        self._operations.mark(stack, "UPDATE_IN_PROGRESS", "User Initiated")
        stack.operation = self._scheduler.spawn(self._operations.update(stack))
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
        self._assume(stack, role_arn)
        if stack.operation:
            self._scheduler.cancel(stack.operation)
        stack.token = token
        self._remember(token, request, stack)
        self._operations.mark(stack, "DELETE_IN_PROGRESS", "User Initiated")
        stack.operation = self._scheduler.spawn(self._operations.delete(stack, retain, force=force))

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
        self._operations.mark(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        stack.operation = self._scheduler.spawn(self._operations.roll_back_update(stack, skip))

    def cancel_update(self, stack: Stack, *, token: str | None) -> None:
        """Turn a running update back."""
        if stack.status != "UPDATE_IN_PROGRESS" or stack.operation is None:
            raise invalid(f"CancelUpdateStack cannot be called from current stack status {stack.status}")
        self._scheduler.cancel(stack.operation)
        stack.token = token or stack.token
        self._operations.mark(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        stack.operation = self._scheduler.spawn(self._operations.roll_back_update(stack))

    @staticmethod
    def _assume(stack: Stack, role_arn: str | None) -> None:
        """Take the given role, else the stack's own, which may have gone since: then nothing can be done.

        A role that never was in the simulator's IAM is let pass, so that any may be named.
        """
        if role_arn is not None:
            stack.role_arn, stack.role_existed = role_arn, storage.role_exists(role_arn)
        elif stack.role_existed and not storage.role_exists(str(stack.role_arn)):
            raise invalid(f"Role {stack.role_arn} is invalid or cannot be assumed")

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
