"""The index of repositories: which are known, which keys hold their data."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis

from deployer.model.environments import Repository
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.values import answered, readable

# KEYS[1], how long the note is kept (s). It holds Redis's time: whoever reads it compares it with that
SET_TIME = """
local time = redis.call('TIME')
redis.call('SET', KEYS[1], time[1] .. '.' .. string.format('%06d', time[2]), 'EX', ARGV[1])
"""
INDEX = "deployer:lanes"  # repository's key -> when to look at its lane again (ms)
SPELLED = "deployer:spelled"  # repository's key -> its name as it was last told: people type it in any case


class RepositoryIndex:
    """The repositories that have a queue, and how their data is read.

    Args:
        client: a connection with `decode_responses`.
        clock_offset_ms: added to Redis's clock; only tests use it, to let time pass.
    """

    def __init__(self, client: redis.Redis, *, clock_offset_ms: int = 0) -> None:
        self._redis: Any = client  # typed for bytes and text at once, of which only text comes back here
        self.clock_offset_ms = clock_offset_ms

    def repositories(self) -> list[Repository]:
        """See `Lanes.repositories`."""
        with unavailable():
            return sorted(self._spelled(self._redis.zrange(INDEX, 0, -1)), key=str)

    def now(self) -> float:
        """See `Lanes.now`."""
        with unavailable():
            return self._server_now() / 1000

    def _server_now(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000 + self.clock_offset_ms

    def _named(self, keys: Sequence[str]) -> list[Repository | None]:
        """The repositories of the index's keys; None for a key that is no repository's."""
        if not keys:
            return []
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(SPELLED, keys)
        names = answered(SPELLED, pipe.execute(raise_on_error=False)[0], [None] * len(keys))
        found: list[Repository | None] = []
        for key, name in zip(keys, names, strict=True):
            texts = [(f"{key} of {where}", text) for where, text in ((SPELLED, name), (INDEX, key)) if text]
            named = (each for each in readable(texts, Repository.parse) if each.key == key)
            found.append(next(named, None))
        return found

    def _spelled(self, keys: Sequence[str]) -> list[Repository]:
        return [each for each in self._named(keys) if each]

    def _each(
        self, name: str, command: str, repositories: Sequence[Repository], empty: Any, *arguments: object
    ) -> list[tuple[Repository, Any]]:
        """What a command answers for the key of each repository; `empty` where the key is of another type."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for each in repositories:
                getattr(pipe, command)(repository_key(each, name), *arguments)
            answers = zip(repositories, pipe.execute(raise_on_error=False), strict=True)
            return [(each, answered(repository_key(each, name), answer, empty)) for each, answer in answers]


def repository_prefix(repository: str) -> str:
    """The beginning of all keys of a repository, which puts them into one slot of a cluster."""
    return f"deployer:{{{repository.lower()}}}"


def repository_key(repository: Repository, name: str) -> str:
    return f"{repository_prefix(repository.full_name)}:{name}"


def rows_of(repository: Repository, name: str, texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The values of a hash, each with where it stands."""
    return ((f"{field} of {repository_key(repository, name)}", text) for field, text in texts.items())
