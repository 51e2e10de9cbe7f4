"""Lanes and ledger in Redis: `queue.lua` does what must be one step, this module calls it and reads the rest."""

import json
import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from importlib import resources
from typing import Any

import redis

from deployer.model.environments import Environment, Repository
from deployer.model.errors import LaneLostError, NotFoundError, PayloadError, StoredValueError
from deployer.model.records import (
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
    split_key,
    whole,
)
from deployer.model.targets import UNFENCED
from deployer.queue.step_results import Again, Dead, Done, Retry, Snooze, Verdict
from deployer.queue.store import Accepted, Dispatch, Lane, Refused
from deployer.redis_store.connection import claimed, read_server, refuses_all, unavailable
from deployer.redis_store.records import INDEX as _INDEX
from deployer.redis_store.records import NAMES as _NAMES
from deployer.redis_store.records import SPELLED as _SPELLED
from deployer.redis_store.records import (
    TOTALS,
    UNSERVED,
    change,
    drop_kept,
    drop_names,
    drop_repository,
    index_names,
    note_unserved,
)
from deployer.redis_store.records import prefix as _prefix
from deployer.redis_store.values import (
    answered,
    environment_record,
    is_environment,
    number,
    readable,
    repository_record,
    skip,
)

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
_ACTIVITY_LIMIT = 500  # lines of a repository, as in queue.lua
_BATCH = 1000  # records whose names are written at a time
_NO_COUNTS: Mapping[str, int] = {}
_NOBODY = Repository("-", "-")  # of deliveries that name no repository
_LONGEST_REASON = 1000  # characters; the activity has 500 of them for each repository
# the keys of a lane that a task writes at its end and `lanes` does not read, with their types as in queue_items.lua
_LEDGER_TYPES = {"environments": "hash", "kept": "hash", "dead": "hash", "activity": "list"}
_LONGEST_SHOWN = 2000  # characters of a dead letter that cannot be read

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
        self._script: Any = client.register_script(lane_script())
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
        environments = f"{prefix}:environments"
        outcome = record.outcome or str(Outcome.IGNORED)

        def note(pipe: Any) -> None:
            recorded = pipe.hexists(key, "outcome")
            waits = pipe.hexists(f"{prefix}:items", record.environment)
            known = pipe.hget(environments, record.environment) if first else None
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
                self._list_ignored(pipe, line)
                if first and not waits and (shown := _skipped_record(known, first)):
                    shown = shown.but(changed_at=now, updated_at=now)
                    pipe.hset(environments, record.environment, shown.to_json())
            pipe.set(_POINTER + record.delivery, repository, ex=_IGNORED_TTL)
            fields = json.loads(record.to_json()) | {"received_at": now, "finished_at": now}
            pipe.hset(key, mapping=fields | {"outcome": outcome})
            pipe.expire(key, _IGNORED_TTL)
            # the repository may be none that is listed, of which nothing but the delivery's own record is kept
            pipe.hincrby(TOTALS, f"outcome:{outcome}", 1)
            if not served:
                note_unserved(pipe, repository, now)

        with unavailable():
            self._redis.transaction(note, key, *([f"{prefix}:items", environments] if first else []))

    def unserved(self) -> dict[str, float]:
        """See `Lanes.unserved`."""
        with unavailable():
            return dict(self._redis.zrange(UNSERVED, 0, -1, desc=True, withscores=True))

    def _list_ignored(self, pipe: Any, line: Activity) -> None:
        """Add a push that is no work to the activity of its repository, which may have had none so far."""
        repository = Repository.parse(line.repository)
        prefix = _prefix(line.repository)
        pipe.zadd(_INDEX, {repository.key: 0}, nx=True)
        pipe.hset(_SPELLED, repository.key, repository.full_name)
        with suppress(PayloadError):  # a ref that is neither a branch nor a tag has no environment
            index_names(pipe, Environment.from_key(repository, line.environment))
        pipe.lpush(f"{prefix}:activity", line.to_json())
        pipe.ltrim(f"{prefix}:activity", 0, _ACTIVITY_LIMIT - 1)

    def begin(self, repository: Repository, token: int) -> Work | None:
        """See `Lanes.begin`."""
        with unavailable():
            found = self._run(repository, "begin", token, self._lease)
        return Work.read_item(found[0]) if found else None

    def refuse(self, repository: Repository, token: int, why: str) -> Refused:
        """See `Lanes.refuse`."""
        with unavailable():
            outcome, *rest = self._run(repository, "refuse", token, whole(why), _DELIVERY_TTL, self._grace)
        if outcome == "lost":
            raise LaneLostError(f"the lane of {repository} was handed to another worker meanwhile")
        return Refused(outcome == "dead", int(rest[0]) / 1000, _dispatch(repository, rest[1:]))

    def extend(self, repository: Repository, token: int) -> bool:
        """See `Lanes.extend`."""
        with unavailable():
            return int(self._run(repository, "extend", token, self._lease, request="")[0]) == 1

    def expire(self, repository: Repository, token: int, key: str, why: str) -> bool:
        """See `Lanes.expire`."""
        with unavailable():
            return int(self._run(repository, "expire", token, key, why)[0]) == 1

    def finish(
        self,
        repository: Repository,
        token: int,
        verdict: Verdict,
        counts: Mapping[str, int] = _NO_COUNTS,
        request: str = "",
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
                reason = verdict.error
            case Dead():
                kind, outcome, reason = "dead", str(Outcome.DEAD_LETTERED), verdict.letter.told
                letter = verdict.letter.to_json()
                commit = verdict.record.commit if verdict.record else ""
        if not isinstance(verdict, Retry) and verdict.record:
            record = verdict.record.but(updated_at=self.now()).to_json()
            self._index_former_name(repository, verdict.record)
        with unavailable():
            status, *rest = self._run(
                repository, "finish", token, kind, work, record, seconds, outcome,
                whole(reason)[:_LONGEST_REASON], commit, letter,
                json.dumps(dict(counts)), _DELIVERY_TTL, self._grace, request=request or None,
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

    def _index_names_of(self, repository: Repository, key: str) -> None:
        """Let `find` find the environment of a dead letter, whose names may be lost or dropped."""
        with suppress(PayloadError):  # the letter is damaged, or of a whole repository
            pipe = self._redis.pipeline(transaction=False)
            index_names(pipe, Environment.from_key(repository, key))
            pipe.execute()

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
            for key, repository in zip(due, self._named(due), strict=True):
                # the next look, before this one: from here on the entry only comes nearer, whoever writes it
                self._redis.zadd(_INDEX, {key: now + _LONGEST_LOOK_MS})
                if repository is None:
                    continue
                try:
                    dispatch = self._sweep(repository)
                except redis.ResponseError as error:
                    if refuses_all(error):
                        raise
                    _log.error("sweeping the lane of %s: %s; the others go on", repository, error)
                    continue
                except (ValueError, TypeError):
                    _log.exception("sweeping the lane of %s; the others go on", repository)
                    continue
                if dispatch:
                    found.append(dispatch)
        return found

    def _sweep(self, repository: Repository) -> Dispatch | None:
        rest = self._run(repository, "sweep", self._grace, _DELIVERY_TTL, self._max_attempts)
        return _dispatch(repository, rest)

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

    def environments(self, repository: Repository | None = None) -> list[EnvironmentRecord]:
        """See `Lanes.environments`."""
        chosen = [repository] if repository else self.repositories()
        kept = dict(self._each("kept", "hgetall", chosen, {}))
        records = [
            _kept(record, kept[each])
            for each, texts in self._each("environments", "hgetall", chosen, {})
            for record in readable(_rows(each, "environments", texts), partial(environment_record, each))
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
        if not text:
            return None
        try:
            record = environment_record(environment.repository, text)
        except (StoredValueError, PayloadError) as error:
            raise StoredValueError(
                f"the record of {environment} in Redis cannot be read: {error}; correct it, or delete the field "
                f"{environment.key} of {prefix}:environments: a resync finds out the rest"
            ) from error
        return _kept(record, {environment.key: kept} if kept else {})

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
        try:
            return Environment.from_key(Repository.parse(repository), key)
        except PayloadError as error:
            skip(f"{stack_name} of {_NAMES}", error)
            return None

    def delivery(self, delivery: str) -> DeliveryRecord | None:
        """See `Lanes.delivery`."""
        with unavailable():
            repository = self._redis.get(_POINTER + delivery)
            if not repository:
                return None
            found = self._redis.hgetall(f"{_prefix(repository)}:delivery:{delivery}")
        if not found:
            return None
        times = {name: number(found.pop(name, None)) for name in ("received_at", "finished_at")}
        return DeliveryRecord.from_json(json.dumps(found | times))

    def activity(self, repository: Repository | None = None, limit: int = 50) -> list[Activity]:
        """See `Lanes.activity`."""
        chosen = [repository] if repository else self.repositories()
        found = [
            line
            for each, texts in self._each("activity", "lrange", chosen, [], 0, limit - 1)
            for line in readable(((_key(each, "activity"), text) for text in texts), Activity.from_json)
        ]
        return sorted(found, key=lambda line: -line.at)[:limit]

    def dead_letters(self, repository: Repository | None = None) -> list[DeadLetter]:
        """See `Lanes.dead_letters`."""
        chosen = [repository] if repository else self.repositories()
        found = [
            _letter(each, name, text)
            for each, texts in self._each("dead", "hgetall", chosen, {})
            for name, text in texts.items()
        ]
        return sorted(found, key=lambda letter: letter.at)

    def dead_letter(self, letter: str) -> DeadLetter | None:
        """See `Lanes.dead_letter`."""
        try:
            repository = letter_repository(letter)
        except NotFoundError:
            return None
        with unavailable():
            text = self._redis.hget(_key(repository, "dead"), letter)
        return _letter(repository, letter, text) if text else None

    def replay(self, letter: str) -> Accepted:
        """See `Lanes.replay`."""
        repository = letter_repository(letter)
        goal = f"replay-{uuid.uuid4().hex[:12]}"
        with unavailable():
            text = self._redis.hget(_key(repository, "dead"), letter)
            dead = _letter(repository, letter, text) if text else None
            if dead:
                self._index_names_of(repository, dead.arguments.environment)
            known = dead is not None and dead.readable
            found = self._run(repository, "replay", letter, goal, self._grace, _DELIVERY_TTL, str(int(known)))
        if not found:
            raise NotFoundError(f"there is no dead letter {letter}; see: deployer dead-letters list")
        if found == ["unreadable"]:
            raise StoredValueError(
                f"dead letter {letter} does not say what to do; discard it: deployer dead-letters discard {letter}"
            )
        return Accepted("queued", "", goal=found[0], dispatch=_dispatch(repository, found[1:]))

    def discard(self, letter: str) -> None:
        """See `Lanes.discard`."""
        repository = letter_repository(letter)
        with unavailable():
            if not int(self._run(repository, "discard", letter)[0]):
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
            text = self._redis.get(_key(repository, "repository"))
        return _repository_record(repository, text) if text else None

    def repository_records(self, repositories: Sequence[Repository] | None = None) -> list[RepositoryRecord]:
        """See `Lanes.repository_records`."""
        chosen = self.repositories() if repositories is None else repositories
        return [
            record
            for each, text in self._each("repository", "get", chosen, None)
            for record in readable(
                [(_key(each, "repository"), text)] if text else [], partial(repository_record, each)
            )
        ]

    def change_repository(
        self, repository: Repository, edit: Callable[[RepositoryRecord], RepositoryRecord]
    ) -> RepositoryRecord:
        """See `Lanes.change_repository`."""
        known = RepositoryRecord(repository.full_name)

        def changed(text: str | None) -> str | None:
            nonlocal known
            before = _repository_record(repository, text) if text else RepositoryRecord(repository.full_name)
            known = edit(before)
            return None if known == before else known.to_json()

        with unavailable():
            change(self._redis, _key(repository, "repository"), changed)
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
            return _seen(repository, self._redis.get(_key(repository, "seen")))

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
            for seen in readable([(_key(each, "seen"), text)] if text else [], Seen.from_json)
        ]

    def see(self, repository: Repository, seen: Seen, *, instead_of: Seen | None = None) -> None:
        """See `Lanes.see`."""

        def changed(text: str | None) -> str | None:
            if instead_of is not None and _seen(repository, text) != instead_of:
                return None
            return seen.to_json()

        with unavailable():
            change(self._redis, _key(repository, "seen"), changed)

    def turn(self, line: str, every: float, at_once: int) -> float:
        """See `Lanes.turn`."""
        with unavailable():
            arguments = [self._server_now(), int(every * 1000), at_once]
            return float(self._next_turn(keys=[_TURN + line], args=arguments)) / 1000

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

    def claimed(self, what: str, seconds: float) -> AbstractContextManager[object]:
        """See `Lanes.claimed`."""
        return claimed(self._redis, _CLAIM + what, seconds)

    def counters(self) -> dict[str, int]:
        """See `Lanes.counters`."""
        totals: dict[str, int] = {}
        for each, counts in self._each("counters", "hgetall", [*self.repositories(), _NOBODY], {}):
            for name, value in readable(
                (
                    (f"{name} of {_key(each, 'counters')}", f"{name}\n{value}")
                    for name, value in counts.items()
                ),
                _counter,
            ):
                totals[name] = totals.get(name, 0) + value
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
        return {name: number(at) for name, at in zip(_BEATS, found, strict=True) if at}

    def server(self) -> dict[str, str]:
        """See `redis_client.read_server`."""
        return read_server(self._redis)

    # --- inside -------------------------------------------------------------------------------------------------

    def _named(self, keys: Sequence[str]) -> list[Repository | None]:
        """The repositories of the index's keys; None for a key that is no repository's."""
        if not keys:
            return []
        pipe = self._redis.pipeline(transaction=False)
        pipe.hmget(_SPELLED, keys)
        names = answered(_SPELLED, pipe.execute(raise_on_error=False)[0], [None] * len(keys))
        found: list[Repository | None] = []
        for key, name in zip(keys, names, strict=True):
            texts = [(f"{key} of {where}", text) for where, text in ((_SPELLED, name), (_INDEX, key)) if text]
            named = (each for each in readable(texts, Repository.parse) if each.key == key)
            found.append(next(named, None))
        return found

    def _spelled(self, keys: Sequence[str]) -> list[Repository]:
        return [each for each in self._named(keys) if each]

    def _server_now(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000 + self.clock_offset_ms

    def _run(
        self, repository: Repository, op: str, *arguments: object, request: str | None = None
    ) -> list[str]:
        # redis-py repeats a command whose answer was lost, and a script that was carried out has to know that
        request = uuid.uuid4().hex if request is None else request
        values = [op, self.clock_offset_ms, request, *arguments]
        look, *rest = self._script(keys=[_prefix(repository.full_name)], args=values)
        # the index lives in another slot of a cluster, so it is written after the script; `accept` and the sweeper
        # see to it that a crash in between costs at most a later look
        self._redis.zadd(_INDEX, {repository.key: float(look)}, lt=True)
        found: list[str] = rest
        return found

    def _each(
        self, name: str, command: str, repositories: Sequence[Repository], empty: Any, *arguments: object
    ) -> list[tuple[Repository, Any]]:
        """What a command answers for the key of each repository; `empty` where the key is of another type."""
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for each in repositories:
                getattr(pipe, command)(_key(each, name), *arguments)
            answers = zip(repositories, pipe.execute(raise_on_error=False), strict=True)
            return [(each, answered(_key(each, name), answer, empty)) for each, answer in answers]


def lane_script() -> str:
    """The script that carries out every operation of a lane."""
    files = resources.files("deployer.redis_store")
    return "\n".join(files.joinpath(name).read_text() for name in ("queue_items.lua", "queue.lua"))


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


def _shown(repository: Repository, now: int, answers: Sequence[Any]) -> Lane | None:
    """A lane as people see it; one with a key of another type is shown as broken."""
    if wrong := next((each for each in answers if isinstance(each, Exception)), None):
        if not isinstance(wrong, redis.ResponseError) or refuses_all(wrong):
            raise wrong
        return Lane(repository.full_name, "broken", "", "", [], {}, broken=str(wrong))
    for (name, expected), found in zip(_LEDGER_TYPES.items(), answers[6:], strict=True):
        if found not in {"none", expected}:
            told = f"WRONGTYPE {_key(repository, name)} is a {found} and has to be a {expected}"
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


def _letter(repository: Repository, name: str, text: str) -> DeadLetter:
    """A dead letter; one that cannot be read is shown all the same, since it waits for a person."""
    try:
        letter = DeadLetter.from_json(text)
        return (
            letter
            if letter.repository.lower() == repository.key
            else replace(letter, repository=str(repository))
        )
    except StoredValueError as error:
        at = number(name.rpartition("-")[2]) / 1000
        return DeadLetter(
            id=name,
            repository=repository.full_name,
            task="",
            reason=f"this dead letter cannot be read: {error}",
            traceback=text[:_LONGEST_SHOWN],
            at=at if 0 < at < time.time() else time.time(),
            work="",
            kind=type(error).__name__,
        )


def _skipped_record(text: str | None, first: EnvironmentRecord) -> EnvironmentRecord | None:
    """The record of an environment of which none but skipped pushes are known; None where more is known.

    Args:
        text: the stored record; one that cannot be read is left as it is.
        first: of the newest skipped push.
    """
    if text is None:
        return first
    try:
        known = EnvironmentRecord.from_json(text)
    except StoredValueError:
        return None
    return first.but(generation=known.generation) if known.only_skipped else None


def _repository_record(repository: Repository, text: str) -> RepositoryRecord:
    """What is known of a repository.

    Raises:
        StoredValueError: the text cannot be read; the error names the key and the remedy.
    """
    try:
        return repository_record(repository, text)
    except (StoredValueError, PayloadError) as error:
        raise StoredValueError(
            f"the record of {repository} in Redis cannot be read: {error}; correct it, or delete the key "
            f"{_key(repository, 'repository')}: a resync finds out the rest"
        ) from error


def _counter(text: str) -> tuple[str, int]:
    name, _, value = text.partition("\n")
    return name, int(value)


def _seen(repository: Repository, text: str | None) -> Seen:
    """What resyncs have seen; where that cannot be read, the same as before the first resync."""
    rows = [(_key(repository, "seen"), text)] if text else []
    return next(readable(rows, Seen.from_json), Seen())


def _kept(record: EnvironmentRecord, kept: Mapping[str, str]) -> EnvironmentRecord:
    if not (record.kept_at or record.kept_until or record.environment in kept):
        return record  # nearly all of them, and there may be thousands
    at, _, until = kept.get(record.environment, "0 0").partition(" ")
    return record.but(kept_at=number(at), kept_until=number(until))


def _rows(repository: Repository, name: str, texts: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The values of a hash, each with where it stands."""
    return ((f"{field} of {_key(repository, name)}", text) for field, text in texts.items())


def _key(repository: Repository, name: str) -> str:
    return f"{_prefix(repository.full_name)}:{name}"


def _dispatch(repository: Repository, rest: list[str]) -> Dispatch | None:
    if not rest:
        return None
    key, task, token, low = rest
    return Dispatch(repository.full_name, key, task, int(token), low=low == "1")
