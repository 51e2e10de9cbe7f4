"""The queues as people see them."""

from collections.abc import Mapping, Sequence
from typing import Any

import redis

from deployer.model.environments import Repository
from deployer.model.errors import StoredValueError
from deployer.model.records import Work, split_key
from deployer.queue.store import Lane
from deployer.redis_store.errors import refuses_all, unavailable
from deployer.redis_store.records.repository_index import RepositoryIndex, repository_key, repository_prefix
from deployer.redis_store.records.values import is_environment, number

# the keys of a lane that a task writes at its end and `lanes` does not read, with their types as in queue_items.lua
_LEDGER_TYPES = {"environments": "hash", "kept": "hash", "dead": "hash", "activity": "list"}


class QueueView(RepositoryIndex):
    """Implements these parts of `Lanes`."""

    def lanes(self, repository: Repository | None = None) -> list[Lane]:
        """See `Lanes.lanes`."""
        with unavailable():
            chosen = [repository] if repository else self.repositories()
            pipe = self._redis.pipeline(transaction=False)
            for prefix in (repository_prefix(each.full_name) for each in chosen):
                pipe.hgetall(f"{prefix}:state")
                pipe.lrange(f"{prefix}:queue", 0, -1)
                pipe.lrange(f"{prefix}:later", 0, -1)
                pipe.hgetall(f"{prefix}:items")
                pipe.zrange(f"{prefix}:snoozed", 0, -1, withscores=True)
                pipe.hgetall(f"{prefix}:refused")
                for name in _LEDGER_TYPES:
                    pipe.type(f"{prefix}:{name}")
            found, now = pipe.execute(raise_on_error=False), self._server_now()
            each_has = 6 + len(_LEDGER_TYPES)
            lanes = [
                _shown(each, now, found[each_has * at : each_has * (at + 1)])
                for at, each in enumerate(chosen)
            ]
        return [lane for lane in lanes if lane]


def _shown(repository: Repository, now: int, answers: Sequence[Any]) -> Lane | None:
    """A lane as people see it; one with a key of another type is shown as broken."""
    if wrong := next((each for each in answers if isinstance(each, Exception)), None):
        if not isinstance(wrong, redis.ResponseError) or refuses_all(wrong):
            raise wrong
        return Lane(repository.full_name, "broken", "", "", [], {}, broken=str(wrong))
    for (name, expected), found in zip(_LEDGER_TYPES.items(), answers[6:], strict=True):
        if found not in {"none", expected}:
            told = f"WRONGTYPE {repository_key(repository, name)} is a {found} and has to be a {expected}"
            return Lane(repository.full_name, "broken", "", "", [], {}, broken=told)
    return _lane(repository, now, *answers[:6])


def _lane(
    repository: Repository,
    now: int,
    state: Mapping[str, str],
    queue: Sequence[str],
    later: Sequence[str],
    items: Mapping[str, str],
    snoozed: Sequence[tuple[str, float]],
    refused: Mapping[str, str],
) -> Lane | None:
    status = state.get("status", "idle")
    if status == "idle" and not items:
        return None
    works: dict[str, Work] = {}  # by the key of the item
    whys = {key: f"workers did not understand its queue item: {_why(text)}" for key, text in refused.items()}
    for key, text in items.items():
        try:
            works[key] = Work.from_json(text)
        except StoredValueError as error:
            environment, ref = split_key(key)
            works[key] = Work(environment=environment, ref=ref, candidate=bool(ref), task="", cause="")
            whys.setdefault(key, f"its queue item cannot be read: {error}")
    known = {key: work for key, work in works.items() if is_environment(repository, split_key(key)[0])}
    for key in works.keys() - known.keys():
        whys.setdefault(key, "no environment is called so")
    asleep = {key: due for key, due in snoozed if key in known}
    environment, ref = split_key(state.get("env", ""))
    return Lane(
        repository=repository.full_name,
        status=status,
        environment=environment if is_environment(repository, environment) else "",
        ref=ref,
        task=state.get("task", ""),
        waiting=[known[key] for key in [*queue, *later] if key in known],
        snoozed={key: max(0.0, (due - now) / 1000) for key, due in asleep.items()},
        lease_seconds=max(0.0, (number(state.get("until")) - now) / 1000) if status == "running" else 0,
        failing={key: known[key] for key in asleep if known[key].tries},
        resting={key: known[key].rests_for for key in asleep if known[key].rests_for},
        refused=whys,
    )


def _why(text: str) -> str:
    """Why an item was refused last, of a value of `:refused`: how often, its goal, why."""
    return text.split(" ", 2)[-1]
