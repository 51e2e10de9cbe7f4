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
_CLOCK_SECONDS = 60.0  # for so long the difference between Redis's clock and this machine's is believed
_PAUSE_SECONDS = 5.0  # a Redis that hangs would else cost every call to AWS its time-out


class Shared:
    """A Redis that may be away: AWS is called all the same.

    Args:
        client: a connection with `decode_responses`.
        clock_offset_ms: added to Redis's clock; only tests let time pass by it.
    """

    def __init__(self, client: redis.Redis, clock_offset_ms: int = 0) -> None:
        self._redis: Any = client  # typed for bytes and text at once, of which only text comes back here
        self._away = False
        self._next_try = 0.0
        self.clock_offset_ms = clock_offset_ms
        self._ahead = 0.0  # Redis's clock is so many seconds ahead of this machine's
        self._compared = float("-inf")

    def script(self, source: str) -> Any:
        """A script, to be called within `ask`."""
        return self._redis.register_script(source)

    def now(self) -> float:
        """Epoch seconds by Redis's clock, so that workers compare times although their own clocks differ.

        While Redis is away it is this machine's clock, as far ahead or behind as was found last.
        """
        if time.monotonic() - self._compared > _CLOCK_SECONDS and (told := self.ask(lambda r: r.time())):
            self._ahead, self._compared = told[0] + told[1] / 1e6 - time.time(), time.monotonic()
        return time.time() + self._ahead + self.clock_offset_ms / 1000

    def ask(self, question: Callable[[Any], T]) -> T | None:
        """What Redis says; None while it is away, which the log tells once.

        Args:
            question: gets the client.
        """
        if self._away and time.monotonic() < self._next_try:
            return None
        try:
            with unavailable():
                answer = question(self._redis)
        except UnavailableError as error:
            if not self._away:
                _log.warning("AWS's rates and looks are not shared between workers: %s", error)
            self._away, self._next_try = True, time.monotonic() + _PAUSE_SECONDS
            return None
        if self._away:
            _log.warning("AWS's rates and looks are shared again")
            self._away = False
        return answer


def prefix(*place: str) -> str:
    """The beginning of the keys of one account, region and maybe API; all of them are in one slot of a cluster."""
    return f"deployer:aws:{{{':'.join(place)}}}"
