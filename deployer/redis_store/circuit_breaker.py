"""Bounds how long a web request waits for Redis."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import redis

from deployer.redis_store.errors import SpentError, refuses_all

_log = logging.getLogger(__name__)
_PROMPT_SECONDS = 0.02
_PAUSE_SECONDS = 0.25
_SLOW_SECONDS = 60.0  # for which an answer that came slowly makes others be awaited for longer
HANGS = (redis.TimeoutError, TimeoutError)  # redis-py raises both


class Budget:
    """Bounds how long a request waits for Redis, and is the circuit breaker of a Redis that hangs.

    A request waits `seconds` for answers that do not come, all its commands together, and `patience` for slow ones;
    prompt answers are free, so that a page may ask as much as it needs. Once an answer did not come in time, or Redis
    said that it loads its data, it is taken to hang: all requests fail at once, else the threads that wait for Redis
    would soon be all there are. A thread of its own asks until Redis answers again, and measures how slow it is then:
    requests wait for an answer twice as long as one is known to take. The log says when Redis went away and when it is
    back.

    Args:
        seconds: what a request may wait for answers that do not come, or are refusals.
        patience: what it may wait in all, in seconds; a busy process of our own looks like a slow Redis.
    """

    def __init__(self, seconds: float, patience: float = 5.0) -> None:
        self._seconds, self._patience = seconds, patience
        self._spent: ContextVar[float] = ContextVar("spent", default=0.0)
        self._slow: ContextVar[float] = ContextVar("slow", default=0.0)
        self._probes: ContextVar[bool] = ContextVar("probes", default=False)
        self._lock = threading.Lock()
        self._away = self._hangs = False
        self._slow_answer = self._slow_until = 0.0
        self._why = ""
        self._client: redis.Redis | None = None

    def begin(self) -> None:
        """Give the request that begins in this thread its whole budget."""
        self._spent.set(0.0)
        self._slow.set(0.0)

    def bind(self, client: redis.Redis) -> None:
        """Have a client keep to it."""
        self._client = client
        self._bind(client, decides=True)
        for sentinel in getattr(getattr(client.connection_pool, "sentinel_manager", None), "sentinels", ()):
            self._bind(sentinel, decides=False)

    def _bind(self, client: redis.Redis, *, decides: bool) -> None:
        """Make a client's connections wait no longer than the request can; a sentinel's say nothing of Redis."""
        pool: Any = client.connection_pool
        budget = self

        class Connection(pool.connection_class):  # type: ignore[misc]
            socket_connect_timeout: float
            socket_timeout: float

            def _connect(self) -> Any:
                own = self.socket_connect_timeout, self.socket_timeout
                with self._bounded() as left:
                    self.socket_connect_timeout, self.socket_timeout = (min(each, left) for each in own)
                    try:
                        return super()._connect()
                    except OSError as error:
                        if decides and not isinstance(error, TimeoutError):
                            budget._lost(error, hangs=False)
                        raise
                    finally:
                        self.socket_connect_timeout, self.socket_timeout = own

            def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
                with self._bounded():
                    super().send_packed_command(*args, **kwargs)

            def read_response(self, *args: Any, **kwargs: Any) -> Any:
                began = time.monotonic()
                with self._bounded():
                    found = super().read_response(*args, **kwargs)
                if decides:
                    budget._answered(time.monotonic() - began)
                return found

            @contextmanager
            def _bounded(self) -> Iterator[float]:
                try:
                    with budget._waiting() as left:
                        if self._sock:
                            self._sock.settimeout(min(left, self.socket_timeout))
                        yield left
                except (*HANGS, redis.BusyLoadingError) as error:
                    self.disconnect()  # a late answer must not be taken for that to the next command
                    if decides and not isinstance(error, SpentError):
                        budget._lost(error, hangs=True)
                    raise

        pool.connection_class = Connection

    @contextmanager
    def _waiting(self) -> Iterator[float]:
        """Charge what is slow; gives the seconds that are left for an answer."""
        if self._probes.get():
            yield self._patience
            return
        began = time.monotonic()
        left = min(self._longest_answer(began) - self._spent.get(), self._patience - self._slow.get())
        if self._hangs:
            raise SpentError(f"{self._why}; it is asked in the background until it does")
        if left <= 0:
            raise SpentError("it was waited for long enough")
        charged = self._spent
        try:
            yield left
            charged = self._slow
        except redis.ResponseError as error:
            # a Redis that does not know a command of the client's handshake has answered all the same
            charged = self._spent if refuses_all(error) else self._slow
            raise
        finally:
            if (took := time.monotonic() - began) > _PROMPT_SECONDS:
                charged.set(charged.get() + took)

    def _longest_answer(self, now: float) -> float:
        return max(self._seconds, 2 * self._slow_answer) if now < self._slow_until else self._seconds

    def _answered(self, seconds: float) -> None:
        """Learn from an answer that took so long."""
        if self._probes.get():
            return
        if seconds > self._seconds / 2:
            self._learn(seconds)
        if self._away:
            self._back()

    def _learn(self, seconds: float) -> None:
        with self._lock:
            self._slow_answer, self._slow_until = seconds, time.monotonic() + _SLOW_SECONDS

    def _lost(self, error: Exception, *, hangs: bool) -> None:
        if self._probes.get():
            return
        with self._lock:
            probe = hangs and not self._hangs
            self._hangs = self._hangs or hangs
            self._why = type(error).__name__
            told, self._away = self._away, True
        if not told:
            _log.warning("Redis does not answer (%s); what needs it gets 503", self._why)
        if probe:
            threading.Thread(target=self._probe, name="redis-probe", daemon=True).start()

    def _back(self) -> None:
        with self._lock:
            told, self._away, self._hangs = self._away, False, False
        if told:
            _log.warning("Redis answers again")

    def _probe(self) -> None:
        """Ask a Redis that hangs until it answers, or is gone: then requests find that out by themselves at once."""
        assert self._client is not None  # noqa: S101  for mypy: it was bound before anything could hang
        self._probes.set(True)
        while self._hangs:
            try:
                self._client.ping()
                began = time.monotonic()
                self._client.ping()  # the first answer came when Redis went on
            except (*HANGS, redis.BusyLoadingError):
                time.sleep(_PAUSE_SECONDS)
            except Exception:  # noqa: BLE001  whatever it is: no request may wait for a thread that has ended
                with self._lock:
                    self._hangs = False
            else:
                if (took := time.monotonic() - began) > self._seconds / 2:
                    self._learn(took)
                self._back()
