"""Decides whether a region has room for one more environment."""

from collections.abc import Callable, Iterable

from deployer.environment.cloud_region import Room
from deployer.model.durations import clock
from deployer.model.environments import Kind
from deployer.model.targets import Target

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
