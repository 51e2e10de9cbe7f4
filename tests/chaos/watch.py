"""Notices when Redis or the whole machine stands still, which no lease outlasts and no promise is about."""

import threading
import time
from contextlib import closing
from typing import Self

import redis

_EVERY = 0.05  # seconds between two looks
_LATE = 0.4  # seconds; a lease is renewed with twice that and more to spare, but whoever renews it is late as well


class Watch:
    """Asks Redis again and again, from a thread of its own.

    Args:
        client: its connection to Redis, which it closes at the end.
    """

    def __init__(self, client: redis.Redis) -> None:
        self.gaps: list[
            tuple[float, float]
        ] = []  # epoch seconds of the answers before and after each of them
        self._client, self._ended = client, threading.Event()
        self._thread = threading.Thread(target=self._look, name="chaos-watch", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def stood_still(self, since: float) -> bool:
        """Whether it has been so after a time, or is."""
        return any(until > since for _, until in self.gaps) or time.time() - self._answered > _LATE

    def _look(self) -> None:
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
