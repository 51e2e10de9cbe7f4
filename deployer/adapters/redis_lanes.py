"""Lanes and ledger in Redis: `lanes.lua` does what must be one step, this module calls it and reads the rest."""

import json
import logging
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from importlib import resources
from typing import Any

import redis

from deployer.adapters.redis_client import claimed, refuses_all, unavailable
from deployer.adapters.redis_records import INDEX as _INDEX
from deployer.adapters.redis_records import NAMES as _NAMES
from deployer.adapters.redis_records import SPELLED as _SPELLED
from deployer.adapters.redis_records import (
    TOTALS,
    UNSERVED,
    change,
    drop_kept,
    drop_names,
    drop_repository,
    index_names,
    note_unserved,
)
from deployer.adapters.redis_records import prefix as _prefix
from deployer.environments import Environment, Repository
from deployer.errors import LaneLostError, NotFoundError, PayloadError
from deployer.fence import UNFENCED
from deployer.ledger import (
    FAILING_JOB,
    RESYNC_KEY,
    Activity,
    Cause,
    DeadLetter,
    DeliveryRecord,
    EnvironmentRecord,
    Outcome,
    RepositoryRecord,
    Seen,
    Work,
    whole,
)
from deployer.ports import Accepted, Again, Dead, Dispatch, Done, Lane, Retry, Snooze, Verdict

_log = logging.getLogger(__name__)
_KEPT = "deployer:kept"  # there as long as nothing was wiped
_POINTER = "deployer:delivery-of:"  # delivery -> repository
_PROBE = "deployer:probe"
_TURN = "deployer:turn:"  # line -> when its next turn comes (ms)
_ASKED = "deployer:asked"  # repository's key -> the period whose resync was asked for last
_CLAIM = "deployer:claim:"  # what one process at a time does
_BEAT = "deployer:beat:"  # who or what -> when it was last heard of (epoch seconds by Redis's clock)
_BEATS = ("worker", "scheduler", "event", UNFENCED, FAILING_JOB)
_LONGEST_LOOK_MS = 60_000
_DAY = 86400
_DELIVERY_TTL = 30 * _DAY
_IGNORED_TTL = 3 * _DAY  # GitHub's own time for a redelivery
_ACTIVITY_LIMIT = 500  # lines of a repository, as in lanes.lua
_BATCH = 1000  # records whose names are written at a time
_NO_COUNTS: Mapping[str, int] = {}

# KEYS[1], now, every, at_once: all in ms. Turns that nobody took are kept, so many of them
_NEXT_TURN = """
local now, every, at_once = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local turn = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now - every * at_once)
redis.call('SET', KEYS[1], string.format('%.0f', turn + every), 'PX', 86400000)
return string.format('%.0f', math.max(turn + every - now, 0))
"""

# KEYS[1], how long the note is kept (s). It holds Redis's time: whoever reads it compares it with that
_NOTE_TIME = """
local time = redis.call('TIME')
redis.call('SET', KEYS[1], time[1] .. '.' .. string.format('%06d', time[2]), 'EX', ARGV[1])
"""


