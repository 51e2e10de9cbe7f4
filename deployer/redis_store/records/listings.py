"""The lists that find environments, dead letters and repositories without reading all of their records.

Keys (docs/decisions/0054-lists-instead-of-scans.md):
  deployer:listed          HASH  entry -> the version of its record, and the lists that contain it
  deployer:list-names      SET   of the lists that are not empty
  deployer:list:<name>     ZSET  of members; of `lanes` and `repositories` without an entry: the repositories' keys
  deployer:activity        ZSET  the last 500 ends of all repositories (JSON) -> when (epoch s)
  deployer:expiry-checks   ZSET  environment -> when it is checked next (epoch s)
  deployer:indexed         what this version lists, if that is complete
An entry is the kind of a record (`environment`, `letter`, `repository`, `seen`), the repository's key, and the key of
the environment or letter, with newlines between them. A member of a list is the same without the kind.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from importlib import resources
from typing import Any

from deployer.model.activity import Activity
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Repository
from deployer.model.listings import ALL, LANES, REPOSITORIES, environment_lists, repository_lists, seen_lists
from deployer.model.repository_record import RepositoryRecord, Seen
from deployer.redis_store.errors import unavailable
from deployer.redis_store.records.repository_index import (
    SWEEP_INDEX,
    RepositoryIndex,
    labelled_values,
    repository_key,
    repository_prefix,
)
from deployer.redis_store.records.values import (
    parse_environment_record,
    parse_repository_record,
    read_valid,
    value_or_default,
)

LISTED, LIST_NAMES, LIST = "deployer:listed", "deployer:list-names", "deployer:list:"
ACTIVITY, EXPIRY_CHECKS = "deployer:activity", "deployer:expiry-checks"
TOTALS = "deployer:{-/-}:counters"  # of all repositories
DEAD = "dead"
AFTER_NEWLINE = "\x0b"  # the character after a newline: the end of a range of members
_INDEXED, _CONTENT = "deployer:indexed", "1"  # increased whenever other lists are kept
_BATCH = 500
_RECENT_LINES = 20  # of each repository that `index_records` adds to the activity of all repositories
# ARGV: an entry, and what `list_entry` expects
_LIST_ENTRY = "list_entry(ARGV[1], ARGV[2])"
# ARGV: the repository's key, an environment's key, what `list_entry` expects, the time of the next check
_LIST_ENVIRONMENT = "list_environment(ARGV[1], ARGV[2], ARGV[3], ARGV[4])"
# KEYS[1]: the repository's prefix. ARGV: the repository's key, the present time, and four values for each entry: its
# kind, its key, the text of its record as it was read, and what `list_entry` expects. An entry whose record has changed
# is left.
_REPAIR = """
for i = 3, #ARGV, 4 do
  local kind, key, text, listed = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local stored
  if kind == 'environment' then stored = redis.pcall('HGET', KEYS[1] .. ':environments', key)
  elseif kind == 'letter' then stored = redis.pcall('HGET', KEYS[1] .. ':dead', key)
  else stored = redis.pcall('GET', KEYS[1] .. ':' .. kind) end
  if type(stored) ~= 'string' then stored = '' end
  if kind == 'letter' then
    list_letter(ARGV[1], key, stored ~= '' and stored or nil)
  elseif stored == text and kind == 'environment' then
    list_environment(ARGV[1], key, listed, ARGV[2])
  elseif stored == text then
    list_entry(kind .. '\\n' .. ARGV[1], listed)
  end
end
"""
# KEYS: the counters of a repository, which version 0.1.0 wrote, and those of all repositories. Values that are no
# numbers stay.
_ADD_TO_TOTALS = """
local counts = redis.pcall('HGETALL', KEYS[1])
for i = 1, #counts, 2 do
  local added = string.match(counts[i + 1], '^-?%d+$') and redis.pcall('HINCRBY', KEYS[2], counts[i], counts[i + 1])
  if type(added) == 'number' then redis.call('HDEL', KEYS[1], counts[i]) end
