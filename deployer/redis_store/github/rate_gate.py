"""The rate limits of GitHub, which all processes learn from every answer and obey together.

GitHub counts the requests of one account (an installation of a GitHub App, the App itself, or the user of a token). A
request waits up to five seconds for its turn. If GitHub refuses requests for longer, no request is sent until then.
"""

import time
from dataclasses import dataclass
from importlib import resources
from typing import Any

from deployer.model.errors import LONGEST_RETRY_AFTER, ThrottledError
from deployer.redis_store.shared_redis import SharedRedis

_ACCOUNTS = "deployer:github:accounts"
_LONGEST_WAIT = 5.0  # seconds; instead of waiting longer, a worker should do another task
_HALF_OF_WRITES = 250  # GitHub allows 500 an hour that create content
_POINTS = {False: 1, True: 5}  # of a request; True: a write. GitHub counts so for its secondary limit


@dataclass(frozen=True, slots=True)
class Quota:
    """What GitHub's latest answer said about one rate limit of an account.

    Attributes:
        account: `installation-ID`, `app` or `token`.
        resource: the API: `core` for REST, `graphql`.
        limit: the requests of an hour, or points for GraphQL.
        remaining: those that remain; all of them once the hour is over.
        resets_at: when the hour ends, in epoch seconds.
        closed_seconds: for how long GitHub refuses requests; 0 if it does not.
        writes: the writes of the last hour, at most 500, which is GitHub's limit; 0 for another resource than `core`.
    """

    account: str
    resource: str
    limit: int
    remaining: int
    resets_at: float
    closed_seconds: float
    writes: int = 0


class RedisRateGate:
    """Lets requests pass as GitHub's rate limits allow.

    Args:
        shared: the Redis with the limits. While it is unavailable, requests are not limited.
        share: the share of GitHub's usual limits to use; the rest is left to other programs with the same account.
    """

    def __init__(self, shared: SharedRedis, share: float = 1.0) -> None:
        self._shared = shared
        self._share = share
        source = resources.files("deployer.redis_store.github").joinpath("rate_gate.lua").read_text()
        self._script = shared.register_script(source)

    def wait_for_turn(self, account: str, resource: str, *, writes: bool) -> None:
        """Wait until a request may be sent, at most five seconds.

        Args:
            account: whose rate limits the request counts towards.
            resource: `core` or `graphql`.
            writes: whether the request changes something on GitHub.

        Raises:
            ThrottledError: the wait would be longer; `retry_after` says how long.
        """
        arguments = [int(writes), _POINTS[writes], self._share, round(_LONGEST_WAIT * 1000)]
        answer = self._run_script("enter", account, resource, *arguments)
        if answer is None:
            return
        admitted, seconds = answer[0] == 1, answer[1] / 1000
        if not admitted:
            raise ThrottledError(
                f"GitHub's rate limit for {account} is reached; the next {'write' if writes else 'request'} is "
                f"possible in {seconds:.0f} s",
                retry_after=seconds,
            )
        if seconds:
            time.sleep(seconds)

    def record_limits(
        self,
        account: str,
        resource: str,
        *,
        quota: tuple[int, int, float] | None,
        refused_seconds: float | None,
        refuses_all: bool,
    ) -> None:
        """Store what an answer said about the rate limits.

        Args:
            account: whose rate limits they are.
            resource: `core` or `graphql`.
            quota: limit, remaining requests and the end of the hour in epoch seconds; None if the answer lacks one.
            refused_seconds: for how long GitHub refuses further requests; None if it does not.
            refuses_all: whether that concerns every resource.
        """
        limit, remaining, reset = ("", "", "") if quota is None else quota
        pause = "" if refused_seconds is None else round(min(refused_seconds, LONGEST_RETRY_AFTER) * 1000)
        scope = "all" if refuses_all else ""
        self._run_script("learn", account, resource, limit, remaining, reset, pause, scope)

    def is_short(self, account: str) -> bool:
        """Whether an account has used half of the writes of an hour, or nine tenths of its requests, or is refused."""
        now = self._shared.now()
        state = self._shared.run_if_available(lambda r: r.hgetall(_key(account, "limits"))) or {}
        latest = self._shared.run_if_available(
            lambda r: r.lindex(_key(account, "writes"), _HALF_OF_WRITES - 1)
        )
        if latest and float(latest) / 1000 > now - 3600 / self._share:
            return True
        if any(float(state.get(field, 0)) / 1000 > now for field in ("closed", "core:closed")):
            return True
        limit, remaining = (float(state.get(f"core:{name}", 0)) for name in ("limit", "remaining"))
        return float(state.get("core:reset", 0)) > now and remaining < limit / 10

    def quotas(self) -> list[Quota]:
        """The rate limits of each account that was used within a day. Reads only Redis."""
        now = self._shared.now()
        accounts = self._shared.run_if_available(lambda r: r.zrange(_ACCOUNTS, 0, -1)) or []
        return [quota for account in accounts for quota in self._quotas_of(account, now)]

    def _quotas_of(self, account: str, now: float) -> list[Quota]:
        state = self._shared.run_if_available(lambda r: r.hgetall(_key(account, "limits"))) or {}
        writes = self._shared.run_if_available(lambda r: r.lrange(_key(account, "writes"), 0, -1)) or []
        recent = sum(float(at) / 1000 > now - 3600 / self._share for at in writes)
        found = []
        for resource in sorted(field.removesuffix(":limit") for field in state if field.endswith(":limit")):
            limit, reset = int(state[f"{resource}:limit"]), float(state[f"{resource}:reset"])
            until = max(float(state.get(field, 0)) for field in ("closed", f"{resource}:closed")) / 1000
            found.append(
                Quota(
                    account,
                    resource,
                    limit,
                    limit if reset <= now else int(state[f"{resource}:remaining"]),
                    reset,
                    max(until - now, 0.0),
                    recent if resource == "core" else 0,
                )
            )
        return found

    def _run_script(self, order: str, account: str, resource: str, *arguments: Any) -> list[int] | None:
        keys = [_key(account, "limits"), _key(account, "writes"), _ACCOUNTS]
        given = [order, account, resource, self._shared.clock_offset_ms, *arguments]

        def run_script(_client: Any) -> list[int]:
            answer: list[int] = self._script(keys=keys, args=given)
            return answer

        return self._shared.run_if_available(run_script)


def _key(account: str, what: str) -> str:
    return f"deployer:github:{{{account}}}:{what}"
