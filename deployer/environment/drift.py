"""Drift: whether someone else changed a pipeline's stack after deployer applied it."""

import hashlib
import json
from datetime import UTC, datetime

from deployer.environment.context import ReconcileContext, Stop
from deployer.model.environment_status import AppliedStack
from deployer.model.outcomes import Outcome
from deployer.model.stacks import Phase, Stack
from deployer.queue.items import Cause


def state_to_compare(stack: Stack) -> AppliedStack:
    """The state of a stack that deployer has just applied, for later comparison."""
    tags = hashlib.sha256(json.dumps(sorted(stack.tags.items())).encode()).hexdigest()[:16]
    return AppliedStack(stack.changed_at, stack.parameters, tags)


def describe_drift(stack: Stack, kept: AppliedStack) -> str:
    """How a stack differs from what deployer applied, in one line; empty if it does not or nothing was kept.

    Every update of a stack changes its time, whoever orders it, so a changed template shows too. Changes that bypass
    CloudFormation do not show: CloudFormation's own drift detection finds them, and takes minutes for each stack.

    Args:
        stack: the stack as it is now.
        kept: the result of `state_to_compare` after deployer's own last operation.
    """
    now = state_to_compare(stack)
    same = (now.at, now.parameters, now.tags) == (kept.at, kept.parameters, kept.tags)
    if not kept or stack.phase is not Phase.READY or same:
        return ""
    changed = ["parameters"] * (now.parameters != kept.parameters) + ["tags"] * (now.tags != kept.tags)
    when = datetime.fromtimestamp(stack.changed_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    what = " and ".join(changed) or "template, or nothing that shows,"
    return f"its stack's {what} changed outside deployer at {when}"


def adopt_unrecorded_stack(context: ReconcileContext, stack: Stack) -> ReconcileContext:
    """Record a stack that the record does not know because Redis was lost, and what its pipeline deploys.

    The record must know it, whatever becomes of the goal: otherwise a teardown of another environment could delete
    what this pipeline deploys.
    """
    if context.record.status.stack.stack_arn or not context.environment.owns(stack.tags):
        return context
    if stack.phase in {Phase.GONE, Phase.DELETING}:
        return context
    record = context.record
    return context.with_record(
        applications=context.cloud.deployed_stacks(context.name) or record.status.stack.applications,
        applied=record.status.stack.applied
        or (state_to_compare(stack) if stack.phase is Phase.READY else AppliedStack()),
        region=context.cloud.region,
        stack_arn=stack.arn,
    )


def record_drift(context: ReconcileContext, stack: Stack | None) -> ReconcileContext | Stop:
    """Record what someone else changed in the stack.

    Args:
        context: the task.
        stack: the environment's stack; None if the environment has none or should have none.

    Returns:
        A stop if drift is the only difference and the task is a resync: only a redeployment corrects drift.
    """
    work = context.work
    if stack is None or work.progress.created or work.progress.updated or work.progress.recovered:
        return context
    if not context.environment.owns(stack.tags):
        return context
    context = adopt_unrecorded_stack(context, stack)
    if stack.phase is Phase.READY:
        found = describe_drift(stack, context.record.status.stack.applied)
        context = context.with_record(drift=found, stack_arn=stack.arn, region=context.cloud.region)
    record = context.record
    ended = record.spec.commit == work.spec.sha and record.status.outcome in {
        Outcome.DEPLOYED,
        Outcome.FAILED,
    }
    if work.cause == Cause.RESYNC and record.status.stack.drift and ended:
        return Stop(context.done(Outcome.SKIPPED, f"{record.status.stack.drift}; redeploy to undo that"))
    return context
