"""Faults on order: throttling, errors, slowness, failing resources and actions, unreliable events.

An order is a mapping with fields to match (a missing one, or "*", matches all), `skip` (how many matches
it lets pass first), `count` (how often it strikes) or `probability`, and what it does; each may match
`account` and `region`. The kinds, with their own fields:

- `throttle`: service, operation, name; instead of count or probability also `rate` a second and `burst`
- `errors`: the same, `mode` ("before" or "after" the call took effect), `error`, `message`, `status`, or
  `drop` for a connection closed without an answer; strikes once unless told otherwise
- `slow`: the same, `seconds`
- `fail_resources`: stack, resource (logical id or type), on ("create", "update", "delete", "import",
  "import_rollback"), `reason`
- `fail_actions`: pipeline, stage, action, `reason`
- `rates`: calls a second by service and operation, "*" for each other one, in every account and region
- `events`: chances of `lose`, `duplicate`, `reorder`, `delay`, and `delay_seconds`
- `seed`: makes the chances repeatable

Orders of a kind are added to those in force; null or an empty list takes the orders of that kind away.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Collection, Mapping
from typing import Any

from sandbox.aws.places import Place
from sandbox.aws.rates import Rates, check_rates, exceeds_rate

_MATCHED = {
    "throttle": ("service", "operation", "name"),
    "errors": ("service", "operation", "name"),
    "slow": ("service", "operation", "name"),
    "fail_resources": ("stack", "resource", "on"),
    "fail_actions": ("pipeline", "stage", "action"),
}
_KINDS = (*_MATCHED, "events", "rates", "seed")
_PLACED = ("account", "region")
_DOES = {
    "throttle": {"rate", "burst"},
    "errors": {"mode", "error", "message", "status", "drop"},
    "slow": {"seconds"},
    "fail_resources": {"reason"},
    "fail_actions": {"reason"},
}
_SHORT = {"fail_resources": "resource", "fail_actions": "action"}
_CHANCES = {"lose", "duplicate", "reorder", "delay", "delay_seconds"}
_DELAY, _REORDER = 2.0, 0.5


class Faults:
    """What shall go wrong, as ordered by `POST /_sandbox/faults`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget every order."""
        with self._lock:
            self._orders: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _MATCHED}
            self._events: dict[str, float] = {}
            self._rates = Rates()
            self._seed: int | str | None = None
            self._random = random.Random()  # noqa: S311 - chances of simulated faults, no secret

    def add(self, orders: Mapping[str, Any]) -> None:
        """Add orders; all of them or, when one is wrong, none.

        A list of orders, a single one, or for failures a mapping of names to reasons; a mapping that is
        itself an error order is taken as one. Null or an empty list takes the orders of its kind away.

        Raises:
            ValueError: an order of an unknown kind or shape.
        """
        if "operation" in orders or "service" in orders:
            orders = {"errors": orders}
        if unknown := [kind for kind in orders if kind not in _KINDS]:
            raise ValueError(f"unknown kind of fault {unknown[0]!r}; known are {', '.join(_KINDS)}")
        removed = {kind for kind, given in orders.items() if given is None or given == []}
        orders = {kind: given for kind, given in orders.items() if kind not in removed}
        checked = _check_kinds(orders)
        with self._lock:
            self._remove_kinds(removed)
            for kind, listed in checked.items():
                self._orders[kind] += listed
            self._events.update({k: float(v) for k, v in orders.get("events", {}).items()})
            self._rates.set_rates(orders.get("rates", {}))
            if "seed" in orders:
                self._seed = orders["seed"]
                self._random = random.Random(self._seed)  # noqa: S311 - as above

    def _remove_kinds(self, kinds: Collection[str]) -> None:
        for kind in kinds:
            if kind in _MATCHED:
                self._orders[kind] = []
        if "events" in kinds:
            self._events = {}
        if "rates" in kinds:
            self._rates = Rates()
        if "seed" in kinds:
            self._seed, self._random = None, random.Random()  # noqa: S311 - as above

    def orders_in_force(self) -> dict[str, Any]:
        """The orders in force; those used up are gone."""
        with self._lock:
            orders: dict[str, Any] = {
                kind: [{k: v for k, v in order.items() if not k.startswith("_")} for order in orders]
                for kind, orders in self._orders.items()
            }
            return {
                **orders,
                "events": dict(self._events),
                "rates": self._rates.rates_in_force(),
                "seed": self._seed,
            }

    def is_throttled(self, place: Place, service: str, operation: str, name: str | None) -> bool:
        """Whether this call shall be refused as one too many."""
        order = self._use_order("throttle", place, service=service, operation=operation, name=name)
        with self._lock:
            return order is not None or self._rates.exceeds_rate(place, service, operation)

    def error_order(
        self, place: Place, service: str, operation: str, name: str | None
    ) -> dict[str, Any] | None:
        """The error ordered for this call."""
        return self._use_order("errors", place, service=service, operation=operation, name=name)

    def call_delay(self, place: Place, service: str, operation: str, name: str | None) -> float:
        """Seconds by which this call shall take longer."""
        order = self._use_order("slow", place, service=service, operation=operation, name=name)
        return float(order.get("seconds", 1)) if order else 0.0

    def resource_failure(self, place: Place, stack: str, logical_id: str, kind: str, verb: str) -> str | None:
        """Why this resource shall fail to be created, updated or deleted, if it shall."""
        order = self._use_order("fail_resources", place, stack=stack, resource=(logical_id, kind), on=verb)
        return str(order.get("reason", "Failure ordered for a test")) if order else None

    def action_failure(self, place: Place, pipeline: str, stage: str, action: str) -> str | None:
        """Why this action shall fail, if it shall."""
        order = self._use_order("fail_actions", place, pipeline=pipeline, stage=stage, action=action)
        return str(order.get("reason", "Failure ordered for a test")) if order else None

    def event_delays(self) -> list[float]:
        """After how many seconds each copy of the next event shall be sent; empty when it shall be lost."""
        with self._lock:
            if self._use_probability("lose"):
                return []
            return [self._event_delay() for _ in range(2 if self._use_probability("duplicate") else 1)]

    def _event_delay(self) -> float:
        late = self._events.get("delay_seconds", _DELAY) if self._use_probability("delay") else 0.0
        return late + (_REORDER * self._random.random() if self._use_probability("reorder") else 0.0)

    def _use_probability(self, kind: str) -> bool:
        return self._random.random() < self._events.get(kind, 0.0)

    def _use_order(
        self, kind: str, place: Place, **facts: str | Collection[str] | None
    ) -> dict[str, Any] | None:
        """The first order that matches and strikes; one that has struck `count` times is removed."""
        facts |= place.as_fields()
        with self._lock:
            for order in self._orders[kind]:
                if not all(_is_match(order.get(field), fact) for field, fact in facts.items()):
                    continue
                if order.get("skip", 0) > 0:
                    order["skip"] -= 1
                    continue
                if "rate" in order and not exceeds_rate(order, order["rate"], order.get("burst", 1)):
                    continue
                if self._random.random() >= float(order.get("probability", 1)):
                    continue
                if "count" in order:
                    order["count"] -= 1
                    if order["count"] <= 0:
                        self._orders[kind].remove(order)
                return dict(order)
        return None


def _is_match(wanted: str | None, fact: str | Collection[str] | None) -> bool:
    return wanted in (None, "*", fact) or (isinstance(fact, tuple) and wanted in fact)


def _as_list(kind: str, given: Any) -> list[Any]:
    if isinstance(given, list):
        return given
    if isinstance(given, dict):
        names_reasons = kind in _SHORT and not set(given) & {
            *_MATCHED[kind],
            *_PLACED,
            "reason",
            "count",
            "skip",
            "probability",
        }
        return [{_SHORT[kind]: n, "reason": r} for n, r in given.items()] if names_reasons else [given]
    raise ValueError(f"the fault {kind!r} must be an order or a list of orders")


def _check_kinds(orders: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Check every kind of order; return the orders that match calls, resources or actions."""
    checked = {
        kind: [_check_order(kind, order) for order in _as_list(kind, given)]
        for kind, given in orders.items()
        if kind in _MATCHED
    }
    if "events" in orders:
        _check_chances(orders["events"])
    if "rates" in orders:
        check_rates(orders["rates"])
    return checked


