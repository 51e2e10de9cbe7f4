"""The index of all repositories that have data in Redis."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import redis

from deployer.model.environments import Repository
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.values import read_valid, value_or_default

# KEYS[1], the time to live (s). The key holds the time by Redis's clock, with which readers compare it.
SET_KEY_TO_NOW = """
local time = redis.call('TIME')
redis.call('SET', KEYS[1], time[1] .. '.' .. string.format('%06d', time[2]), 'EX', ARGV[1])
"""
SWEEP_INDEX = "deployer:lanes"  # repository's key -> time of the next sweep of its queue (ms)
SPELLED_NAMES = "deployer:spelled"  # repository's key -> its name as last spelled by GitHub or a person


class RepositoryIndex:
    """Lists the repositories and reads values of many of them; the base of the classes that store their data.

    Args:
        client: a connection with `decode_responses`.
        clock_offset_ms: added to Redis's clock; only tests use it, to let time pass.
    """

    def __init__(self, client: redis.Redis, *, clock_offset_ms: int = 0) -> None:
        self._redis: Any = client  # redis-py's types allow bytes as well; this connection returns only text
        self.clock_offset_ms = clock_offset_ms

    def repositories(self) -> list[Repository]:
        """See `QueueStore.repositories`."""
        with unavailable():
            return sorted(self._valid_repositories(self._redis.zrange(SWEEP_INDEX, 0, -1)), key=str)

    def now(self) -> float:
        """See `QueueStore.now`."""
        with unavailable():
            return self._now_ms() / 1000

    def _now_ms(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000 + self.clock_offset_ms

    def _find_spelled(self, keys: Sequence[str]) -> list[Repository | None]:
        """The repositories of keys of the index, as last spelled; None for a key that is not a repository's."""
        if not keys:
            return []
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(SPELLED_NAMES, keys)
        names = value_or_default(SPELLED_NAMES, pipe.execute(raise_on_error=False)[0], [None] * len(keys))
        found: list[Repository | None] = []
        for key, name in zip(keys, names, strict=True):
            texts = [
                (f"{key} of {where}", text)
                for where, text in ((SPELLED_NAMES, name), (SWEEP_INDEX, key))
                if text
            ]
            named = (each for each in read_valid(texts, Repository.parse) if each.key == key)
            found.append(next(named, None))
        return found

    def _valid_repositories(self, keys: Sequence[str]) -> list[Repository]:
        """The repositories of keys of the index, as last spelled, without the keys that are not a repository's."""
        return [each for each in self._find_spelled(keys) if each]

    def _read_key_of_each(
        self, name: str, command: str, repositories: Sequence[Repository], empty: Any, *arguments: object
    ) -> list[tuple[Repository, Any]]:
        """The answer to a command for a key of each repository; `empty` if the key has another type."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for each in repositories:
                getattr(pipe, command)(repository_key(each, name), *arguments)
            answers = zip(repositories, pipe.execute(raise_on_error=False), strict=True)
            return [
                (each, value_or_default(repository_key(each, name), answer, empty))
                for each, answer in answers
            ]


def repository_prefix(repository: str) -> str:
    """The prefix of all keys of a repository; the braces separate its name from the rest."""
    return f"deployer:{{{repository.lower()}}}"


def repository_key(repository: Repository, name: str) -> str:
    """A key of a repository, such as `environments`."""
    return f"{repository_prefix(repository.full_name)}:{name}"


def labelled_values(repository: Repository, name: str, texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The values of a hash, each with its field and key, for `read_valid`."""
    return ((f"{field} of {repository_key(repository, name)}", text) for field, text in texts.items())
