"""The refused tag of production that is worth another check."""

from deployer.model.environment_record import EnvironmentRecord
from deployer.queue.items import Cause, Work

# After this time since a tag's push only a person can deploy the tag, because its author no longer expects that.
RECHECK_SECONDS = 3600


def refused_tag_to_recheck(record: EnvironmentRecord, now: float) -> Work | None:
    """Work that checks the newest refused tag again, because a push to the default branch may contain its commit.

    Args:
        record: production's record.
        now: epoch seconds by Redis's clock.

    Returns:
        None if a push cannot change the decision, or `RECHECK_SECONDS` after the tag's own push.
    """
    refused = next((each for each in reversed(record.history.refused_tags) if each.recheck), None)
    if not refused or refused.pushed_at <= record.decision_time:
        return None
    if now - refused.accepted_at > RECHECK_SECONDS:
        return None
    return Work.of(
        environment=record.environment, cause=Cause.PUSH, ref=refused.ref, after=refused.object,
        pushed_at=refused.pushed_at, candidate=True,
    )  # fmt: skip
