"""The rate limits of AWS: a token bucket per operation in each region of each account."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from sandbox.aws.places import Place


class Rates:
    """The rate limits in force, with the state of their token buckets; the caller holds a lock."""

    def __init__(self) -> None:
        self._rates: dict[str, dict[str, float]] = {}
        self._used: defaultdict[tuple[Place, str, str], dict[str, Any]] = defaultdict(dict)

    def set_rates(self, rates_by_service: Mapping[str, Mapping[str, float]]) -> None:
        """Set rates in calls per second, by service and operation."""
        for service, rates in rates_by_service.items():
            self._rates.setdefault(service, {}).update(rates)

    def rates_in_force(self) -> dict[str, dict[str, float]]:
        """The rates in force, by service and operation."""
        return {service: dict(rates) for service, rates in self._rates.items()}

    def exceeds_rate(self, place: Place, service: str, operation: str) -> bool:
        """Whether a call exceeds the rate; a call that does not is counted. The burst is the calls of one second."""
        rates = self._rates.get(service, {})
        rate = rates.get(operation, rates.get("*"))
        return rate is not None and exceeds_rate(self._used[place, service, operation], rate, max(rate, 1))


def check_rates(given: Any) -> None:
    """Check that rates are a mapping of services to mappings of operations to numbers.

    Raises:
        ValueError: they are not.
    """
    if not isinstance(given, dict) or not all(isinstance(rates, dict) for rates in given.values()):
        raise ValueError(
            "'rates' must be a mapping of services to mappings of operations to calls per second"
        )
    for rates in given.values():
        for operation, rate in rates.items():
            if isinstance(rate, bool) or not isinstance(rate, int | float) or rate <= 0:
                raise ValueError(f"the rate of {operation!r} must be a number greater than 0")


def exceeds_rate(bucket: dict[str, Any], rate: float, burst: float) -> bool:
    """Whether a call exceeds a rate, whose state is in `bucket`; a call that does not is counted."""
    # The theoretical arrival time of GCRA: one number holds the whole state of a token bucket.
    now = time.monotonic()
    arrival = max(float(bucket.get("_arrival", 0.0)), now)
    if arrival - now > (burst - 1) / rate:
        return True
    bucket["_arrival"] = arrival + 1 / rate
    return False
