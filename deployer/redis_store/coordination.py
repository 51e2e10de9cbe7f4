"""How the processes of deployer coordinate through Redis: locks, turns, heartbeats."""

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

from redis.exceptions import LockError
from redis.lock import Lock

from deployer.model.errors import UnavailableError
from deployer.model.targets import UNFENCED
from deployer.queue.store import FAILING_JOB
from deployer.redis_store.connection import read_server
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.repository_index import SET_KEY_TO_NOW, RepositoryIndex
from deployer.redis_store.records.values import to_number

_TURN_PREFIX = "deployer:turn:"  # + name -> time of the next turn (ms)
_PROBE = "deployer:probe"
_LOCK_PREFIX = "deployer:claim:"  # + name of a job that one process at a time does
HEARTBEAT_PREFIX = "deployer:beat:"  # + name -> time of the last heartbeat (epoch seconds by Redis's clock)
_HEARTBEATS = ("worker", "scheduler", "event", UNFENCED, FAILING_JOB)
# KEYS[1], now, every (both in ms), at_once. Up to `at_once` turns that nobody took can be taken later.
_NEXT_TURN = """
local now, every, at_once = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local turn = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now - every * at_once)
redis.call('SET', KEYS[1], string.format('%.0f', turn + every), 'PX', 86400000)
return string.format('%.0f', math.max(turn + every - now, 0))
"""


class Coordination(RepositoryIndex):
    """Implements the methods of `QueueStore` by which processes coordinate."""

    def take_turn(self, line: str, every: float, at_once: int) -> float:
        """See `QueueStore.take_turn`."""
        with unavailable():
            arguments = [self._now_ms(), int(every * 1000), at_once]
            return float(self._redis.eval(_NEXT_TURN, 1, _TURN_PREFIX + line, *arguments)) / 1000

    def hold_lock(self, what: str, seconds: float) -> AbstractContextManager[object]:
        """See `QueueStore.claimed`."""
        return hold_lock(self._redis, _LOCK_PREFIX + what, seconds)

    def send_heartbeat(self, name: str, seconds: float) -> None:
        """Record that a process is alive.

        Args:
            name: `worker` or `scheduler`, of any such process; `unfenced` for a worker without the IAM fence.
            seconds: how long the heartbeat is valid; longer than the time until the next one.
        """
        with unavailable():
            self._redis.eval(SET_KEY_TO_NOW, 1, HEARTBEAT_PREFIX + name, int(seconds))

    def last_heartbeats(self) -> dict[str, float]:
        """See `QueueStore.last_heartbeats`."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for name in _HEARTBEATS:
                pipe.get(HEARTBEAT_PREFIX + name)
            found = pipe.execute()
        return {name: to_number(at) for name, at in zip(_HEARTBEATS, found, strict=True) if at}

    def ping(self) -> None:
        """See `QueueStore.ping`."""
        with unavailable():
            self._redis.set(_PROBE, "1", ex=60)  # a full or read-only Redis would answer PING

    def read_server(self) -> dict[str, str]:
        """See `connection.read_server`."""
        return read_server(self._redis)


@contextmanager
def hold_lock(client: Any, key: str, seconds: float) -> Iterator[Lock | None]:
    """Hold a lock, and release it at the end.

    Args:
        client: a connection.
        key: the key of the lock.
        seconds: when the lock expires, unless its holder renews it by `reacquire`.

    Yields:
        The lock, or None if another process holds it.

    Raises:
        UnavailableError: Redis is unavailable.
    """
    lock: Lock = client.lock(key, timeout=seconds, blocking=False, thread_local=False)
    token = uuid.uuid4().hex
    with unavailable():
        acquired = lock.acquire(token=token)
        if (
            not acquired
        ):  # or redis-py repeated a command that was carried out, because the first answer was lost
            lock.local.token = token.encode()
            acquired = lock.owned()
    try:
        yield lock if acquired else None
    finally:
        if acquired:
            # If Redis is unavailable, the lock expires by itself. Another process may hold an expired one.
            with suppress(LockError, UnavailableError), unavailable():
                lock.release()
