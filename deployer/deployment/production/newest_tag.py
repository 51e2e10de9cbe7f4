"""Decides which of two wishes for production is the newer one: the newest allowed tag wins."""

from enum import StrEnum


class Order(StrEnum):
    """How a tag, or what a person asks for, stands to what production should run."""

    NEWER = "newer"
    OLDER = "older"
    UNKNOWN = "unknown"


def order(pushed_at: float, made_at: float, decided_at: float, own_made_at: float = 0) -> Order:
    """Compare a tag with what production should run.

    A tag's time is that of its push, or its own date where that is not known. Tags that were pushed in the same second
    are compared by their own dates. All times are epoch seconds, and 0 where they are not known.

    Args:
        pushed_at: when GitHub took the tag's push.
        made_at: the tag's own date: the tagger's, or that of its commit.
        decided_at: when it was decided what production should run: the time of its tag, or when a person asked for it.
        own_made_at: the own date of the tag that production should run; it only counts where the times are equal.

    Returns:
        `UNKNOWN` where a time is not known, or where nothing tells the two apart.
    """
    at = pushed_at or made_at
    if not at or not decided_at:
        return Order.UNKNOWN
    if at == decided_at and made_at and own_made_at:
        at, decided_at = made_at, own_made_at
    if at == decided_at:
        return Order.UNKNOWN
    return Order.NEWER if at > decided_at else Order.OLDER
