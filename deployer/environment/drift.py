"""Drift: whether someone else changed a pipeline's stack since deployer applied it; pure, from one look at it."""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from deployer.model.stacks import Phase, Stack


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
