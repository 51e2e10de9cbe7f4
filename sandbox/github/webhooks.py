"""Sends webhooks as GitHub does: signed, in one attempt of at most ten seconds."""

from __future__ import annotations

import hashlib
import heapq
import hmac
import json
import threading
import time
import urllib.parse
import uuid
from typing import Any

import urllib3

from sandbox.github import payloads
from sandbox.github.faults import Faults
from sandbox.github.store import Row, Store, now

_TIMEOUT = 10.0
_REORDER_WINDOW = 0.5  # seconds for which a delivery is held back if no other delivery overtakes it
_KEPT_RESPONSE = 64 * 1024


class Sender:
    """Sends deliveries one after another, in the order of their creation, in a separate thread."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store = store
        self._faults = faults
        self._pool = urllib3.PoolManager(retries=False)
        self._ready = threading.Condition()
        self._queue: list[tuple[float, int]] = []
        self._held: int | None = None
        self._held_until = 0.0
        self._sending = False
        self._stopped = False
        self._on_hold = False
        self._thread = threading.Thread(target=self._send_until_stopped, name="github-webhooks", daemon=True)

    def start(self) -> None:
        """Start sending, first the deliveries that an earlier run left pending."""
        with self._ready:
            queued = {self._held, *(delivery_id for _, delivery_id in self._queue)}
            for row in self._store.pending_deliveries():
                if row["id"] not in queued:
                    self._schedule_delivery(0.0, row["id"])
        self._thread.start()

    def hold(self, on: bool) -> None:
        """Hold deliveries back (`on`) or send them again, because the receiver may not be running yet."""
        with self._ready:
            self._on_hold = on
            self._ready.notify_all()

    def stop(self) -> None:
        """Stop after the current delivery; the rest stays pending for the next run."""
        with self._ready:
            self._stopped = True
            self._ready.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._pool.clear()

    def enqueue(
        self, hook: Row, event: str, payload: dict[str, Any], ref: str | None = None, *, about: int = 0
    ) -> int:
        """Create a delivery of an event to a webhook; returns its id.

        Args:
            hook: the webhook.
            event: the event's name.
            payload: the event's body.
            ref: the ref that moved.
            about: the id of the repository that the event is about, if the webhook is an organization's.
        """
        delivery_id = self._store.add_delivery(
            guid=str(uuid.uuid4()),
            hook_id=hook["id"],
            repository_id=about or hook["repository_id"],
            event=event,
            action=payload.get("action"),
            ref=ref,
            payload=json.dumps(payload),
        )
        delay = self._faults.webhook_delay()
        with self._ready:
            if self._held is None and self._faults.hits_webhook("reorder"):
                self._held, self._held_until = delivery_id, time.monotonic() + _REORDER_WINDOW
                self._ready.notify_all()
            else:
                self._schedule_delivery(time.monotonic() + delay, delivery_id)
        return delivery_id

    def redeliver(self, delivery_id: int) -> int | None:
        """Send a delivery again with the same guid; returns the id of the new attempt."""
        row = self._store.delivery(delivery_id)
        if row is None:
            return None
        same = ("guid", "hook_id", "repository_id", "event", "action", "ref", "payload")
        attempt = self._store.add_delivery(**{name: row[name] for name in same}, redelivery=1)
        with self._ready:
            self._schedule_delivery(0.0, attempt)
        return attempt

    def wait_idle(self, timeout: float = 10.0) -> bool:
        """Wait until everything was sent; returns False after `timeout` seconds."""
        with self._ready:
            return self._ready.wait_for(
                lambda: not self._queue and self._held is None and not self._sending, timeout
            )

    def _schedule_delivery(self, due: float, delivery_id: int) -> None:
        heapq.heappush(self._queue, (due, delivery_id))
        self._ready.notify_all()

    def _send_until_stopped(self) -> None:
        while (delivery_id := self._next_delivery()) is not None:
            try:
                self._send_delivery(delivery_id)
            finally:
                with self._ready:
                    self._sending = False
                    if self._held is not None:  # the delivery just sent has overtaken it
                        self._release_held()
                    self._ready.notify_all()

    def _next_delivery(self) -> int | None:
        with self._ready:
            while not self._stopped:
                if self._on_hold:
                    self._ready.wait()
                    continue
                current = time.monotonic()
                if self._held is not None and self._held_until <= current:
                    self._release_held()
                if self._queue and self._queue[0][0] <= current:
                    self._sending = True
                    return heapq.heappop(self._queue)[1]
                due = [self._queue[0][0]] if self._queue else []
                due += [self._held_until] if self._held is not None else []
                self._ready.wait(min(due) - current if due else None)
        return None

    def _release_held(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._schedule_delivery(0.0, held)

    def _send_delivery(self, delivery_id: int) -> None:
        row = self._store.delivery(delivery_id)
        if row is None or row["state"] != "pending":
            return
        hook = self._store.hook(row["hook_id"])
        if hook is None:
            self._store.update_delivery(
                delivery_id, state="failed", status="hook deleted", delivered_at=now()
            )
        elif self._faults.hits_webhook("lose"):
            self._store.update_delivery(
                delivery_id, state="lost", status="failed to connect to host", delivered_at=now()
            )
        else:
            twice = self._faults.hits_webhook(
                "duplicate"
            )  # decided before the delivery, because the receiver may inject faults itself
            self._store.update_delivery(delivery_id, **self._attempt_delivery(hook, row))
            if twice:
                self._attempt_delivery(hook, row)

    def _attempt_delivery(self, hook: Row, row: Row) -> dict[str, Any]:
        body, headers = build_request(hook, row)
        started = time.monotonic()
        try:
            response = self._pool.request(
                "POST",
                hook["url"],
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(total=_TIMEOUT),
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            refused = isinstance(error, urllib3.exceptions.NewConnectionError)
            timed_out = isinstance(error, urllib3.exceptions.TimeoutError) and not refused
            result: dict[str, Any] = {
                "state": "failed",
                "status": "timed out" if timed_out else "failed to connect to host",
                "response": str(error),
            }
        else:
            result = {
                "state": "delivered" if 200 <= response.status < 300 else "failed",
                "status": "OK"
                if 200 <= response.status < 300
                else f"Invalid HTTP Response: {response.status}",
                "status_code": response.status,
                "response": response.data[:_KEPT_RESPONSE].decode(errors="replace"),
                "response_headers": json.dumps(dict(response.headers)),
            }
        return {
            **result,
            "request_headers": json.dumps(headers),
            "duration": round(time.monotonic() - started, 3),
            "delivered_at": now(),
        }


def build_request(hook: Row, row: Row) -> tuple[bytes, dict[str, str]]:
    """The body and headers of a delivery's request."""
    form = hook["content_type"] == "form"
    body = row["payload"].encode()
    if form:
        body = urllib.parse.urlencode({"payload": row["payload"]}).encode()
    organization = hook["organization"]
    headers = {
        "Accept": "*/*",
        "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
        "User-Agent": "GitHub-Hookshot/5a4dbox",
        "X-GitHub-Delivery": row["guid"],
        "X-GitHub-Event": row["event"],
        "X-GitHub-Hook-ID": str(hook["id"]),
        "X-GitHub-Hook-Installation-Target-ID": str(
            payloads.user_id(organization) if organization else row["repository_id"]
        ),
        "X-GitHub-Hook-Installation-Target-Type": "organization" if organization else "repository",
    }
    if hook["secret"]:
        secret = hook["secret"].encode()
        headers["X-Hub-Signature"] = "sha1=" + hmac.new(secret, body, hashlib.sha1).hexdigest()
        headers["X-Hub-Signature-256"] = "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
    return body, headers
