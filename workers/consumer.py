"""A worker's connection to Redis: lost and found again in a line each, and looked for every second.

Celery's own consumer repeats itself in several lines at each attempt, lets up to half a minute pass between two, and
ends its worker where Redis answers but takes no writes.
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
from deployer.model.fence import UNFENCED
from deployer.queue.runner import refuse_item
from deployer.redis_store.connection import connect
from workers.celery import deployer

_log = logging.getLogger("deployer.consumer")
_PAUSE_SECONDS = 1.0
_ALIVE_SECONDS = 90.0
_REAPED_SECONDS = 0.1
_MOST_ENDS, _ENDS_SECONDS = 5, 60.0  # of each process of the pool, in which none of them took up a task


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """See `celery.worker.consumer.Consumer`."""

    _heart: Any = None

    def connect(self) -> Any:
        """Connect, and look every second whether that server is still there.

        Celery hears of a loss only while it asks for messages. One whose acknowledgement was under way at the loss
        keeps its place among those prefetched, and once all places are taken the worker would ask no more.
        """
        connection = super().connect()
        if self._heart:
            self._heart.disconnect()  # whoever noticed the loss first
        self._heart = connect(deployer.config.redis_url).connection_pool.get_connection()
        self.timer.call_repeatedly(_PAUSE_SECONDS, _beat, (self._heart,))
        _tell_alive()
        self.timer.call_repeatedly(_ALIVE_SECONDS / 3, _tell_alive)
        # Celery sometimes misses the end of a pool's process, and looks for such only every 5 s. Until then the process
        # is not replaced, and what it ran is not handed out again
        self._limit_restarts()
        self.timer.call_repeatedly(_REAPED_SECONDS, self._maintain_pool)
        return connection

    def _limit_restarts(self) -> None:
        """Let billiard's own count of processes that ended have a limit; a task that is taken up resets it."""
        if ends := getattr(
            getattr(self.pool, "_pool", None), "restart_state", None
        ):  # not so of a pool of threads
            ends.maxR, ends.maxT = _MOST_ENDS * self.pool.num_processes, _ENDS_SECONDS

    def _maintain_pool(self) -> None:
        """Replace processes that ended; a worker whose processes all end at once is of no use, and ends too."""
        try:
            self.pool.maintain_pool()
        except RestartFreqExceeded:
            _log.critical("this worker's processes end before they take up a task; it ends")
            raise SystemExit(1) from None

    def create_task_handler(self, *arguments: Any) -> Callable[[Any], None]:
        """Without a traceback for each acknowledgement that a loss of Redis prevents."""
        receive: Callable[[Any], None] = super().create_task_handler(*arguments)

        def received(message: Any) -> None:
            def acknowledge(_logger: Any, errors: tuple[type[Exception], ...]) -> None:
                with suppress(*errors):
                    message.ack()

            message.ack_log_error = acknowledge
            receive(message)

        return received

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Give back the queue item of a task that only a newer version knows; Celery itself would drop the message."""
        name = message.headers.get("task", "")
        asked = _asked(message) if str(name).startswith("deployer.") else None
        if asked is None:
            super().on_unknown_task(body, message, exc)
            return
        with suppress(*self.connection_errors):
            message.ack()
        repository, _, token = asked
        why = f"this version knows no task {str(name)[:100]!r}"
        refuse_item(deployer.lanes, deployer.queue, repository, token, why)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Without the advice about late acknowledgement that comes with each loss."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CPendingDeprecationWarning)
            super().on_connection_error_after_connected(exc)

    def ensure_connected(self, conn: Any) -> Any:
        """Wait until Redis answers and takes writes, for hours if need be."""
        away = False
        while True:
            try:
                deployer.lanes.ping()
                # as Redis's own error: Celery gives up a worker at the one that kombu makes of it
                conn.ensure_connection(max_retries=0, reraise_as_library_errors=False)
                break
            except (UnavailableError, *conn.recoverable_connection_errors) as error:
                if not away:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    _log.warning("Cannot connect to %s: %s; waiting for it to return", conn.as_uri(), reason)
                away = True
                maybe_shutdown()
                time.sleep(_PAUSE_SECONDS)
        if away:
            _log.warning("Redis is back")
        self.first_connection_attempt = False
        return conn


def _asked(message: Any) -> tuple[Repository, str, int] | None:
    """Repository, environment and token of a message that a queue sent; None if it is no such message."""
    try:
        (name, environment, token), *_ = message.decode()
        return Repository.parse(name), str(environment), int(token)
    except (ContentDisallowed, DecodeError, PayloadError, AttributeError, TypeError, ValueError):
        return None


def _tell_alive() -> None:
    with suppress(UnavailableError):  # that Redis is away is found and told by `_beat`
        deployer.lanes.beat("worker", _ALIVE_SECONDS)
        if deployer.config.fence_gaps:  # the dashboard says so, whose own process does not know the targets
            deployer.lanes.beat(UNFENCED, _ALIVE_SECONDS)


def _beat(heart: Any) -> None:
    """Raise if a connection is lost; it is opened once only, so that a server that was replaced does not pass."""
    heart.send_command("PING")
    try:
        heart.read_response()
    except redis.ResponseError as error:  # it cannot save, or a script keeps it busy
        raise redis.ConnectionError(str(error)) from error
