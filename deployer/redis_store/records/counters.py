"""The counters of all repositories."""

from collections.abc import Mapping

from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.listings import TOTALS, Listings
from deployer.redis_store.records.values import read_valid, value_or_default


class Counters(Listings):
    """Implements the methods of `QueueStore` for counters."""

    def count(self, counts: Mapping[str, int]) -> None:
        """See `QueueStore.count`."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for name, number in counts.items():
                pipe.hincrby(TOTALS, name, number)
            pipe.execute()

    def counters(self) -> dict[str, int]:
        """See `QueueStore.counters`."""
        found = value_or_default(TOTALS, self.read_lists(lambda pipe: pipe.hgetall(TOTALS))[0], {})
        rows = ((f"{name} of {TOTALS}", f"{name}\n{value}") for name, value in found.items())
        return dict(read_valid(rows, _parse_counter))


def _parse_counter(text: str) -> tuple[str, int]:
    name, _, value = text.partition("\n")
    return name, int(value)
