"""What an environment leaves outside its stacks: log groups of builds, which a teardown deletes, and StackSets."""

from collections.abc import Iterator, Sequence

from deployer.environment.context import ReconcileContext
from deployer.model.environments import Kind
from deployer.model.errors import PermanentError
from deployer.model.stacks import Resource, Stack
from deployer.model.teardown_report import RemovedItem, RetainedItem
from deployer.teardown.report import add_removed, add_retained

_STACK_SETS_LIMIT = 20  # names that a record keeps
# types of resources that may have build projects
_PROJECT_TYPES = {"AWS::CodeBuild::Project", "AWS::CloudFormation::Stack"}
_STACK_SET_REASON = "its pipeline deploys it, perhaps with other branches; only a person deletes a StackSet"


def known_stack_sets(context: ReconcileContext) -> list[str]:
    """The names of the StackSets that the environment's pipeline deploys, or has deployed as far as is recorded."""
    recorded = context.record.status.stack.stack_sets
    return list(dict.fromkeys([*recorded, *context.cloud.stack_sets(context.name)]))[-_STACK_SETS_LIMIT:]


def stack_sets_left(context: ReconcileContext) -> Iterator[RetainedItem]:
    """The StackSets of the record, as a teardown reports them: it deletes none."""
    for name in context.record.status.stack.stack_sets:
        yield RetainedItem(what=f"StackSet {name}", id=f"stackset/{name}", why=_STACK_SET_REASON)


def delete_build_logs(
    context: ReconcileContext, stack: Stack, resources: Sequence[Resource]
) -> ReconcileContext:
    """Delete the log groups that CodeBuild created for the projects of a deleted stack, and add them to the report.

    Args:
        context: the task.
        stack: the stack, which is deleted.
        resources: its resources.
    """
    if not any(each.type in _PROJECT_TYPES for each in resources):
        return context
    try:
        found = context.cloud.build_logs(stack.arn)
    except PermanentError as error:
        return add_retained(
            context, RetainedItem(what="build logs", id=f"build logs of {stack.arn}", why=str(error))
        )
    for logs in found:
        why = logs.why_kept or _delete_log_group(context, logs.name)
        what = f"log group {logs.name}"
        if why:
            context = add_retained(context, RetainedItem(what=what, id=logs.name, why=why))
        else:
            context = add_removed(context, RemovedItem(what=what, id=logs.name, resources=0))
    return context


def _delete_log_group(context: ReconcileContext, name: str) -> str:
    """Delete a log group; returns why it stays, and an empty text if it is gone."""
    if context.environment.kind is not Kind.DEVELOPMENT:
        return "deployer deletes the logs of builds in development only"
    context.assert_lease()
    try:
        return context.cloud.delete_build_logs(name)
    except PermanentError as error:
        return str(error)
