"""When an unused development environment is warned of, deleted, put to sleep or woken.

The functions read a record and a time, and have no side effects. Staging and production never expire.
"""

import math
from contextlib import suppress
from enum import StrEnum

from deployer.model.durations import NEVER, SEVERAL, Hours, duration_text, merged_period, parse_duration
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Kind

IDLE, NIGHT = "idle", "night"  # why an environment was deleted: it was unused, or its sleeping hours began
ASLEEP = "asleep"  # the state of an environment that is created again when its sleeping hours end
FOREVER = 253_402_300_799.0  # the end of the year 9999, which stands for an environment that is never deleted
_IDLE_STATES = {
    "deployed",
    "failed",
}  # in other states, work on the environment is in progress or waits for people
_RETRY_SECONDS = 3600.0  # before a deletion that failed is tried again
_CHECK_SECONDS = 1800.0  # before the next check of an environment for which nothing could be done
_LONGEST_LEAD_SECONDS = 86_400.0


class AgeAction(StrEnum):
    """What is due for an environment because of its age."""

    WARN = "warn"
    WITHDRAW_WARNING = "calm"  # the environment is used again after a warning
    EXPIRE = "expire"
    SLEEP = "sleep"
    WAKE = "wake"


def due_age_action(record: EnvironmentRecord, default: str, now: float) -> AgeAction | None:
    """What is due for an environment because of its age now; None if nothing is.

    Args:
        record: the environment's record.
        default: the installation's time to live, for a repository that sets none.
        now: epoch seconds.
    """
    if not record.environment.startswith(f"{Kind.DEVELOPMENT}:"):
        return None
    if now < record.history.age_looked_at + _CHECK_SECONDS:
        return None
    hours = _current_sleep(record, now)
    if record.spec.expiry.aged == NIGHT and record.status.state in {ASLEEP, "failed"} and not hours:
        return AgeAction.WAKE
    if not _is_idle(record) or now < record.spec.expiry.aged_at + _RETRY_SECONDS:
        return None
    if hours and _may_sleep(record, hours[0], now):
        return AgeAction.SLEEP
    return _due_by_ttl(record, default, now)


def next_age_check(record: EnvironmentRecord, default: str, now: float) -> float:
    """The first time at which something may be due for an environment, as long as its record stays as it is.

    Epoch seconds; now if something is due, infinity for never. It may be too early, because another check then follows.

    Args:
        record: the environment's record.
        default: the installation's time to live, for a repository that sets none.
        now: epoch seconds.
    """
    if due_age_action(record, default, now):
        return now
    expiry = record.spec.expiry
    wakes = expiry.aged == NIGHT and record.status.state in {ASLEEP, "failed"}
    if not record.environment.startswith(f"{Kind.DEVELOPMENT}:") or not (wakes or _is_idle(record)):
        return math.inf
    times = [
        record.history.age_looked_at + _CHECK_SECONDS,
        expiry.aged_at + _RETRY_SECONDS,
        expiry.kept_until,
        *_next_sleep_changes(record, now),
    ]
    expires = expires_at(record, default, now)
    if expires is not None and _was_warned(record):
        times.append(expires)
    elif expires is not None:
        unwarned_end = max(used_at(record) + _ttl_seconds(record, default), expiry.kept_until)
        times.append(unwarned_end - warning_lead_seconds(record, default))
    return min((each for each in times if each > now), default=math.inf)


def _may_sleep(record: EnvironmentRecord, began_at: float, now: float) -> bool:
    """Whether an environment was not used or kept since its sleeping hours began.

    A skipped environment does not sleep, because deploying its branch's head would not create it again.
    """
    return (
        record.status.state != "skipped"
        and used_at(record) < began_at
        and record.spec.expiry.kept_until <= now
    )


def _due_by_ttl(record: EnvironmentRecord, default: str, now: float) -> AgeAction | None:
    """Which step of the expiry is due: the warning, its withdrawal, or the deletion."""
    is_warned, expires = _was_warned(record), expires_at(record, default, now)
    if record.history.warned_at and not is_warned:
        return AgeAction.WITHDRAW_WARNING
    if expires is None or now < expires - warning_lead_seconds(record, default):
        return None
    if not is_warned:
        return AgeAction.WARN
    return AgeAction.EXPIRE if now >= expires else None


