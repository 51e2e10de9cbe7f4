"""The counters of each repository."""

from collections.abc import Mapping

from deployer.model.environments import Repository
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.repository_index import RepositoryIndex, repository_key, repository_prefix
from deployer.redis_store.records.values import read_valid

TOTALS = "deployer:{-/-}:counters"  # of repositories that are not listed
_NO_REPOSITORY = Repository("-", "-")  # for deliveries that name no repository


class Counters(RepositoryIndex):
    """Implements the methods of `QueueStore` for counters."""

    def count(self, repository: Repository, counts: Mapping[str, int]) -> None:
        """See `QueueStore.count`."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for name, number in counts.items():
                pipe.hincrby(f"{repository_prefix(repository.full_name)}:counters", name, number)
            pipe.execute()

    def counters(self) -> dict[str, int]:
        """See `QueueStore.counters`."""
        totals: dict[str, int] = {}
        for each, counts in self._read_key_of_each(
            "counters", "hgetall", [*self.repositories(), _NO_REPOSITORY], {}
        ):
            for name, value in read_valid(
                (
                    (f"{name} of {repository_key(each, 'counters')}", f"{name}\n{value}")
                    for name, value in counts.items()
                ),
                _parse_counter,
            ):
                totals[name] = totals.get(name, 0) + value
        return totals


def _parse_counter(text: str) -> tuple[str, int]:
    name, _, value = text.partition("\n")
    return name, int(value)
