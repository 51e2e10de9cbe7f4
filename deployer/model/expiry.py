"""How development environments age: when one that nobody uses is due for a warning, its end, or a night's sleep.

Pure: it looks at what is known and at the clock. Staging and production never age.
"""

from contextlib import suppress
from enum import StrEnum

from deployer.model.durations import NEVER, SEVERAL, Hours, duration, duration_text, night
from deployer.model.environments import Kind
from deployer.model.records import EnvironmentRecord

IDLE, NIGHT = "idle", "night"  # why an environment was taken down
ASLEEP = "asleep"  # the state of one that the end of the sleeping hours brings back
FOREVER = 253_402_300_799.0  # the end of the year 9999: what is kept until then is kept for good
_STANDING = {"deployed", "failed"}  # while something is under way, or waits for people, it is in use
_AGAIN_SECONDS = 3600.0  # until what could not be taken down is tried again
_LOOK_SECONDS = 1800.0  # until the next look at one for which nothing could be done
_LONGEST_LEAD = 86_400.0


class Act(StrEnum):
    """What an environment's age asks for."""

    WARN = "warn"
    CALM = "calm"  # it was warned of, and is used again
    EXPIRE = "expire"
    SLEEP = "sleep"
    WAKE = "wake"


def due(record: EnvironmentRecord, default: str, now: float) -> Act | None:
    """What an environment's age asks for now; None if nothing.

    Args:
        record: what is known of it.
        default: the installation's time to live, where the repository has no wish.
        now: epoch seconds.
    """
    if not record.environment.startswith(f"{Kind.DEVELOPMENT}:"):
        return None
    if now < record.age_looked_at + _LOOK_SECONDS:
        return None
    hours = _night(record, now)
    if record.aged == NIGHT and record.state in {ASLEEP, "failed"} and not hours:
        return Act.WAKE
    if not _stands(record) or now < record.aged_at + _AGAIN_SECONDS:
        return None
    # what its head could not bring back does not sleep
    if hours and record.state != "skipped" and used_at(record) < hours[0] and record.kept_until <= now:
        return Act.SLEEP
    ends = expires_at(record, default, now)
    if record.warned_at and not _warned(record):
        return Act.CALM
    if ends is None or now < ends - lead(record, default):
        return None
    if not _warned(record):
        return Act.WARN
    return Act.EXPIRE if now >= ends else None


def used_at(record: EnvironmentRecord) -> float:
    """When it was last used: pushed to, deployed again, or kept, in epoch seconds."""
    return max(record.used_at or record.updated_at, record.kept_at)


def expires_at(record: EnvironmentRecord, default: str, now: float) -> float | None:
    """When an environment that stands is taken down, if nobody uses it; None for never.

    Whatever its age, that is never sooner than the warning allows.
    """
    ttl = _ttl(record, default)
    if ttl == NEVER or record.kept_until >= FOREVER or not record.environment.startswith(Kind.DEVELOPMENT):
        return None
    warned, told = (record.warned_at, record.told_end) if _warned(record) else (now, 0.0)
    # what people were told stays true though the installation's time to live be shortened
    return max(used_at(record) + ttl, record.kept_until, warned + lead(record, default), told)


def lead(record: EnvironmentRecord, default: str) -> float:
    """How long before its end people are warned, in seconds: as the repository wishes, at most half its time to live.

    Without a wish it is a quarter of that time, at most a day.
    """
    ttl = _ttl(record, default)
    with suppress(ValueError):  # likewise
        if record.warn:
            return min(duration(record.warn), ttl / 2)
    return min(ttl / 4, _LONGEST_LEAD)


def asleep_until(record: EnvironmentRecord, now: float) -> float | None:
    """When an environment that sleeps is brought back; None if it does not sleep."""
    hours = _night(record, now)
    return (hours[1] if hours else now) if record.state == ASLEEP else None


def why(record: EnvironmentRecord, now: float) -> str:
    """Why an environment is taken down, and what brings it back, in words."""
    if record.aged == NIGHT:
        return f"it sleeps at {record.sleep} (sleep of deploy/deployer.yml); a push or deployer redeploy wakes it"
    idle = duration_text(now - used_at(record))
    return f"idle for {idle} ({whose_ttl(record)}); a push or deployer redeploy brings it back"


def whose_ttl(record: EnvironmentRecord) -> str:
    """Where its time to live is set, in words."""
    return "ttl of deploy/deployer.yml" if record.ttl else "DEPLOYER_TTL"


def ttl_text(record: EnvironmentRecord, default: str) -> str:
    """Its time to live, in words."""
    return record.ttl or default


def _ttl(record: EnvironmentRecord, default: str) -> float:
    try:
        return duration(ttl_text(record, default))
    except ValueError:  # a form that only a newer version knows
        return NEVER


def _stands(record: EnvironmentRecord) -> bool:
    # a head that asks for no pipeline leaves the one that is there
    return record.state in _STANDING or (record.state == "skipped" and bool(record.stack_arn))


def _warned(record: EnvironmentRecord) -> bool:
    return record.warned_at > used_at(record)


def _night(record: EnvironmentRecord, now: float) -> tuple[float, float] | None:
    """Begin and end of the hours of sleep that `now` is in."""
    if not record.sleep:
        return None
    try:
        return night(map(Hours.parse, record.sleep.split(SEVERAL)), now)
    except ValueError:  # a zone that only another machine knows: then it does not sleep
        return None
