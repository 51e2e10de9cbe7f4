"""Runs the operations of a queue as one Lua script."""

import uuid
from importlib import resources
from typing import Any

import redis

from deployer.model.environments import Repository
from deployer.queue.store import Dispatch
from deployer.redis_store.records.repository_index import INDEX, RepositoryIndex, repository_prefix

# each uses only what those before it define
_FILES = ("queue_items.lua", "queue_ends.lua", "queue_merge.lua", "queue_order.lua", "queue.lua")
DELIVERY_TTL = 30 * 86400  # seconds


class QueueScript(RepositoryIndex):
    """Runs one operation of a queue as one step in Redis.

    Args:
        client: a connection with `decode_responses`.
        lease_seconds: how long a worker holds a queue without renewing its lease.
        grace_seconds: how long a dispatch may take to reach a worker before it is sent again.
        max_attempts: how often a queue item may lose its worker before it becomes a dead letter.
        clock_offset_ms: added to Redis's clock; only tests use it, to let time pass.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        lease_seconds: float = 60,
        grace_seconds: float = 10,
        max_attempts: int = 5,
        clock_offset_ms: int = 0,
    ) -> None:
        super().__init__(client, clock_offset_ms=clock_offset_ms)
        self._lease = int(lease_seconds * 1000)
        self._grace = int(grace_seconds * 1000)
        self._max_attempts = max_attempts
        self._script: Any = client.register_script(lane_script())

    def _run(
        self, repository: Repository, op: str, *arguments: object, request: str | None = None
    ) -> list[str]:
        # redis-py repeats a command whose answer was lost, and a script that was carried out has to know that
        request = uuid.uuid4().hex if request is None else request
        values = [op, self.clock_offset_ms, request, *arguments]
        look, *rest = self._script(keys=[repository_prefix(repository.full_name)], args=values)
        # the index lives in another slot of a cluster, so it is written after the script; `accept` and the sweeper
        # see to it that a crash in between costs at most a later look
        self._redis.zadd(INDEX, {repository.key: float(look)}, lt=True)
        found: list[str] = rest
        return found


def lane_script() -> str:
    """The script that carries out every operation of a lane."""
    files = resources.files("deployer.redis_store")
    return "\n".join(files.joinpath(name).read_text() for name in _FILES)


def dispatch_of(repository: Repository, rest: list[str]) -> Dispatch | None:
    if not rest:
        return None
    key, task, token, low = rest
    return Dispatch(repository.full_name, key, task, int(token), low=low == "1")
