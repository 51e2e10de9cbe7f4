"""The outbox in Redis: takes, records and returns the commits whose display is posted."""

from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

import msgspec
import redis

from deployer.model.environments import Repository
from deployer.outbox.store import CommitDisplay, Shown, Wanted
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.repository_index import RepositoryIndex, repository_prefix
from deployer.redis_store.records.values import read_valid, to_number

OUTBOX_INDEX = "deployer:outbox"  # "repository's key commit" -> time at which the commit is due (ms)
_MESSAGE = "deployer:outbox:message"  # exists while a message to a sender is on its way
_MOST_SHOWN = 1000  # commits that `unfinished` reads; after an outage of a day there may be more


class RedisOutbox(RepositoryIndex):
    """Implements `Outbox`.

    Args:
        client: a connection with `decode_responses`.
        clock_offset_ms: returns the milliseconds to add to Redis's clock; only tests use it, to let time pass.
    """

    def __init__(self, client: redis.Redis, clock_offset_ms: Callable[[], int] = lambda: 0) -> None:
        super().__init__(client)
        self._offset_ms = clock_offset_ms
        text = resources.files("deployer.redis_store").joinpath("outbox.lua").read_text()
        self._script: Any = client.register_script(text)

    def take_due(self, limit: int, seconds: float, sender: str) -> list[CommitDisplay]:
        """See `Outbox.take_due`."""
        with unavailable():
            reply = self._run("take", limit, int(seconds * 1000), sender)
        found = zip(reply[::2], (_as_mapping(fields) for fields in reply[1::2]), strict=True)
        return self._displays(list(found))

    def record_shown(
        self, display: CommitDisplay, name: str, shown: Shown, seconds: float, sender: str
    ) -> bool:
        """See `Outbox.record_shown`."""
        text = msgspec.json.encode(shown).decode()
        with unavailable():
            return bool(self._run("shown", _member(display), sender, int(seconds * 1000), name, text))

    def release_commit(
        self,
        display: CommitDisplay,
        sender: str,
        *,
        again_in: float | None = None,
        error: str = "",
        failed: bool = True,
    ) -> None:
        """See `Outbox.release_commit`."""
        rest = "" if again_in is None else str(int(again_in * 1000))
        with unavailable():
            self._run("release", _member(display), sender, display.version, rest, error, int(failed))

    def commit_display(self, repository: Repository, sha: str) -> CommitDisplay:
        """See `Outbox.commit_display`."""
        with unavailable():
            fields = self._redis.hgetall(f"{repository_prefix(repository.full_name)}:display:{sha}")
        return _parse_display(repository, sha, fields)

    def unfinished(self) -> Sequence[CommitDisplay]:
        """See `Outbox.unfinished`."""
        with unavailable():
            members = self._redis.zrange(OUTBOX_INDEX, 0, _MOST_SHOWN - 1)
            pipe = self._redis.pipeline(transaction=False)
            for member in members:
                key, _, sha = member.partition(" ")
                pipe.hgetall(f"{repository_prefix(key)}:display:{sha}")
            return self._displays(list(zip(members, pipe.execute(), strict=True)))

    def is_due(self) -> bool:
        """See `Outbox.is_due`."""
        with unavailable():
            return bool(self._redis.zcount(OUTBOX_INDEX, "-inf", self._now_ms() + self._offset_ms()))

    def claim_message(self, seconds: float) -> bool:
        """See `Outbox.claim_message`."""
        with unavailable():
            return bool(self._redis.set(_MESSAGE, "1", nx=True, px=int(seconds * 1000)))

    def end_message(self) -> None:
        """See `Outbox.end_message`."""
        with unavailable():
            self._redis.delete(_MESSAGE)

    def _run(self, operation: str, *arguments: object) -> Any:
        return self._script(keys=[OUTBOX_INDEX], args=[operation, self._offset_ms(), *arguments])

    def _displays(self, found: Sequence[tuple[str, Mapping[str, str]]]) -> list[CommitDisplay]:
        with unavailable():
            repositories = self._find_spelled([member.partition(" ")[0] for member, _ in found])
        return [
            _parse_display(repository, member.partition(" ")[2], fields)
            for (member, fields), repository in zip(found, repositories, strict=True)
            if repository
        ]


def _member(display: CommitDisplay) -> str:
    return f"{display.repository.key} {display.sha}"


def _as_mapping(fields: Sequence[str]) -> dict[str, str]:
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _parse_display(repository: Repository, sha: str, fields: Mapping[str, str]) -> CommitDisplay:
    """Read the hash of a commit. A field that cannot be read is left out, and named in the log."""
    wanted: dict[tuple[str, str], Wanted] = {}
    shown: dict[str, Shown] = {}
    where = f"of {repository_prefix(repository.full_name)}:display:{sha}"
    for name, text in fields.items():
        kind, _, place = name.partition(" ")
        if kind == "w":
            environment, _, place = place.partition(" ")
            for each in read_valid([(f"{name} {where}", text)], _parse_wanted):
                wanted[environment, place] = each
        elif kind == "s":
            for there in read_valid([(f"{name} {where}", text)], _parse_shown):
                shown[place] = there
    return CommitDisplay(
        repository,
        sha,
        wanted,
        shown,
        version=int(to_number(fields.get("changes"))),
        failures=int(to_number(fields.get("failures"))),
        error=fields.get("error", ""),
    )


def _parse_wanted(text: str) -> Wanted:
    at, _, value = text.partition(" ")
    found = msgspec.json.decode(value, type=Wanted)
    return msgspec.structs.replace(found, at=to_number(at) / 1000)


def _parse_shown(text: str) -> Shown:
    return msgspec.json.decode(text, type=Shown)
