"""Whether a region has room for one more environment, and when it will be full."""

from collections.abc import Callable, Iterable, Sequence

from deployer.environments import Kind
from deployer.ports import Room
from deployer.targets import Target
from deployer.times import clock

_DAY = 86400
_DAYS = 14  # older counts say little of how it grows now
_LEAST_DAYS = 1  # one morning's growth says nothing of a week's

# what a region may run out of: its name, how many there are, how many there may be
_KINDS: tuple[tuple[str, Callable[[Room], int], Callable[[Room], int]], ...] = (
    ("stacks", lambda room: room.stacks, lambda room: room.stacks_limit),
    ("pipelines", lambda room: room.pipelines, lambda room: room.pipelines_limit),
)


def admits(room: Room, target: Target, kind: Kind) -> str:
    """Why no new environment of a kind may be made in a region; empty if one may.

    Development leaves `target.reserve` of each free; staging and production may use all.

    Returns:
        At most 110 characters, fit for a commit's status; it gives the time of the count, which the status may outlive.
    """
    reserve = target.reserve if kind is Kind.DEVELOPMENT else 0
    if room.free > reserve:
        return ""
    name, used, limit = min(_KINDS, key=lambda each: each[2](room) - each[1](room))
    kept = f", {reserve} kept for staging and production" if reserve else ""
    counted = f" at {clock(room.counted_at)}" if room.counted_at else ""
    return f"no room in {room.region}: {used(room)} of {limit(room)} {name} used{counted}{kept}"[:110]


def fullest_last(rooms: Iterable[Room]) -> list[Room]:
    """The regions by how many more environments they have room for, so the first is where a new one belongs.

    Of equals the one that is named first in the target comes first.
    """
    return sorted(rooms, key=lambda room: -room.free)


def forecast(history: Sequence[Room], now: float) -> float | None:
    """In how many days a region will be full, if it goes on as in the last 14 days.

    Args:
        history: counts of one region, oldest first.
        now: epoch seconds.

    Returns:
        0 where it is full; None where it does not grow, or where less than a day of it is known.
    """
    recent = [room for room in history if room.counted_at >= now - _DAYS * _DAY]
    if not recent:
        return None
    latest = recent[-1]
    if latest.free == 0:
        return 0.0
    times = [(room.counted_at - now) / _DAY for room in recent]
    if times[-1] - times[0] < _LEAST_DAYS:
        return None
    found = []
    for _, used, limit in _KINDS:
        growth = _slope(times, [used(room) for room in recent])
        if growth > 0:
            days = (limit(latest) - used(latest)) / growth
            found.append(max(0.0, days + times[-1]))
    return min(found, default=None)


def _slope(times: Sequence[float], values: Sequence[float]) -> float:
    """What a line of least squares gains per unit of time."""
    middle, mean = sum(times) / len(times), sum(values) / len(values)
    spread = sum((time - middle) ** 2 for time in times)
    slope = sum((time - middle) * (value - mean) for time, value in zip(times, values, strict=True)) / spread
    return slope if slope > 1e-6 else 0.0  # less than one in a thousand years is the arithmetic's own
