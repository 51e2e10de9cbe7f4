"""The log of the AWS calls that reached the simulator."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict, dataclass
from typing import Any

_KEPT = 20_000


@dataclass
class Call:
    """One call.

    Attributes:
        time: epoch seconds of its arrival.
        seconds: its duration.
        name: name of the stack, pipeline or bucket.
        token: client request token.
        code: "OK" or the code of the error.
        seq: number of the call, counted from 1.
    """

    time: float
    seconds: float
    service: str
    operation: str
    name: str | None
    token: str | None
    user_agent: str
    status: int
    code: str
    account: str
    region: str
    seq: int = 0


class Calls:
    """The latest calls, oldest first, numbered from 1."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: deque[Call] = deque(maxlen=_KEPT)
        self._number = 0

    def add(self, call: Call) -> None:
        """Record a call that has been answered."""
        with self._lock:
            self._number += 1
            call.seq = self._number
            self._calls.append(call)

    def clear(self) -> None:
        """Remove all calls; numbering continues."""
        with self._lock:
            self._calls.clear()

    def list_calls(self, since: int = 0, **wanted: str) -> list[dict[str, Any]]:
        """The calls after number `since` whose fields have the wanted values, as mappings."""
        with self._lock:
            calls = [asdict(call) for call in self._calls if call.seq > since]
        return [c for c in calls if all(str(c.get(k)) == v for k, v in wanted.items())]
