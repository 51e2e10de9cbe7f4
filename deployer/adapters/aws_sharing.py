"""What the AWS adapter needs to share among all workers, as Protocols."""

from collections.abc import Callable, Iterable
from typing import Protocol

from deployer.ports import Room


class RateLimit(Protocol):
    """How fast all workers together may call one account's region."""

    def take(self, service: str, operation: str) -> None:
        """Return when this call may be made, within some seconds.

        Raises:
            ThrottledError: that would take longer.
        """

    def refused(self, service: str, operation: str) -> None:
        """AWS has throttled a call: lower the rate of all workers for a while."""


class RegionSurvey(Protocol):
    """What all workers know of one account's region: the last look at all its stacks, and how full it is."""

    def now(self) -> float:
        """The time in epoch seconds by the clock that every time here is compared with."""

    def busy(self, name: str, since: float, look: Callable[[], object]) -> bool:
        """Whether a look that began after `since` found a stack at work; `look` makes one and calls `looked`."""

    def looked(self, began: float, pages: int, stacks: int, busy: Iterable[str]) -> None:
        """Keep what a look at all stacks showed."""

    def count(self, what: str, within: float = ...) -> tuple[int, float] | None:
        """What was counted within so many seconds, and when (by `now`)."""

    def counted(self, what: str, number: int, at: float) -> None:
        """Keep a number that was counted at a time by `now`."""

    def changed(self, by: int) -> None:
        """An environment's stack and pipeline have come or gone."""

    def forget_counts(self) -> None:
        """What was counted cannot be true."""

    def keep_last_count(self, room: Room) -> None:
        """Store a complete count of this region, for processes that only show it."""


class Sharing(Protocol):
    """Makes what all workers share about an account's region."""

    def region_survey(self, account: str, region: str) -> RegionSurvey:
        """What is known of the region."""

    def rate_limit(self, account: str, region: str) -> RateLimit:
        """The limit of the calls to the region."""
