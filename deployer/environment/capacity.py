"""The capacity of a region: whether one more environment fits within the quotas of its account."""

from collections.abc import Callable, Iterable

from deployer.environment.cloud_region import RegionCapacity
from deployer.model.durations import clock
from deployer.model.environments import Kind
from deployer.model.targets import Target

# each quota of a region: what it counts, how many there are, how many there may be
_KINDS: tuple[tuple[str, Callable[[RegionCapacity], int], Callable[[RegionCapacity], int]], ...] = (
    ("stacks", lambda room: room.stacks, lambda room: room.stacks_limit),
    ("pipelines", lambda room: room.pipelines, lambda room: room.pipelines_limit),
)


def refusal_of_region(room: RegionCapacity, target: Target, kind: Kind) -> str:
    """Return why no new environment of a kind may be created in a region; empty if one may.

    Development environments leave `target.reserve` of each quota free; staging and production may use all of it.

    Returns:
        At most 110 characters, short enough for a commit's status. It contains the time of the count, because the
        status may be read much later.
    """
    reserve = target.reserve if kind is Kind.DEVELOPMENT else 0
    if room.free > reserve:
        return ""
    name, used, limit = min(_KINDS, key=lambda each: each[2](room) - each[1](room))
    kept = f", {reserve} kept for staging and production" if reserve else ""
    counted = f" at {clock(room.counted_at)}" if room.counted_at else ""
    return f"no room in {room.region}: {used(room)} of {limit(room)} {name} used{counted}{kept}"[:110]


def fullest_last(rooms: Iterable[RegionCapacity]) -> list[RegionCapacity]:
    """Sort the regions by capacity, so that a new environment belongs in the first one.

    Of regions with equal capacity, the one that the target names first comes first.
    """
    return sorted(rooms, key=lambda room: -room.free)
