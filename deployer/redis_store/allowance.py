"""How many calls to GitHub each repository may make, so that none of them uses up the quota that all share.

Each call costs a repository the time in which its share of the quota brings another one. The sum of these times is what
a repository owes. It decreases as time passes, and a repository that owes more than `ALLOWED_SECONDS` waits. The key
`deployer:{owner/repo}:github` holds the time at which nothing is owed any more (ms), and expires then.
"""

from collections.abc import Callable
from typing import Any

import redis

from deployer.model.environments import Repository
from deployer.redis_store.errors import unavailable

# KEYS[1], what is to be added, an offset to the clock (only tests have one), the most that can be owed -> what is owed;
# all in ms
_OWED = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) + tonumber(ARGV[2])
local free = math.max(tonumber(redis.call('GET', KEYS[1])) or 0, now) + tonumber(ARGV[1])
if tonumber(ARGV[1]) > 0 then
  free = math.min(free, now + tonumber(ARGV[3]))
  redis.call('SET', KEYS[1], string.format('%.0f', free), 'PX', string.format('%.0f', free - now))
end
return string.format('%.0f', free - now)
"""
_HOUR = 3600.0
SHARE = 0.2
"""Of the hour's quota, what one repository may use for long. docs/decisions/0016 gives the reason."""
ALLOWED_SECONDS = _HOUR / 2
"""What a repository may owe: half an hour's share at once, which is a tenth of the quota."""
RESERVED_SECONDS = _HOUR / 4
"""What it may owe beyond that for production and for what people ask for."""


MOST_OWED_SECONDS = ALLOWED_SECONDS + _HOUR
"""No repository waits longer than the hour in which GitHub renews the quota, whatever quota an answer names."""


class RedisAllowance:
    """The port `Allowance`.

    Args:
        client: a connection with `decode_responses`.
        clock_offset_ms: what is added to Redis's clock; only tests let time pass by it.
    """

    def __init__(self, client: redis.Redis, clock_offset_ms: Callable[[], int] = lambda: 0) -> None:
        self._script: Any = client.register_script(_OWED)
        self._clock_offset_ms = clock_offset_ms

    def wait(self, repository: Repository, *, reserved: bool = False) -> float:
        """See `Allowance.wait`."""
        return max(self._owed(repository) - ALLOWED_SECONDS - (RESERVED_SECONDS if reserved else 0), 0)

    def spend(self, repository: Repository, calls: int, quota: int) -> None:
        """See `Allowance.spend`."""
        if calls and quota:
            self._owed(repository, calls * _HOUR / (quota * SHARE))

    def _owed(self, repository: Repository, more: float = 0) -> float:
        with unavailable():
            key = f"deployer:{{{repository.key}}}:github"
            args = [round(more * 1000), self._clock_offset_ms(), round(MOST_OWED_SECONDS * 1000)]
            return float(self._script(keys=[key], args=args)) / 1000
