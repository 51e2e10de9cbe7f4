"""What the workers tell each other about AWS in Redis. Without Redis each of them goes on by itself."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis

from deployer.adapters.redis_client import unavailable
from deployer.errors import UnavailableError

_log = logging.getLogger(__name__)
T = TypeVar("T")
_CLOCK_TRUSTED_SECONDS = (
    60.0  # for so long the difference between Redis's clock and this machine's is believed
)
_PAUSE_SECONDS = 5.0  # a Redis that hangs would else cost every call to AWS its time-out


class SharedRedis:
    """A Redis that may be away: AWS is called all the same.

    Args:
        client: a connection with `decode_responses`.
        clock_offset_ms: added to Redis's clock; only tests let time pass by it.
    """

    def __init__(self, client: redis.Redis, clock_offset_ms: int = 0) -> None:
        self._redis: Any = client  # typed for bytes and text at once, of which only text comes back here
        self._unavailable = False
        self._next_attempt_at = 0.0
        self.clock_offset_ms = clock_offset_ms
        self._clock_difference = 0.0  # Redis's clock is so many seconds ahead of this machine's
        self._clock_compared_at = float("-inf")

    def register_script(self, source: str) -> Any:
        """A script, to be called within `ask`."""
        return self._redis.register_script(source)

    def now(self) -> float:
        """Epoch seconds by Redis's clock, so that workers compare times although their own clocks differ.

        While Redis is away it is this machine's clock, as far ahead or behind as was found last.
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
        """What Redis says; None while it is away, which the log tells once.

        Args:
            question: gets the client.
        """
        if self._unavailable and time.monotonic() < self._next_attempt_at:
            return None
        try:
            with unavailable():
                answer = command(self._redis)
        except UnavailableError as error:
            if not self._unavailable:
                _log.warning("AWS's rates and looks are not shared between workers: %s", error)
            self._unavailable, self._next_attempt_at = True, time.monotonic() + _PAUSE_SECONDS
            return None
        if self._unavailable:
            _log.warning("AWS's rates and looks are shared again")
            self._unavailable = False
        return answer


def key_prefix(*place: str) -> str:
    """The beginning of the keys of one account, region and maybe API; all of them are in one slot of a cluster."""
    return f"deployer:aws:{{{':'.join(place)}}}"
