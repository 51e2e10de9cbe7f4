"""The records of repositories as a whole."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from deployer.model.environments import Repository
from deployer.model.errors import PayloadError, StoredValueError
from deployer.model.records import RepositoryRecord
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.counters import TOTALS
from deployer.redis_store.records.repository_index import (
    INDEX,
    SPELLED,
    RepositoryIndex,
    repository_key,
    repository_prefix,
)
from deployer.redis_store.records.values import readable, repository_record

_DAY = 86400
_ACTIVITY_SECONDS = _DAY  # of a repository that is forgotten: whoever waits for a result still finds it
_COUNT = re.compile(r"-?[0-9]{1,18}")  # a number that `HINCRBY` takes; a counter may be damaged


class RepositoryRecords(RepositoryIndex):
    """Implements these parts of `Lanes`."""

    def repository(self, repository: Repository) -> RepositoryRecord | None:
        """See `Lanes.repository`."""
        with unavailable():
            text = self._redis.get(repository_key(repository, "repository"))
        return _repository_record(repository, text) if text else None

    def repository_records(self, repositories: Sequence[Repository] | None = None) -> list[RepositoryRecord]:
        """See `Lanes.repository_records`."""
        chosen = self.repositories() if repositories is None else repositories
        return [
            record
            for each, text in self._each("repository", "get", chosen, None)
            for record in readable(
                [(repository_key(each, "repository"), text)] if text else [], partial(repository_record, each)
            )
        ]

    def change_repository(
        self, repository: Repository, edit: Callable[[RepositoryRecord], RepositoryRecord]
    ) -> RepositoryRecord:
        """See `Lanes.change_repository`."""
        known = RepositoryRecord(repository.full_name)

        def changed(text: str | None) -> str | None:
            nonlocal known
            before = _repository_record(repository, text) if text else RepositoryRecord(repository.full_name)
            known = edit(before)
            return None if known == before else known.to_json()

        with unavailable():
            change(self._redis, repository_key(repository, "repository"), changed)
        return known


def _repository_record(repository: Repository, text: str) -> RepositoryRecord:
    """What is known of a repository.

    Raises:
        StoredValueError: the text cannot be read; the error names the key and the remedy.
    """
    try:
        return repository_record(repository, text)
    except (StoredValueError, PayloadError) as error:
        raise StoredValueError(
            f"the record of {repository} in Redis cannot be read: {error}; correct it, or delete the key "
            f"{repository_key(repository, 'repository')}: a resync finds out the rest"
        ) from error


def change(client: Any, key: str, edit: Callable[[str | None], str | None]) -> None:
    """Replace the text stored at a key, unless another process replaces it meanwhile: then edit what that one stored.

    Args:
        client: a connection with `decode_responses`.
        key: of the text.
        edit: gets the text, None where there is none, and returns its replacement or None for no change. It is called
            again after each change by another process, and what it raises ends this function.

    Raises:
        redis.RedisError: Redis is away.
    """

    def replace(pipe: Any) -> None:
        text = edit(pipe.get(key))
        pipe.multi()
        if text is not None:
            pipe.set(key, text)

    client.transaction(replace, key)


def drop_repository(client: Any, repository: Repository) -> bool:
    """Drop all that is stored of a repository, if it has no environment, no work and no dead letter.

    What its counters have counted is added to the totals, which never decrease. Deliveries expire by themselves.

    Returns:
        Whether it was dropped.

    Raises:
        redis.RedisError: Redis is away.
    """
    start = repository_prefix(repository.full_name)
    holds = [f"{start}:{name}" for name in ("environments", "items", "dead")]
    state, counters = f"{start}:state", f"{start}:counters"
    rest = [
        f"{start}:{name}" for name in ("repository", "seen", "kept", "queue", "later", "snoozed", "refused")
    ]

    def drop(pipe: Any) -> bool:
        if pipe.exists(*holds) or pipe.hget(state, "status") not in {None, "idle"}:
            return False
        counts = pipe.hgetall(counters)
        pipe.multi()
        for name, number in counts.items():
            if _COUNT.fullmatch(number):
                pipe.hincrby(TOTALS, name, number)
        pipe.delete(state, counters, *rest)
        pipe.expire(f"{start}:activity", _ACTIVITY_SECONDS)
        pipe.zrem(INDEX, repository.key)
        pipe.hdel(SPELLED, repository.key)
        return True

    dropped: bool = client.transaction(drop, *holds, state, counters, value_from_callable=True)
    return dropped
