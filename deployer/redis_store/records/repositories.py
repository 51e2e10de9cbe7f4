"""The records of repositories as a whole."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from deployer.model.environments import Repository
from deployer.model.errors import PayloadError, StoredValueError
from deployer.model.listings import LANES, REPOSITORIES
from deployer.model.repository_record import RepositoryRecord
from deployer.queue.record_store import Page
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.listings import (
    TOTALS,
    Listings,
    check_expiries,
    list_entry,
    list_key,
    listed_repository,
)
from deployer.redis_store.records.repository_index import (
    SPELLED_NAMES,
    SWEEP_INDEX,
    repository_key,
    repository_prefix,
)
from deployer.redis_store.records.values import parse_repository_record, read_valid, value_or_default

_DAY = 86400
_ACTIVITY_SECONDS = (
    _DAY  # after a repository was dropped, so that a person who waits for a result still finds it
)
_COUNT = re.compile(r"-?[0-9]{1,18}")  # a number that `HINCRBY` accepts; a counter may be damaged


class RepositoryRecords(Listings):
    """Implements the methods of `QueueStore` for the records of repositories."""

    def repository(self, repository: Repository) -> RepositoryRecord | None:
        """See `QueueStore.repository`."""
        with unavailable():
            text = self._redis.get(repository_key(repository, "repository"))
        return _parse_record(repository, text) if text else None

    def repository_records(self, repositories: Sequence[Repository] | None = None) -> list[RepositoryRecord]:
        """See `QueueStore.repository_records`."""
        chosen = self.repositories() if repositories is None else repositories
        return [
            record
            for each, text in self._read_key_of_each("repository", "get", chosen, None)
            for record in read_valid(
                [(repository_key(each, "repository"), text)] if text else [],
                partial(parse_repository_record, each),
            )
        ]

    def change_repository(
        self, repository: Repository, edit: Callable[[RepositoryRecord], RepositoryRecord]
    ) -> RepositoryRecord:
        """See `QueueStore.change_repository`."""
        stored = before = RepositoryRecord(repository.full_name)

        def edit_text(text: str | None) -> str | None:
            nonlocal stored, before
            before = _parse_record(repository, text) if text else RepositoryRecord(repository.full_name)
            stored = edit(before)
            return None if stored == before else stored.to_json()

        def update_lists(pipe: Any) -> None:
            list_entry(pipe, "repository", repository, listed_repository(stored))
            if before.state and not stored.state:
                check_expiries(pipe, repository, now)

        with unavailable():
            now = self.now()
            compare_and_set(
                self._redis,
                repository_key(repository, "repository"),
                edit_text,
                update_lists,
            )
        return stored

    def find_repository(self, key: str) -> Repository | None:
        """See `QueueStore.find_repository`."""
        with unavailable():
            if self._redis.zscore(SWEEP_INDEX, key) is None:
                return None
            return self._find_spelled([key])[0]

    def repository_page(self, *, after: str = "", limit: int) -> Page[Repository]:
        """See `QueueStore.repository_page`."""
        keys = self.read_members(REPOSITORIES, f"({after}" if after else "-", "+", limit + 1)
        with unavailable():
            found = self._valid_repositories(keys[:limit])
        return Page(found, keys[limit - 1] if len(keys) > limit else "")

    def repositories_of_list(self, name: str) -> list[Repository]:
        """See `QueueStore.repositories_of_list`."""
        answer = self.read_lists(lambda pipe: pipe.zrange(list_key(name), 0, -1))[0]
        keys = value_or_default(list_key(name), answer, [])
        with unavailable():
            return self._valid_repositories(keys)


def _parse_record(repository: Repository, text: str) -> RepositoryRecord:
    """Read the record of a repository.

    Raises:
        StoredValueError: the text cannot be read; the error names the key and the remedy.
    """
    try:
        return parse_repository_record(repository, text)
    except (StoredValueError, PayloadError) as error:
        raise StoredValueError(
            f"the record of {repository} in Redis cannot be read: {error}; correct it, or delete the key "
            f"{repository_key(repository, 'repository')}: a resync finds the rest"
        ) from error


def compare_and_set(
    client: Any,
    key: str,
    edit: Callable[[str | None], str | None],
    also: Callable[[Any], None],
) -> None:
    """Replace the text of a key. If another process replaces it meanwhile, edit the new text instead.

    Args:
        client: a connection with `decode_responses`.
        key: the key.
        edit: gets the text, or None if there is none, and returns the new text, or None for no change. It is called
            again after each change by another process. Its exceptions are not caught.
        also: adds to the transaction what is written together with a new text.

    Raises:
        redis.RedisError: Redis is unavailable.
    """

    def replace(pipe: Any) -> None:
        text = edit(pipe.get(key))
        pipe.multi()
        if text is not None:
            pipe.set(key, text)
            also(pipe)

    client.transaction(replace, key)


def drop_repository(client: Any, repository: Repository) -> bool:
    """Delete the data of a repository, if it has no environment, no queue item and no dead letter.

    Its counters are added to the totals, which never decrease. Its deliveries expire by themselves.

    Returns:
        Whether the data was deleted.

    Raises:
        redis.RedisError: Redis is unavailable.
    """
    prefix = repository_prefix(repository.full_name)
    holds = [f"{prefix}:{name}" for name in ("environments", "items", "dead")]
    state, counters = f"{prefix}:state", f"{prefix}:counters"
    rest = [
        f"{prefix}:{name}"
        for name in ("repository", "seen", "kept", "queue", "later", "snoozed", "rounds", "refused")
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
        pipe.expire(f"{prefix}:activity", _ACTIVITY_SECONDS)
        pipe.zrem(SWEEP_INDEX, repository.key)
        pipe.hdel(SPELLED_NAMES, repository.key)
        for kind in ("repository", "seen"):
            list_entry(pipe, kind, repository, "")
        for name in (LANES, REPOSITORIES):
            pipe.zrem(list_key(name), repository.key)
        return True

    dropped: bool = client.transaction(drop, *holds, state, counters, value_from_callable=True)
    return dropped
