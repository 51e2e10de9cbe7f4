"""Counters of outcomes, deliveries, calls."""

from collections.abc import Mapping

from deployer.model.environments import Repository
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.repository_index import RepositoryIndex, repository_key, repository_prefix
from deployer.redis_store.records.values import readable

TOTALS = "deployer:{-/-}:counters"  # of what belongs to no repository that is listed
_NOBODY = Repository("-", "-")  # of deliveries that name no repository


class Counters(RepositoryIndex):
    """Implements these parts of `Lanes`."""

    def count(self, repository: Repository, counts: Mapping[str, int]) -> None:
        """See `Lanes.count`."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for name, number in counts.items():
                pipe.hincrby(f"{repository_prefix(repository.full_name)}:counters", name, number)
            pipe.execute()

    def counters(self) -> dict[str, int]:
        """See `Lanes.counters`."""
        totals: dict[str, int] = {}
        for each, counts in self._each("counters", "hgetall", [*self.repositories(), _NOBODY], {}):
            for name, value in readable(
                (
                    (f"{name} of {repository_key(each, 'counters')}", f"{name}\n{value}")
                    for name, value in counts.items()
                ),
                _counter,
            ):
                totals[name] = totals.get(name, 0) + value
        return totals


def _counter(text: str) -> tuple[str, int]:
    name, _, value = text.partition("\n")
    return name, int(value)