end
"""


def list_key(name: str) -> str:
    """The key of a list."""
    return LIST + name


def listed_environment(record: EnvironmentRecord) -> str:
    """The lists of an environment, with the version of its record, as `list_entry` of listings.lua expects them."""
    places = [f"{name}\n{more}" if more else name for name, more in environment_lists(record)]
    return _encode_places(places, version=str(record.updated_at))


def listed_repository(record: RepositoryRecord) -> str:
    """The lists of a repository because of its record."""
    return _encode_places(repository_lists(record))


def listed_seen(seen: Seen) -> str:
    """The lists of a repository because of what its last resync has seen."""
    return _encode_places(seen_lists(seen))


def _encode_places(places: Sequence[str], version: str = "") -> str:
    return f"{version}\n0\n{json.dumps(places, separators=(',', ':'), ensure_ascii=False)}" if places else ""


def list_environment(pipe: Any, record: EnvironmentRecord, now: float) -> None:
    """Add to a transaction that writes an environment's record the commands that list it.

    Args:
        pipe: the transaction.
        record: the record.
        now: epoch seconds by Redis's clock.
    """
    values = [record.repository.lower(), record.environment, listed_environment(record), f"{now:.3f}"]
    pipe.eval(_script(_LIST_ENVIRONMENT), 0, *values)


def list_entry(pipe: Any, kind: str, repository: Repository, listed: str) -> None:
    """Add to a transaction that writes or deletes a record of a repository the commands that list it.

    Args:
        pipe: the transaction.
        kind: `repository` or `seen`.
        repository: whose record.
        listed: the lists; empty for none.
    """
    pipe.eval(_script(_LIST_ENTRY), 0, f"{kind}\n{repository.key}", listed)


def check_expiries(pipe: Any, repository: Repository, now: float) -> None:
    """Add to a transaction the command after which the expiries of all environments of a repository are checked.

    Args:
        pipe: the transaction.
        repository: the repository.
        now: epoch seconds by Redis's clock.
    """
    pipe.eval(_script("check_expiries(ARGV[1], ARGV[2])"), 0, repository.key, f"{now:.3f}")


@cache
def _script(text: str) -> str:
    return resources.files("deployer.redis_store").joinpath("listings.lua").read_text() + text


class Listings(RepositoryIndex):
    """Reads the lists; the base of the classes that keep records."""

    def list_sizes(self) -> dict[str, int]:
        """See `RecordStore.list_sizes`."""
        names = self.read_lists(lambda pipe: pipe.smembers(LIST_NAMES))[0]
        names = sorted({*names, LANES, REPOSITORIES})
        sizes = self.read_lists(lambda pipe: [pipe.zcard(list_key(name)) for name in names])
        return {
            name: value_or_default(list_key(name), size, 0) for name, size in zip(names, sizes, strict=True)
        }

    def read_lists(self, add_commands: Callable[[Any], object]) -> list[Any]:
        """The answers to commands that read lists, after listing the data of an earlier version if that was not done.

        Args:
            add_commands: adds the commands to a pipeline.
        """
        with unavailable():
            while True:
                pipe = self._redis.pipeline(transaction=False)
                pipe.get(_INDEXED)
                add_commands(pipe)
                answers: list[Any] = pipe.execute(raise_on_error=False)
                indexed = answers.pop(0)
                if indexed == _CONTENT:
                    return answers
                if isinstance(indexed, Exception):
                    raise indexed
                self.index_records()

    def read_members(self, name: str, low: str, high: str, limit: int) -> list[str]:
        """The first members of a list within a range, in order.

        Args:
            name: the list.
            low, high: the range, as for `ZRANGEBYLEX`.
            limit: how many at most.
        """
        answer = self.read_lists(lambda pipe: pipe.zrangebylex(list_key(name), low, high, 0, limit))[0]
        found: list[str] = value_or_default(list_key(name), answer, [])
        return found

    def index_records(self) -> None:
        """See `RecordStore.index_records`."""
        with unavailable():
            for key, kind in ((LISTED, "hash"), (LIST_NAMES, "set")):
                if self._redis.type(key) not in {"none", kind}:  # whatever it is, nothing is lost
                    self._redis.delete(key)
            if self._redis.get(_INDEXED) != _CONTENT:  # the next sweep of each queue corrects that
                self._redis.zunionstore(list_key(LANES), {SWEEP_INDEX: 0})
            self._redis.zunionstore(list_key(REPOSITORIES), {SWEEP_INDEX: 0})
            found = {each.key: each for each in self.repositories()} | self._listed_repositories()
            for repository in found.values():
                self.index_repository_records(repository)
            self._redis.set(_INDEXED, _CONTENT)

    def _listed_repositories(self) -> dict[str, Repository]:
        """The repositories of all entries, because one may be listed that has no data any more."""
        keys = {entry.split("\n")[1] for entry, _ in self._redis.hscan_iter(LISTED, count=_BATCH)}
        named = read_valid(((f"an entry of {LISTED}", key) for key in keys), Repository.parse)
        return {each.key: each for each in named}

    def index_repository_records(self, repository: Repository) -> None:
        """See `RecordStore.index_repository_records`."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for name in ("environments", "dead"):
                pipe.hkeys(repository_key(repository, name))
            for name in ("repository", "seen"):
                pipe.get(repository_key(repository, name))
            pipe.lrange(repository_key(repository, "activity"), 0, _RECENT_LINES - 1)
            pipe.zrangebylex(list_key(ALL), f"[{repository.key}\n", f"({repository.key}{AFTER_NEWLINE}")
            pipe.zrange(list_key(f"{DEAD} {repository.key}"), 0, -1)
            pipe.eval(_ADD_TO_TOTALS, 2, repository_key(repository, "counters"), TOTALS)
            environments, letters, record, seen, lines, members, ids, _ = (
                None if isinstance(answer, Exception) else answer
                for answer in pipe.execute(raise_on_error=False)
            )
            stored = dict.fromkeys(environments or ())
            gone = [key for each in members or () if (key := each.partition("\n")[2]) not in stored]
            self._list_environments(repository, [*stored, *gone])
            self._list_letters(
                repository, {*(letters or ()), *(each.partition("\n")[2] for each in ids or ())}
            )
            self._list_repository(repository, record, seen)
            self._list_activity(repository, lines or ())

    def _list_environments(self, repository: Repository, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            texts = self._read_fields(repository_key(repository, "environments"), batch)
            stored = {key: text for key, text in zip(batch, texts, strict=True) if text is not None}
            listed = {
                record.environment: listed_environment(record)
                for record in read_valid(
                    labelled_values(repository, "environments", stored),
                    partial(parse_environment_record, repository),
                )
            }
            self._repair(
                repository,
                [("environment", key, stored.get(key, ""), listed.get(key, "")) for key in batch],
            )

    def _list_letters(self, repository: Repository, ids: Iterable[str]) -> None:
        rows = [("letter", letter, "", "?") for letter in sorted(ids)]
        for start in range(0, len(rows), _BATCH):
            self._run_repair(repository, rows[start : start + _BATCH])

    def _list_repository(self, repository: Repository, record: str | None, seen: str | None) -> None:
        records = read_valid(
            _labelled(repository, "repository", record), partial(parse_repository_record, repository)
        )
        sights = read_valid(_labelled(repository, "seen", seen), Seen.from_json)
        listed = next(map(listed_repository, records), "")
        self._repair(
            repository,
            [
                ("repository", "", record or "", listed),
                ("seen", "", seen or "", next((listed_seen(each) for each in sights), "")),
            ],
        )

    def _list_activity(self, repository: Repository, lines: Sequence[str]) -> None:
        key = repository_key(repository, "activity")
        at = {line: parsed.at for line in lines for parsed in read_valid([(key, line)], Activity.from_json)}
        if at:
            self._redis.zadd(ACTIVITY, at, nx=True)
            self._redis.zremrangebyrank(ACTIVITY, 0, -501)

    def _repair(self, repository: Repository, rows: Sequence[tuple[str, str, str, str]]) -> None:
        """List entries whose lists differ from what they should be. Each row is as in `_REPAIR`."""
        entries = [
            f"{kind}\n{repository.key}\n{key}" if key else f"{kind}\n{repository.key}"
            for kind, key, _, _ in rows
        ]
        known = self._read_fields(LISTED, entries)
        differing = [row for row, listed in zip(rows, known, strict=True) if row[3] != (listed or "")]
        if differing:
            self._run_repair(repository, differing)

    def _read_fields(self, key: str, fields: Sequence[str]) -> list[str | None]:
        """The values of fields of a hash; of none if the key has another type."""
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(key, fields)
        found: list[str | None] = value_or_default(
            key, pipe.execute(raise_on_error=False)[0], [None] * len(fields)
        )
        return found

    def _run_repair(self, repository: Repository, rows: Sequence[tuple[str, str, str, str]]) -> None:
        values = [text for row in rows for text in row]
        self._redis.eval(
            _script(_REPAIR),
            1,
            repository_prefix(repository.full_name),
            repository.key,
            f"{self.now():.3f}",
            *values,
        )


def _labelled(repository: Repository, name: str, text: str | None) -> list[tuple[str, str]]:
    return [(repository_key(repository, name), text)] if text else []
