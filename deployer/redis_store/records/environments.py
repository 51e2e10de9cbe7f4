"""The records of environments."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.errors import PayloadError, StoredValueError
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.repository_index import RepositoryIndex, labelled_values, repository_prefix
from deployer.redis_store.records.values import parse_environment_record, read_valid, to_number


class EnvironmentRecords(RepositoryIndex):
    """Implements the methods of `QueueStore` for the records of environments."""

    def environments(self, repository: Repository | None = None) -> list[EnvironmentRecord]:
        """See `QueueStore.environments`."""
        chosen = [repository] if repository else self.repositories()
        kept = dict(self._read_key_of_each("kept", "hgetall", chosen, {}))
        records = [
            _with_keep_times(record, kept[each])
            for each, texts in self._read_key_of_each("environments", "hgetall", chosen, {})
            for record in read_valid(
                labelled_values(each, "environments", texts), partial(parse_environment_record, each)
            )
        ]
        return sorted(records, key=lambda record: (record.repository.lower(), record.environment))

    def environment(self, environment: Environment) -> EnvironmentRecord | None:
        """See `QueueStore.environment`."""
        with unavailable():
            prefix = repository_prefix(environment.repository.full_name)
            pipe = self._redis.pipeline(transaction=False)
            pipe.hget(f"{prefix}:environments", environment.key)
            pipe.hget(f"{prefix}:kept", environment.key)
            text, kept = pipe.execute()
        if not text:
            return None
        try:
            record = parse_environment_record(environment.repository, text)
        except (StoredValueError, PayloadError) as error:
            raise StoredValueError(
                f"the record of {environment} in Redis cannot be read: {error}; correct it, or delete the field "
                f"{environment.key} of {prefix}:environments: a resync finds the rest"
            ) from error
        return _with_keep_times(record, {environment.key: kept} if kept else {})

    def keep_environment(self, environment: Environment, until: float) -> None:
        """See `QueueStore.keep_environment`."""
        # Stored outside the record, because a running task will overwrite the record with its own copy.
        with unavailable():
            key = f"{repository_prefix(environment.repository.full_name)}:kept"
            self._redis.hset(key, environment.key, f"{self.now()} {until}")


def _with_keep_times(record: EnvironmentRecord, kept: Mapping[str, str]) -> EnvironmentRecord:
    if not (record.spec.expiry.kept_at or record.spec.expiry.kept_until or record.environment in kept):
        return record  # almost every record, and there may be thousands
    at, _, until = kept.get(record.environment, "0 0").partition(" ")
    return record.but(kept_at=to_number(at), kept_until=to_number(until))


def drop_keep_requests(client: Any, repository: Repository, records: Sequence[EnvironmentRecord]) -> None:
    """Delete the requests to keep environments that have no record any more. They may have come during the deletion."""
    prefix = repository_prefix(repository.full_name)
    keys = [record.environment for record in records]
    found = client.hmget(f"{prefix}:environments", keys)
    if gone := [key for key, text in zip(keys, found, strict=True) if text is None]:
        client.hdel(f"{prefix}:kept", *gone)
