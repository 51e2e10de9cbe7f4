"""Detects pauses of Redis or of the whole machine, for which the promises do not hold."""

import threading
import time
from contextlib import closing
from typing import Self

import redis

_EVERY = 0.05  # seconds between two PINGs
_LATE = 0.4  # seconds without an answer; a lease has twice as much to spare, but its renewal is late as well


class Watch:
    """Sends PING to Redis continuously, from a thread.

    Args:
        client: a connection to Redis, which the watch closes at the end.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.gaps: list[tuple[float, float]] = []  # epoch seconds of the answers before and after each pause
        self._client, self._ended = client, threading.Event()
        self._thread = threading.Thread(target=self._send_pings, name="chaos-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def paused_since(self, since: float) -> bool:
        """Whether Redis or the machine paused after a time, or does now."""
        return any(until > since for _, until in self.gaps) or time.time() - self._answered > _LATE

    def _send_pings(self) -> None:
        self._answered = time.time()
        with closing(self._client):
            while not self._ended.wait(_EVERY):
                try:
                    self._client.ping()
                except redis.RedisError:
                    continue
                now = time.time()
                if now - self._answered > _LATE:
                    self.gaps.append((self._answered, now))
                self._answered = now

    _answered = 0.0