def _check_order(kind: str, order: Any) -> dict[str, Any]:
    if not isinstance(order, dict):
        raise ValueError(f"an order of {kind!r} must be a mapping")
    known = {*_MATCHED[kind], *_PLACED, *_DOES[kind], "count", "skip", "probability"}
    if unknown := set(order) - known:
        raise ValueError(
            f"{kind!r} has no field {', '.join(sorted(unknown))}; known are {', '.join(sorted(known))}"
        )
    if order.get("mode", "before") not in ("before", "after"):
        raise ValueError("the mode must be 'before' or 'after'")
    for field in {"count", "skip", "probability", "rate", "burst", "seconds", "status"} & set(order):
        if isinstance(order[field], bool) or not isinstance(order[field], int | float) or order[field] < 0:
            raise ValueError(f"{field!r} must be a number of at least 0")
    if order.get("rate", 1) == 0:
        raise ValueError("'rate' must be more than 0")
    endless = {"count", "probability"} & set(order)
    return {**order, "count": 1} if kind == "errors" and not endless else dict(order)


def _check_chances(given: Any) -> None:
    if not isinstance(given, dict) or set(given) - _CHANCES:
        raise ValueError(f"'events' must be a mapping of {', '.join(sorted(_CHANCES))}")
    for field, chance in given.items():
        if isinstance(chance, bool) or not isinstance(chance, int | float):
            raise ValueError(f"{field!r} must be a number")
