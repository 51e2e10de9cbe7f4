"""The records of deliveries with the activity that lists their outcomes."""

import json
from contextlib import suppress
from typing import Any

from deployer.model.activity import Activity
from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.errors import PayloadError, StoredValueError
from deployer.model.listings import REPOSITORIES
from deployer.model.outcomes import Outcome
from deployer.model.stored_value import replace_surrogates
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.listings import (
    ACTIVITY,
    TOTALS,
    Listings,
    list_environment,
    list_key,
)
from deployer.redis_store.records.repository_index import (
    SPELLED_NAMES,
    SWEEP_INDEX,
    repository_key,
    repository_prefix,
)
from deployer.redis_store.records.stack_names import add_stack_names
from deployer.redis_store.records.values import read_valid, to_number, value_or_default

DELIVERY_POINTER = "deployer:delivery-of:"  # delivery -> repository
_DAY = 86400
_IGNORED_TTL = 3 * _DAY  # GitHub allows a redelivery for three days
_ACTIVITY_LIMIT = 500  # lines of a repository, and of all, as in queue_ends.lua and listings.lua
# repository that the settings exclude -> time of its last delivery (epoch seconds)
UNSERVED = "deployer:unserved"
_MOST_UNSERVED = 20
_UNSERVED_SECONDS = 30 * _DAY


class DeliveryRecords(Listings):
    """Implements the methods of `QueueStore` for deliveries."""

    def ignore(
        self,
        record: DeliveryRecord,
        *,
        served: bool = True,
        ref: str = "",
        commit: str = "",
        first: EnvironmentRecord | None = None,
    ) -> None:
        """See `QueueStore.ignore`."""
        repository = record.repository or "-/-"
        prefix = repository_prefix(repository)
        key = f"{prefix}:delivery:{record.delivery}"
        environments = f"{prefix}:environments"
        outcome = record.outcome or str(Outcome.IGNORED)

        def write_record(pipe: Any) -> None:
            is_recorded = pipe.hexists(key, "outcome")
            has_item = pipe.hexists(f"{prefix}:items", record.environment)
            stored = pipe.hget(environments, record.environment) if first else None
            now = self.now()
            pipe.multi()
            if is_recorded:  # a redelivery must not overwrite the outcome of the first delivery
                return
            if record.environment:
                line = Activity(
                    now,
                    repository,
                    record.environment,
                    record.delivery,
                    outcome,
                    replace_surrogates(record.reason),
                    commit,
                    ref,
                )
                self._add_activity(pipe, line)
                if first and not has_item and (shown := _environment_record_after_skip(stored, first)):
                    shown = shown.but(changed_at=now, updated_at=now)
                    pipe.hset(environments, record.environment, shown.to_json())
                    list_environment(pipe, shown, now)
            pipe.set(DELIVERY_POINTER + record.delivery, repository, ex=_IGNORED_TTL)
            fields = json.loads(record.to_json()) | {"received_at": now, "finished_at": now}
            pipe.hset(key, mapping=fields | {"outcome": outcome})
            pipe.expire(key, _IGNORED_TTL)
            # counted in the totals, because a repository that is not listed has no counters
            pipe.hincrby(TOTALS, f"outcome:{outcome}", 1)
            if not served:
                record_unserved_delivery(pipe, repository, now)

        with unavailable():
            self._redis.transaction(write_record, key, *([f"{prefix}:items", environments] if first else []))

    def _add_activity(self, pipe: Any, line: Activity) -> None:
        """Add an ignored or skipped push to the activity of its repository, and the repository to the index."""
        repository = Repository.parse(line.repository)
        prefix = repository_prefix(line.repository)
        pipe.zadd(SWEEP_INDEX, {repository.key: 0}, nx=True)
        pipe.zadd(list_key(REPOSITORIES), {repository.key: 0})
        pipe.hset(SPELLED_NAMES, repository.key, repository.full_name)
        with suppress(PayloadError):  # a ref that is neither a branch nor a tag has no environment
            add_stack_names(pipe, Environment.from_key(repository, line.environment))
        text = line.to_json()
        pipe.lpush(f"{prefix}:activity", text)
        pipe.zadd(ACTIVITY, {text: line.at})
        pipe.zremrangebyrank(ACTIVITY, 0, -_ACTIVITY_LIMIT - 1)
        pipe.ltrim(f"{prefix}:activity", 0, _ACTIVITY_LIMIT - 1)

    def delivery(self, delivery: str) -> DeliveryRecord | None:
        """See `QueueStore.delivery`."""
        with unavailable():
            repository = self._redis.get(DELIVERY_POINTER + delivery)
            if not repository:
                return None
            found = self._redis.hgetall(f"{repository_prefix(repository)}:delivery:{delivery}")
        if not found:
            return None
        times = {name: to_number(found.pop(name, None)) for name in ("received_at", "finished_at")}
        return DeliveryRecord.from_json(json.dumps(found | times))

    def activity(self, repository: Repository | None = None, limit: int = 50) -> list[Activity]:
        """See `QueueStore.activity`."""
        if repository is None:
            answer = self.read_lists(lambda pipe: pipe.zrevrange(ACTIVITY, 0, limit - 1))[0]
            texts = value_or_default(ACTIVITY, answer, [])
            return list(read_valid(((ACTIVITY, text) for text in texts), Activity.from_json))
        key = repository_key(repository, "activity")
        ((_, texts),) = self._read_key_of_each("activity", "lrange", [repository], [], 0, limit - 1)
        found = read_valid(((key, text) for text in texts), Activity.from_json)
        return sorted(found, key=lambda line: -line.at)

    def goal_repository(self, goal: str) -> Repository | None:
        """See `QueueStore.goal_repository`."""
        with unavailable():
            name = self._redis.get(DELIVERY_POINTER + goal.partition("#")[0])
        return next(read_valid([(DELIVERY_POINTER + goal, name)] if name else [], Repository.parse), None)

    def unserved_repositories(self) -> dict[str, float]:
        """See `QueueStore.unserved_repositories`."""
        with unavailable():
            return dict(self._redis.zrange(UNSERVED, 0, -1, desc=True, withscores=True))


def _environment_record_after_skip(text: str | None, first: EnvironmentRecord) -> EnvironmentRecord | None:
    """The record of an environment that has only had skipped pushes; None if it has another record.

    Args:
        text: the stored record; one that cannot be read is not replaced.
        first: the record for the newest skipped push.
    """
    if text is None:
        return first
    try:
        known = EnvironmentRecord.from_json(text)
    except StoredValueError:
        return None
    return first.but(generation=known.history.generation) if known.only_skipped else None


def record_unserved_delivery(pipe: Any, repository: str, now: float) -> None:
    """Record a delivery of a repository that the settings exclude. The newest few repositories are kept for 30 days.

    Args:
        pipe: the commands are added to it.
        repository: `owner/name`.
        now: epoch seconds by Redis's clock.
    """
    pipe.zadd(UNSERVED, {repository.lower(): now})
    pipe.zremrangebyrank(UNSERVED, 0, -_MOST_UNSERVED - 1)
    pipe.expire(UNSERVED, _UNSERVED_SECONDS)
    pipe.hincrby(TOTALS, "delivery:unserved", 1)
