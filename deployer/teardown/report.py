"""The teardown report: what a teardown removed and what it left, and why. It grows in the environment's record."""

from collections.abc import Mapping
from typing import Any

from deployer.environment.context import ReconcileContext
from deployer.model.stacks import Resource, Stack

# resources and buckets in one list of a report, for people; stacks are always listed, see `add_entry`
_LISTED_LIMIT = 100
_REASON_LIMIT = 300
_BUCKET = "AWS::S3::Bucket"


def is_stack(entry: Mapping[str, Any]) -> bool:
    """Whether an entry of a report is a stack; otherwise it is a bucket or another resource."""
    return str(entry["what"]).startswith("stack ")


def under_way(report: Mapping[str, Any]) -> bool:
    """Whether a teardown has begun and not ended."""
    return bool(report) and not report.get("at")


def change_report(context: ReconcileContext, **changes: Any) -> ReconcileContext:
    """Return a context in which some fields of the report are changed."""
    return context.with_record(receipt={**context.record.receipt, **changes})


def plan_deletions(context: ReconcileContext, *stacks: str) -> ReconcileContext:
    """Record the stacks that are to be deleted, by name and in this order."""
    return change_report(context, todo=list(stacks), arn="", left={})


def add_entry(context: ReconcileContext, where: str, entry: dict[str, Any]) -> ReconcileContext:
    """Add an entry to one list of the report, in place of an earlier entry about the same thing.

    Every stack is kept, because later decisions read the stacks: which of them may exist again, and which of them a
    resync leaves alone. Of everything else only the newest entries are listed, and the number of the others is kept.
    """
    report = context.record.receipt
    listed = [each for each in report[where] if each["id"] != entry["id"]] + [entry]
    others = [each for each in listed if not is_stack(each)]
    unlisted = dict(report.get("unlisted", {}))
    if dropped := others[:-_LISTED_LIMIT]:
        listed = [each for each in listed if each not in dropped]
        unlisted[where] = unlisted.get(where, 0) + len(dropped)
    return change_report(context, **{where: listed, "unlisted": unlisted})


def add_retained_stack(context: ReconcileContext, stack: Stack, why: str) -> tuple[ReconcileContext, str]:
    """Add a stack that is left, and return the reason as the report shows it."""
    why = " ".join(why.split())[:_REASON_LIMIT]
    return add_entry(context, "retained", {"what": f"stack {stack.name}", "id": stack.arn, "why": why}), why


def add_deleted_stack(context: ReconcileContext, stack: Stack, resources: list[Resource]) -> ReconcileContext:
    """Add a deleted stack with its buckets, and the resources that were left.

    Args:
        context: the task.
        stack: the stack, which is deleted.
        resources: its resources, as AWS lists them after the deletion.
    """
    left = context.record.receipt["left"]
    removed = [each for each in resources if each.status == "DELETE_COMPLETE"]
    entry = {"what": f"stack {stack.name}", "id": stack.arn, "resources": len(removed)}
    context = add_entry(context, "removed", entry)
    for each in removed:
        if each.type == _BUCKET:
            context = add_entry(
                context, "removed", {"what": f"bucket {each.id}", "id": each.id, "resources": 0}
            )
    for each in resources:
        if each.id and each.status != "DELETE_COMPLETE":
            why = left.get(each.name) or each.reason or "its template says to keep it (DeletionPolicy)"
            entry = {"what": f"{each.type} {each.id}", "id": each.id, "why": why[:_REASON_LIMIT]}
            context = add_entry(context, "retained", entry)
    return context


def close_report(context: ReconcileContext, outcome: str, now: float) -> ReconcileContext:
    """Close the report. What only the teardown itself needed is dropped.

    Args:
        context: the task.
        outcome: `removed`, `partly`, `cancelled` or `replaced`.
        now: epoch seconds.
    """
    report = context.record.receipt
    kept = {name: report[name] for name in ("began_at", "removed", "retained")}
    kept |= {name: report.get(name, "") for name in ("word", "told")}
    kept["unlisted"] = report.get("unlisted", {})
    return context.with_record(receipt={**kept, "at": now, "outcome": outcome})
