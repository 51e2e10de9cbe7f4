"""What resyncs leave for later ones."""

from collections.abc import Collection, Mapping, Sequence

from deployer.model.environments import Repository
from deployer.model.records import Seen
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.repositories import change
from deployer.redis_store.records.repository_index import RepositoryIndex, repository_key
from deployer.redis_store.records.values import number, readable

_KEPT = "deployer:kept"  # there as long as nothing was wiped
_ASKED = "deployer:asked"  # repository's key -> the period whose resync was asked for last


class ResyncRecords(RepositoryIndex):
    """Implements these parts of `Lanes`."""

    def emptied(self) -> bool:
        """See `Lanes.emptied`."""
        with unavailable():
            return not self._redis.exists(_KEPT)

    def keep(self) -> None:
        """See `Lanes.keep`."""
        with unavailable():
            self._redis.set(_KEPT, "1")

    def seen(self, repository: Repository) -> Seen:
        """See `Lanes.seen`."""
        with unavailable():
            return _seen(repository, self._redis.get(repository_key(repository, "seen")))

    def orphaned(self, repositories: Sequence[Repository]) -> dict[str, dict[str, float]]:
        """See `Lanes.orphaned`."""
        return {key: seen.orphans for key, seen in self._all_seen(repositories) if seen.orphans}

    def never_deployed(self, repositories: Sequence[Repository]) -> dict[str, str]:
        """See `Lanes.never_deployed`."""
        return {key: seen.never_deployed for key, seen in self._all_seen(repositories) if seen.never_deployed}

    def _all_seen(self, repositories: Sequence[Repository]) -> list[tuple[str, Seen]]:
        return [
            (each.key, seen)
            for each, text in self._each("seen", "get", repositories, None)
            for seen in readable([(repository_key(each, "seen"), text)] if text else [], Seen.from_json)
        ]

    def see(self, repository: Repository, seen: Seen, *, instead_of: Seen | None = None) -> None:
        """See `Lanes.see`."""

        def changed(text: str | None) -> str | None:
            if instead_of is not None and _seen(repository, text) != instead_of:
                return None
            return seen.to_json()

        with unavailable():
            change(self._redis, repository_key(repository, "seen"), changed)

    def resync_turns(self) -> dict[str, int]:
        """See `Lanes.resync_turns`."""
        with unavailable():
            return {key: int(number(turn)) for key, turn in self._redis.hgetall(_ASKED).items()}

    def note_resync_turns(self, turns: Mapping[str, int], repositories: Collection[str]) -> None:
        """See `Lanes.note_resync_turns`."""
        with unavailable():
            if turns:
                self._redis.hset(_ASKED, mapping=dict(turns))
            if gone := [key for key in self._redis.hkeys(_ASKED) if key not in repositories]:
                self._redis.hdel(_ASKED, *gone)

    def forget_resync_turns(self) -> None:
        """Have every resync asked for anew: what AWS holds was lost, as the sandbox's is at its end."""
        with unavailable():
            self._redis.delete(_ASKED)


def _seen(repository: Repository, text: str | None) -> Seen:
    """What resyncs have seen; where that cannot be read, the same as before the first resync."""
    rows = [(repository_key(repository, "seen"), text)] if text else []
    return next(readable(rows, Seen.from_json), Seen())
