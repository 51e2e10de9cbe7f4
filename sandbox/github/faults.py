"""Faults that tests inject: lost or duplicated webhooks, failing, slow or outdated API answers."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from typing import Any

_WEBHOOKS = ("lose", "duplicate", "reorder", "delay", "delay_probability")
_API = ("status", "count", "probability")
_LIMIT = ("count", "reset")
_SECONDARY_LIMIT = ("count", "retry_after")


class Faults:
    """The faults that `POST /_sandbox/faults` injects.

    webhooks: {"lose": p, "duplicate": p, "reorder": p, "delay": seconds, "delay_probability": p (1)}
    api: {"status": 502, "count": n} or {"status": 502, "probability": p}
    writes: as api, for calls of the REST API that change something; reads succeed
    rate_limit: {"count": n, "reset": seconds}: the hour's calls are spent; GraphQL reports this with status 200
    secondary_rate_limit: {"count": n, "retry_after": seconds}
    slow: seconds of delay before every API answer
    stale_reads: seconds for which the API still shows the old value of a ref after a push
    seed: seed of the random numbers, so that a run can be repeated
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._random = random.Random()  # noqa: S311 - chances of simulated faults, no secret
        self._orders: dict[str, Any] = {}

    def clear(self) -> None:
        """Remove every fault."""
        with self._lock:
            self._orders = {}
            self._random = random.Random()  # noqa: S311 - as above

    def orders(self) -> dict[str, Any]:
        """The faults in force; each count is the number that remains."""
        with self._lock:
            return {k: dict(v) if isinstance(v, dict) else v for k, v in self._orders.items()}

    def merge(self, orders: Mapping[str, Any]) -> None:
        """Add faults. Each replaces the fault of the same kind; null or an empty list removes it.

        Raises:
            ValueError: a fault has an unknown kind or type; then none of them is added.
        """
        orders = {kind: None if order == [] else order for kind, order in orders.items()}
        for kind, order in orders.items():
            if order is not None:
                _check_order(kind, order)
            elif kind not in _CHECKS:
                raise ValueError(_unknown_kind(kind))
        with self._lock:
            for kind, order in orders.items():
                if order is None:
                    self._orders.pop(kind, None)
                else:
                    self._orders[kind] = dict(order) if isinstance(order, Mapping) else order
                if kind == "seed":
                    self._random = random.Random(order)  # noqa: S311 - as above

    def hits_webhook(self, kind: str) -> bool:
        """Whether the webhook fault `kind` happens to this delivery."""
        with self._lock:
            return self._happens(self._orders.get("webhooks", {}).get(kind, 0))

    def webhook_delay(self) -> float:
        """The number of seconds that this delivery waits before it is sent."""
        with self._lock:
            order = self._orders.get("webhooks", {})
            seconds = float(order.get("delay", 0))
            return seconds if seconds and self._happens(order.get("delay_probability", 1)) else 0.0

    def api_error(self, *, writes: bool = False) -> int | None:
        """The status with which this API call fails, or None if it succeeds.

        Args:
            writes: whether the call changes something.
        """
        with self._lock:
            return self._error_of("api") or (self._error_of("writes") if writes else None)

    def _error_of(self, kind: str) -> int | None:
        order = self._orders.get(kind)
        if order is None:
            return None
        if "count" in order:
            return int(order["status"]) if self._use_up(kind) else None
        return int(order["status"]) if self._happens(order.get("probability", 1)) else None

    def used_up(self) -> float | None:
        """The number of seconds until the rate limit resets, or None if this call is not refused."""
        return self._limit_seconds("rate_limit", "reset")

    def rate_limited(self) -> float | None:
        """The `Retry-After` of a secondary rate limit, or None if this call is not refused."""
        return self._limit_seconds("secondary_rate_limit", "retry_after")

    def _limit_seconds(self, kind: str, field: str) -> float | None:
        with self._lock:
            order = self._orders.get(kind)
            if order is None:
                return None
            seconds = float(order.get(field, 1))
            return seconds if "count" not in order or self._use_up(kind) else None

    def order_seconds(self, kind: str) -> float:
        """The value of `slow` or `stale_reads`."""
        with self._lock:
            return float(self._orders.get(kind, 0))

    def _happens(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability

    def _use_up(self, kind: str) -> bool:
        order = self._orders[kind]
        if order["count"] <= 0:
            return False
        order["count"] -= 1
        if not order["count"]:
            del self._orders[kind]
        return True


def _check_number(name: str, value: Any, most: float | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError(f"{name} must be a number of 0 or more")
    if most is not None and value > most:
        raise ValueError(f"{name} must be at most {most:g}")


def _check_fields(kind: str, order: Any, known: tuple[str, ...], chances: tuple[str, ...] = ()) -> None:
    if not isinstance(order, Mapping):
        raise ValueError(f"{kind} must be an object")
    for name, value in order.items():
        if name not in known:
            raise ValueError(f"unknown field {name!r} of {kind}; known are {', '.join(known)}")
        _check_number(f"{kind}.{name}", value, 1 if name in chances else None)


def _check_webhooks(order: Any) -> None:
    _check_fields("webhooks", order, _WEBHOOKS, ("lose", "duplicate", "reorder", "delay_probability"))


def _check_errors(kind: str, order: Any) -> None:
    _check_fields(kind, order, _API, ("probability",))
    if not 400 <= order.get("status", 0) <= 599:
        raise ValueError(f"{kind}.status must be between 400 and 599")


def _check_seed(order: Any) -> None:
    if not isinstance(order, int):
        raise ValueError("seed must be a whole number")


_CHECKS = {
    "webhooks": _check_webhooks,
    "api": lambda order: _check_errors("api", order),
    "writes": lambda order: _check_errors("writes", order),
    "rate_limit": lambda order: _check_fields("rate_limit", order, _LIMIT),
    "secondary_rate_limit": lambda order: _check_fields("secondary_rate_limit", order, _SECONDARY_LIMIT),
    "slow": lambda order: _check_number("slow", order),
    "stale_reads": lambda order: _check_number("stale_reads", order),
    "seed": _check_seed,
}


def _unknown_kind(kind: str) -> str:
    return f"unknown kind of fault {kind!r}; known are {', '.join(_CHECKS)}"


def _check_order(kind: str, order: Any) -> None:
    if kind not in _CHECKS:
        raise ValueError(_unknown_kind(kind))
    _CHECKS[kind](order)
