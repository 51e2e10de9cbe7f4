"""The order of tags by time: the newest allowed tag is what production runs."""

from enum import StrEnum


class Order(StrEnum):
    """The relation of a tag, or of a person's request, to what production should run."""

    NEWER = "newer"
    OLDER = "older"
    UNKNOWN = "unknown"


def compare_with_production(
    pushed_at: float, made_at: float, decided_at: float, own_made_at: float = 0
) -> Order:
    """Compare a tag with what production should run.

    The time of a tag is the time of its push, or the tag's own date if the push is unknown. Tags that were pushed in
    the same second are compared by their own dates. All times are epoch seconds, and 0 if they are unknown.

    Args:
        pushed_at: when GitHub received the tag's push.
        made_at: the tag's own date: the tagger's, or that of its commit.
        decided_at: when it was decided what production should run: the time of its tag, or when a person asked for it.
        own_made_at: the date of the tag that production should run. It counts only if the times are equal.

    Returns:
        `UNKNOWN` if a time is unknown, or if the two cannot be distinguished.
    """
    at = pushed_at or made_at
    if not at or not decided_at:
        return Order.UNKNOWN
    if at == decided_at and made_at and own_made_at:
        at, decided_at = made_at, own_made_at
    if at == decided_at:
        return Order.UNKNOWN
    return Order.NEWER if at > decided_at else Order.OLDER
