"""The stacks of a region, which accept or refuse requests by their status."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from sandbox.aws import identity
from sandbox.aws.clock import Scheduler
from sandbox.aws.events import Events
from sandbox.aws.faults import Faults
from sandbox.aws.operations import RESOURCE_SECONDS, Operations
from sandbox.aws.places import Place
from sandbox.aws.protocol import AwsError, service_model
from sandbox.aws.stack import ChangeSet, Plan, Stack
from sandbox.aws.template import Template, validation_error

UPDATABLE = frozenset(
    {
        "CREATE_COMPLETE",
        "UPDATE_COMPLETE",
        "UPDATE_ROLLBACK_COMPLETE",
        "IMPORT_COMPLETE",
        "IMPORT_ROLLBACK_COMPLETE",
    }
)
# The statuses after a failure with rollback disabled; another update with rollback disabled is possible.
_PRESERVED = frozenset({"CREATE_FAILED", "UPDATE_FAILED"})
# Measured on the real service: a stack can be deleted while its creation runs or rolls back, but not while an update
# does.
_NOT_DELETABLE = frozenset(
    {
        "UPDATE_IN_PROGRESS",
        "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
        "IMPORT_IN_PROGRESS",
        "IMPORT_ROLLBACK_IN_PROGRESS",
    }
)
STATUSES: tuple[str, ...] = tuple(service_model("cloudformation").shape_for("StackStatus").enum)


class Stacks:
    """All stacks of a region; callers hold the simulator's lock."""

    limit = 2000
    """How many stacks the region allows."""

    def __init__(self, scheduler: Scheduler, faults: Faults, events: Events, place: Place) -> None:
        self.scheduler = scheduler
        self.place = place
        self._operations = Operations(scheduler, faults, events, place)
        self.handlers = self._operations.handlers
        self.live = self._operations.live
        self.gone = self._operations.gone
        self.leftovers = self._operations.leftovers
        self._tokens: dict[str, tuple[str, str, Any]] = {}
        self._number = itertools.count(1)

    def read_template(self, body: str) -> Template:
        """Parse a template and check it."""
        return Template(body, self.handlers.__contains__)

    def find(self, name: str) -> Stack | None:
        """A stack by name or ARN; a deleted stack by its ARN only."""
        if name in self.live:
            return self.live[name]
        for stack in self.live.values():
            if stack.id == name:
                return stack
        return self.gone.get(name)

    def get(self, name: str) -> Stack:
        """A stack by name or ARN.

        Raises:
            AwsError: ValidationError.
        """
        stack = self.find(name)
        if stack is None:
            raise validation_error(f"Stack with id {name} does not exist")
        return stack

    def root_stack(self, stack: Stack) -> Stack:
        """The root of a nested stack; of any other stack, the stack itself."""
        while stack.parent_id is not None:
            stack = self.get(stack.parent_id)
        return stack

    # ---- operations

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
        parent_id: str | None = None,
    ) -> Stack:
        """Start creating a stack."""
        request = ("create", name, (plan.template.body, plan.parameters, dict(tags), role_arn))
        if seen := self._stack_of_token(token, request):
            return seen
        if name in self.live:
            raise AwsError("AlreadyExistsException", f"Stack [{name}] already exists")
        plan = plan.checked()
        plan.template.check_capabilities(capabilities)
        stack = self._new_stack(name, plan)
        self._use_role(stack, role_arn)
        stack.tags = dict(tags)
        stack.capabilities = list(capabilities)
        stack.notification_arns = list(notification_arns)
        stack.protected = protected
        stack.parent_id = parent_id
        stack.on_failure = on_failure
        stack.token = token
        self.live[name] = stack
        self._store_token(token, request, stack)
        self._begin_create(stack)
        return stack

    def add_finished_stack(self, name: str, plan: Plan, tags: Mapping[str, str]) -> None:
        """Create a stack at once, without waits; its events are dropped."""
        if name in self.live:
            raise AwsError("AlreadyExistsException", f"Stack [{name}] already exists")
        stack = self._new_stack(name, plan.checked())
        stack.tags = dict(tags)
        self.live[name] = stack
        for _ in self._operations.create(stack):
            """Skip the wait."""
        if stack.status != "CREATE_COMPLETE":
            raise validation_error(stack.failure_reason(None))
        stack.events.clear()

    def create_for_review(self, name: str, plan: Plan) -> Stack:
        """Create a stack in REVIEW_IN_PROGRESS, which a change set is to create."""
        stack = self.live[name] = self._new_stack(name, plan)
        self._operations.set_status(stack, "REVIEW_IN_PROGRESS", "User Initiated")
        return stack

    def _new_stack(self, name: str, plan: Plan) -> Stack:
        if len(self.live) >= self.limit:
            raise AwsError("LimitExceededException", f"Limit for stack has been exceeded: {self.limit}")
        arn = self.place.arn("cloudformation", f"stack/{name}/{uuid.uuid4()}")
        return Stack(arn, name, next(self._number), plan, {}, self.scheduler.now())

    def _begin_create(self, stack: Stack) -> None:
        self._operations.set_status(stack, "CREATE_IN_PROGRESS", "User Initiated")
        stack.operation = self.scheduler.spawn(self._operations.create(stack))

    def update(
        self,
        stack: Stack,
        plan: Plan,
        *,
        tags: Mapping[str, str] | None,
        token: str | None,
        role_arn: str | None = None,
        capabilities: Collection[str] = (),
        preserves: bool = False,
    ) -> Stack:
        """Start updating a stack.

        Args:
            stack: the stack.
            plan: its new plan.
            tags: its new tags; None keeps the present tags.
            token: client request token.
            role_arn: its new service role; None keeps the present role.
            capabilities: the acknowledged capabilities.
            preserves: whether a failure is not rolled back.
        """
        wanted_tags = stack.tags if tags is None else dict(tags)
        request = ("update", stack.name, (plan.template.body, plan.parameters, wanted_tags, role_arn))
        if seen := self._stack_of_token(token, request):
            return seen
        self.check_updatable(stack, preserves=preserves)
        plan = plan.checked()
        plan.template.check_capabilities(capabilities)
        if self.is_unchanged(stack, plan, tags):
            raise validation_error("No updates are to be performed.")
        self._use_role(stack, role_arn)
        if (
            stack.status != "UPDATE_FAILED"
        ):  # after a failed update, the plan before it stays the last good plan
            stack.former, stack.former_tags = stack.plan, stack.tags
        stack.preserves = preserves
        stack.plan, stack.tags = plan, wanted_tags
        stack.capabilities = list(capabilities)
        stack.token = token
        stack.updated = self.scheduler.now()
        self._store_token(token, request, stack)
        self._operations.set_status(stack, "UPDATE_IN_PROGRESS", "User Initiated")
        stack.operation = self.scheduler.spawn(self._operations.update(stack))
        return stack

    @staticmethod
    def check_updatable(stack: Stack, *, preserves: bool = False) -> None:
        """Check that the status of a stack allows an update.

        Raises:
            AwsError: ValidationError.
        """
        if stack.status in UPDATABLE or (preserves and stack.status in _PRESERVED):
            return
        if stack.status in _PRESERVED:
            raise validation_error(
                f"This stack is currently in a non-terminal [{stack.status}] state. To update the stack from this "
                "state, please use the disable-rollback parameter with update-stack API. To rollback to the last "
                "known good state, use the rollback-stack API"
            )
        raise validation_error(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")

    @staticmethod
    def is_unchanged(stack: Stack, plan: Plan, tags: Mapping[str, str] | None) -> bool:
        """Whether an update would change nothing."""
        same_tags = tags is None or dict(tags) == stack.tags
        values = {**plan.template.default_values(), **plan.parameters}
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
        if self._stack_of_token(token, request) or stack.status == "DELETE_IN_PROGRESS":
            return
        if self.root_stack(stack).protected:
            raise validation_error(
                f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled"
            )
        if stack.status in _NOT_DELETABLE:
            raise validation_error(f"Stack:{stack.id} is in {stack.status} state and can not be deleted.")
        if (retain or force) and stack.status != "DELETE_FAILED":
            what = "RetainResources" if retain else "DeletionMode FORCE_DELETE_STACK"
            raise validation_error(
                f"Invalid operation on stack [{stack.id}]. {what} can only be specified "
                "when the stack is in the DELETE_FAILED state."
            )
        if kept := sorted(set(retain) - set(stack.resources)):
            raise validation_error(
                "The specified resources to retain must be in a valid state. Do not specify resources that are "
                f"in the DELETE_COMPLETE state. [{', '.join(kept)}]"
            )
        self._use_role(stack, role_arn)
        if stack.operation:
            self.scheduler.cancel(stack.operation)
        stack.token = token
        self._store_token(token, request, stack)
        self._operations.set_status(stack, "DELETE_IN_PROGRESS", "User Initiated")
        stack.operation = self.scheduler.spawn(self._operations.delete(stack, retain, force=force))

    def continue_rollback(
        self, stack: Stack, *, token: str | None, role_arn: str | None = None, skip: Collection[str] = ()
    ) -> None:
        """Continue a rollback that failed."""
        request = ("continue", stack.name, sorted(skip))
        if self._stack_of_token(token, request):
            return
        if stack.status != "UPDATE_ROLLBACK_FAILED":
            raise validation_error(
                f"Stack:{stack.id} is in {stack.status} state and can not continue an update rollback."
            )
        self._use_role(stack, role_arn)
        stack.token = token
        self._store_token(token, request, stack)
        self._operations.set_status(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        stack.operation = self.scheduler.spawn(self._operations.roll_back_update(stack, skip))

    def cancel_update(self, stack: Stack, *, token: str | None) -> None:
        """Cancel a running update, which rolls it back."""
        if stack.status != "UPDATE_IN_PROGRESS" or stack.operation is None:
            raise validation_error(
                f"CancelUpdateStack cannot be called from current stack status {stack.status}"
            )
        self.scheduler.cancel(stack.operation)
        stack.token = token or stack.token
        self._operations.set_status(stack, "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated")
        stack.operation = self.scheduler.spawn(self._operations.roll_back_update(stack))

    def roll_back(self, stack: Stack, *, token: str | None, role_arn: str | None = None) -> None:
        """Roll back a creation or an update that failed with rollback disabled."""
        request = ("rollback", stack.name, None)
        if self._stack_of_token(token, request):
            return
        if stack.status not in _PRESERVED:
            raise validation_error(f"Stack:{stack.id} is in {stack.status} state and can not be rolled back.")
        self._use_role(stack, role_arn)
        stack.token = token
        self._store_token(token, request, stack)
        created = stack.status == "CREATE_FAILED"
        self._operations.set_status(
            stack, "ROLLBACK_IN_PROGRESS" if created else "UPDATE_ROLLBACK_IN_PROGRESS", "User Initiated"
        )
        process = self._operations.roll_back_create if created else self._operations.roll_back_update
        stack.operation = self.scheduler.spawn(process(stack))

    def execute_change_set(
        self, stack: Stack, change: ChangeSet, *, token: str | None, preserves: bool = False
    ) -> None:
        """Execute a change set."""
        if change.kind == "UPDATE":
            self.update(
                stack,
                change.plan,
                tags=change.tags,
                token=token,
                role_arn=change.role_arn,
                capabilities=[*change.capabilities, "CAPABILITY_AUTO_EXPAND"],
                preserves=preserves,
            )
            return
        self._use_role(stack, change.role_arn)
        stack.token = token
        if change.kind == "IMPORT" and stack.status != "REVIEW_IN_PROGRESS":
            stack.former, stack.former_tags = stack.plan, stack.tags
        stack.plan = change.plan
        stack.tags = stack.tags if change.tags is None else change.tags
        stack.capabilities = change.capabilities
        stack.on_failure = "DO_NOTHING" if preserves else "ROLLBACK"
        if change.kind == "CREATE":
            self._begin_create(stack)
        else:
            self._operations.set_status(stack, "IMPORT_IN_PROGRESS", "User Initiated")
            stack.operation = self.scheduler.spawn(self._operations.import_existing(stack, change.imports))

    def force_status(
        self,
        stack: Stack,
        status: str,
        *,
        reason: str | None = None,
        seconds: float = RESOURCE_SECONDS,
        token: str | None = None,
    ) -> None:
        """Set the status of a stack; a status in progress continues after `seconds`, as in the service."""
        if stack.operation:
            self.scheduler.cancel(stack.operation)
        stack.token = token or stack.token
        if status == "DELETE_COMPLETE":
            for _ in self._operations.delete(stack, force=True):
                """Skip the wait."""
            return
        if status in UPDATABLE:
            stack.former = None
        self._operations.set_status(stack, status, reason)
        stack.operation = self.scheduler.spawn(self._operations.continue_from_status(stack, seconds))

    def _use_role(self, stack: Stack, role_arn: str | None) -> None:
        """Set the service role of a stack; without a role, check that the stack's own role still exists."""
        if role_arn is not None:
            identity.check_service_role(role_arn, self.place.account)
            stack.role_arn, stack.role_existed = role_arn, identity.role_exists(role_arn)
        elif stack.role_existed and not identity.role_exists(str(stack.role_arn)):
            raise validation_error(f"Role {stack.role_arn} is invalid or cannot be assumed")

    def _stack_of_token(self, token: str | None, request: tuple[str, str, Any]) -> Stack | None:
        """The stack of an earlier identical request with this token.

        Raises:
            AwsError: TokenAlreadyExistsException, because another request used the token.
        """
        if token is None or token not in self._tokens:
            return None
        verb, stack_id, content = self._tokens[token]
        stack = self.find(stack_id)
        if stack is None or (verb == "create" and stack.status == "DELETE_COMPLETE"):
            return None
        if (verb, stack.name, content) != request:
            raise AwsError("TokenAlreadyExistsException", f"Client request token {token} already exists")
        return stack

    def _store_token(self, token: str | None, request: tuple[str, str, Any], stack: Stack) -> None:
        if token is not None:
            self._tokens[token] = (request[0], stack.id, request[2])
