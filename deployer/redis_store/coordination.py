"""How the processes of deployer coordinate through Redis: locks, turns, heartbeats."""

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from redis.exceptions import LockError
from redis.lock import Lock

from deployer.model.errors import UnavailableError
from deployer.model.fence import UNFENCED
from deployer.model.records import FAILING_JOB
from deployer.redis_store.connection import read_server
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.repository_index import SET_TIME, RepositoryIndex
from deployer.redis_store.records.values import number

_TURN = "deployer:turn:"  # line -> when its next turn comes (ms)
_PROBE = "deployer:probe"
_CLAIM = "deployer:claim:"  # what one process at a time does
HEARTBEAT = "deployer:beat:"  # who or what -> when it was last heard of (epoch seconds by Redis's clock)
_BEATS = ("worker", "scheduler", "event", UNFENCED, FAILING_JOB)
# KEYS[1], now, every, at_once: all in ms. Turns that nobody took are kept, so many of them
_NEXT_TURN = """
local now, every, at_once = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local turn = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now - every * at_once)
redis.call('SET', KEYS[1], string.format('%.0f', turn + every), 'PX', 86400000)
return string.format('%.0f', math.max(turn + every - now, 0))
"""


class Coordination(RepositoryIndex):
    """Implements the parts of `Lanes` by which processes coordinate."""

    def turn(self, line: str, every: float, at_once: int) -> float:
        """See `Lanes.turn`."""
        with unavailable():
            arguments = [self._server_now(), int(every * 1000), at_once]
            return float(self._redis.eval(_NEXT_TURN, 1, _TURN + line, *arguments)) / 1000

    def claimed(self, what: str, seconds: float) -> AbstractContextManager[object]:
        """See `Lanes.claimed`."""
        return claimed(self._redis, _CLAIM + what, seconds)

    def beat(self, name: str, seconds: float) -> None:
        """Tell that a process is alive; that is believed for so many seconds.

        Args:
            name: `worker` or `scheduler`, any of them will do; `unfenced` from a worker without the fence in IAM.
            seconds: longer than until the next time.
        """
        with unavailable():
            self._redis.eval(SET_TIME, 1, HEARTBEAT + name, int(seconds))

    def beats(self) -> dict[str, float]:
        """See `Lanes.beats`."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for name in _BEATS:
                pipe.get(HEARTBEAT + name)
            found = pipe.execute()
        return {name: number(at) for name, at in zip(_BEATS, found, strict=True) if at}

    def ping(self) -> None:
        """See `Lanes.ping`."""
        with unavailable():
            self._redis.set(_PROBE, "1", ex=60)  # a Redis that is full or read-only answers a mere PING

    def server(self) -> dict[str, str]:
        """See `connection.read_server`."""
        return read_server(self._redis)


@contextmanager
def claimed(client: Any, key: str, seconds: float) -> Iterator[Lock | None]:
    """Hold a claim that one process at a time has, and give it back at the end.

    Args:
        client: a connection.
        key: of the claim.
        seconds: after which it is free again, if whoever holds it dies and does not renew it by `reacquire`.

    Yields:
        The claim, or None where another process holds it.

    Raises:
        UnavailableError: Redis is away.
    """
    lock: Lock = client.lock(key, timeout=seconds, blocking=False, thread_local=False)
    token = uuid.uuid4().hex
    with unavailable():
        mine = lock.acquire(token=token)
        if not mine:  # or the answer was lost, and redis-py repeated a command that had been carried out
            lock.local.token = token.encode()
            mine = lock.owned()
    try:
        yield lock if mine else None
    finally:
        if mine:
            # if Redis is away it ends by itself; if that was long ago, another holds it by now
            with suppress(LockError, UnavailableError), unavailable():
                lock.release()
