"""What all workers know of one account's region, in Redis: the last look at all its stacks, and how full it is.

Keys, behind the prefix `deployer:aws:{account:region}`:
  :look     HASH   began, pages          :busy     SET of the names and ARNs that the look found at work
  :waiting  ZSET   name -> when it was last asked for             :looking  who makes a look holds it
  :room     HASH   what was counted, and (`.at`) when             :history  LIST of JSON, newest first
  :counted  there for an hour after an entry of the history
"""

import json
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec

from deployer.adapters.aws_shared import SharedRedis, key_prefix
from deployer.adapters.redis_client import claimed
from deployer.adapters.redis_values import readable, skip
from deployer.ports import Room

_MIN_WAITING = 2  # so many may ask AWS themselves, whatever a look costs
_WAITING_SECONDS = 60.0  # who has not asked for so long waits no more
_FRESH_SECONDS = 30.0  # an older look is none, so that no stack seems busy for ever
_LISTING_SECONDS = 30.0  # a look takes seconds; a worker that dies in it must not end all looks
_MAX_WAIT_SECONDS = 5.0
_PAUSE_SECONDS = 0.05
_CHUNK = 1000
_HOUR = 3600
_DAY = 86400
_HISTORY_DAYS = 60
_REGIONS_KEY = "deployer:aws:places"  # ZSET: account and region -> when it was counted last (epoch seconds)
_COUNTED_DAYS = 2  # a region that was not counted for so long is no longer used


