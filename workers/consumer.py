"""A worker's connection to Redis, which is checked every second and logged in one line when lost or restored.

Celery's own consumer logs several lines at each attempt, waits up to half a minute between attempts, and ends its
worker if Redis answers but refuses writes.
"""

import logging
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import redis
from billiard.exceptions import RestartFreqExceeded
from celery.exceptions import CPendingDeprecationWarning
from celery.worker import consumer
from celery.worker.state import maybe_shutdown
from kombu.exceptions import ContentDisallowed, DecodeError

from deployer.model.environments import Repository
from deployer.model.errors import PayloadError, UnavailableError
from deployer.model.targets import UNFENCED
from deployer.queue.runner import refuse_item
from deployer.redis_store.connection import connect
from workers.celery import deployer

_log = logging.getLogger("deployer.consumer")
_CHECK_SECONDS = 1.0
_HEARTBEAT_SECONDS = 90.0
_MAINTENANCE_SECONDS = 0.1
# each process of the pool may end so often in this time before one of them takes a task
_MAX_RESTARTS, _RESTART_SECONDS = 5, 60.0


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """See `celery.worker.consumer.Consumer`."""

    _check_connection: Any = None

    def connect(self) -> Any:
        """Connect, and check every second whether the connection is alive.

        Celery notices a lost connection only while it asks for messages. A message whose acknowledgement was lost with
        the connection still counts as prefetched, and a worker at its prefetch limit does not ask for messages.
        """
        connection = super().connect()
        if self._check_connection:
            self._check_connection.disconnect()  # another part of Celery may have noticed the loss first
        self._check_connection = connect(deployer.config.redis_url).connection_pool.get_connection()
        self.timer.call_repeatedly(_CHECK_SECONDS, _ping, (self._check_connection,))
        _send_heartbeat()
        self.timer.call_repeatedly(_HEARTBEAT_SECONDS / 3, _send_heartbeat)
        # Celery sometimes misses the end of a pool's process, and checks for that only every 5 s. Until then the
        # process is not replaced, and its item is not handed out again.
        self._limit_restarts()
        self.timer.call_repeatedly(_MAINTENANCE_SECONDS, self._maintain_pool)
        return connection

    def _limit_restarts(self) -> None:
        """Limit how often billiard replaces processes that end; a task that is taken resets the count."""
        # a pool of threads has no such count
        if restarts := getattr(getattr(self.pool, "_pool", None), "restart_state", None):
            restarts.maxR, restarts.maxT = _MAX_RESTARTS * self.pool.num_processes, _RESTART_SECONDS

    def _maintain_pool(self) -> None:
        """Replace processes that ended. If all processes end at once, end the worker too, because it does no work."""
        try:
            self.pool.maintain_pool()
        except RestartFreqExceeded:
            _log.critical("this worker ends, because its processes end before they take a task")
            raise SystemExit(1) from None

    def create_task_handler(self, *arguments: Any) -> Callable[[Any], None]:
        """As Celery does, but without a traceback for each acknowledgement that fails with the connection."""
        receive: Callable[[Any], None] = super().create_task_handler(*arguments)

        def received(message: Any) -> None:
            def acknowledge(_logger: Any, errors: tuple[type[Exception], ...]) -> None:
                with suppress(*errors):
                    message.ack()

            message.ack_log_error = acknowledge
            receive(message)

        return received

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Refuse the item of a task that only a newer version knows; Celery itself would drop the message."""
        name = message.headers.get("task", "")
        arguments = _read_arguments(message) if str(name).startswith("deployer.") else None
        if arguments is None:
            super().on_unknown_task(body, message, exc)
            return
        with suppress(*self.connection_errors):
            message.ack()
        repository, _, token = arguments
        why = f"this version knows no task {str(name)[:100]!r}"
        refuse_item(deployer.lanes, deployer.queue, repository, token, why)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """As Celery does, but without its advice about late acknowledgement."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)

    def ensure_connected(self, conn: Any) -> Any:
        """Wait until Redis answers and accepts writes, even for hours."""
        is_away = False
        while True:
            try:
                deployer.lanes.ping()
                # raise Redis's own error, because Celery ends the worker at kombu's error
                conn.ensure_connection(max_retries=0, reraise_as_library_errors=False)
                break
            except (UnavailableError, *conn.recoverable_connection_errors) as error:
                if not is_away:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    _log.warning("Cannot connect to %s: %s; waiting for it to return", conn.as_uri(), reason)
                is_away = True
                maybe_shutdown()
                time.sleep(_CHECK_SECONDS)
        if is_away:
            _log.warning("Redis is back")
        self.first_connection_attempt = False
        return conn


def _read_arguments(message: Any) -> tuple[Repository, str, int] | None:
    """Repository, environment and token of a message that a queue sent; None for other messages."""
    try:
        (name, environment, token), *_ = message.decode()
        return Repository.parse(name), str(environment), int(token)
    except (ContentDisallowed, DecodeError, PayloadError, AttributeError, TypeError, ValueError):
        return None


def _send_heartbeat() -> None:
    with suppress(UnavailableError):  # `_ping` finds and reports that Redis is unavailable
        deployer.lanes.send_heartbeat("worker", _HEARTBEAT_SECONDS)
        if (
            deployer.config.missing_fence_settings
        ):  # for the dashboard, whose process does not know the targets
            deployer.lanes.send_heartbeat(UNFENCED, _HEARTBEAT_SECONDS)


def _ping(connection: Any) -> None:
    """Raise if the connection is lost. It is never opened again, so a replaced server is noticed too."""
    connection.send_command("PING")
    try:
        connection.read_response()
    except redis.ResponseError as error:  # Redis cannot save, or a script keeps it busy
        raise redis.ConnectionError(str(error)) from error
