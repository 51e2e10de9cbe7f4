"""Reports items that a process takes from a queue without a message to Flower, as Celery reports those with one."""

import json
import mmap
import time
from contextlib import suppress
from typing import Any

from celery import Celery, current_task
from kombu.exceptions import OperationalError

from deployer.model.environments import Repository
from deployer.queue.items import Work

_ERRORS = (OperationalError, OSError)


class StopSign:
    """Tells the processes of a worker that the worker is being stopped, by a byte of shared memory."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 1)

    def set(self) -> None:
        """Let the processes take no more items."""
        self._memory[0] = 1

    def is_set(self) -> bool:
        """Whether the worker is being stopped."""
        return self._memory[0] == 1


class ItemEvents:
    """Implements `WorkerProcess` for the items of one message.

    Args:
        app: Celery's application.
        stop_sign: set when the worker is being stopped.
    """

    def __init__(self, app: Celery, stop_sign: StopSign) -> None:
        self._app = app
        self._stop_sign = stop_sign
        request = current_task.request if current_task else None
        self._task_id = str(request.id) if request else ""
        self._hostname = request.hostname if request else None
        self._began_at = time.monotonic()
        self._events: list[tuple[str, dict[str, Any]]] = []
        self.took_items = False

    def takes_items(self) -> bool:
        """See `WorkerProcess.takes_items`."""
        return not self._stop_sign.is_set()

    def report_begin(self, repository: Repository, token: int, work: Work) -> None:
        """See `WorkerProcess.report_begin`."""
        self.took_items = True
        self._task_id = f"{repository.key}-{token}"
        self._began_at = time.monotonic()
        self._add_event(
            "task-received",
            name=work.task,
            args=json.dumps([repository.full_name, work.key, token]),
            kwargs="{}",
            root_id=self._task_id,
            parent_id=None,
            retries=0,
            eta=None,
            expires=None,
        )
        self._add_event("task-started")
        self._send_events()

    def report_end(self, result: str) -> None:
        """See `WorkerProcess.report_end`."""
        self._add_event("task-succeeded", result=repr(result), runtime=time.monotonic() - self._began_at)

    def end(self, result: str) -> None:
        """Report how the last item ended, if Celery does not report it."""
        if self.took_items:
            self.report_end(result)
            self._send_events()

    def _add_event(self, kind: str, **fields: Any) -> None:
        self._events.append((kind, {"uuid": self._task_id, **fields}))

    def _send_events(self) -> None:
        """Send the events in one message to Redis. Losing them affects only what Flower shows."""
        events, self._events = self._events, []
        with suppress(*_ERRORS), self._app.amqp.producer_pool.acquire(block=True) as producer:
            dispatcher = self._app.events.Dispatcher(
                producer.connection,
                self._hostname,
                channel=producer.channel,
                buffer_while_offline=False,
                buffer_group={"task"},
            )
            for kind, fields in events:
                dispatcher.send(kind, **fields)
            dispatcher.flush()
