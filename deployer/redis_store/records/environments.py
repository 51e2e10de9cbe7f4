"""The records of environments."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.errors import PayloadError, StoredValueError
from deployer.model.listings import ALL
from deployer.queue.record_store import ExpiryCheck, Page
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.listings import (
    AFTER_NEWLINE,
    EXPIRY_CHECKS,
    Listings,
    list_key,
)
from deployer.redis_store.records.repository_index import labelled_values, repository_key, repository_prefix
from deployer.redis_store.records.values import (
    parse_environment_record,
    read_valid,
    to_number,
    value_or_default,
)

_CHECKED_TTL = "deployer:expiry-ttl"  # the time to live for which the times of the checks were computed
# KEYS[1], the present time, the most, and the time until which the checks are claimed
_CLAIM_CHECKS = """
local found = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #found, 2 do redis.call('ZADD', KEYS[1], ARGV[3], found[i]) end
return found
"""
# KEYS[1], and three values for each check: its member, the time until which it is claimed, and its next time. A check
# that somebody has brought forward meanwhile stays.
_POSTPONE_CHECKS = """
for i = 1, #ARGV, 3 do
  local due = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if due and tonumber(due) == tonumber(ARGV[i + 1]) then
    if ARGV[i + 2] == '' then
      redis.call('ZREM', KEYS[1], ARGV[i])
    else
      redis.call('ZADD', KEYS[1], ARGV[i + 2], ARGV[i])
    end
  end
end
"""


class EnvironmentRecords(Listings):
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

    def environment_page(
        self, names: Sequence[str], repository: Repository | None = None, *, after: str = "", limit: int
    ) -> Page[EnvironmentRecord]:
        """See `QueueStore.environment_page`."""
        low, high = _member_range(repository)
        if after and (not repository or after.startswith(f"{repository.key}\n")):
            low = f"({after}"
        answers = self.read_lists(
            lambda pipe: [pipe.zrangebylex(list_key(name), low, high, 0, limit + 1) for name in names]
        )
        found = {
            member
            for name, answer in zip(names, answers, strict=True)
            for member in value_or_default(list_key(name), answer, [])
        }
        members = sorted(found)
        rows = self._read_members(members[:limit])
        return Page(rows, members[limit - 1] if len(members) > limit else "")

    def count_members(self, names: Sequence[str], repository: Repository | None = None) -> int:
        """See `QueueStore.count_members`."""
        low, high = _member_range(repository)
        counts = self.read_lists(lambda pipe: [pipe.zlexcount(list_key(name), low, high) for name in names])
        return sum(
            value_or_default(list_key(name), count, 0) for name, count in zip(names, counts, strict=True)
        )

    def environments_of_list(self, name: str, start: int, limit: int) -> list[EnvironmentRecord]:
        """See `QueueStore.environments_of_list`."""
        key = list_key(name)
        answer = self.read_lists(lambda pipe: pipe.zrange(key, start, start + limit - 1))[0]
        return self._read_members(value_or_default(key, answer, []))

    def environments_by_key(self, keys: Mapping[Repository, Sequence[str]]) -> list[EnvironmentRecord]:
        """See `QueueStore.environments_by_key`."""
        asked = [(repository, list(named)) for repository, named in keys.items() if named]
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for repository, named in asked:
                pipe.hmget(repository_key(repository, "environments"), named)
                pipe.hmget(repository_key(repository, "kept"), named)
            answers = pipe.execute(raise_on_error=False)
        found = []
        for (repository, named), records, requests in zip(asked, answers[::2], answers[1::2], strict=True):
            nothing = [None] * len(named)
            texts = value_or_default(repository_key(repository, "environments"), records, nothing)
            times = value_or_default(repository_key(repository, "kept"), requests, nothing)
            kept = {key: time for key, time in zip(named, times, strict=True) if time}
            stored = {key: text for key, text in zip(named, texts, strict=True) if text}
            found += [
                _with_keep_times(record, kept)
                for record in read_valid(
                    labelled_values(repository, "environments", stored),
                    partial(parse_environment_record, repository),
                )
            ]
        return found

    def _read_members(self, members: Sequence[str]) -> list[EnvironmentRecord]:
        """The records of members of a list, in its order; those that cannot be read are left out."""
        keys: dict[str, list[str]] = {}
        for member in members:
            repository, _, key = member.partition("\n")
            keys.setdefault(repository, []).append(key)
        return self.environments_by_key({Repository.parse(name): named for name, named in keys.items()})

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
            now = self.now()
            pipe = self._redis.pipeline()
            pipe.hset(key, environment.key, f"{now} {until}")
            pipe.zadd(EXPIRY_CHECKS, {f"{environment.repository.key}\n{environment.key}": now})
            pipe.execute()

    def claim_expiry_checks(self, now: float, limit: int, seconds: float) -> list[ExpiryCheck]:
        """See `QueueStore.claim_expiry_checks`."""
        with unavailable():
            values = [f"{now:.3f}", limit, f"{now + seconds:.3f}"]
            found = self._redis.eval(_CLAIM_CHECKS, 1, EXPIRY_CHECKS, *values)
        claimed = []
        for member, due in zip(found[::2], found[1::2], strict=True):
            repository, _, key = member.partition("\n")
            claimed.append(ExpiryCheck(Repository.parse(repository), key, to_number(due), now + seconds))
        return claimed

    def postpone_expiry_checks(self, times: Mapping[ExpiryCheck, float]) -> None:
        """See `QueueStore.postpone_expiry_checks`."""
        if not times:
            return
        values = [
            text
            for each, at in times.items()
            for text in (
                f"{each.repository.key}\n{each.environment}",
                f"{each.claimed_until:.3f}",
                "" if at == math.inf else f"{at:.3f}",
            )
        ]
        with unavailable():
            self._redis.eval(_POSTPONE_CHECKS, 1, EXPIRY_CHECKS, *values)

    def check_all_expiries(self, ttl: str) -> None:
        """See `QueueStore.check_all_expiries`."""
        if self.read_lists(lambda pipe: pipe.get(_CHECKED_TTL))[0] == ttl:
            return
        with unavailable():
            self._redis.zunionstore(EXPIRY_CHECKS, {list_key(ALL): 0})
            self._redis.set(_CHECKED_TTL, ttl)


def _member_range(repository: Repository | None) -> tuple[str, str]:
    """The range of the environments of a repository, or of all, for `ZRANGEBYLEX`."""
    return (f"[{repository.key}\n", f"({repository.key}{AFTER_NEWLINE}") if repository else ("-", "+")


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
