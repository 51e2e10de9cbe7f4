"""The deletion of one stack: whether deployer may delete it, the order, and how its end is recorded."""

from collections.abc import Callable, Sequence
from contextlib import suppress

from deployer.environment.context import ReconcileContext, Stop, report_on_context
from deployer.environment.decision import Desired, Observed, decide
from deployer.environment.statuses import StatusReporter
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Kind
from deployer.model.errors import PermanentError, ProtectedError
from deployer.model.expiry import ASLEEP
from deployer.model.stacks import Phase, Stack, Step
from deployer.queue.items import Task
from deployer.queue.store import QueueStore
from deployer.teardown.leftovers import delete_build_logs
from deployer.teardown.report import (
    add_deleted_stack,
    add_retained_stack,
    change_report,
    close_report,
)
from deployer.templates.repository_config import TEARDOWN_TAG, TeardownPolicy

FOREIGN = "it does not bear deployer's tags for this environment"


class StackDeletion:
    """Deletes the stacks of an environment one by one.

    Args:
        lanes: has the records of other environments, whose pipelines may deploy the same stack.
        reporter: posts the report of a teardown that ends early.
        clock: epoch seconds.
    """

    def __init__(self, lanes: QueueStore, reporter: StatusReporter, clock: Callable[[], float]) -> None:
        self._lanes = lanes
        self._reporter = reporter
        self._clock = clock

    @report_on_context
    def advance_deletion(self, context: ReconcileContext, name: str) -> ReconcileContext | Stop:
        """Take the next step in the deletion of one stack.

        The stack's ARN is stored before the deletion is ordered, because a deleted stack is not found by its name.

        Returns:
            The context once the stack is deleted, or is left for a reason in the report; a stop until then.
        """
        arn = context.record.status.receipt.plan.arn
        if (
            arn
            and context.work.log.polls
            and context.cloud.is_still_busy(name, context.work.progress.looked_at)
        ):
            return Stop(context.snooze(event_follows=False))
        stack = context.cloud.stack(arn or name)
        if stack is None:
            return context
        if stack.phase is Phase.GONE:
            return self.record_deleted(context, stack)
        # also if the ARN is recorded: the order may have waited for days, and another pipeline may deploy the stack now
        if (not arn or stack.phase is not Phase.DELETING) and (why := self._reason_to_keep(context, stack)):
            return self.leave_stack(context, stack, why)
        if not arn:
            return Stop(change_report(context, arn=stack.arn).again(Task.DELETE))
        return self._delete_recorded_stack(context, stack)

    @staticmethod
    def record_deleted(context: ReconcileContext, stack: Stack) -> ReconcileContext:
        """Add a deleted stack to the report, with what was left of it, and delete the logs of its builds."""
        resources = context.cloud.resources(stack.arn)
        return delete_build_logs(add_deleted_stack(context, stack, resources), stack, resources)

    def _delete_recorded_stack(self, context: ReconcileContext, stack: Stack) -> ReconcileContext | Stop:
        """Order the deletion of a stack whose ARN is stored."""
        is_pipeline = stack.name == context.name
        if context.environment.kind is not Kind.DEVELOPMENT and is_pipeline and stack.protected:
            context.assert_lease()
            context.cloud.protect(
                stack.arn, on=False
            )  # a person asked for the teardown; deployer protected the stack
            return Stop(context.again(Task.DELETE))
        try:
            context, why = self.order_deletion(context, stack)
        except ProtectedError:
            why = "it has termination protection"
        except PermanentError as error:
            why = str(error)
        if why:
            return self.leave_stack(context, stack, why, ordered=True)
        return Stop(context.snooze(event_follows=False))

    def _reason_to_keep(self, context: ReconcileContext, stack: Stack) -> str:
        """Why this environment may not delete a stack; empty if it may."""
        if not context.owns_stack(stack):
            deployed = {each.arn for each in context.record.status.stack.deployed}
            return f"{FOREIGN}, and its pipeline did not create it" if stack.arn in deployed else FOREIGN
        if stack.name == context.name:
            protected = stack.protected and context.environment.kind is Kind.DEVELOPMENT
            return "it has termination protection" if protected else ""
        if stack.protected:
            return "it has termination protection"
        return self._other_user(context, stack)

    def _other_user(self, context: ReconcileContext, stack: Stack) -> str:
        """Which other environment's pipeline deploys a stack too, as the reason to keep it; empty if none does."""
        unrecorded = context.record.status.receipt.plan.shared.get(stack.name, "")
        for other in self._lanes.environments():
            same_repository = other.repository.lower() == context.repository.key
            own = same_repository and other.environment == context.environment.key
            if not own and other.status.state != "deleted" and _deploys(other, stack):
                return f"the pipeline of {other.repository} {other.environment} deploys it as well"
            if same_repository and other.environment == unrecorded and names_deployed_stacks(other):
                unrecorded = ""
        return f"the pipeline of {context.repository} {unrecorded} deploys it as well" if unrecorded else ""

    def leave_stack(
        self, context: ReconcileContext, stack: Stack, why: str, *, ordered: bool = False
    ) -> ReconcileContext | Stop:
        """Leave a stack and record why. The teardown continues without it, if it can and may.

        Args:
            context: the task.
            stack: the stack.
            why: the reason.
            ordered: whether AWS refused the deletion or it failed: then the teardown policy may end the teardown.
        """
        context, why = add_retained_stack(context, stack, why)
        stops = ordered and TeardownPolicy.parse(context.record.spec.teardown).on_failure == "stop"
        if not stops and not _is_own_pipeline(context, stack):
            return context
        context = close_report(context, "partly", self._clock())
        context = context.replace_record(
            self._reporter.post_teardown_report(context.environment, context.record)
        )
        return Stop(self._reporter.fail_goal(context, f"stack {stack.name} is left: {why}"))

    def order_deletion(self, context: ReconcileContext, stack: Stack) -> tuple[ReconcileContext, str]:
        """Order the deletion of a stack, unless one is in progress.

        Returns:
            The changed context, and why the deletion is given up; empty if it is not.
        """
        observed = Observed(stack, deletions=context.work.progress.deletions)
        decision = decide(Desired(exists=False), observed)
        if decision.step is Step.FAIL:
            # a failure from before does not explain why a protected stack stays
            failure = None if stack.protected else context.cloud.failure(stack.arn)
            return context, str(failure or decision.reason)
        if decision.step is not Step.DELETE:
            return context, ""
        if stack.phase is Phase.UNDELETED:
            context = context.with_work(deletions=context.work.progress.deletions + 1)
        policy = TeardownPolicy.parse(context.record.spec.teardown or stack.tags.get(TEARDOWN_TAG, ""))
        if context.work.progress.deletions > 1 and policy.on_failure != "stop":
            # resources are left only after their deletion has failed twice
            return _delete_without_failed_resources(context, stack, force=policy.on_failure == "force"), ""
        empties = policy.empty_buckets and context.environment.kind is Kind.DEVELOPMENT
        if empties and not _empty_storage(context, stack):
            return context, ""  # the buckets hold much, or something keeps writing to them
        _order_stack_deletion(context, stack)
        return context, ""


