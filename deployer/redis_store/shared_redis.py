"""The Redis in which workers share data about AWS and GitHub; without it, each worker continues alone."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis

from deployer.model.errors import UnavailableError
from deployer.redis_store.errors import unavailable

_log = logging.getLogger(__name__)
T = TypeVar("T")
_CLOCK_TRUSTED_SECONDS = (
    60.0  # the difference between the clocks of Redis and this machine is measured this often
)
_PAUSE_SECONDS = 5.0  # no attempt in this time: a Redis that hangs would delay every call by its timeout


class SharedRedis:
    """A Redis that may be unavailable. Its users then continue without shared data, and still call AWS and GitHub.

    Args:
        client: a connection with `decode_responses`.
        clock_offset_ms: milliseconds to add to Redis's clock. Only tests use it, to let time pass.
        shares: what is not shared while Redis is unavailable, for the log.
    """

    def __init__(
        self, client: redis.Redis, clock_offset_ms: int = 0, shares: str = "rates and listings of AWS"
    ) -> None:
        self._redis: Any = client  # redis-py's types allow bytes as well; this connection returns only text
        self._unavailable = False
        self._next_attempt_at = 0.0
        self.clock_offset_ms = clock_offset_ms
        self._shares = shares
        self._clock_difference = 0.0  # seconds that Redis's clock is ahead of this machine's
        self._clock_compared_at = float("-inf")

    def register_script(self, source: str) -> Any:
        """Register a Lua script. Call it within `run_if_available`."""
        return self._redis.register_script(source)

    def now(self) -> float:
        """Return the time in epoch seconds by Redis's clock, because the clocks of the workers' machines may differ.

        While Redis is unavailable, this is this machine's clock plus the last measured difference.
        """
        if time.monotonic() - self._clock_compared_at > _CLOCK_TRUSTED_SECONDS and (
            redis_time := self.run_if_available(lambda r: r.time())
        ):
            self._clock_difference, self._clock_compared_at = (
                redis_time[0] + redis_time[1] / 1e6 - time.time(),
                time.monotonic(),
            )
        return time.time() + self._clock_difference + self.clock_offset_ms / 1000

    def run_if_available(self, command: Callable[[Any], T]) -> T | None:
        """Run a command and return its result; None while Redis is unavailable, which is logged once.

        Args:
            command: called with the client.
        """
        if self._unavailable and time.monotonic() < self._next_attempt_at:
            return None
        try:
            with unavailable():
                answer = command(self._redis)
        except UnavailableError as error:
            if not self._unavailable:
                _log.warning("the workers do not share %s: %s", self._shares, error)
            self._unavailable, self._next_attempt_at = True, time.monotonic() + _PAUSE_SECONDS
            return None
        if self._unavailable:
            _log.warning("the workers share %s again", self._shares)
            self._unavailable = False
        return answer


def key_prefix(*place: str) -> str:
    """Return the prefix of the keys of an account, region and optionally API. Its hash tag puts them in one slot."""
    return f"deployer:aws:{{{':'.join(place)}}}"
