"""A pipeline that updates its own stack: deployer's tags are restored where that update has removed them."""

from collections.abc import Iterable, Mapping

from deployer.environment.cloud_region import Execution, StackAction
from deployer.environment.context import ReconcileContext, Stop
from deployer.environment.drift import state_to_compare
from deployer.model.environment_status import AppliedStack
from deployer.model.errors import PermanentError
from deployer.model.stacks import Phase


def end_self_update(context: ReconcileContext, execution: Execution) -> tuple[ReconcileContext, str] | Stop:
    """Bring the record and the tags of the pipeline's stack up to date after an execution that updated this stack.

    The update of the tags is not waited for. If it fails, the next goal finds the stack without its tags.

    Args:
        context: the task, whose goal's execution has ended.
        execution: that execution.

    Returns:
        The context, with a remark for people, which is empty if nothing was changed; a stop while the stack is busy.
    """
    arn = context.record.status.stack.stack_arn
    if not arn or not updates_own_stack(context, execution.stack_actions):
        return context, ""
    stack = context.cloud.stack(arn)
    if stack is None or not context.owns_stack(stack):
        return context, ""
    if stack.phase is Phase.BUSY:
        return Stop(context.snooze())
    if stack.phase is not Phase.READY:
        return context, ""
    if context.environment.owns(stack.tags):
        # the update is the pipeline's own, and no drift
        return context.with_record(applied=state_to_compare(stack), drift=""), ""
    cause = "; its pipeline's update of its own stack removed deployer's tags, which"
    try:
        return order_tags(context), f"{cause} are restored: add the content of StackConfiguration to its tags"
    except PermanentError as error:
        return context, f"{cause} could not be restored: {error}"


def updates_own_stack(context: ReconcileContext, actions: Iterable[StackAction]) -> bool:
    """Whether one of an execution's actions updates the stack of its own pipeline."""
    return any(each.stack_name == context.name for each in actions)


def order_tags(context: ReconcileContext) -> ReconcileContext:
    """Order an update that restores the tags of the pipeline's stack.

    Raises:
        PermanentError: AWS refuses the update.
    """
    status = context.record.status.stack
    tags = {**status.own_tags, **context.environment.tags}
    context.assert_lease()
    context.cloud.restore_tags(
        status.stack_arn, tags, context.idempotency_token(f"tags {context.work.progress.execution}")
    )
    return pause_drift_check(context)


def deployer_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags that deployer gives to a stack, without those of people."""
    return {key: value for key, value in tags.items() if key.startswith("deployer:")}


def pause_drift_check(context: ReconcileContext) -> ReconcileContext:
    """Forget the applied stack until a task sees the end of the operation that deployer has just ordered.

    Another goal may see that end first, and would take the change for somebody else's.
    """
    return context.with_record(applied=AppliedStack(), drift="")
