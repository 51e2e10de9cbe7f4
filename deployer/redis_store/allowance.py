"""Limits each repository's calls to GitHub, so that no repository uses up the quota that all of them share.

Each call adds to a repository's debt the time in which its share of the quota allows one more call. The debt decreases
as time passes, and a repository whose debt is more than `ALLOWED_SECONDS` waits. The key `deployer:{owner/repo}:github`
holds the time at which the debt is paid (ms), and expires then.
"""

from collections.abc import Callable
from typing import Any

import redis

from deployer.model.environments import Repository
from deployer.redis_store.errors import unavailable

# KEYS[1], the time to add, an offset to the clock (0 except in tests), the largest debt -> the debt; all in ms
_ADD_TO_DEBT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[2])
local paid_at = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now) + tonumber(ARGV[1])
if tonumber(ARGV[1]) > 0 then
  paid_at = math.min(paid_at, now + tonumber(ARGV[3]))
  redis.call('SET', KEYS[1], string.format('%.0f', paid_at), 'PX', string.format('%.0f', paid_at - now))
end
return string.format('%.0f', paid_at - now)
"""
_HOUR = 3600.0
SHARE = 0.2
"""The share of the hourly quota that one repository may use permanently. docs/decisions/0016 gives the reason."""
ALLOWED_SECONDS = _HOUR / 2
"""The debt that a repository may have: it may use the share of half an hour, a tenth of the quota, at once."""
RESERVED_SECONDS = _HOUR / 4
"""The additional debt that it may have for production and for requests of people."""
MOST_OWED_SECONDS = ALLOWED_SECONDS + _HOUR
"""The largest debt. GitHub renews the quota each hour, so no repository waits longer than that, whatever quota GitHub
names."""


class RedisAllowance:
    """Implements `Allowance`.

    Args:
        client: a connection with `decode_responses`.
        clock_offset_ms: returns the milliseconds to add to Redis's clock; only tests use it, to let time pass.
    """

    def __init__(self, client: redis.Redis, clock_offset_ms: Callable[[], int] = lambda: 0) -> None:
        self._script: Any = client.register_script(_ADD_TO_DEBT)
        self._clock_offset_ms = clock_offset_ms

    def seconds_until_next_call(self, repository: Repository, *, reserved: bool = False) -> float:
        """See `Allowance.seconds_until_next_call`."""
        return max(self._add_to_debt(repository) - ALLOWED_SECONDS - (RESERVED_SECONDS if reserved else 0), 0)

    def count_calls_made(self, repository: Repository, calls: int, quota: int) -> None:
        """See `Allowance.count_calls_made`."""
        if calls and quota:
            self._add_to_debt(repository, calls * _HOUR / (quota * SHARE))

    def _add_to_debt(self, repository: Repository, seconds: float = 0) -> float:
        with unavailable():
            key = f"deployer:{{{repository.key}}}:github"
            args = [round(seconds * 1000), self._clock_offset_ms(), round(MOST_OWED_SECONDS * 1000)]
            return float(self._script(keys=[key], args=args)) / 1000
