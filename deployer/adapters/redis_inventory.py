"""All stacks with deployer's tags, as one listing showed them, by repository, in Redis.

Keys, all in one slot of a cluster:
  deployer:{stacks}:listed   HASH  repository's key -> its stacks (JSON, deflated, base64); `.began` -> when it began
  deployer:{stacks}:listing        who makes a listing holds it
"""

import base64
import json
import time
import zlib
from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, fields
from typing import Any

import redis
from redis.exceptions import LockError
from redis.lock import Lock

from deployer.adapters.redis_client import claimed, unavailable
from deployer.environments import Kind, Repository, from_tag_value
from deployer.errors import PayloadError, ThrottledError, TransientError
from deployer.ports import Clouds, Listed
from deployer.stacks import Stack

_LISTED, _LISTING = "deployer:{stacks}:listed", "deployer:{stacks}:listing"
_BEGAN = ".began"  # no repository's key begins so
_KEPT_SECONDS = 3600
_LISTING_SECONDS = 30.0  # a worker that dies while it lists must not end all listings; renewed on the way
_PAUSE_SECONDS = 0.1
_CHUNK = 500
_FIELDS = frozenset(each.name for each in fields(Stack))


class RedisInventory:
    """The port `Inventory`.

    Args:
        clouds: where the stacks are; each account and region is listed once.
        client: a connection with `decode_responses`.
    """

    def __init__(self, clouds: Clouds, client: redis.Redis) -> None:
        self._clouds = clouds
        self._redis: Any = client  # typed for bytes and text at once, of which only text comes back here

    def stacks(self, repository: Repository, since: float, patience: float = 60) -> Listed:
        """See `Inventory.stacks`."""
        began = self._listed(since, patience)
        with unavailable():
            text = self._redis.hget(_LISTED, repository.key)
        return Listed(began, tuple(_read(text)) if text else ())

    def repositories(self, since: float, patience: float = 60) -> list[Repository]:
        """See `Inventory.repositories`."""
        self._listed(since, patience)
        with unavailable():
            keys = self._redis.hkeys(_LISTED)
        found = []
        for key in keys:
            with suppress(PayloadError):
                found.append(Repository.parse(key))
        return found

    def forget(self) -> None:
        """Have the next resync list anew, whatever the age that would do for it."""
        with unavailable():
            self._redis.delete(_LISTED)

    def _listed(self, since: float, patience: float) -> float:
        """When the listing that is kept began, after having made one where that was before `since`."""
        deadline = time.monotonic() + patience
        while True:
            with unavailable():
                began = float(self._redis.hget(_LISTED, _BEGAN) or 0)
                if began >= since and began:
                    return began
            with claimed(self._redis, _LISTING, _LISTING_SECONDS) as claim:
                if claim:
                    return self._list(claim)
            if time.monotonic() >= deadline:
                raise ThrottledError("another worker lists the stacks", retry_after=2)
            time.sleep(_PAUSE_SECONDS)

    def _list(self, claim: Lock) -> float:
        began, renewed = time.time(), time.monotonic()
        found: defaultdict[str, list[Stack]] = defaultdict(list)
        accounts = {str(kind): self._clouds.at(kind).account for kind in Kind}
        for cloud in self._clouds.every():
            for stack in cloud.stacks():
                if accounts.get(stack.tags.get("deployer:environment", "")) == cloud.account:
                    found[from_tag_value(stack.tags.get("deployer:repository", "")) or ""].append(stack)
                if time.monotonic() - renewed > _LISTING_SECONDS / 6:
                    renewed = time.monotonic()
                    _renew(claim)
        for cloud in self._clouds.every():
            _renew(claim)
            with suppress(TransientError):  # for admission and forecast: two calls more, once an hour
                cloud.room()
        self._keep(began, {key: _written(stacks) for key, stacks in found.items() if key})
        return began

    def _keep(self, began: float, texts: Mapping[str, str]) -> None:
        with unavailable():
            pipe = self._redis.pipeline()  # in one step, so that nobody reads half of it
            pipe.delete(_LISTED)
            names = list(texts)
            for first in range(0, len(names), _CHUNK):
                pipe.hset(_LISTED, mapping={name: texts[name] for name in names[first : first + _CHUNK]})
            pipe.hset(_LISTED, _BEGAN, began)
            pipe.expire(_LISTED, _KEPT_SECONDS)
            pipe.execute()


def _renew(claim: Lock) -> None:
    with suppress(LockError), unavailable():  # another worker lists as well by now: that does no harm
        claim.reacquire()


def _written(stacks: list[Stack]) -> str:
    # some kilobytes of tags that are much alike: a fifth of that is left
    text = json.dumps([asdict(stack) for stack in stacks], separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode())).decode()


def _read(text: str) -> list[Stack]:
    rows = json.loads(zlib.decompress(base64.b64decode(text)))
    # fields of another version are dropped
    return [Stack(**{name: value for name, value in row.items() if name in _FIELDS}) for row in rows]
