"""Faults that a test injects into the simulated AWS.

A fault rule is a mapping. Its fields say what it matches (a missing field or "*" matches everything; every kind can
match `account` and `region`), how many matches it skips first (`skip`), how often it applies (`count` or
`probability`), and what it does. The kinds and their other fields:

- `throttle`: service, operation, name; `rate` (calls per second) and `burst` are possible instead of count or
  probability
- `errors`: service, operation, name, `mode` ("before" or "after" the call takes effect), `error`, `message`, `status`,
  or `drop` to close the connection without an answer; without count or probability the rule applies once
- `slow`: service, operation, name, `seconds`
- `fail_resources`: stack, resource (logical id or type), on ("create", "update", "delete", "import",
  "import_rollback"), `reason`
- `fail_actions`: pipeline, stage, action, `reason`
- `rates`: allowed calls per second by service and operation ("*" stands for all others), in every account and region
- `events`: probabilities of `lose`, `duplicate`, `reorder` and `delay`, and `delay_seconds`
- `seed`: makes the random choices repeatable

New rules are added to those in force; null or an empty list removes the rules of its kind.
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
    """The fault rules in force, which `POST /_sandbox/faults` adds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Remove every rule."""
        with self._lock:
            self._rules: dict[str, list[dict[str, Any]]] = {kind: [] for kind in _MATCHED}
            self._events: dict[str, float] = {}
            self._rates = Rates()
            self._seed: int | str | None = None
            self._random = random.Random()  # noqa: S311 - not for secrets

    def add(self, rules: Mapping[str, Any]) -> None:
        """Add fault rules; if one of them is invalid, none is added.

        Args:
            rules: rules by kind. The value is a list of rules, one rule or, for failures, a mapping of names to
                reasons; null or an empty list removes the rules of its kind. A mapping with the fields of an error
                rule is one error rule.

        Raises:
            ValueError: the kind or the form of a rule is not known.
        """
        if "operation" in rules or "service" in rules:
            rules = {"errors": rules}
        if unknown := [kind for kind in rules if kind not in _KINDS]:
            raise ValueError(f"unknown kind of fault {unknown[0]!r}; the known kinds are {', '.join(_KINDS)}")
        removed = {kind for kind, given in rules.items() if given is None or given == []}
        rules = {kind: given for kind, given in rules.items() if kind not in removed}
        checked = _check_kinds(rules)
        with self._lock:
            self._remove_kinds(removed)
            for kind, listed in checked.items():
                self._rules[kind] += listed
            self._events.update({k: float(v) for k, v in rules.get("events", {}).items()})
            self._rates.set_rates(rules.get("rates", {}))
            if "seed" in rules:
                self._seed = rules["seed"]
                self._random = random.Random(self._seed)  # noqa: S311 - as above

    def _remove_kinds(self, kinds: Collection[str]) -> None:
        for kind in kinds:
            if kind in _MATCHED:
                self._rules[kind] = []
        if "events" in kinds:
            self._events = {}
        if "rates" in kinds:
            self._rates = Rates()
        if "seed" in kinds:
            self._seed, self._random = None, random.Random()  # noqa: S311 - as above

    def rules_in_force(self) -> dict[str, Any]:
        """The rules in force; a rule that has applied `count` times is no longer among them."""
        with self._lock:
            rules: dict[str, Any] = {
                kind: [{k: v for k, v in rule.items() if not k.startswith("_")} for rule in rules]
                for kind, rules in self._rules.items()
            }
            return {
                **rules,
                "events": dict(self._events),
                "rates": self._rates.rates_in_force(),
                "seed": self._seed,
            }

    def is_throttled(self, place: Place, service: str, operation: str, name: str | None) -> bool:
        """Whether this call is refused as throttled."""
        rule = self._use_rule("throttle", place, service=service, operation=operation, name=name)
        with self._lock:
            return rule is not None or self._rates.exceeds_rate(place, service, operation)

    def error_rule(
        self, place: Place, service: str, operation: str, name: str | None
    ) -> dict[str, Any] | None:
        """The error rule that applies to this call."""
        return self._use_rule("errors", place, service=service, operation=operation, name=name)

    def call_delay(self, place: Place, service: str, operation: str, name: str | None) -> float:
        """The seconds by which this call is delayed."""
        rule = self._use_rule("slow", place, service=service, operation=operation, name=name)
        return float(rule.get("seconds", 1)) if rule else 0.0

    def resource_failure(self, place: Place, stack: str, logical_id: str, kind: str, verb: str) -> str | None:
        """The reason for which a verb ("create", "update", ...) on this resource fails; None if it does not."""
        rule = self._use_rule("fail_resources", place, stack=stack, resource=(logical_id, kind), on=verb)
        return str(rule.get("reason", "Injected failure")) if rule else None

    def action_failure(self, place: Place, pipeline: str, stage: str, action: str) -> str | None:
        """The reason for which this action fails; None if it does not."""
        rule = self._use_rule("fail_actions", place, pipeline=pipeline, stage=stage, action=action)
        return str(rule.get("reason", "Injected failure")) if rule else None

    def event_delays(self) -> list[float]:
        """The delay in seconds of each copy of the next event; empty if the event is lost."""
        with self._lock:
            if self._use_probability("lose"):
                return []
            return [self._event_delay() for _ in range(2 if self._use_probability("duplicate") else 1)]

    def _event_delay(self) -> float:
        late = self._events.get("delay_seconds", _DELAY) if self._use_probability("delay") else 0.0
        return late + (_REORDER * self._random.random() if self._use_probability("reorder") else 0.0)

    def _use_probability(self, kind: str) -> bool:
        return self._random.random() < self._events.get(kind, 0.0)

    def _use_rule(
        self, kind: str, place: Place, **facts: str | Collection[str] | None
    ) -> dict[str, Any] | None:
        """The first rule that matches and applies; a rule that has applied `count` times is removed."""
        facts |= place.as_fields()
        with self._lock:
            for rule in self._rules[kind]:
                if not all(_is_match(rule.get(field), fact) for field, fact in facts.items()):
                    continue
                if rule.get("skip", 0) > 0:
                    rule["skip"] -= 1
                    continue
                if "rate" in rule and not exceeds_rate(rule, rule["rate"], rule.get("burst", 1)):
                    continue
                if self._random.random() >= float(rule.get("probability", 1)):
                    continue
                if "count" in rule:
                    rule["count"] -= 1
                    if rule["count"] <= 0:
                        self._rules[kind].remove(rule)
                return dict(rule)
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
    raise ValueError(f"{kind!r} must be a fault rule or a list of fault rules")


def _check_kinds(rules: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Check every kind of rule; return the rules that match calls, resources or actions."""
    checked = {
        kind: [_check_rule(kind, rule) for rule in _as_list(kind, given)]
        for kind, given in rules.items()
        if kind in _MATCHED
    }
    if "events" in rules:
        _check_probabilities(rules["events"])
    if "rates" in rules:
        check_rates(rules["rates"])
    return checked