def used_at(record: EnvironmentRecord) -> float:
    """When an environment was last used, that is pushed to, redeployed or kept (epoch seconds)."""
    return max(record.history.used_at or record.updated_at, record.spec.expiry.kept_at)


def expires_at(record: EnvironmentRecord, default: str, now: float) -> float | None:
    """When an existing environment is deleted if nobody uses it (epoch seconds); None for never.

    At least `warning_lead_seconds` pass between a warning and the deletion.

    Args:
        record: the environment's record.
        default: the installation's time to live, for a repository that sets none.
        now: epoch seconds.
    """
    ttl = _ttl_seconds(record, default)
    if (
        ttl == NEVER
        or record.spec.expiry.kept_until >= FOREVER
        or not record.environment.startswith(Kind.DEVELOPMENT)
    ):
        return None
    warned_at, announced = (
        (record.history.warned_at, record.history.told_end) if _was_warned(record) else (now, 0.0)
    )
    # the time that a warning announced stays valid even if the installation's time to live is shortened
    return max(
        used_at(record) + ttl,
        record.spec.expiry.kept_until,
        warned_at + warning_lead_seconds(record, default),
        announced,
    )


def warning_lead_seconds(record: EnvironmentRecord, default: str) -> float:
    """How long before the deletion people are warned, in seconds.

    It is what the repository sets, at most half the time to live. If the repository sets nothing, it is a quarter of
    the time to live, at most a day.
    """
    ttl = _ttl_seconds(record, default)
    with suppress(ValueError):  # a form that only a newer version knows
        if record.spec.expiry.warn:
            return min(parse_duration(record.spec.expiry.warn), ttl / 2)
    return min(ttl / 4, _LONGEST_LEAD_SECONDS)


def asleep_until(record: EnvironmentRecord, now: float) -> float | None:
    """When a sleeping environment is created again (epoch seconds); None if it does not sleep."""
    hours = _current_sleep(record, now)
    return (hours[1] if hours else now) if record.status.state == ASLEEP else None


def expiry_reason(record: EnvironmentRecord, now: float) -> str:
    """Why an environment is deleted because of its age, and what creates it again, as a sentence."""
    expiry = record.spec.expiry
    if expiry.aged == NIGHT:
        return f"it sleeps at {expiry.sleep} (sleep of deploy/deployer.yml); a push or deployer redeploy wakes it"
    idle = duration_text(now - used_at(record))
    return f"idle for {idle} ({ttl_source(record)}); a push or deployer redeploy brings it back"


def ttl_source(record: EnvironmentRecord) -> str:
    """Which setting an environment's time to live comes from."""
    return "ttl of deploy/deployer.yml" if record.spec.expiry.ttl else "DEPLOYER_TTL"


def ttl_text(record: EnvironmentRecord, default: str) -> str:
    """An environment's time to live, as the repository or else the installation wrote it."""
    return record.spec.expiry.ttl or default


def _ttl_seconds(record: EnvironmentRecord, default: str) -> float:
    try:
        return parse_duration(ttl_text(record, default))
    except ValueError:  # a form that only a newer version knows
        return NEVER


def _is_idle(record: EnvironmentRecord) -> bool:
    # a skipped push leaves the pipeline of an earlier push in place
    return record.status.state in _IDLE_STATES or (
        record.status.state == "skipped" and bool(record.status.stack.stack_arn)
    )


def _was_warned(record: EnvironmentRecord) -> bool:
    return record.history.warned_at > used_at(record)


def _next_sleep_changes(record: EnvironmentRecord, now: float) -> list[float]:
    """When each of the environment's sleeping hours begins or ends next (epoch seconds)."""
    if not record.spec.expiry.sleep:
        return []
    try:
        return [Hours.parse(each).next_change(now) for each in record.spec.expiry.sleep.split(SEVERAL)]
    except ValueError:  # this machine does not know the time zone, so the environment does not sleep
        return []


def _current_sleep(record: EnvironmentRecord, now: float) -> tuple[float, float] | None:
    """Begin and end of the sleeping hours that contain `now` (epoch seconds); None outside of them."""
    if not record.spec.expiry.sleep:
        return None
    try:
        return merged_period(map(Hours.parse, record.spec.expiry.sleep.split(SEVERAL)), now)
    except ValueError:  # this machine does not know the time zone, so the environment does not sleep
        return None
