"""The queues of work in Redis, one for each repository."""

import json
import logging
import uuid
from collections.abc import Mapping, Sequence

import redis

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.errors import LaneLostError
from deployer.model.listings import REPOSITORIES
from deployer.model.outcomes import Outcome
from deployer.model.stored_value import replace_surrogates
from deployer.queue.items import RESYNC_KEY, Work
from deployer.queue.step_results import Continue, DeadLettered, Finished, RetryLater, StepResult, WaitUntil
from deployer.queue.store import Accepted, Dispatch, NextItem, Refused, Taken
from deployer.redis_store.coordination import Coordination
from deployer.redis_store.dead_letters import DeadLetters
from deployer.redis_store.errors import refuses_all_commands, unavailable
from deployer.redis_store.queue_script import DELIVERY_TTL, parse_dispatch
from deployer.redis_store.queue_view import QueueView
from deployer.redis_store.records.counters import Counters
from deployer.redis_store.records.deliveries import DeliveryRecords
from deployer.redis_store.records.environments import drop_keep_requests
from deployer.redis_store.records.listings import list_key, listed_environment
from deployer.redis_store.records.repositories import RepositoryRecords, drop_repository
from deployer.redis_store.records.repository_index import SPELLED_NAMES, SWEEP_INDEX
from deployer.redis_store.records.resyncs import ResyncRecords
from deployer.redis_store.records.stack_names import STACK_NAMES, StackNames

_log = logging.getLogger(__name__)
_DAY = 86400
_LONGEST_SWEEP_PAUSE_MS = 60_000
_NO_COUNTS: Mapping[str, int] = {}
_LONGEST_REASON = 1000  # characters; the activity of a repository has up to 500 reasons


