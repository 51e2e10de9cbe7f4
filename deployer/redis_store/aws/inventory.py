"""The inventory of all stacks with deployer's tags, listed by account and region, stored by repository in Redis.

Keys, all in one slot of a cluster, with the prefix `deployer:{stacks}:` and the suffix `:account:region`:
  listed   HASH  repository's key -> its stacks (JSON, deflated, base64); `.began` -> start of the listing (epoch s)
  listing        lock of the worker that lists the stacks
"""

import base64
import json
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import msgspec
import redis
from redis.exceptions import LockError
from redis.lock import Lock

from deployer.environment.cloud_region import CloudRegion, Clouds, Listed
from deployer.model.environments import Kind, Repository, from_tag_value
from deployer.model.errors import PayloadError, ThrottledError, TransientError, UnavailableError
from deployer.model.stacks import Stack
from deployer.redis_store.coordination import hold_lock
from deployer.redis_store.errors import unavailable

_BEGAN = ".began"  # no repository's key begins with a dot
_KEPT_SECONDS = 3600
_LISTING_SECONDS = 30.0  # the lock of a worker that dies while listing expires; a running listing renews it
_PAUSE_SECONDS = 0.1
_CHUNK = 500


class StackInventory:
    """Implements the port `Inventory`.

    Args:
        clouds: the accounts and regions to list; each is listed once.
        client: a connection with `decode_responses`.
        clock: returns epoch seconds by Redis's clock, which also dates the records that a listing is compared with.
    """

    def __init__(self, clouds: Clouds, client: redis.Redis, clock: Callable[[], float]) -> None:
        self._clouds = clouds
        self._clock = clock
        self._redis: Any = client  # redis-py's types allow bytes as well; this connection returns only text

    def stacks(
        self,
        repository: Repository,
        since: float,
        patience: float = 60,
        kind: Kind | None = None,
        *,
        partly: bool = False,
    ) -> Listed:
        """See `Inventory.stacks`."""
        needed = self._clouds_of_kind(kind)
        began, away = self._ensure_listings(needed, since, patience, partly=partly)
        needed = [each for each in needed if each.account not in away]
        every = [each for each in self._clouds.every() if each.account not in away]
        places = dict.fromkeys(_redis_key("listed", each) for each in [*needed, *every])
        with unavailable():
            texts = [self._redis.hget(place, repository.key) for place in places]
        accounts = {each: self._clouds.at(each).account for each in Kind}
        regions = {
            each: {cloud.region for cloud in needed if cloud.account == account}
            for each, account in accounts.items()
            if account not in away
        }
        try:
            stacks = tuple(stack for text in texts if text for stack in _deserialize_stacks(text))
        except (msgspec.MsgspecError, zlib.error, ValueError) as error:
            with unavailable():
                self._redis.delete(*places)
            raise TransientError(
                f"the listing of stacks in Redis cannot be read, so the stacks are listed again: {error}"
            ) from error
        return Listed(began, stacks, regions, "; ".join(away.values()))

    def repositories(self, since: float, patience: float = 60) -> list[Repository]:
        """See `Inventory.repositories`."""
        clouds = self._clouds_of_kind(None)
        self._ensure_listings(clouds, since, patience)
        with unavailable():
            keys = dict.fromkeys(
                key for each in clouds for key in self._redis.hkeys(_redis_key("listed", each))
            )
        found = []
        for key in keys:
            with suppress(PayloadError):
                found.append(Repository.parse(key))
        return found

    def forget(self) -> None:
        """Delete the listings, so that the next resync lists the stacks again, however new a listing is."""
        with unavailable():
            self._redis.delete(*(_redis_key("listed", each) for each in self._clouds.every()))

    def _clouds_of_kind(self, kind: Kind | None) -> Sequence[CloudRegion]:
        if kind is None:
            return self._clouds.every()
        # with this kind's own role: the role of another kind in the same region may not work
        return [self._clouds.at(kind, region) for region in self._clouds.target(kind).regions]

    def _ensure_listings(
        self, clouds: Sequence[CloudRegion], since: float, patience: float, *, partly: bool = False
    ) -> tuple[float, dict[str, str]]:
        """List the stacks of each cloud whose stored listing began before `since` (epoch seconds).

        Args:
            clouds: the accounts and regions.
            since: the oldest acceptable start of a listing.
            patience: seconds to wait for another worker's listing.
            partly: whether accounts that cannot be listed are acceptable, as long as one can be listed.

        Returns:
            When the oldest listing began, and the accounts that cannot be listed, with the reason.
        """
        deadline, accounts = time.monotonic() + patience, {each.account for each in clouds}
        began, away = list[tuple[str, float]](), dict[str, str]()
        for each in clouds:
            try:
                began.append((each.account, self._ensure_listing(each, since, deadline)))
            except (ThrottledError, UnavailableError):
                raise
            except TransientError as error:
                away[each.account] = str(error)
                if not partly or away.keys() == accounts:
                    raise
        return min(at for account, at in began if account not in away), away

    def _ensure_listing(self, cloud: CloudRegion, since: float, deadline: float) -> float:
        while True:
            with unavailable():
                began = float(self._redis.hget(_redis_key("listed", cloud), _BEGAN) or 0)
                if began >= since and began:
                    return began
            with hold_lock(self._redis, _redis_key("listing", cloud), _LISTING_SECONDS) as claim:
                if claim:
                    return self._make_listing(cloud, claim)
            if time.monotonic() >= deadline:
                raise ThrottledError("another worker is listing the stacks", retry_after=2)
            time.sleep(_PAUSE_SECONDS)

    def _make_listing(self, cloud: CloudRegion, claim: Lock) -> float:
        began, renewed = self._clock(), time.monotonic()
        found: defaultdict[str, list[Stack]] = defaultdict(list)
        accounts = {str(kind): self._clouds.at(kind).account for kind in Kind}
        for stack in cloud.stacks():
            if accounts.get(stack.tags.get("deployer:environment", "")) == cloud.account:
                found[from_tag_value(stack.tags.get("deployer:repository", "")) or ""].append(stack)
            if time.monotonic() - renewed > _LISTING_SECONDS / 6:
                renewed = time.monotonic()
                _renew_claim(claim)
        _renew_claim(claim)
        with suppress(TransientError):  # for the capacity check: two more calls once an hour
            cloud.count_capacity()
        self._save_listing(
            cloud, began, {key: _serialize_stacks(stacks) for key, stacks in found.items() if key}
        )
        return began

    def _save_listing(self, cloud: CloudRegion, began: float, texts: Mapping[str, str]) -> None:
        key = _redis_key("listed", cloud)
        with unavailable():
            pipe = self._redis.pipeline()  # in one transaction, so that no worker reads half of it
            pipe.delete(key)
            names = list(texts)
            for first in range(0, len(names), _CHUNK):
                pipe.hset(key, mapping={name: texts[name] for name in names[first : first + _CHUNK]})
            pipe.hset(key, _BEGAN, began)
            pipe.expire(key, _KEPT_SECONDS)
            pipe.execute()


def _redis_key(name: str, cloud: CloudRegion) -> str:
    return f"deployer:{{stacks}}:{name}:{cloud.account}:{cloud.region}"


def _renew_claim(claim: Lock) -> None:
    with (
        suppress(LockError),
        unavailable(),
    ):  # another worker lists the stacks as well now, which does no harm
        claim.reacquire()


def _serialize_stacks(stacks: list[Stack]) -> str:
    # the tags of the stacks are similar, so compression leaves a fifth
    text = json.dumps([asdict(stack) for stack in stacks], separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode())).decode()


def _deserialize_stacks(text: str) -> list[Stack]:
    # unknown fields, stored by another version, are dropped
    return msgspec.json.decode(zlib.decompress(base64.b64decode(text)), type=list[Stack], strict=False)
