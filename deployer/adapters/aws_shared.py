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

    def script(self, source: str) -> Any:
        """A script, to be called within `ask`."""
        return self._redis.register_script(source)

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