class RedisQueueStore(
    QueueView,
    DeadLetters,
    StackNames,
    RepositoryRecords,
    DeliveryRecords,
    ResyncRecords,
    Counters,
    Coordination,
):
    """Implements `QueueStore`. See `QueueScript` for the arguments."""

    def accept(self, repository: Repository, work: Work, delivery: str = "", event: str = "") -> Accepted:
        """See `QueueStore.accept`."""
        work = work.but(goal=delivery or work.goal or uuid.uuid4().hex[:12])
        names = ("", "")
        if work.environment != RESYNC_KEY:
            names = Environment.from_key(repository, work.environment).stack_names
        with unavailable():
            outcome, detail, *rest = self._run_operation(
                repository, "accept", work.to_json(), delivery, event, DELIVERY_TTL, self._grace_ms,
                repository.full_name, *names,
            )  # fmt: skip
        if outcome == "duplicate":
            return Accepted("duplicate", f"this delivery was accepted before; it is {detail}")
        return Accepted("queued", "", goal=detail, dispatch=parse_dispatch(repository, rest))

    def begin(self, repository: Repository, token: int) -> Work | None:
        """See `QueueStore.begin`."""
        with unavailable():
            reply = self._run_operation(repository, "begin", token, self._lease_ms)
        return Work.read_item(reply[0]) if reply else None

    def refuse(self, repository: Repository, token: int, why: str) -> Refused:
        """See `QueueStore.refuse`."""
        with unavailable():
            outcome, *rest = self._run_operation(
                repository, "refuse", token, replace_surrogates(why), DELIVERY_TTL, self._grace_ms
            )
        if outcome == "lost":
            raise LaneLostError(f"the lane of {repository} was handed to another worker meanwhile")
        return Refused(outcome == "dead", int(rest[0]) / 1000, parse_dispatch(repository, rest[1:]))

    def extend(self, repository: Repository, token: int) -> bool:
        """See `QueueStore.extend`."""
        with unavailable():
            return int(self._run_operation(repository, "extend", token, self._lease_ms, request="")[0]) == 1

    def end_lease(self, repository: Repository, token: int, key: str, why: str) -> bool:
        """See `QueueStore.end_lease`."""
        with unavailable():
            return int(self._run_operation(repository, "expire", token, key, why)[0]) == 1

    def finish(
        self,
        repository: Repository,
        token: int,
        verdict: StepResult,
        counts: Mapping[str, int] = _NO_COUNTS,
        request: str = "",
        next_item: NextItem = NextItem.SEND,
    ) -> Dispatch | Taken | None:
        """See `QueueStore.finish`."""
        work = record = listed = outcome = reason = commit = letter = ""
        seconds = 0.0
        match verdict:
            case Finished():
                kind, outcome, reason = "done", verdict.outcome, verdict.reason
                commit = verdict.commit or (verdict.record.spec.commit if verdict.record else "")
            case Continue():
                kind, work = "again", verdict.work.to_json()
            case WaitUntil():
                kind = "rest" if verdict.keeps_attempts else "snooze"
                work, seconds = verdict.work.to_json(), verdict.seconds
            case RetryLater():
                kind, work, seconds = "retry", verdict.work.to_json(), verdict.seconds
                reason = verdict.error
            case DeadLettered():
                kind, outcome, reason = "dead", str(Outcome.DEAD_LETTERED), verdict.letter.public_reason
                letter = verdict.letter.to_json()
                commit = verdict.record.spec.commit if verdict.record else ""
        if not isinstance(verdict, RetryLater) and verdict.record:
            written = verdict.record.but(updated_at=self.now())
            record, listed = written.to_json(), listed_environment(written)
            self._index_former_name(repository, verdict.record)
        with unavailable():
            status, *rest = self._run_operation(
                repository, "finish", token, kind, work, record, listed, seconds, outcome,
                replace_surrogates(reason)[:_LONGEST_REASON], commit, letter,
                json.dumps(dict(counts)), DELIVERY_TTL, self._grace_ms, next_item, self._lease_ms,
                request=request or None,
            )  # fmt: skip
        if status == "lost":
            raise LaneLostError(f"the lane of {repository} was handed to another worker meanwhile")
        return Taken(int(rest[0]), rest[1]) if status == "begun" else parse_dispatch(repository, rest)

    def _index_former_name(self, repository: Repository, record: EnvironmentRecord) -> None:
        """Let events of a former stack name find the environment that uses it, whichever had the name before."""
        if record.environment == RESYNC_KEY or not record.stack_name:
            return
        if record.stack_name != Environment.from_key(repository, record.environment).stack_name:
            with unavailable():
                self._redis.hset(
                    STACK_NAMES, record.stack_name, f"{repository.full_name}\n{record.environment}"
                )

    def sweep(self, limit: int = 100) -> list[Dispatch]:
        """See `QueueStore.sweep`."""
        dispatches = []
        with unavailable():
            now = self._now_ms()
            due = self._redis.zrangebyscore(SWEEP_INDEX, "-inf", now, start=0, num=limit)
            for key, repository in zip(due, self._find_spelled(due), strict=True):
                # Written before the sweep, so that a queue whose sweep fails does not stop the others.
                self._redis.zadd(SWEEP_INDEX, {key: now + _LONGEST_SWEEP_PAUSE_MS})
                if repository is None:
                    continue
                try:
                    dispatch = self._sweep_queue(repository)
                except redis.ResponseError as error:
                    if refuses_all_commands(error):
                        raise
                    _log.error("sweeping the queue of %s: %s; the other queues are swept", repository, error)
                    continue
                except (ValueError, TypeError):
                    _log.exception("sweeping the queue of %s; the other queues are swept", repository)
                    continue
                if dispatch:
                    dispatches.append(dispatch)
        return dispatches

    def _sweep_queue(self, repository: Repository) -> Dispatch | None:
        return parse_dispatch(
            repository,
            self._run_operation(repository, "sweep", self._grace_ms, DELIVERY_TTL, self._max_attempts),
        )

    def delete_environment_records(
        self, repository: Repository, records: Sequence[EnvironmentRecord]
    ) -> None:
        """See `QueueStore.delete_environment_records`."""
        if not records:
            return
        seen = json.dumps({each.environment: each.updated_at for each in records})
        with unavailable():
            self._run_operation(repository, "forget", seen)
            drop_keep_requests(self._redis, repository, records)

    def delete_repository_if_empty(self, repository: Repository) -> None:
        """See `QueueStore.delete_repository_if_empty`."""
        with unavailable():
            # A push may have written the index before this and its item since then. Its queue must stay in the index.
            if drop_repository(self._redis, repository) and self.lanes(repository):
                self._redis.zadd(SWEEP_INDEX, {repository.key: 0})
                self._redis.zadd(list_key(REPOSITORIES), {repository.key: 0})
                self._redis.hset(SPELLED_NAMES, repository.key, repository.full_name)
