"""Runs the Lua script of a queue."""

import json
import uuid
from importlib import resources
from typing import Any

import redis

from deployer.model.environments import Repository
from deployer.queue.store import Dispatch
from deployer.redis_store.records.listings import Listings
from deployer.redis_store.records.repository_index import (
    SPELLED_NAMES,
    SWEEP_INDEX,
    repository_prefix,
)
from deployer.redis_store.records.stack_names import STACK_NAMES

# each file uses only names that files before it define
_FILES = (
    "listings.lua",
    "queue_items.lua",
    "queue_ends.lua",
    "queue_merge.lua",
    "queue_order.lua",
    "queue_indexes.lua",
    "queue_tasks.lua",
    "queue.lua",
)
DELIVERY_TTL = 30 * 86400  # seconds
# Celery's message for a dispatch, in which the script replaces each `@name@`. kombu also accepts a body that is not
# encoded. tests/contract/redis_store/test_celery_message.py compares this message with kombu's own.
_MESSAGE = {
    "body": '[@arguments@, {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]',
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {
        "lang": "py",
        "task": "@task@",
        "id": "@id@",
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": "@id@",
        "parent_id": None,
        "argsrepr": "@arguments@",
        "kwargsrepr": "{}",
        "origin": "deployer",
        "ignore_result": None,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    },
    "properties": {
        "correlation_id": "@id@",
        "reply_to": "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "deployer"},
        "priority": "@priority@",
        "delivery_tag": "@id@",
    },
}


class QueueScript(Listings):
    """Runs each operation of a queue as one step in Redis.

    Args:
        client: a connection with `decode_responses`.
        lease_seconds: how long a worker holds a queue without renewing its lease.
        grace_seconds: how long a dispatch may take to reach a worker before it is sent again.
        max_attempts: how often a queue item may lose its worker before it becomes a dead letter.
        clock_offset_ms: added to Redis's clock; only tests use it, to let time pass.
        sends_messages: whether the script sends the message of each dispatch to Celery's list, so that no dispatch is
            returned, except by a sweep.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        lease_seconds: float = 60,
        grace_seconds: float = 10,
        max_attempts: int = 5,
        clock_offset_ms: int = 0,
        sends_messages: bool = False,
    ) -> None:
        super().__init__(client, clock_offset_ms=clock_offset_ms)
        self._lease_ms = int(lease_seconds * 1000)
        self._grace_ms = int(grace_seconds * 1000)
        self._max_attempts = max_attempts
        self._script: Any = client.register_script(queue_script_text(sends_messages=sends_messages))

    def _run_operation(
        self, repository: Repository, operation: str, *arguments: object, request: str | None = None
    ) -> list[str]:
        """Run an operation.

        Args:
            repository: whose queue.
            operation: the name of a function in `ops` of queue.lua.
            arguments: its arguments.
            request: the id by which a repeat is recognised; empty if a repeat changes nothing. A new one by default.

        Returns:
            The reply of the operation.
        """
        # redis-py repeats a command whose answer was lost; the script recognises the repeat by this id
        request = uuid.uuid4().hex if request is None else request
        values = [operation, self.clock_offset_ms, request, *arguments]
        keys = [repository_prefix(repository.full_name), SWEEP_INDEX, SPELLED_NAMES, STACK_NAMES]
        reply: list[str] = self._script(keys=keys, args=values)
        return reply


def queue_script_text(*, sends_messages: bool = False) -> str:
    """The text of the script, joined from its files.

    Args:
        sends_messages: see `QueueScript`.
    """
    files = resources.files("deployer.redis_store")
    message = json.dumps(_MESSAGE).replace('"@priority@"', "@priority@") if sends_messages else ""
    texts = [files.joinpath(name).read_text() for name in _FILES]
    return "\n".join([f"local MESSAGE = [==[{message}]==]", *texts])


def parse_dispatch(repository: Repository, reply: list[str]) -> Dispatch | None:
    """Read the dispatch at the end of the script's reply; None if the reply has none.

    Args:
        repository: whose queue.
        reply: the dispatch, which ends with the repository's name as it was last spelled.
    """
    if not reply:
        return None
    key, task, token, low, spelled = reply
    full_name = spelled if spelled.lower() == repository.key else repository.full_name
    return Dispatch(full_name, key, task, int(token), low=low == "1")
