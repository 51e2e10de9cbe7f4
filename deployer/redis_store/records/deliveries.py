"""What became of deliveries."""

import json
from contextlib import suppress
from typing import Any

from deployer.model.environments import Environment, Repository
from deployer.model.errors import PayloadError, StoredValueError
from deployer.model.records import Activity, DeliveryRecord, EnvironmentRecord, Outcome, whole
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.counters import TOTALS
from deployer.redis_store.records.repository_index import (
    INDEX,
    SPELLED,
    RepositoryIndex,
    repository_key,
    repository_prefix,
)
from deployer.redis_store.records.stack_names import index_names
from deployer.redis_store.records.values import number, readable

POINTER = "deployer:delivery-of:"  # delivery -> repository
_DAY = 86400
_IGNORED_TTL = 3 * _DAY  # GitHub's own time for a redelivery
_ACTIVITY_LIMIT = 500  # lines of a repository, as in queue.lua
UNSERVED = (
    "deployer:unserved"  # repository that the settings leave out -> when it was last told of (epoch seconds)
)
_MOST_UNSERVED = 20
_UNSERVED_SECONDS = 30 * _DAY


class DeliveryRecords(RepositoryIndex):
    """Implements these parts of `Lanes`."""

    def ignore(
        self,
        record: DeliveryRecord,
        *,
        served: bool = True,
        ref: str = "",
        commit: str = "",
        first: EnvironmentRecord | None = None,
    ) -> None:
        """See `Lanes.ignore`."""
        repository = record.repository or "-/-"
        prefix = repository_prefix(repository)
        key = f"{prefix}:delivery:{record.delivery}"
        environments = f"{prefix}:environments"
        outcome = record.outcome or str(Outcome.IGNORED)

        def note(pipe: Any) -> None:
            recorded = pipe.hexists(key, "outcome")
            waits = pipe.hexists(f"{prefix}:items", record.environment)
            known = pipe.hget(environments, record.environment) if first else None
            now = self.now()
            pipe.multi()
            if recorded:  # a redelivery must not overwrite what became of the first
                return
            if record.environment:
                line = Activity(
                    now,
                    repository,
                    record.environment,
                    record.delivery,
                    outcome,
                    whole(record.reason),
                    commit,
                    ref,
                )
                self._list_ignored(pipe, line)
                if first and not waits and (shown := _skipped_record(known, first)):
                    shown = shown.but(changed_at=now, updated_at=now)
                    pipe.hset(environments, record.environment, shown.to_json())
            pipe.set(POINTER + record.delivery, repository, ex=_IGNORED_TTL)
            fields = json.loads(record.to_json()) | {"received_at": now, "finished_at": now}
            pipe.hset(key, mapping=fields | {"outcome": outcome})
            pipe.expire(key, _IGNORED_TTL)
            # the repository may be none that is listed, of which nothing but the delivery's own record is kept
            pipe.hincrby(TOTALS, f"outcome:{outcome}", 1)
            if not served:
                note_unserved(pipe, repository, now)

        with unavailable():
            self._redis.transaction(note, key, *([f"{prefix}:items", environments] if first else []))

    def _list_ignored(self, pipe: Any, line: Activity) -> None:
        """Add a push that is no work to the activity of its repository, which may have had none so far."""
        repository = Repository.parse(line.repository)
        prefix = repository_prefix(line.repository)
        pipe.zadd(INDEX, {repository.key: 0}, nx=True)
        pipe.hset(SPELLED, repository.key, repository.full_name)
        with suppress(PayloadError):  # a ref that is neither a branch nor a tag has no environment
            index_names(pipe, Environment.from_key(repository, line.environment))
        pipe.lpush(f"{prefix}:activity", line.to_json())
        pipe.ltrim(f"{prefix}:activity", 0, _ACTIVITY_LIMIT - 1)

    def delivery(self, delivery: str) -> DeliveryRecord | None:
        """See `Lanes.delivery`."""
        with unavailable():
            repository = self._redis.get(POINTER + delivery)
            if not repository:
                return None
            found = self._redis.hgetall(f"{repository_prefix(repository)}:delivery:{delivery}")
        if not found:
            return None
        times = {name: number(found.pop(name, None)) for name in ("received_at", "finished_at")}
        return DeliveryRecord.from_json(json.dumps(found | times))

    def activity(self, repository: Repository | None = None, limit: int = 50) -> list[Activity]:
        """See `Lanes.activity`."""
        chosen = [repository] if repository else self.repositories()
        found = [
            line
            for each, texts in self._each("activity", "lrange", chosen, [], 0, limit - 1)
            for line in readable(
                ((repository_key(each, "activity"), text) for text in texts), Activity.from_json
            )
        ]
        return sorted(found, key=lambda line: -line.at)[:limit]

    def unserved(self) -> dict[str, float]:
        """See `Lanes.unserved`."""
        with unavailable():
            return dict(self._redis.zrange(UNSERVED, 0, -1, desc=True, withscores=True))


def _skipped_record(text: str | None, first: EnvironmentRecord) -> EnvironmentRecord | None:
    """The record of an environment of which none but skipped pushes are known; None where more is known.

    Args:
        text: the stored record; one that cannot be read is left as it is.
        first: of the newest skipped push.
    """
    if text is None:
        return first
    try:
        known = EnvironmentRecord.from_json(text)
    except StoredValueError:
        return None
    return first.but(generation=known.generation) if known.only_skipped else None


def note_unserved(pipe: Any, repository: str, now: float) -> None:
    """Note that a delivery came of a repository that the settings leave out; the newest few are kept for some weeks.

    Args:
        pipe: the commands are added to it.
        repository: `owner/name`.
        now: epoch seconds by Redis's clock.
    """
    pipe.zadd(UNSERVED, {repository.lower(): now})
    pipe.zremrangebyrank(UNSERVED, 0, -_MOST_UNSERVED - 1)
    pipe.expire(UNSERVED, _UNSERVED_SECONDS)
    pipe.hincrby(TOTALS, "delivery:unserved", 1)