def _order_stack_deletion(
    context: ReconcileContext, stack: Stack, retain: Sequence[str] = (), *, force: bool = False
) -> None:
    context.assert_lease()
    token = context.idempotency_token(f"delete {stack.arn}")
    context.cloud.delete_stack(stack.arn, token, retain=retain, force=force)


def _delete_without_failed_resources(
    context: ReconcileContext, stack: Stack, *, force: bool
) -> ReconcileContext:
    """Order the deletion of a stack without the resources that could not be deleted, and record why they are left."""
    resources = context.cloud.resources(stack.arn)
    undeleted = [each for each in resources if each.status == "DELETE_FAILED"]
    _order_stack_deletion(context, stack, [each.name for each in undeleted], force=force)
    if undeleted and context.record.status.receipt.is_running:
        return change_report(context, left={each.name: each.reason for each in undeleted})
    return context


def _empty_storage(context: ReconcileContext, stack: Stack) -> bool:
    """Empty the stack's buckets and repositories, and return whether its deletion can be ordered now."""
    context.assert_lease()
    with suppress(
        PermanentError
    ):  # AWS refuses to delete something: the stack's deletion will fail and report that
        return context.cloud.empty_storage(stack.arn, context.assert_lease)
    return True


def _is_own_pipeline(context: ReconcileContext, stack: Stack) -> bool:
    """Whether it is the stack of the environment's pipeline; without its deletion the environment is not deleted."""
    recorded = stack.arn == context.record.status.stack.stack_arn
    return stack.name == context.name and (recorded or context.environment.owns(stack.tags))


def _deploys(record: EnvironmentRecord, stack: Stack) -> bool:
    """Whether an environment's pipeline is on record to deploy a stack: by the stack's name, or by its ARN."""
    status = record.status.stack
    return stack.name in status.applications or any(each.arn == stack.arn for each in status.deployed)


def names_deployed_stacks(record: EnvironmentRecord | None) -> bool:
    """Whether a record says what the environment's pipeline deploys."""
    if record is None:
        return False
    return record.status.state in {"deleted", ASLEEP} or bool(
        record.status.stack.applications or record.status.stack.applied
    )
