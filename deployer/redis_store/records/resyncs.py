"""What resyncs store for later resyncs."""

from collections.abc import Collection, Mapping, Sequence

from deployer.model.environments import Repository
from deployer.model.repository_record import Seen
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.listings import list_entry, listed_seen
from deployer.redis_store.records.repositories import compare_and_set
from deployer.redis_store.records.repository_index import RepositoryIndex, repository_key
from deployer.redis_store.records.values import read_valid, to_number

_INTACT_KEY = "deployer:kept"  # exists unless Redis lost its data
_PERIODS_KEY = "deployer:asked"  # repository's key -> the number of the period of its last scheduled resync


class ResyncRecords(RepositoryIndex):
    """Implements the methods of `QueueStore` for resyncs."""

    def has_lost_data(self) -> bool:
        """See `QueueStore.has_lost_data`."""
        with unavailable():
            return not self._redis.exists(_INTACT_KEY)

    def mark_data_complete(self) -> None:
        """See `QueueStore.mark_data_complete`."""
        with unavailable():
            self._redis.set(_INTACT_KEY, "1")

    def read_seen(self, repository: Repository) -> Seen:
        """See `QueueStore.read_seen`."""
        with unavailable():
            return _parse_seen(repository, self._redis.get(repository_key(repository, "seen")))

    def orphaned(self, repositories: Sequence[Repository]) -> dict[str, dict[str, float]]:
        """See `QueueStore.orphaned`."""
        return {key: seen.orphans for key, seen in self._read_all_seen(repositories) if seen.orphans}

    def never_deployed(self, repositories: Sequence[Repository]) -> dict[str, str]:
        """See `QueueStore.never_deployed`."""
        return {
            key: seen.never_deployed for key, seen in self._read_all_seen(repositories) if seen.never_deployed
        }

    def _read_all_seen(self, repositories: Sequence[Repository]) -> list[tuple[str, Seen]]:
        return [
            (each.key, seen)
            for each, text in self._read_key_of_each("seen", "get", repositories, None)
            for seen in read_valid([(repository_key(each, "seen"), text)] if text else [], Seen.from_json)
        ]

    def save_seen(self, repository: Repository, seen: Seen, *, instead_of: Seen | None = None) -> None:
        """See `QueueStore.save_seen`."""

        def edit_text(text: str | None) -> str | None:
            if instead_of is not None and _parse_seen(repository, text) != instead_of:
                return None
            return seen.to_json()

        with unavailable():
            compare_and_set(
                self._redis,
                repository_key(repository, "seen"),
                edit_text,
                lambda pipe: list_entry(pipe, "seen", repository, listed_seen(seen)),
            )

    def last_resync_periods(self) -> dict[str, int]:
        """See `QueueStore.last_resync_periods`."""
        with unavailable():
            return {key: int(to_number(turn)) for key, turn in self._redis.hgetall(_PERIODS_KEY).items()}

    def save_last_resync_periods(self, turns: Mapping[str, int], repositories: Collection[str]) -> None:
        """See `QueueStore.save_last_resync_periods`."""
        with unavailable():
            if turns:
                self._redis.hset(_PERIODS_KEY, mapping=dict(turns))
            if gone := [key for key in self._redis.hkeys(_PERIODS_KEY) if key not in repositories]:
                self._redis.hdel(_PERIODS_KEY, *gone)

    def delete_last_resync_periods(self) -> None:
        """Let the scheduler request every resync again, because AWS has lost its data (the sandbox was restarted)."""
        with unavailable():
            self._redis.delete(_PERIODS_KEY)


def _parse_seen(repository: Repository, text: str | None) -> Seen:
    """What the last resync has seen; as before the first resync if that cannot be read."""
    rows = [(repository_key(repository, "seen"), text)] if text else []
    return next(read_valid(rows, Seen.from_json), Seen())
