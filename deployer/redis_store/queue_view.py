"""Reads the queues for people to look at."""

from collections.abc import Mapping, Sequence
from typing import Any

import redis

from deployer.model.environments import Repository
from deployer.model.errors import StoredValueError
from deployer.model.listings import LANES
from deployer.queue.items import Work, split_key
from deployer.queue.record_store import Page
from deployer.queue.store import QueueState
from deployer.redis_store.errors import refuses_all_commands, unavailable
from deployer.redis_store.records.listings import Listings
from deployer.redis_store.records.repository_index import repository_key, repository_prefix
from deployer.redis_store.records.values import is_environment_key, to_number

# The keys that `finish` writes and `lanes` does not read, with their types as in queue_items.lua.
_OTHER_KEY_TYPES = {
    "environments": "hash",
    "kept": "hash",
    "dead": "hash",
    "activity": "list",
    "rounds": "zset",
}


class QueueView(Listings):
    """Implements `QueueStore.lanes`."""

    def lanes(self, repository: Repository | None = None) -> list[QueueState]:
        """See `QueueStore.lanes`."""
        return self._read_queues([repository] if repository else self._queues_with_work("", None)[0])

    def lane_page(self, *, after: str = "", limit: int) -> Page[QueueState]:
        """See `QueueStore.lane_page`."""
        chosen, last = self._queues_with_work(after, limit)
        return Page(self._read_queues(chosen), last)

    def _queues_with_work(self, after: str, limit: int | None) -> tuple[list[Repository], str]:
        """The repositories whose queues may have work, and the key of the last one if there are more than `limit`."""
        found = self.read_members(
            LANES, f"({after}" if after else "-", "+", -1 if limit is None else limit + 1
        )
        keys = found[:limit]
        with unavailable():
            return self._valid_repositories(keys), keys[-1] if len(found) > len(keys) else ""

    def _read_queues(self, chosen: Sequence[Repository]) -> list[QueueState]:
        if not chosen:
            return []
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for prefix in (repository_prefix(each.full_name) for each in chosen):
                pipe.hgetall(f"{prefix}:state")
                pipe.lrange(f"{prefix}:queue", 0, -1)
                pipe.lrange(f"{prefix}:later", 0, -1)
                pipe.hgetall(f"{prefix}:items")
                pipe.zrange(f"{prefix}:snoozed", 0, -1, withscores=True)
                pipe.hgetall(f"{prefix}:refused")
                for name in _OTHER_KEY_TYPES:
                    pipe.type(f"{prefix}:{name}")
            found, now = pipe.execute(raise_on_error=False), self._now_ms()
            each_has = 6 + len(_OTHER_KEY_TYPES)
            lanes = [
                _view_queue(each, now, found[each_has * at : each_has * (at + 1)])
                for at, each in enumerate(chosen)
            ]
        return [lane for lane in lanes if lane]


def _view_queue(repository: Repository, now: int, answers: Sequence[Any]) -> QueueState | None:
    """A queue from the answers to the commands of `lanes`; broken if one of its keys has a wrong type."""
    if wrong := next((each for each in answers if isinstance(each, Exception)), None):
        if not isinstance(wrong, redis.ResponseError) or refuses_all_commands(wrong):
            raise wrong
        return QueueState(repository.full_name, "broken", "", "", [], {}, broken=str(wrong))
    for (name, expected), found in zip(_OTHER_KEY_TYPES.items(), answers[6:], strict=True):
        if found not in {"none", expected}:
            error = f"WRONGTYPE {repository_key(repository, name)} is a {found} and has to be a {expected}"
            return QueueState(repository.full_name, "broken", "", "", [], {}, broken=error)
    return _view_readable_queue(repository, now, *answers[:6])


def _view_readable_queue(
    repository: Repository,
    now: int,
    state: Mapping[str, str],
    queue: Sequence[str],
    later: Sequence[str],
    items: Mapping[str, str],
    snoozed: Sequence[tuple[str, float]],
    refused: Mapping[str, str],
) -> QueueState | None:
    status = state.get("status", "idle")
    if status == "idle" and not items:
        return None
    reasons = {
        key: f"workers did not understand its queue item: {_refusal_reason(text)}"
        for key, text in refused.items()
    }
    known = _parse_items(repository, items, reasons)
    asleep = {key: due for key, due in snoozed if key in known}
    environment, ref = split_key(state.get("env", ""))
    return QueueState(
        repository=repository.full_name,
        status=status,
        environment=environment if is_environment_key(repository, environment) else "",
        ref=ref,
        task=state.get("task", ""),
        waiting=[known[key] for key in [*queue, *later] if key in known],
        snoozed={key: max(0.0, (due - now) / 1000) for key, due in asleep.items()},
        lease_seconds=max(0.0, (to_number(state.get("until")) - now) / 1000) if status == "running" else 0,
        failing={key: known[key] for key in asleep if known[key].log.tries},
        resting={key: known[key].log.rests_for for key in asleep if known[key].log.rests_for},
        refused=reasons,
    )


def _parse_items(
    repository: Repository, items: Mapping[str, str], reasons: dict[str, str]
) -> dict[str, Work]:
    """The items whose environment exists, by their keys.

    Args:
        repository: whose items.
        items: their texts.
        reasons: gets the reason of each item that cannot be read or whose key names no environment.
    """
    found = {}
    for key, text in items.items():
        environment, ref = split_key(key)
        try:
            item = Work.from_json(text)
        except StoredValueError as error:
            item = Work.of(environment=environment, ref=ref, candidate=bool(ref), task="", cause="")
            reasons.setdefault(key, f"its queue item cannot be read: {error}")
        if is_environment_key(repository, environment):
            found[key] = item
        else:
            reasons.setdefault(key, "no environment is called so")
    return found


def _refusal_reason(text: str) -> str:
    """The reason in a value of `:refused`, which holds the number of refusals, the goal and the reason."""
    return text.split(" ", 2)[-1]
