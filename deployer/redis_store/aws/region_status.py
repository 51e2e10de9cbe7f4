"""What the workers share about one account's region in Redis.

Without this, each environment that waits for its stack would call DescribeStacks by itself. Instead one worker lists
all stacks when enough environments wait, and the others read the result.

Keys, with the prefix `deployer:aws:{account:region}`:
  :look     HASH   the last listing: began (epoch seconds), pages (calls)
  :busy     SET    names and ARNs of the stacks with an operation in progress in the last listing
  :waiting  ZSET   stack name -> when an environment last asked for it (epoch seconds)
  :looking         lock of the worker that lists the stacks
  :room     HASH   counts, and (with the suffix `.at`) when each was counted
  :last_count      the last complete count, as JSON
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec

from deployer.environment.cloud_region import RegionCapacity
from deployer.redis_store.coordination import hold_lock
from deployer.redis_store.records.values import read_valid, warn_unreadable
from deployer.redis_store.shared_redis import SharedRedis, key_prefix

_MIN_WAITING = 2  # up to this many environments call AWS themselves, whatever a listing costs
_WAITING_SECONDS = 60.0  # an environment that has not asked for this long does not wait any more
_FRESH_SECONDS = 30.0  # an older listing is ignored, so that no stack seems busy forever
_LISTING_SECONDS = 30.0  # a listing takes seconds; the lock of a worker that dies while listing expires
_MAX_WAIT_SECONDS = 5.0  # how long an environment waits for another worker's listing
_PAUSE_SECONDS = 0.05
_CHUNK = 1000
_HOUR = 3600
_DAY = 86400
_REGIONS_KEY = "deployer:aws:places"  # ZSET: account and region -> time of the last count (epoch seconds)
_COUNTED_DAYS = 2  # a region without a count for this long is not used any more


class RedisRegionStatus:
    """Implements `RegionStatus`: what the workers share about one region.

    Args:
        redis: the Redis that stores it.
        account, region: the account's id, or `own`, and the region's name.
    """

    def __init__(self, redis: SharedRedis, account: str, region: str) -> None:
        self._redis = redis
        self._region = account, region
        self._prefix = key_prefix(account, region)

    def now(self) -> float:
        """Return the time in epoch seconds by Redis's clock. All times in this class are of this clock."""
        return self._redis.now()

    # --- listings of all stacks --------------------------------------------------------------------------------

    def is_busy(self, name: str, since: float, list_stacks: Callable[[], object]) -> bool:
        """Whether a listing that began after `since` shows an operation in progress on a stack.

        If there is no such listing and more environments wait than a listing needs calls, one of the callers lists the
        stacks. The others wait for the result for some seconds.

        Args:
            name: the stack's name or ARN.
            since: epoch seconds by Redis's clock.
            list_stacks: lists all stacks and calls `save_listing_summary`.

        Returns:
            False also if there is no listing; then the caller reads the stack itself.
        """
        since = max(since, self.now() - _FRESH_SECONDS)
        began, pages, waiting, found = self._register_waiting_and_read_state(name)
        if began > since:
            return self._stop_waiting_unless_busy(name, found)
        if waiting <= max(pages, _MIN_WAITING):
            return False
        with ExitStack() as held:
            key = self._redis_key("looking")
            if self._redis.run_if_available(
                lambda r: held.enter_context(hold_lock(r, key, _LISTING_SECONDS))
            ):
                list_stacks()
            else:
                self._await_listing()
        began, _, _, found = self._register_waiting_and_read_state(name)
        return began > since and self._stop_waiting_unless_busy(name, found)

    def save_listing_summary(self, began: float, pages: int, stacks: int, busy: Iterable[str]) -> None:
        """Save the result of a listing of all stacks.

        Args:
            began: when the listing began, by `now`.
            pages: the number of calls that it took.
            stacks: the number of stacks.
            busy: names and ARNs of the stacks with an operation in progress.
        """
        names = list(busy)

        def write_listing(client: Any) -> None:
            pipe = client.pipeline()
            pipe.delete(self._redis_key("busy"))
            for first in range(0, len(names), _CHUNK):
                pipe.sadd(self._redis_key("busy"), *names[first : first + _CHUNK])
            pipe.expire(self._redis_key("busy"), _HOUR)
            pipe.hset(self._redis_key("look"), mapping={"began": began, "pages": pages})
            pipe.expire(self._redis_key("look"), _HOUR)
            pipe.execute()

        self._redis.run_if_available(write_listing)
        self.save_count("stacks", stacks, began)

    def _stop_waiting_unless_busy(self, name: str, busy: bool) -> bool:
        if not busy:  # the environment will read its stack, so it does not wait any more
            self._redis.run_if_available(lambda r: r.zrem(self._redis_key("waiting"), name))
        return busy

    def _register_waiting_and_read_state(self, name: str) -> tuple[float, int, int, bool]:
        """Return when the last listing began, its calls, how many environments wait, and whether this stack is busy."""

        now = self.now()

        def register_and_read(client: Any) -> Any:
            pipe = client.pipeline()  # in one transaction, because another worker may be saving a listing
            pipe.zadd(self._redis_key("waiting"), {name: now})
            pipe.zremrangebyscore(self._redis_key("waiting"), "-inf", now - _WAITING_SECONDS)
            pipe.expire(self._redis_key("waiting"), _HOUR)
            pipe.zcard(self._redis_key("waiting"))
            pipe.hmget(self._redis_key("look"), "began", "pages")
            pipe.sismember(self._redis_key("busy"), name)
            return pipe.execute()

        answer = self._redis.run_if_available(register_and_read)
        if answer is None:
            return 0.0, 0, 0, False
        *_, waiting, (began, pages), found = answer
        return float(began or 0), int(pages or 0), int(waiting), bool(found)

    def _await_listing(self) -> None:
        deadline = time.monotonic() + _MAX_WAIT_SECONDS
        while time.monotonic() < deadline and self._redis.run_if_available(
            lambda r: r.exists(self._redis_key("looking"))
        ):
            time.sleep(_PAUSE_SECONDS)

    # --- counts ------------------------------------------------------------------------------------------------

    def cached_count(self, what: str, within: float = _HOUR) -> tuple[int, float] | None:
        """Return a count of the last `within` seconds and its time (by `now`); None if there is none."""
        found = self._redis.run_if_available(lambda r: r.hmget(self._redis_key("room"), what, f"{what}.at"))
        if not found or None in found:
            return None
        try:
            counted, at = int(found[0]), float(found[1])
        except ValueError as error:
            warn_unreadable(f"{what} of {self._redis_key('room')}", error)  # the value is counted again
            return None
        return (max(counted, 0), at) if at >= self.now() - within else None

    def save_count(self, what: str, number: int, at: float) -> None:
        """Save a count.

        Args:
            what: the count's name, such as `stacks`.
            number: the count.
            at: when it was counted, by `now`. It is valid for an hour.
        """

        def write_count(client: Any) -> None:
            client.hset(self._redis_key("room"), mapping={what: number, f"{what}.at": at})
            client.expire(self._redis_key("room"), _DAY)

        self._redis.run_if_available(write_count)

    def add_to_counts(self, by: int) -> None:
        """Add to the counts of stacks and pipelines, because deployer created (+1) or deleted (-1) an environment's."""

        def write_changes(client: Any) -> None:
            pipe = client.pipeline(transaction=False)
            for what in ("stacks", "pipelines"):
                pipe.hincrby(self._redis_key("room"), what, by)
            pipe.expire(self._redis_key("room"), _DAY)
            pipe.execute()

        self._redis.run_if_available(write_changes)

    def forget_counts(self) -> None:
        """Delete the counts, because AWS has shown that they are wrong."""
        self._redis.run_if_available(lambda r: r.delete(self._redis_key("room")))

    def save_last_count(self, room: RegionCapacity) -> None:
        """Save a complete count of the region, for processes that only show it."""

        def write_count(client: Any) -> None:
            pipe = client.pipeline(transaction=False)
            pipe.set(self._redis_key("last_count"), json.dumps(asdict(room)), ex=_COUNTED_DAYS * _DAY)
            pipe.zadd(_REGIONS_KEY, {json.dumps(self._region): room.counted_at})
            pipe.zremrangebyscore(_REGIONS_KEY, "-inf", room.counted_at - _COUNTED_DAYS * _DAY)
            pipe.expire(_REGIONS_KEY, _COUNTED_DAYS * _DAY)
            pipe.execute()

        self._redis.run_if_available(write_count)

    def last_count(self) -> Iterator[RegionCapacity]:
        """Yield the last complete count of the region, if there is one that can be read."""
        key = self._redis_key("last_count")
        if text := self._redis.run_if_available(lambda r: r.get(key)):
            yield from read_valid(
                [(key, text)], partial(msgspec.json.decode, type=RegionCapacity, strict=False)
            )

    def _redis_key(self, name: str) -> str:
        return f"{self._prefix}:{name}"


def last_capacities(redis: SharedRedis) -> list[RegionCapacity]:
    """Return the last counts of each region that is still used.

    This reads only Redis and needs no settings, because the web process knows neither accounts nor roles.

    Args:
        redis: the Redis in which the workers save the counts.
    """
    oldest = redis.now() - _COUNTED_DAYS * _DAY
    regions = redis.run_if_available(lambda r: r.zrange(_REGIONS_KEY, oldest, "+inf", byscore=True)) or []
    rows = ((f"{region} of {_REGIONS_KEY}", region) for region in sorted(regions))
    known = read_valid(rows, partial(msgspec.json.decode, type=tuple[str, str]))
    return [room for region in known for room in RedisRegionStatus(redis, *region).last_count()]
