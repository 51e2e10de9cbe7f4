"""The queues of work in Redis."""

import json
import logging
import uuid
from collections.abc import Mapping, Sequence

import redis

from deployer.model.environments import Environment, Repository
from deployer.model.errors import LaneLostError
from deployer.model.records import RESYNC_KEY, Cause, EnvironmentRecord, Outcome, Work, whole
from deployer.queue.step_results import Again, Dead, Done, Retry, Snooze, Verdict
from deployer.queue.store import Accepted, Dispatch, Refused
from deployer.redis_store.coordination import HEARTBEAT, Coordination
from deployer.redis_store.dead_letters import DeadLetters
from deployer.redis_store.errors import refuses_all, unavailable
from deployer.redis_store.queue_script import DELIVERY_TTL, dispatch_of
from deployer.redis_store.queue_view import QueueView
from deployer.redis_store.records.counters import Counters
from deployer.redis_store.records.deliveries import POINTER, DeliveryRecords
from deployer.redis_store.records.environments import drop_kept
from deployer.redis_store.records.repositories import RepositoryRecords, drop_repository
from deployer.redis_store.records.repository_index import INDEX, SET_TIME, SPELLED
from deployer.redis_store.records.resyncs import ResyncRecords
from deployer.redis_store.records.stack_names import NAMES, StackNames, index_names

_log = logging.getLogger(__name__)
_DAY = 86400
_LONGEST_LOOK_MS = 60_000
_NO_COUNTS: Mapping[str, int] = {}
_LONGEST_REASON = 1000  # characters; the activity has 500 of them for each repository


class RedisLanes(
    QueueView,
    DeadLetters,
    StackNames,
    RepositoryRecords,
    DeliveryRecords,
    ResyncRecords,
    Counters,
    Coordination,
):
    """Implements these parts of `Lanes`."""

    def accept(self, repository: Repository, work: Work, delivery: str = "", event: str = "") -> Accepted:
        """See `Lanes.accept`."""
        work = work.but(goal=delivery or work.goal or uuid.uuid4().hex[:12])
        with unavailable():
            # before the script, so that a crash in between leaves a lane that is looked at, never one forgotten
            pipe = self._redis.pipeline(transaction=False)
            pipe.zadd(INDEX, {repository.key: 0})
            pipe.hset(SPELLED, repository.key, repository.full_name)
            if work.environment != RESYNC_KEY:
                index_names(pipe, Environment.from_key(repository, work.environment))
            if work.cause == Cause.EVENT:
                pipe.eval(SET_TIME, 1, HEARTBEAT + "event", DELIVERY_TTL)
            if delivery:
                pipe.set(POINTER + delivery, repository.full_name, ex=DELIVERY_TTL + _DAY)
            pipe.execute()
            outcome, detail, *rest = self._run(
                repository, "accept", work.to_json(), delivery, event, DELIVERY_TTL, self._grace
            )
        if outcome == "duplicate":
            return Accepted("duplicate", f"this delivery was accepted before; it is {detail}")
        return Accepted("queued", "", goal=detail, dispatch=dispatch_of(repository, rest))

    def begin(self, repository: Repository, token: int) -> Work | None:
        """See `Lanes.begin`."""
        with unavailable():
            found = self._run(repository, "begin", token, self._lease)
        return Work.read_item(found[0]) if found else None

    def refuse(self, repository: Repository, token: int, why: str) -> Refused:
        """See `Lanes.refuse`."""
        with unavailable():
            outcome, *rest = self._run(repository, "refuse", token, whole(why), DELIVERY_TTL, self._grace)
        if outcome == "lost":
            raise LaneLostError(f"the lane of {repository} was handed to another worker meanwhile")
        return Refused(outcome == "dead", int(rest[0]) / 1000, dispatch_of(repository, rest[1:]))

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
                json.dumps(dict(counts)), DELIVERY_TTL, self._grace, request=request or None,
            )  # fmt: skip
            if rest:  # its name may have been told otherwise meanwhile
                (repository,) = self._spelled([repository.key])
        if status == "lost":
            raise LaneLostError(f"the lane of {repository} was handed to another worker meanwhile")
        return dispatch_of(repository, rest)

    def _index_former_name(self, repository: Repository, record: EnvironmentRecord) -> None:
        """Let AWS's events of a former name find the environment that has it in use, whoever had it indexed before."""
        if record.environment == RESYNC_KEY or not record.stack_name:
            return
        if record.stack_name != Environment.from_key(repository, record.environment).stack_name:
            with unavailable():
                self._redis.hset(NAMES, record.stack_name, f"{repository.full_name}\n{record.environment}")

    def sweep(self, limit: int = 100) -> list[Dispatch]:
        """See `Lanes.sweep`."""
        found = []
        with unavailable():
            now = self._server_now()
            due = self._redis.zrangebyscore(INDEX, "-inf", now, start=0, num=limit)
            for key, repository in zip(due, self._named(due), strict=True):
                # the next look, before this one: from here on the entry only comes nearer, whoever writes it
                self._redis.zadd(INDEX, {key: now + _LONGEST_LOOK_MS})
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
        rest = self._run(repository, "sweep", self._grace, DELIVERY_TTL, self._max_attempts)
        return dispatch_of(repository, rest)

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
                self._redis.zadd(INDEX, {repository.key: 0})
                self._redis.hset(SPELLED, repository.key, repository.full_name)
