"""Limits how long a web request waits for Redis."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import redis

from deployer.redis_store.errors import SpentError, refuses_all_commands

_log = logging.getLogger(__name__)
_PROMPT_SECONDS = 0.02
_PAUSE_SECONDS = 0.25
_SLOW_SECONDS = 60.0  # how long a slow answer allows others to be slow
TIMEOUTS = (redis.TimeoutError, TimeoutError)  # redis-py raises both


class RedisCircuitBreaker:
    """Limits how long a request waits for Redis, and is a circuit breaker for a Redis that hangs.

    All commands of a request together wait at most `seconds` for missing answers and at most `patience` for slow ones.
    Prompt answers are not counted, so a page may send as many commands as it needs. If an answer does not come in time,
    or Redis says that it is loading its data, the breaker opens: all requests fail at once, because otherwise every
    thread would soon wait for Redis. A separate thread then sends PING until Redis answers, and measures how slow
    Redis is. Requests wait for an answer twice as long as the measured time. The log says when Redis stops answering
    and when it answers again.

    Args:
        seconds: how long a request may wait for missing answers and refusals.
        patience: how long it may wait in all, in seconds. It is longer because a busy process of deployer looks like a
            slow Redis.
    """

    def __init__(self, seconds: float, patience: float = 5.0) -> None:
        self._seconds, self._patience = seconds, patience
        self._unanswered_seconds: ContextVar[float] = ContextVar("spent", default=0.0)
        self._slow_seconds: ContextVar[float] = ContextVar("slow", default=0.0)
        self._is_probe: ContextVar[bool] = ContextVar("probes", default=False)
        self._lock = threading.Lock()
        self._is_away = self._hangs = False
        self._slow_answer = self._slow_until = 0.0
        self._last_error = ""
        self._client: redis.Redis | None = None

    def start_request(self) -> None:
        """Reset the times that the request of this thread has waited."""
        self._unanswered_seconds.set(0.0)
        self._slow_seconds.set(0.0)

    def bind(self, client: redis.Redis) -> None:
        """Limit the waits of a client."""
        self._client = client
        self._limit_connections(client, decides=True)
        for sentinel in getattr(getattr(client.connection_pool, "sentinel_manager", None), "sentinels", ()):
            self._limit_connections(sentinel, decides=False)

    def _limit_connections(self, client: redis.Redis, *, decides: bool) -> None:
        """Limit the waits of a client's connections. A Sentinel's answers (`decides=False`) say nothing of Redis."""
        pool: Any = client.connection_pool
        budget = self

        class Connection(pool.connection_class):  # type: ignore[misc]
            socket_connect_timeout: float
            socket_timeout: float

            def _connect(self) -> Any:
                own = self.socket_connect_timeout, self.socket_timeout
                with self._limit_socket() as left:
                    self.socket_connect_timeout, self.socket_timeout = (min(each, left) for each in own)
                    try:
                        return super()._connect()
                    except OSError as error:
                        if decides and not isinstance(error, TimeoutError):
                            budget._record_failure(error, hangs=False)
                        raise
                    finally:
                        self.socket_connect_timeout, self.socket_timeout = own

            def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
                with self._limit_socket():
                    super().send_packed_command(*args, **kwargs)

            def read_response(self, *args: Any, **kwargs: Any) -> Any:
                began = time.monotonic()
                with self._limit_socket():
                    found = super().read_response(*args, **kwargs)
                if decides:
                    budget._record_answer(time.monotonic() - began)
                return found

            @contextmanager
            def _limit_socket(self) -> Iterator[float]:
                try:
                    with budget._limit_wait() as left:
                        if self._sock:
                            self._sock.settimeout(min(left, self.socket_timeout))
                        yield left
                except (*TIMEOUTS, redis.BusyLoadingError) as error:
                    self.disconnect()  # a late answer must not be taken for the answer to the next command
                    if decides and not isinstance(error, SpentError):
                        budget._record_failure(error, hangs=True)
                    raise

        pool.connection_class = Connection

    @contextmanager
    def _limit_wait(self) -> Iterator[float]:
        """Count the time that a slow command takes; yields the seconds that are left for its answer."""
        if self._is_probe.get():
            yield self._patience
            return
        began = time.monotonic()
        left = min(
            self._longest_answer(began) - self._unanswered_seconds.get(),
            self._patience - self._slow_seconds.get(),
        )
        if self._hangs:
            raise SpentError(f"{self._last_error}; a background thread checks until it answers")
        if left <= 0:
            raise SpentError("the request has waited long enough")
        charged = self._unanswered_seconds
        try:
            yield left
            charged = self._slow_seconds
        except redis.ResponseError as error:
            # a Redis that does not know a command of the client's handshake has answered
            charged = self._unanswered_seconds if refuses_all_commands(error) else self._slow_seconds
            raise
        finally:
            if (took := time.monotonic() - began) > _PROMPT_SECONDS:
                charged.set(charged.get() + took)

    def _longest_answer(self, now: float) -> float:
        return max(self._seconds, 2 * self._slow_answer) if now < self._slow_until else self._seconds

    def _record_answer(self, seconds: float) -> None:
        """Record how long an answer took."""
        if self._is_probe.get():
            return
        if seconds > self._seconds / 2:
            self._allow_slow_answers(seconds)
        if self._is_away:
            self._record_recovery()

    def _allow_slow_answers(self, seconds: float) -> None:
        with self._lock:
            self._slow_answer, self._slow_until = seconds, time.monotonic() + _SLOW_SECONDS

    def _record_failure(self, error: Exception, *, hangs: bool) -> None:
        if self._is_probe.get():
            return
        with self._lock:
            probe = hangs and not self._hangs
            self._hangs = self._hangs or hangs
            self._last_error = type(error).__name__
            was_away, self._is_away = self._is_away, True
        if not was_away:
            _log.warning("Redis does not answer (%s); what needs it gets 503", self._last_error)
        if probe:
            threading.Thread(target=self._probe_until_answer, name="redis-probe", daemon=True).start()

    def _record_recovery(self) -> None:
        with self._lock:
            was_away, self._is_away, self._hangs = self._is_away, False, False
        if was_away:
            _log.warning("Redis answers again")

    def _probe_until_answer(self) -> None:
        """Send PING to a Redis that hangs, until it answers or refuses connections, which requests notice at once."""
        assert self._client is not None  # noqa: S101  for mypy: `bind` was called before any command could hang
        self._is_probe.set(True)
        while self._hangs:
            try:
                self._client.ping()
                began = time.monotonic()
                self._client.ping()  # the first answer came late, so only the second one is measured
            except (*TIMEOUTS, redis.BusyLoadingError):
                time.sleep(_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001  requests must not fail because of a thread that has ended
                with self._lock:
                    self._hangs = False
            else:
                if (took := time.monotonic() - began) > self._seconds / 2:
                    self._allow_slow_answers(took)
                self._record_recovery()
