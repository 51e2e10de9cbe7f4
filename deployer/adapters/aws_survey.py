"""What all workers know of one account's region, in Redis: the last look at all its stacks, and how full it is.

Keys, behind the prefix `deployer:aws:{account:region}`:
  :look     HASH   began, pages          :busy     SET of the names and ARNs that the look found at work
  :waiting  ZSET   name -> when it was last asked for             :looking  who makes a look holds it
  :room     HASH   what was counted, and (`.at`) when             :last_count  the last complete count, as JSON
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

import msgspec

from deployer.adapters.aws_shared import Shared, prefix
from deployer.adapters.redis_client import claimed
from deployer.adapters.redis_values import readable, skip
from deployer.ports import Room

_FEW = 2  # so many may ask AWS themselves, whatever a look costs
_WAITS_SECONDS = 60.0  # who has not asked for so long waits no more
_FRESH_SECONDS = 30.0  # an older look is none, so that no stack seems busy for ever
_LOOKING_SECONDS = 30.0  # a look takes seconds; a worker that dies in it must not end all looks
_PATIENCE_SECONDS = 5.0
_PAUSE_SECONDS = 0.05
_CHUNK = 1000
_HOUR = 3600
_DAY = 86400
_PLACES = "deployer:aws:places"  # ZSET: account and region -> when it was counted last (epoch seconds)
_COUNTED_DAYS = 2  # a region that was not counted for so long is no longer used


class Survey:
    """What is known of a region.

    Args:
        shared: where it is kept.
        account, region: which.
    """

    def __init__(self, shared: Shared, account: str, region: str) -> None:
        self._shared = shared
        self._place = account, region
        self._prefix = prefix(account, region)

    def now(self) -> float:
        """The time in epoch seconds by Redis's clock, which every time here is compared with."""
        return self._shared.now()

    # --- looks at all stacks -----------------------------------------------------------------------------------

    def busy(self, name: str, since: float, look: Callable[[], object]) -> bool:
        """Whether a look that began after `since` (epoch seconds, by Redis's clock) found a stack at work.

        Where there is no such look and more environments wait than a look needs calls, one of those who ask makes it,
        and the others wait for it some seconds.

        Args:
            name: the stack's name or ARN.
            look: looks at all stacks and calls `looked`.
        """
        since = max(since, self.now() - _FRESH_SECONDS)
        began, pages, waiting, found = self._asked(name)
        if began > since:
            return self._told(name, found)
        if waiting <= max(pages, _FEW):
            return False
        with ExitStack() as held:
            key = self._key("looking")
            if self._shared.ask(lambda r: held.enter_context(claimed(r, key, _LOOKING_SECONDS))):
                look()
            else:
                self._await_look()
        began, _, _, found = self._asked(name)
        return began > since and self._told(name, found)

    def looked(self, began: float, pages: int, stacks: int, busy: Iterable[str]) -> None:
        """Keep what a look at all stacks showed.

        Args:
            began: when, by `now`.
            pages: how many calls it took.
            stacks: how many there are.
            busy: names and ARNs of those at work.
        """
        names = list(busy)

        def keep(client: Any) -> None:
            pipe = client.pipeline()
            pipe.delete(self._key("busy"))
            for first in range(0, len(names), _CHUNK):
                pipe.sadd(self._key("busy"), *names[first : first + _CHUNK])
            pipe.expire(self._key("busy"), _HOUR)
            pipe.hset(self._key("look"), mapping={"began": began, "pages": pages})
            pipe.expire(self._key("look"), _HOUR)
            pipe.execute()

        self._shared.ask(keep)
        self.counted("stacks", stacks, began)

    def _told(self, name: str, busy: bool) -> bool:
        if not busy:  # it waits no more
            self._shared.ask(lambda r: r.zrem(self._key("waiting"), name))
        return busy

    def _asked(self, name: str) -> tuple[float, int, int, bool]:
        """When the last look began, its calls, how many wait, and whether it found this stack at work."""

        now = self.now()

        def question(client: Any) -> Any:
            pipe = client.pipeline()  # in one step, since a look may be written just now
            pipe.zadd(self._key("waiting"), {name: now})
            pipe.zremrangebyscore(self._key("waiting"), "-inf", now - _WAITS_SECONDS)
            pipe.expire(self._key("waiting"), _HOUR)
            pipe.zcard(self._key("waiting"))
            pipe.hmget(self._key("look"), "began", "pages")
            pipe.sismember(self._key("busy"), name)
            return pipe.execute()

        answer = self._shared.ask(question)
        if answer is None:
            return 0.0, 0, 0, False
        *_, waiting, (began, pages), found = answer
        return float(began or 0), int(pages or 0), int(waiting), bool(found)

    def _await_look(self) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline and self._shared.ask(lambda r: r.exists(self._key("looking"))):
            time.sleep(_PAUSE_SECONDS)

    # --- how full it is ----------------------------------------------------------------------------------------

    def count(self, what: str, within: float = _HOUR) -> tuple[int, float] | None:
        """What was counted within so many seconds, and when (by `now`)."""
        found = self._shared.ask(lambda r: r.hmget(self._key("room"), what, f"{what}.at"))
        if not found or None in found:
            return None
        try:
            counted, at = int(found[0]), float(found[1])
        except ValueError as error:
            skip(f"{what} of {self._key('room')}", error)  # it is counted again
            return None
        return (max(counted, 0), at) if at >= self.now() - within else None

    def counted(self, what: str, number: int, at: float) -> None:
        """Keep a number that was counted at a time by `now`. It counts for an hour."""

        def keep(client: Any) -> None:
            client.hset(self._key("room"), mapping={what: number, f"{what}.at": at})
            client.expire(self._key("room"), _DAY)

        self._shared.ask(keep)

    def changed(self, by: int) -> None:
        """An environment's stack and pipeline have come or gone."""

        def keep(client: Any) -> None:
            pipe = client.pipeline(transaction=False)
            for what in ("stacks", "pipelines"):
                pipe.hincrby(self._key("room"), what, by)
            pipe.expire(self._key("room"), _DAY)
            pipe.execute()

        self._shared.ask(keep)

    def forget_counts(self) -> None:
        """What was counted cannot be true."""
        self._shared.ask(lambda r: r.delete(self._key("room")))

    def keep_last_count(self, room: Room) -> None:
        """Store a complete count of this region, for processes that only show it."""

        def keep(client: Any) -> None:
            pipe = client.pipeline(transaction=False)
            pipe.set(self._key("last_count"), json.dumps(asdict(room)), ex=_COUNTED_DAYS * _DAY)
            pipe.zadd(_PLACES, {json.dumps(self._place): room.counted_at})
            pipe.zremrangebyscore(_PLACES, "-inf", room.counted_at - _COUNTED_DAYS * _DAY)
            pipe.expire(_PLACES, _COUNTED_DAYS * _DAY)
            pipe.execute()

        self._shared.ask(keep)

    def last_count(self) -> Iterator[Room]:
        """The last complete count of this region, if there is one that can be read."""
        key = self._key("last_count")
        if text := self._shared.ask(lambda r: r.get(key)):
            yield from readable([(key, text)], partial(msgspec.json.decode, type=Room, strict=False))

    def _key(self, name: str) -> str:
        return f"{self._prefix}:{name}"


def counted_rooms(shared: Shared) -> list[Room]:
    """How full each region was when the workers counted it last, without those that are no longer used.

    Only Redis is asked, and no setting is needed: the web process knows neither accounts nor roles.

    Args:
        shared: where the workers keep it.
    """
    oldest = shared.now() - _COUNTED_DAYS * _DAY
    places = shared.ask(lambda r: r.zrange(_PLACES, oldest, "+inf", byscore=True)) or []
    rows = ((f"{place} of {_PLACES}", place) for place in sorted(places))
    known = readable(rows, partial(msgspec.json.decode, type=tuple[str, str]))
    return [room for place in known for room in Survey(shared, *place).last_count()]
