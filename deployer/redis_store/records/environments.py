"""The records of environments."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from deployer.model.environments import Environment, Repository
from deployer.model.errors import PayloadError, StoredValueError
from deployer.model.records import EnvironmentRecord
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.repository_index import RepositoryIndex, repository_prefix, rows_of
from deployer.redis_store.records.values import environment_record, number, readable


class EnvironmentRecords(RepositoryIndex):
    """Implements these parts of `Lanes`."""

    def environments(self, repository: Repository | None = None) -> list[EnvironmentRecord]:
        """See `Lanes.environments`."""
        chosen = [repository] if repository else self.repositories()
        kept = dict(self._each("kept", "hgetall", chosen, {}))
        records = [
            _kept(record, kept[each])
            for each, texts in self._each("environments", "hgetall", chosen, {})
            for record in readable(rows_of(each, "environments", texts), partial(environment_record, each))
        ]
        return sorted(records, key=lambda record: (record.repository.lower(), record.environment))

    def environment(self, environment: Environment) -> EnvironmentRecord | None:
        """See `Lanes.environment`."""
        with unavailable():
            prefix = repository_prefix(environment.repository.full_name)
            pipe = self._redis.pipeline(transaction=False)
            pipe.hget(f"{prefix}:environments", environment.key)
            pipe.hget(f"{prefix}:kept", environment.key)
            text, kept = pipe.execute()
        if not text:
            return None
        try:
            record = environment_record(environment.repository, text)
        except (StoredValueError, PayloadError) as error:
            raise StoredValueError(
                f"the record of {environment} in Redis cannot be read: {error}; correct it, or delete the field "
                f"{environment.key} of {prefix}:environments: a resync finds out the rest"
            ) from error
        return _kept(record, {environment.key: kept} if kept else {})

    def keep_environment(self, environment: Environment, until: float) -> None:
        """See `Lanes.keep_environment`."""
        # apart from the record, which a task that runs is going to write as it knew it
        with unavailable():
            key = f"{repository_prefix(environment.repository.full_name)}:kept"
            self._redis.hset(key, environment.key, f"{self.now()} {until}")


def _kept(record: EnvironmentRecord, kept: Mapping[str, str]) -> EnvironmentRecord:
    if not (record.kept_at or record.kept_until or record.environment in kept):
        return record  # nearly all of them, and there may be thousands
    at, _, until = kept.get(record.environment, "0 0").partition(" ")
    return record.but(kept_at=number(at), kept_until=number(until))


def drop_kept(client: Any, repository: Repository, records: Sequence[EnvironmentRecord]) -> None:
    """Drop the wishes to keep environments that have no record any more: one may have come while they were deleted."""
    start = repository_prefix(repository.full_name)
    keys = [record.environment for record in records]
    found = client.hmget(f"{start}:environments", keys)
    if gone := [key for key, text in zip(keys, found, strict=True) if text is None]:
        client.hdel(f"{start}:kept", *gone)
