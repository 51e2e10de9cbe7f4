"""What all workers share about an account's region, as Protocols that a store implements."""

from collections.abc import Callable, Iterable
from typing import Protocol

from deployer.environment.cloud_region import RegionCapacity


class RateLimit(Protocol):
    """Limits the calls of all workers together to one region of an account."""

    def wait_for_turn(self, service: str, operation: str) -> None:
        """Wait until this call may be sent, at most some seconds.

        Args:
            service: the service's name in botocore, such as `cloudformation`.
            operation: the operation's name, such as `DescribeStacks`.

        Raises:
            ThrottledError: the wait would be longer; `retry_after` says how long.
        """

    def lower_rate(self, service: str, operation: str) -> None:
        """Lower the rate of all workers for a while, because AWS throttled a call."""


class RegionStatus(Protocol):
    """What the workers share about one region: its busy stacks, as well as how many stacks and pipelines it has."""

    def now(self) -> float:
        """Return the time in epoch seconds by the clock that all times here are compared with."""

    def is_busy(self, name: str, since: float, list_stacks: Callable[[], object]) -> bool:
        """Whether a listing that began after `since` shows an operation in progress on a stack.

        Args:
            name: the stack's name or ARN.
            since: epoch seconds by `now`.
            list_stacks: lists all stacks and calls `save_listing_summary`. Called if a listing is worth its calls.
        """

    def save_listing_summary(self, began: float, pages: int, stacks: int, busy: Iterable[str]) -> None:
        """Save the result of a listing of all stacks: its begin by `now`, its calls, and the busy names and ARNs."""

    def cached_count(self, what: str, within: float = ...) -> tuple[int, float] | None:
        """Return a count of the last `within` seconds and its time (by `now`); None if there is none."""

    def save_count(self, what: str, number: int, at: float) -> None:
        """Save a count that was made at a time by `now`."""

    def add_to_counts(self, by: int) -> None:
        """Add to the counts of stacks and pipelines, because deployer created (+1) or deleted (-1) an environment's."""

    def forget_counts(self) -> None:
        """Delete the counts, because AWS has shown that they are wrong."""

    def save_last_count(self, room: RegionCapacity) -> None:
        """Save a complete count of the region, for processes that only show it."""


class Sharing(Protocol):
    """Gives access to what all workers share about an account's region."""

    def region_status(self, account: str, region: str) -> RegionStatus:
        """Return what is shared about a region."""

    def rate_limit(self, account: str, region: str) -> RateLimit:
        """Return the limit of the calls to a region."""
