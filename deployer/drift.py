"""Drift: whether someone else changed a pipeline's stack since deployer applied it; told from one look at it."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from deployer.ledger import Cause, Outcome
from deployer.run import Run, Settled
from deployer.stacks import Phase, Stack


def applied(stack: Stack) -> dict[str, Any]:
    """What is kept of a stack when deployer has applied it, to compare later looks with."""
    tags = hashlib.sha256(json.dumps(sorted(stack.tags.items())).encode()).hexdigest()[:16]
    return {"at": stack.changed_at, "parameters": stack.parameters, "tags": tags}


def drift(stack: Stack, kept: Mapping[str, Any]) -> str:
    """How a stack differs from what was applied, in words for people; empty if it does not or nothing was kept.

    Every update of a stack moves its time, whoever orders it, so a changed template shows too. What is changed in a
    stack's resources beside CloudFormation does not: that is CloudFormation's own drift detection, of minutes a stack.

    Args:
        stack: as it is.
        kept: what `applied` gave after deployer's own last operation.
    """
    now = applied(stack)
    if not kept or stack.phase is not Phase.READY or now == kept:
        return ""
    changed = [name for name in ("parameters", "tags") if now[name] != kept.get(name)]
    when = datetime.fromtimestamp(stack.changed_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    what = " and ".join(changed) or "template, or nothing that shows,"
    return f"its stack's {what} changed outside deployer at {when}"


def note_drift(run: Run, stack: Stack | None) -> None:
    """Tell of what someone else changed in the stack; who only looks leaves it so.

    Raises:
        Settled: it is the only thing that could be mended, and nobody asked for that.
    """
    work, record = run.work, run.record
    if stack is None or work.created or work.updated or work.recovered:
        return
    if not run.environment.owns(stack.tags):
        return
    if stack.phase is Phase.READY:
        run.record = record = record.but(
            drift=drift(stack, record.applied), stack_arn=stack.arn, region=run.cloud.region
        )
    ended = record.commit == work.sha and record.outcome in {Outcome.DEPLOYED, Outcome.FAILED}
    if work.cause == Cause.RESYNC and record.drift and ended:
        raise Settled(run.done(Outcome.SKIPPED, f"{record.drift}; redeploy to undo that"))
