"""The rate limits of the APIs: the hour's requests, and the secondary limits.

https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import math
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace

_MINUTE, _HOUR = 60.0, 3600.0
_READ, _WRITE = 1, 5  # points


@dataclass(frozen=True)
class Allowed:
    """How much one account may do; times a factor in a faster sandbox.

    Attributes:
        core: requests of the REST API in an hour.
        graphql: points of GraphQL in an hour.
        points: points of the REST API in a minute: 1 for a read, 5 for a write.
        graphql_points: points of GraphQL in a minute.
        content_minute, content_hour: requests that create content.
        enforced: whether a request beyond a limit is refused. Otherwise requests are only counted.
    """

    core: int = 5000
    graphql: int = 5000
    points: int = 900
    graphql_points: int = 2000
    content_minute: int = 80
    content_hour: int = 500
    enforced: bool = False

    def times(self, factor: float) -> Allowed:
        """The same for a sandbox that is so much faster."""
        numbers = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "enforced"}
        return replace(self, **{name: max(round(value * factor), 1) for name, value in numbers.items()})

    def with_changes(self, changes: Mapping[str, object]) -> Allowed:
        """The same with other numbers.

        Raises:
            ValueError: a name is unknown, or a value is not of its type.
        """
        for name, value in changes.items():
            known = getattr(self, name, None)
            usable = isinstance(value, bool) or (isinstance(value, int) and value >= 0)
            if type(known) is not type(value) or not usable:
                names = ", ".join(each.name for each in fields(self))
                raise ValueError(f"{name!r} is no limit, or has a wrong value; the limits are {names}")
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass
class _Account:
    """The requests of one account."""

    used: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    reset: float = 0.0
    points: dict[str, deque[tuple[float, int]]] = field(default_factory=lambda: defaultdict(deque))
    content: deque[float] = field(default_factory=deque)


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused.

    Attributes:
        message: GitHub's message.
        retry_after: seconds; None for the hour's limit, which the headers describe.
    """

    message: str
    retry_after: int | None = None


class RateLimits:
    """Counts the requests of each account, and refuses those beyond a limit.

    Args:
        allowed: the limits.
        clock: epoch seconds.
    """

    def __init__(self, allowed: Allowed, clock: Callable[[], float] = time.time) -> None:
        self.allowed = allowed
        self._clock = clock
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = defaultdict(_Account)

    def admit(self, account: str, resource: str, *, writes: bool, content: bool) -> Refusal | None:
        """Count a request, or refuse it; a request that is refused counts towards the points of the minute as well.

        Args:
            account: who sends it.
            resource: `core` or `graphql`.
            writes: whether it changes something.
            content: whether it creates content.
        """
        now = self._clock()
        with self._lock:
            state = self._current(account, now)
            most = self.allowed.graphql if resource == "graphql" else self.allowed.core
            if self.allowed.enforced and state.used[resource] >= most:
                return Refusal("API rate limit exceeded for this account.")
            state.used[resource] += 1
            refusal = self._secondary_refusal(state, resource, now, writes=writes, content=content)
            return refusal if self.allowed.enforced else None

    def _secondary_refusal(
        self, state: _Account, resource: str, now: float, *, writes: bool, content: bool
    ) -> Refusal | None:
        points, most = state.points[resource], self.allowed.points
        if resource == "graphql":
            most = self.allowed.graphql_points
        points.append((now, _WRITE if writes and resource == "core" else _READ))
        while points[0][0] <= now - _MINUTE:
            points.popleft()
        if sum(each for _, each in points) > most:
            return Refusal(
                "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
                math.ceil(points[0][0] + _MINUTE - now),
            )
        if not content:
            return None
        while state.content and state.content[0] <= now - _HOUR:
            state.content.popleft()
        for seconds, allowed in ((_MINUTE, self.allowed.content_minute), (_HOUR, self.allowed.content_hour)):
            recent = [at for at in state.content if at > now - seconds]
            if self.allowed.enforced and len(recent) >= allowed:
                return Refusal(
                    "You have exceeded a secondary rate limit and have been temporarily blocked from content creation."
                    " Please retry your request again later.",
                    math.ceil(recent[0] + seconds - now) if recent else int(seconds),
                )
        state.content.append(now)
        return None

    def shown(self, account: str, resource: str) -> dict[str, int | str]:
        """What the headers of an answer say about the hour's limit."""
        with self._lock:
            state = self._current(account, self._clock())
            used = state.used[resource]
            most = self.allowed.graphql if resource == "graphql" else self.allowed.core
            # While the limit is not enforced, at least 1 request remains: a client may stop by itself at 0
            least = 0 if self.allowed.enforced else 1
            return {
                "limit": most, "used": used, "remaining": max(most - used, least), "reset": int(state.reset),
                "resource": resource,
            }  # fmt: skip

    def counts(self) -> dict[str, dict[str, int]]:
        """How many requests each account made in this hour, by resource, and how many of them created content."""
        with self._lock:
            return {
                name: {**state.used, "content": len(state.content)} for name, state in self._accounts.items()
            }

    def forget(self) -> None:
        """Forget all requests."""
        with self._lock:
            self._accounts.clear()

    def _current(self, account: str, now: float) -> _Account:
        state = self._accounts[account]
        if now >= state.reset:
            state.used.clear()
            state.reset = now + _HOUR
        return state
