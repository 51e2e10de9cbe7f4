"""The teardown report: what a teardown removed and what it left, and why. It grows in the environment's record."""

from collections.abc import Iterable
from typing import Any, TypeVar

from deployer.environment.context import ReconcileContext
from deployer.model.stacks import Resource, Stack
from deployer.model.teardown_report import RemovedItem, RetainedItem, TeardownPlan

# resources and buckets in one list of a report, for people; stacks are always listed, see `_with_entry`
_LISTED_LIMIT = 100
_REASON_LIMIT = 300
# what a teardown empties before it deletes a stack, by type
_STORES = {"AWS::S3::Bucket": "bucket", "AWS::ECR::Repository": "image repository"}


def change_report(context: ReconcileContext, **changes: Any) -> ReconcileContext:
    """Return a context in which some fields of the report are changed."""
    return context.with_record(receipt=context.record.status.receipt.but(**changes))


def plan_deletions(context: ReconcileContext, *stacks: str) -> ReconcileContext:
    """Record the stacks that are to be deleted, by name and in this order."""
    return change_report(context, todo=list(stacks), arn="", left={})


def add_removed(context: ReconcileContext, entry: RemovedItem) -> ReconcileContext:
    """Add what was removed to the report: see `_with_entry`."""
    report = context.record.status.receipt
    listed, dropped = _with_entry(report.removed, entry)
    unlisted = report.unlisted.but(removed=report.unlisted.removed + dropped)
    return change_report(context, removed=listed, unlisted=unlisted)


def add_retained(context: ReconcileContext, entry: RetainedItem) -> ReconcileContext:
    """Add what was left to the report: see `_with_entry`."""
    report = context.record.status.receipt
    listed, dropped = _with_entry(report.retained, entry)
    unlisted = report.unlisted.but(retained=report.unlisted.retained + dropped)
    return change_report(context, retained=listed, unlisted=unlisted)


_Item = TypeVar("_Item", RemovedItem, RetainedItem)


def _with_entry(items: Iterable[_Item], entry: _Item) -> tuple[list[_Item], int]:
    """Add an entry to one list of the report, in place of an earlier entry about the same thing.

    Every stack is kept, because later decisions read the stacks: which of them may exist again, and which of them a
    resync leaves alone. Of everything else only the newest entries are listed.

    Returns:
        The list, and how many entries are dropped.
    """
    listed: list[_Item] = [each for each in items if each.id != entry.id] + [entry]
    dropped = [each for each in listed if not each.is_stack][:-_LISTED_LIMIT]
    return [each for each in listed if each not in dropped], len(dropped)


def add_retained_stack(context: ReconcileContext, stack: Stack, why: str) -> tuple[ReconcileContext, str]:
    """Add a stack that is left, and return the reason as the report shows it."""
    why = " ".join(why.split())[:_REASON_LIMIT]
    return add_retained(context, RetainedItem(f"stack {stack.name}", stack.arn, why)), why


def add_deleted_stack(context: ReconcileContext, stack: Stack, resources: list[Resource]) -> ReconcileContext:
    """Add a deleted stack with its buckets, and the resources that were left.

    Args:
        context: the task.
        stack: the stack, which is deleted.
        resources: its resources, as AWS lists them after the deletion.
    """
    report = context.record.status.receipt
    left, retained = report.plan.left, [each for each in report.retained if each.id != stack.arn]
    context = change_report(context, retained=retained)
    removed = [each for each in resources if each.status == "DELETE_COMPLETE"]
    context = add_removed(context, RemovedItem(f"stack {stack.name}", stack.arn, len(removed)))
    for each in removed:
        if each.type in _STORES:
            context = add_removed(context, RemovedItem(f"{_STORES[each.type]} {each.id}", each.id, 0))
    for each in resources:
        if each.id and each.status != "DELETE_COMPLETE":
            why = left.get(each.name) or each.reason or "its template says to keep it (DeletionPolicy)"
            context = add_retained(
                context, RetainedItem(f"{each.type} {each.id}", each.id, why[:_REASON_LIMIT])
            )
    return context


def close_report(context: ReconcileContext, outcome: str, now: float) -> ReconcileContext:
    """Close the report. What only the teardown itself needed is dropped.

    Args:
        context: the task.
        outcome: `removed`, `partly`, `cancelled` or `replaced`.
        now: epoch seconds.
    """
    return change_report(context, plan=TeardownPlan(), ended_at=now, outcome=outcome)
