"""The rate limit of all workers' calls to AWS: a token bucket for each account, region and operation.

AWS throttles each operation of an account's region separately, for all callers together. It does not publish its rates.
The rates here leave room in an account without raised limits. If a rate is too high, AWS's throttling errors lower it
for a while, for all workers at once.
"""

import random
import time
from importlib import resources
from typing import Any

from deployer.model.errors import ThrottledError
from deployer.redis_store.shared_redis import SharedRedis, key_prefix

# service -> calls per second of each reading operation, and of each changing one; other services have no limit
_RATES = {"cloudformation": (5.0, 2.0), "codepipeline": (10.0, 5.0)}
_READS = ("Describe", "Get", "List")
_BURST_SECONDS = 5.0  # a bucket holds the tokens of this many seconds
_LONGEST_WAIT = 5.0  # seconds; instead of waiting longer, a worker should do another task


class RedisRateLimit:
    """Implements `RateLimit`: limits the calls to one region of an account.

    Args:
        shared: the Redis that stores the buckets. While it is unavailable, calls are not limited.
        account, region: the account's id, or `own`, and the region's name.
        share: the share of the usual rates to use. The rest is left to other callers in the same account.
    """

    def __init__(self, shared: SharedRedis, account: str, region: str, share: float = 1.0) -> None:
        self._shared = shared
        self._region = (account, region)
        self._share = share
        source = resources.files("deployer.redis_store.aws").joinpath("rate_limit.lua").read_text()
        self._script = shared.register_script(source)

    def wait_for_turn(self, service: str, operation: str) -> None:
        """Wait until this call may be sent, at most five seconds.

        Args:
            service: the service's name in botocore, such as `cloudformation`.
            operation: the operation's name, such as `DescribeStacks`.

        Raises:
            ThrottledError: the wait would be longer; `retry_after` says how long.
        """
        answer = self._run_script("acquire", service, operation)
        if answer is None:
            return
        admitted, seconds = answer[0] == 1, answer[1] / 1000
        if not admitted:
            raise ThrottledError(
                f"deployer's rate limit for {operation} is reached; the next call is possible in {seconds:.0f} s",
                # jitter, so that the rejected callers do not all return at the same moment
                retry_after=seconds * random.uniform(1, 1.5),  # noqa: S311  not a secret
            )
        if seconds:
            time.sleep(seconds)

    def lower_rate(self, service: str, operation: str) -> None:
        """Halve the rate for all workers, because AWS throttled a call. The rate recovers within a minute."""
        self._run_script("slow_down", service, operation)

    def _run_script(self, order: str, service: str, operation: str) -> list[int] | None:
        if service not in _RATES:
            return None
        rate = _RATES[service][0 if operation.startswith(_READS) else 1] * self._share
        key = f"{key_prefix(*self._region, service, operation)}:bucket"
        arguments = [order, rate, max(rate * _BURST_SECONDS, 1), _LONGEST_WAIT * 1000]

        def run_script(_client: Any) -> list[int]:
            answer: list[int] = self._script(keys=[key], args=[*arguments, self._shared.clock_offset_ms])
            return answer

        return self._shared.run_if_available(run_script)
