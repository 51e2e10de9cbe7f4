"""The delivery of events by EventBridge: a thread posts them to the receiver with retries."""

from __future__ import annotations

import heapq
import itertools
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.client import HTTPException
from typing import Any
from urllib import error, request

from deployer.model.durations import backoff
from sandbox.aws.faults import Faults
from sandbox.aws.places import Place

log = logging.getLogger(__name__)

_TIMEOUT = 5.0
_RETRY_FOR = 300.0
_LONGEST_PAUSE = 5.0


class Events:
    """Sends events like an API destination: at least once, in any order, with retries for a limited time."""

    def __init__(self, url: str | None, key: str, faults: Faults) -> None:
        self._url = url
        self._key = key
        self._faults = faults
        self._wake = threading.Condition()
        self._queue: list[tuple[float, int, int, float, bytes]] = []
        self._number = itertools.count()
        self._stopped = self._muted = False
        self.listeners: dict[Place, Callable[[dict[str, Any]], None]] = {}
        """Called with every event of a region, by the region."""
        self.taken: list[tuple[str, str]] = []
        """Id and type of each event that the receiver accepted, in the order of acceptance."""
        self._thread = threading.Thread(target=self._send_loop, name="sandbox-aws-events", daemon=True)

    def start(self) -> None:
        """Start the sending thread."""
        self._thread.start()

    def stop(self) -> None:
        """Drop the events that are not sent; end the thread."""
        with self._wake:
            self._stopped = True
            self._queue.clear()
            self._wake.notify_all()
        if self._thread.is_alive():
            self._thread.join(_TIMEOUT + 1)

    def reset(self) -> None:
        """Drop the events that are not sent; clear the log of those that were."""
        with self._wake:
            self._queue.clear()
            self.taken.clear()

    @contextmanager
    def without_events(self) -> Iterator[None]:
        """Send no events for what happens inside the block; the caller holds the simulator's lock."""
        self._muted = True
        try:
            yield
        finally:
            self._muted = False

    def queue_event(
        self,
        source: str,
        detail_type: str,
        resources: list[str],
        detail: dict[str, Any],
        when: datetime,
        place: Place,
    ) -> None:
        """Queue an event; never block."""
        if self._muted:
            return
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": detail_type,
            "source": source,
            "account": place.account,
            "time": when.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "region": place.region,
            "resources": resources,
            "detail": detail,
        }
        if place in self.listeners:
            self.listeners[place](event)
        if not self._url:
            return
        body = json.dumps(event).encode()
        for delay in self._faults.event_delays():
            self._put_in_queue(body, delay, 0, time.monotonic())

    def _put_in_queue(self, body: bytes, delay: float, attempt: int, first: float) -> None:
        with self._wake:
            if self._stopped:
                return
            entry = (time.monotonic() + delay, next(self._number), attempt, first, body)
            heapq.heappush(self._queue, entry)
            self._wake.notify_all()

    def _send_loop(self) -> None:
        while True:
            with self._wake:
                while not self._stopped and (not self._queue or self._queue[0][0] > time.monotonic()):
                    self._wake.wait(self._queue[0][0] - time.monotonic() if self._queue else None)
                if self._stopped:
                    return
                _, _, attempt, first, body = heapq.heappop(self._queue)
            if self._post_event(body):
                continue
            if time.monotonic() - first > _RETRY_FOR:
                log.warning(
                    "%s did not accept an event within %.0f s: %s", self._url, _RETRY_FOR, body.decode()
                )
                continue
            self._put_in_queue(body, backoff(0.1, 2, attempt, _LONGEST_PAUSE), attempt + 1, first)

    def _post_event(self, body: bytes) -> bool:
        """Post an event; return whether the receiver accepted it."""
        headers = {"Content-Type": "application/json", "X-Deployer-Event-Key": self._key}
        post = request.Request(self._url or "", body, headers, method="POST")  # noqa: S310 - the URL is configured
        try:
            with request.urlopen(post, timeout=_TIMEOUT):  # noqa: S310 - as above
                event = json.loads(body)
                self.taken.append((event["id"], event["detail-type"]))
                return True
        except error.HTTPError as refusal:
            refusal.close()
        except (OSError, HTTPException):
            pass
        return False
