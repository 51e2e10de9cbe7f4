"""Two ways in which people run tasks of many repositories with Celery: without an order, and with a lock in Redis.

`celery -A sandbox.bench.alternatives.lanes worker`. The lock is `SET NX` with a time to live. A task that finds it
taken is retried later, as Celery's documentation advises for tasks that must not run at the same time.
"""

import os
from contextlib import suppress
from typing import Any

import redis
from celery import Celery, signals

from sandbox.bench.lane_log import LaneLog

_LOCK_SECONDS = 60
_RETRY_SECONDS = 0.05
_client = redis.Redis.from_url(os.environ.get("DEPLOYER_REDIS_URL", "redis://127.0.0.1"))
app = Celery("lanes", broker=os.environ.get("DEPLOYER_REDIS_URL"))
app.conf.update(
    task_default_queue="lanes",
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    worker_enable_remote_control=False,
)
log = LaneLog.from_environment()


@signals.task_received.connect(weak=False)  # type: ignore[untyped-decorator]
def _count_message(**_: Any) -> None:
    log.add_message()


@app.task(name="lanes.unordered")  # type: ignore[untyped-decorator]
def unordered(repository: str, number: int) -> None:
    """Work at once."""
    log.run_task(repository, number)


@app.task(name="lanes.locked", bind=True, max_retries=None)  # type: ignore[untyped-decorator]
def locked(self: Any, repository: str, number: int) -> None:
    """Work if no other task of the repository does, or else later."""
    if not _client.set(f"lock:{repository}", number, nx=True, ex=_LOCK_SECONDS):
        log.add_wasted()
        raise self.retry(countdown=_RETRY_SECONDS)
    try:
        log.run_task(repository, number)
    finally:
        with suppress(redis.RedisError):
            _client.delete(f"lock:{repository}")