class RegionStatus:
    """What is known of a region.

    Args:
        shared: where it is kept.
        account, region: which.
    """

    def __init__(self, redis: SharedRedis, account: str, region: str) -> None:
        self._redis = redis
        self._region = account, region
        self._prefix = key_prefix(account, region)

    def now(self) -> float:
        """The time in epoch seconds by Redis's clock, which every time here is compared with."""
        return self._redis.now()

    # --- looks at all stacks -----------------------------------------------------------------------------------

    def is_busy(self, name: str, since: float, list_stacks: Callable[[], object]) -> bool:
        """Whether a look that began after `since` (epoch seconds, by Redis's clock) found a stack at work.

        Where there is no such look and more environments wait than a look needs calls, one of those who ask makes it,
        and the others wait for it some seconds.

        Args:
            name: the stack's name or ARN.
            look: looks at all stacks and calls `looked`.
        """
        since = max(since, self.now() - _FRESH_SECONDS)
        began, pages, waiting, found = self._read_listing(name)
        if began > since:
            return self._stop_waiting_unless_busy(name, found)
        if waiting <= max(pages, _MIN_WAITING):
            return False
        with ExitStack() as held:
            key = self._redis_key("looking")
            if self._redis.run_if_available(lambda r: held.enter_context(claimed(r, key, _LISTING_SECONDS))):
                list_stacks()
            else:
                self._await_listing()
        began, _, _, found = self._read_listing(name)
        return began > since and self._stop_waiting_unless_busy(name, found)

    def save_listing(self, began: float, pages: int, stacks: int, busy: Iterable[str]) -> None:
        """Keep what a look at all stacks showed.

        Args:
            began: when, by `now`.
            pages: how many calls it took.
            stacks: how many there are.
            busy: names and ARNs of those at work.
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
        if not busy:  # it waits no more
            self._redis.run_if_available(lambda r: r.zrem(self._redis_key("waiting"), name))
        return busy

    def _read_listing(self, name: str) -> tuple[float, int, int, bool]:
        """When the last look began, its calls, how many wait, and whether it found this stack at work."""

        now = self.now()

        def read_listing(client: Any) -> Any:
            pipe = client.pipeline()  # in one step, since a look may be written just now
            pipe.zadd(self._redis_key("waiting"), {name: now})
            pipe.zremrangebyscore(self._redis_key("waiting"), "-inf", now - _WAITING_SECONDS)
            pipe.expire(self._redis_key("waiting"), _HOUR)
            pipe.zcard(self._redis_key("waiting"))
            pipe.hmget(self._redis_key("look"), "began", "pages")
            pipe.sismember(self._redis_key("busy"), name)
            return pipe.execute()

        answer = self._redis.run_if_available(read_listing)
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

    # --- how full it is ----------------------------------------------------------------------------------------

    def cached_count(self, what: str, within: float = _HOUR) -> tuple[int, float] | None:
        """What was counted within so many seconds, and when (by `now`)."""
        found = self._redis.run_if_available(lambda r: r.hmget(self._redis_key("room"), what, f"{what}.at"))
        if not found or None in found:
            return None
        try:
            counted, at = int(found[0]), float(found[1])
        except ValueError as error:
            skip(f"{what} of {self._redis_key('room')}", error)  # it is counted again
            return None
        return (max(counted, 0), at) if at >= self.now() - within else None

    def save_count(self, what: str, number: int, at: float) -> None:
        """Keep a number that was counted at a time by `now`. It counts for an hour."""

        def write_count(client: Any) -> None:
            client.hset(self._redis_key("room"), mapping={what: number, f"{what}.at": at})
            client.expire(self._redis_key("room"), _DAY)

        self._redis.run_if_available(write_count)

    def add_to_counts(self, by: int) -> None:
        """An environment's stack and pipeline have come or gone."""

        def write_changes(client: Any) -> None:
            pipe = client.pipeline(transaction=False)
            for what in ("stacks", "pipelines"):
                pipe.hincrby(self._redis_key("room"), what, by)
            pipe.expire(self._redis_key("room"), _DAY)
            pipe.execute()

        self._redis.run_if_available(write_changes)

    def forget_counts(self) -> None:
        """What was counted cannot be true."""
        self._redis.run_if_available(lambda r: r.delete(self._redis_key("room")))

    def save_history(self, room: Room) -> None:
        """Add a count to the history, once an hour at most."""

        def write_history(client: Any) -> None:
            if client.set(self._redis_key("counted"), 1, nx=True, ex=_HOUR):
                pipe = client.pipeline(transaction=False)
                pipe.lpush(self._redis_key("history"), json.dumps(asdict(room)))
                pipe.ltrim(self._redis_key("history"), 0, _HISTORY_DAYS * 24 - 1)
                pipe.expire(self._redis_key("history"), _HISTORY_DAYS * _DAY)
                pipe.zadd(_REGIONS_KEY, {json.dumps(self._region): room.counted_at})
                pipe.zremrangebyscore(_REGIONS_KEY, "-inf", room.counted_at - _COUNTED_DAYS * _DAY)
                pipe.expire(_REGIONS_KEY, _HISTORY_DAYS * _DAY)
                pipe.execute()

        self._redis.run_if_available(write_history)

    def history(self) -> list[Room]:
        """What was counted in the last sixty days, oldest first."""
        oldest = self.now() - _HISTORY_DAYS * _DAY
        found = self._redis.run_if_available(lambda r: r.lrange(self._redis_key("history"), 0, -1)) or []
        rows = ((self._redis_key("history"), each) for each in reversed(found))
        rooms = readable(rows, partial(msgspec.json.decode, type=Room, strict=False))
        return [room for room in rooms if room.counted_at >= oldest]

    def _redis_key(self, name: str) -> str:
        return f"{self._prefix}:{name}"


def counted_rooms(redis: SharedRedis) -> list[Room]:
    """How full each region was when the workers counted it last, without those that are no longer used.

    Only Redis is asked, and no setting is needed: the web process knows neither accounts nor roles.

    Args:
        shared: where the workers keep it.
    """
    oldest = redis.now() - _COUNTED_DAYS * _DAY
    regions = redis.run_if_available(lambda r: r.zrange(_REGIONS_KEY, oldest, "+inf", byscore=True)) or []
    rows = ((f"{region} of {_REGIONS_KEY}", region) for region in sorted(regions))
    known = readable(rows, partial(msgspec.json.decode, type=tuple[str, str]))
    found = (RegionStatus(redis, *region).history() for region in known)
    return [history[-1] for history in found if history]