class RedisLanes:
    """The real form of `Lanes`.

    Args:
        client: a connection with `decode_responses`.
        lease_seconds: how long a worker holds a lane without renewing.
        grace_seconds: how long a dispatch may take to reach a worker before it is sent again.
        max_attempts: after how many lost workers the work becomes a dead letter.
        clock_offset_ms: added to Redis's clock; only tests let time pass by it.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        lease_seconds: float = 60,
        grace_seconds: float = 10,
        max_attempts: int = 5,
        clock_offset_ms: int = 0,
    ) -> None:
        self._redis: Any = client  # typed for bytes and text at once, of which only text comes back here
        self._lease = int(lease_seconds * 1000)
        self._grace = int(grace_seconds * 1000)
        self._max_attempts = max_attempts
        self.clock_offset_ms = clock_offset_ms
        source = resources.files("deployer.adapters").joinpath("lanes.lua").read_text()
        self._script: Any = client.register_script(source)
        self._next_turn: Any = client.register_script(_NEXT_TURN)

    # --- the lane ---------------------------------------------------------------------------------------------

    def accept(self, repository: Repository, work: Work, delivery: str = "", event: str = "") -> Accepted:
        """See `Lanes.accept`."""
        work = work.but(goal=delivery or work.goal or uuid.uuid4().hex[:12])
        with unavailable():
            # before the script, so that a crash in between leaves a lane that is looked at, never one forgotten
            pipe = self._redis.pipeline(transaction=False)
            pipe.zadd(_INDEX, {repository.key: 0})
            pipe.hset(_SPELLED, repository.key, repository.full_name)
            if work.environment != RESYNC_KEY:
                index_names(pipe, Environment.from_key(repository, work.environment))
            if work.cause == Cause.EVENT:
                pipe.eval(_NOTE_TIME, 1, _BEAT + "event", _DELIVERY_TTL)
            if delivery:
                pipe.set(_POINTER + delivery, repository.full_name, ex=_DELIVERY_TTL + _DAY)
            pipe.execute()
            outcome, detail, *rest = self._run(
                repository, "accept", work.to_json(), delivery, event, _DELIVERY_TTL, self._grace
            )
        if outcome == "duplicate":
            return Accepted("duplicate", f"this delivery was accepted before; it is {detail}")
        return Accepted("queued", "", goal=detail, dispatch=_dispatch(repository, rest))

    def ignore(
        self,
        record: DeliveryRecord,
        *,
        served: bool = True,
        ref: str = "",
        commit: str = "",
        first: EnvironmentRecord | None = None,
    ) -> None:
        """See `Lanes.ignore`."""
        repository = record.repository or "-/-"
        prefix = _prefix(repository)
        key = f"{prefix}:delivery:{record.delivery}"
        outcome = record.outcome or str(Outcome.IGNORED)

        def note(pipe: Any) -> None:
            recorded = pipe.hexists(key, "outcome")
            waits = pipe.hexists(f"{prefix}:items", record.environment)
            now = self.now()
            pipe.multi()
            if recorded:  # a redelivery must not overwrite what became of the first
                return
            if record.environment:
                line = Activity(
                    now,
                    repository,
                    record.environment,
                    record.delivery,
                    outcome,
                    whole(record.reason),
                    commit,
                    ref,
                )
                self._list_ignored(pipe, line, None if waits else first)
            pipe.set(_POINTER + record.delivery, repository, ex=_IGNORED_TTL)
            fields = json.loads(record.to_json()) | {"received_at": now, "finished_at": now}
            pipe.hset(key, mapping=fields | {"outcome": outcome})
            pipe.expire(key, _IGNORED_TTL)
            # the repository may be none that is listed, of which nothing but the delivery's own record is kept
            pipe.hincrby(TOTALS, f"outcome:{outcome}", 1)
            if not served:
                note_unserved(pipe, repository, now)

        with unavailable():
            self._redis.transaction(note, key, *([f"{prefix}:items"] if first else []))

    def unserved(self) -> dict[str, float]:
        """See `Lanes.unserved`."""
        with unavailable():
            return dict(self._redis.zrange(UNSERVED, 0, -1, desc=True, withscores=True))

    def _list_ignored(self, pipe: Any, line: Activity, first: EnvironmentRecord | None) -> None:
        """Add a push that is no work to the activity of its repository, which may have had none so far."""
        repository = Repository.parse(line.repository)
        prefix = _prefix(line.repository)
        pipe.zadd(_INDEX, {repository.key: 0}, nx=True)
        pipe.hset(_SPELLED, repository.key, repository.full_name)
        with suppress(PayloadError):  # a ref that is neither a branch nor a tag has no environment
            index_names(pipe, Environment.from_key(repository, line.environment))
        pipe.lpush(f"{prefix}:activity", line.to_json())
        pipe.ltrim(f"{prefix}:activity", 0, _ACTIVITY_LIMIT - 1)
        if first:
            # never in the place of a record: a task that runs writes its own over this one
            pipe.hsetnx(
                f"{prefix}:environments",
                line.environment,
                first.but(changed_at=line.at, updated_at=line.at).to_json(),
            )

    def begin(self, repository: Repository, token: int) -> Work | None:
        """See `Lanes.begin`."""
        with unavailable():
            found = self._run(repository, "begin", token, self._lease)
        return Work.from_json(found[0]) if found else None

    def extend(self, repository: Repository, token: int) -> bool:
        """See `Lanes.extend`."""
        with unavailable():
            return int(self._run(repository, "extend", token, self._lease)[0]) == 1

    def expire(self, repository: Repository, token: int, environment: str, why: str) -> bool:
        """See `Lanes.expire`."""
        with unavailable():
            return int(self._run(repository, "expire", token, environment, why)[0]) == 1

    def finish(
        self, repository: Repository, token: int, verdict: Verdict, counts: Mapping[str, int] = _NO_COUNTS
    ) -> Dispatch | None:
        """See `Lanes.finish`."""
        work = record = outcome = reason = commit = letter = ""
        seconds = 0.0
        match verdict:
            case Done():
                kind, outcome, reason = "done", verdict.outcome, verdict.reason
                commit = verdict.commit or (verdict.record.commit if verdict.record else "")
            case Again():
                kind, work = "again", verdict.work.to_json()
            case Snooze():
                kind = "rest" if verdict.rests else "snooze"
                work, seconds = verdict.work.to_json(), verdict.seconds
            case Retry():
                kind, work, seconds = "retry", verdict.work.to_json(), verdict.seconds
            case Dead():
                kind, outcome, reason = "dead", str(Outcome.DEAD_LETTERED), verdict.letter.told
                letter = verdict.letter.to_json()
                commit = verdict.record.commit if verdict.record else ""
        if not isinstance(verdict, Retry) and verdict.record:
            record = verdict.record.but(updated_at=self.now()).to_json()
            self._index_former_name(repository, verdict.record)
        with unavailable():
            status, *rest = self._run(
                repository, "finish", token, kind, work, record, seconds, outcome, whole(reason), commit, letter,
                json.dumps(dict(counts)), _DELIVERY_TTL, self._grace,
            )  # fmt: skip
            if rest:  # its name may have been told otherwise meanwhile
                (repository,) = self._spelled([repository.key])
        if status == "lost":
            raise LaneLostError(f"the lane of {repository} was handed to another worker meanwhile")
        return _dispatch(repository, rest)

    def _index_former_name(self, repository: Repository, record: EnvironmentRecord) -> None:
        """Let AWS's events of a former name find the environment that has it in use, whoever had it indexed before."""
        if record.environment == RESYNC_KEY or not record.stack_name:
            return
        if record.stack_name != Environment.from_key(repository, record.environment).stack_name:
            with unavailable():
                self._redis.hset(_NAMES, record.stack_name, f"{repository.full_name}\n{record.environment}")

    def index_names(self) -> None:
        """See `Lanes.index_names`."""
        records = self.environments()
        for start in range(0, len(records), _BATCH):
            with unavailable():
                pipe = self._redis.pipeline(transaction=False)
                for record in records[start : start + _BATCH]:
                    with suppress(PayloadError):  # such a record has no page
                        repository = Repository.parse(record.repository)
                        index_names(pipe, Environment.from_key(repository, record.environment))
                pipe.execute()
        with unavailable():
            drop_names(self._redis)

    def sweep(self, limit: int = 100) -> list[Dispatch]:
        """See `Lanes.sweep`."""
        found = []
        with unavailable():
            now = self._server_now()
            due = self._redis.zrangebyscore(_INDEX, "-inf", now, start=0, num=limit)
            for repository in self._spelled(due):
                # the next look, before this one: from here on the entry only comes nearer, whoever writes it
                self._redis.zadd(_INDEX, {repository.key: now + _LONGEST_LOOK_MS})
                try:
                    rest = self._run(repository, "sweep", self._grace, _DELIVERY_TTL, self._max_attempts)
                except redis.ResponseError as error:
                    if refuses_all(error):
                        raise
                    _log.exception("sweeping the lane of %s; the others go on", repository)
                    continue
                if dispatch := _dispatch(repository, rest):
                    found.append(dispatch)
        return found

    # --- what people ask ----------------------------------------------------------------------------------------

    def lanes(self, repository: Repository | None = None) -> list[Lane]:
        """See `Lanes.lanes`."""
        with unavailable():
            chosen = [repository] if repository else self.repositories()
            pipe = self._redis.pipeline(transaction=False)
            for prefix in (_prefix(each.full_name) for each in chosen):
                pipe.hgetall(f"{prefix}:state")
                pipe.lrange(f"{prefix}:queue", 0, -1)
                pipe.lrange(f"{prefix}:later", 0, -1)
                pipe.hgetall(f"{prefix}:items")
                pipe.zrange(f"{prefix}:snoozed", 0, -1, withscores=True)
            found, now = pipe.execute(), self._server_now()
        lanes = (_lane(each, now, *found[5 * at : 5 * at + 5]) for at, each in enumerate(chosen))
        return [lane for lane in lanes if lane]

    def environments(self, repository: Repository | None = None) -> list[EnvironmentRecord]:
        """See `Lanes.environments`."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for each in [repository] if repository else self.repositories():
                pipe.hvals(f"{_prefix(each.full_name)}:environments")
                pipe.hgetall(f"{_prefix(each.full_name)}:kept")
            found = pipe.execute()
        records = [
            _kept(text, kept) for texts, kept in zip(found[::2], found[1::2], strict=True) for text in texts
        ]
        return sorted(records, key=lambda record: (record.repository.lower(), record.environment))

    def environment(self, environment: Environment) -> EnvironmentRecord | None:
        """See `Lanes.environment`."""
        with unavailable():
            prefix = _prefix(environment.repository.full_name)
            pipe = self._redis.pipeline(transaction=False)
            pipe.hget(f"{prefix}:environments", environment.key)
            pipe.hget(f"{prefix}:kept", environment.key)
            text, kept = pipe.execute()
        return _kept(text, {environment.key: kept} if kept else {}) if text else None

    def keep_environment(self, environment: Environment, until: float) -> None:
        """See `Lanes.keep_environment`."""
        # apart from the record, which a task that runs is going to write as it knew it
        with unavailable():
            key = f"{_prefix(environment.repository.full_name)}:kept"
            self._redis.hset(key, environment.key, f"{self.now()} {until}")

    def find(self, stack_name: str) -> Environment | None:
        """See `Lanes.find`."""
        with unavailable():
            text = self._redis.hget(_NAMES, stack_name)
        if not text:
            return None
        repository, _, key = text.partition("\n")
        return Environment.from_key(Repository.parse(repository), key)

    def delivery(self, delivery: str) -> DeliveryRecord | None:
        """See `Lanes.delivery`."""
        with unavailable():
            repository = self._redis.get(_POINTER + delivery)
            if not repository:
                return None
            found = self._redis.hgetall(f"{_prefix(repository)}:delivery:{delivery}")
        if not found:
            return None
        times = {name: float(found.pop(name, None) or 0) for name in ("received_at", "finished_at")}
        return DeliveryRecord.from_json(json.dumps(found | times))

    def activity(self, repository: Repository | None = None, limit: int = 50) -> list[Activity]:
        """See `Lanes.activity`."""
        lines = self._each("activity", "lrange", repository, 0, limit - 1)
        found = [Activity.from_json(line) for each in lines for line in each]
        return sorted(found, key=lambda line: -line.at)[:limit]

    def dead_letters(self, repository: Repository | None = None) -> list[DeadLetter]:
        """See `Lanes.dead_letters`."""
        found = [
            DeadLetter.from_json(text) for each in self._each("dead", "hvals", repository) for text in each
        ]
        return sorted(found, key=lambda letter: letter.at)

    def dead_letter(self, letter: str) -> DeadLetter | None:
        """See `Lanes.dead_letter`."""
        try:
            repository = letter_repository(letter)
        except NotFoundError:
            return None
        with unavailable():
            text = self._redis.hget(f"{_prefix(repository.full_name)}:dead", letter)
        return DeadLetter.from_json(text) if text else None

    def replay(self, letter: str) -> Accepted:
        """See `Lanes.replay`."""
        repository = letter_repository(letter)
        goal = f"replay-{uuid.uuid4().hex[:12]}"
        with unavailable():
            found = self._run(repository, "replay", letter, goal, self._grace, _DELIVERY_TTL)
        if not found:
            raise NotFoundError(f"there is no dead letter {letter}; see: deployer dead-letters list")
        return Accepted("queued", "", goal=found[0], dispatch=_dispatch(repository, found[1:]))

    def discard(self, letter: str) -> None:
        """See `Lanes.discard`."""
        repository = letter_repository(letter)
        with unavailable():
            if not self._redis.hdel(f"{_prefix(repository.full_name)}:dead", letter):
                raise NotFoundError(f"there is no dead letter {letter}; see: deployer dead-letters list")

    def repositories(self) -> list[Repository]:
        """See `Lanes.repositories`."""
        with unavailable():
            return sorted(self._spelled(self._redis.zrange(_INDEX, 0, -1)), key=str)

    def forget(self, repository: Repository, records: Sequence[EnvironmentRecord]) -> None:
        """See `Lanes.forget`."""
        if not records:
            return
        seen = json.dumps({each.environment: each.updated_at for each in records})
        with unavailable():
            self._run(repository, "forget", seen)
            drop_kept(self._redis, repository, records)

    def forget_if_empty(self, repository: Repository) -> None:
        """See `Lanes.forget_if_empty`."""
        with unavailable():
            # a push may have written the index before, and its work since: no lane with work is forgotten
            if drop_repository(self._redis, repository) and self.lanes(repository):
                self._redis.zadd(_INDEX, {repository.key: 0})
                self._redis.hset(_SPELLED, repository.key, repository.full_name)

    def repository(self, repository: Repository) -> RepositoryRecord | None:
        """See `Lanes.repository`."""
        with unavailable():
            text = self._redis.get(f"{_prefix(repository.full_name)}:repository")
        return RepositoryRecord.from_json(text) if text else None

    def repository_records(self) -> list[RepositoryRecord]:
        """See `Lanes.repository_records`."""
        return [RepositoryRecord.from_json(text) for text in self._each("repository", "get", None) if text]

    def change_repository(
        self, repository: Repository, edit: Callable[[RepositoryRecord], RepositoryRecord]
    ) -> RepositoryRecord:
        """See `Lanes.change_repository`."""
        known = RepositoryRecord(repository.full_name)

        def changed(text: str | None) -> str | None:
            nonlocal known
            before = RepositoryRecord.from_json(text) if text else RepositoryRecord(repository.full_name)
            known = edit(before)
            return None if known == before else known.to_json()

        with unavailable():
            change(self._redis, f"{_prefix(repository.full_name)}:repository", changed)
        return known

    def count(self, repository: Repository, counts: Mapping[str, int]) -> None:
        """See `Lanes.count`."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for name, number in counts.items():
                pipe.hincrby(f"{_prefix(repository.full_name)}:counters", name, number)
            pipe.execute()

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
            text = self._redis.get(f"{_prefix(repository.full_name)}:seen")
        return Seen.from_json(text) if text else Seen()

    def orphaned(self, repositories: Sequence[Repository]) -> dict[str, dict[str, float]]:
        """See `Lanes.orphaned`."""
        return {key: seen.orphans for key, seen in self._all_seen(repositories) if seen.orphans}

    def never_deployed(self, repositories: Sequence[Repository]) -> dict[str, Seen]:
        """See `Lanes.never_deployed`."""
        return {key: seen for key, seen in self._all_seen(repositories) if seen.never_deployed}

    def _all_seen(self, repositories: Sequence[Repository]) -> list[tuple[str, Seen]]:
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for each in repositories:
                pipe.get(f"{_prefix(each.full_name)}:seen")
            texts = zip(repositories, pipe.execute(), strict=True)
        return [(each.key, Seen.from_json(text)) for each, text in texts if text]

    def see(self, repository: Repository, seen: Seen, *, instead_of: Seen | None = None) -> None:
        """See `Lanes.see`."""

        def changed(text: str | None) -> str | None:
            known = Seen.from_json(text) if text else Seen()
            return seen.to_json() if instead_of is None or known == instead_of else None

        with unavailable():
            change(self._redis, f"{_prefix(repository.full_name)}:seen", changed)

    def turn(self, line: str, every: float, at_once: int) -> float:
        """See `Lanes.turn`."""
        with unavailable():
            arguments = [self._server_now(), int(every * 1000), at_once]
            return float(self._next_turn(keys=[_TURN + line], args=arguments)) / 1000

    def resync_turns(self) -> dict[str, int]:
        """See `Lanes.resync_turns`."""
        with unavailable():
            return {key: int(turn) for key, turn in self._redis.hgetall(_ASKED).items()}

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

    def claimed(self, what: str, seconds: float) -> AbstractContextManager[object]:
        """See `Lanes.claimed`."""
        return claimed(self._redis, _CLAIM + what, seconds)

    def counters(self) -> dict[str, int]:
        """See `Lanes.counters`."""
        totals: dict[str, int] = {}
        with unavailable():
            prefixes = [_prefix(str(repository)) for repository in self.repositories()] + [_prefix("-/-")]
            pipe = self._redis.pipeline(transaction=False)
            for prefix in prefixes:
                pipe.hgetall(f"{prefix}:counters")
            for counts in pipe.execute():
                for name, value in counts.items():
                    totals[name] = totals.get(name, 0) + int(value)
        return totals

    def now(self) -> float:
        """See `Lanes.now`."""
        with unavailable():
            return self._server_now() / 1000

    def ping(self) -> None:
        """See `Lanes.ping`."""
        with unavailable():
            self._redis.set(_PROBE, "1", ex=60)  # a Redis that is full or read-only answers a mere PING

    def beat(self, name: str, seconds: float) -> None:
        """Tell that a process is alive; that is believed for so many seconds.

        Args:
            name: `worker` or `scheduler`, any of them will do; `unfenced` from a worker without the fence in IAM.
            seconds: longer than until the next time.
        """
        with unavailable():
            self._redis.eval(_NOTE_TIME, 1, _BEAT + name, int(seconds))

    def beats(self) -> dict[str, float]:
        """See `Lanes.beats`."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for name in _BEATS:
                pipe.get(_BEAT + name)
            found = pipe.execute()
        return {name: float(at) for name, at in zip(_BEATS, found, strict=True) if at}

    def server(self) -> dict[str, str]:
        """What the server tells of its memory and persistence, by the names of `INFO`."""
        with unavailable():
            parts = [self._redis.info(section) for section in ("memory", "persistence")]
        return {name: str(value) for part in parts for name, value in part.items()}

    # --- inside -------------------------------------------------------------------------------------------------

    def _spelled(self, keys: Sequence[str]) -> list[Repository]:
        names = self._redis.hmget(_SPELLED, keys) if keys else []
        return [Repository.parse(name or key) for key, name in zip(keys, names, strict=True)]

    def _server_now(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000 + self.clock_offset_ms

    def _run(self, repository: Repository, op: str, *arguments: object) -> list[str]:
        values = [op, self.clock_offset_ms, *arguments]
        look, *rest = self._script(keys=[_prefix(repository.full_name)], args=values)
        # the index lives in another slot of a cluster, so it is written after the script; `accept` and the sweeper
        # see to it that a crash in between costs at most a later look
        self._redis.zadd(_INDEX, {repository.key: float(look)}, lt=True)
        found: list[str] = rest
        return found

    def _each(
        self, name: str, command: str, repository: Repository | None, *arguments: object
    ) -> Iterable[Any]:
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for each in [repository] if repository else self.repositories():
                getattr(pipe, command)(f"{_prefix(each.full_name)}:{name}", *arguments)
            return list(pipe.execute())


def letter_repository(letter: str) -> Repository:
    """The repository that a dead letter's id names: `owner~name-token`.

    Raises:
        NotFoundError: it is not such an id.
    """
    try:
        return Repository.parse(letter.rpartition("-")[0].replace("~", "/"))
    except PayloadError as error:
        raise NotFoundError(
            f"there is no dead letter {letter[:100]}; see: deployer dead-letters list"
        ) from error


def letter_id(repository: Repository, token: int | str) -> str:
    """The id of the dead letter that ends this hand-out of a lane."""
    return f"{repository.key.replace('/', '~')}-{token}"


def _lane(
    repository: Repository,
    now: int,
    state: Mapping[str, str],
    queue: Sequence[str],
    later: Sequence[str],
    items: Mapping[str, str],
    snoozed: Sequence[tuple[str, float]],
) -> Lane | None:
    status = state.get("status", "idle")
    if status == "idle" and not items:
        return None
    asleep = {key: Work.from_json(items[key]) for key, _ in snoozed if key in items}
    return Lane(
        repository=repository.full_name,
        status=status,
        environment=state.get("env", ""),
        task=state.get("task", ""),
        waiting=[Work.from_json(items[key]) for key in [*queue, *later] if key in items],
        snoozed={key: max(0.0, (due - now) / 1000) for key, due in snoozed},
        lease_seconds=max(0.0, (float(state.get("until", 0)) - now) / 1000) if status == "running" else 0,
        failing={key: work for key, work in asleep.items() if work.tries},
        resting={key: work.rests_for for key, work in asleep.items() if work.rests_for},
    )


def _kept(text: str, kept: Mapping[str, str]) -> EnvironmentRecord:
    record = EnvironmentRecord.from_json(text)
    if not (record.kept_at or record.kept_until or record.environment in kept):
        return record  # nearly all of them, and there may be thousands
    at, _, until = kept.get(record.environment, "0 0").partition(" ")
    return record.but(kept_at=float(at), kept_until=float(until))


def _dispatch(repository: Repository, rest: list[str]) -> Dispatch | None:
    if not rest:
        return None
    environment, task, token, low = rest
    return Dispatch(repository.full_name, environment, task, int(token), low=low == "1")