def _check_rule(kind: str, rule: Any) -> dict[str, Any]:
    if not isinstance(rule, dict):
        raise ValueError(f"a rule of {kind!r} must be a mapping")
    known = {*_MATCHED[kind], *_PLACED, *_DOES[kind], "count", "skip", "probability"}
    if unknown := set(rule) - known:
        raise ValueError(
            f"{kind!r} has no field {', '.join(sorted(unknown))}; the known fields are {', '.join(sorted(known))}"
        )
    if rule.get("mode", "before") not in ("before", "after"):
        raise ValueError("'mode' must be 'before' or 'after'")
    for field in {"count", "skip", "probability", "rate", "burst", "seconds", "status"} & set(rule):
        if isinstance(rule[field], bool) or not isinstance(rule[field], int | float) or rule[field] < 0:
            raise ValueError(f"{field!r} must be a number of at least 0")
    if rule.get("rate", 1) == 0:
        raise ValueError("'rate' must be greater than 0")
    endless = {"count", "probability"} & set(rule)
    return {**rule, "count": 1} if kind == "errors" and not endless else dict(rule)


def _check_probabilities(given: Any) -> None:
    if not isinstance(given, dict) or set(given) - _CHANCES:
        raise ValueError(f"'events' must be a mapping of {', '.join(sorted(_CHANCES))}")
    for field, chance in given.items():
        if isinstance(chance, bool) or not isinstance(chance, int | float):
            raise ValueError(f"{field!r} must be a number")
