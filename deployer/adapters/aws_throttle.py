"""How fast all workers together may call AWS: a bucket of tokens for each account, region and API.

AWS throttles each API of an account's region by itself, everyone who calls it together. It does not publish the
rates; those here are what accounts without a raised limit are known to bear with room to spare. Where they prove too
high, AWS's own refusals lower them for a while, for all workers at once.
"""

import random
import time
from importlib import resources
from typing import Any

from deployer.adapters.aws_shared import SharedRedis, key_prefix
from deployer.errors import ThrottledError

# service -> calls a second of each operation that reads, and of each that changes something; no other has a bucket
_RATES = {"cloudformation": (5.0, 2.0), "codepipeline": (10.0, 5.0)}
_READS = ("Describe", "Get", "List")
_BURST_SECONDS = 5.0  # what gathers while nobody calls
_LONGEST_WAIT = 5.0  # seconds; a worker that waits longer had better do something else


class RateLimit:
    """Hands out the calls to one account's region.

    Args:
        shared: where the buckets are.
        account, region: whose calls these are.
        share: of the usual rates; the rest is left to whoever else calls AWS there.
    """

    def __init__(self, shared: SharedRedis, account: str, region: str, share: float = 1.0) -> None:
        self._shared = shared
        self._region = (account, region)
        self._share = share
        source = resources.files("deployer.adapters").joinpath("aws_throttle.lua").read_text()
        self._script = shared.register_script(source)

    def wait_for_turn(self, service: str, operation: str) -> None:
        """Return when this call may be made, within some seconds.

        Raises:
            ThrottledError: that would take longer.
        """
        answer = self._run_script("acquire", service, operation)
        if answer is None:
            return
        admitted, seconds = answer[0] == 1, answer[1] / 1000
        if not admitted:
            raise ThrottledError(
                f"{operation} is asked of AWS as often as it bears just now; it is this call's turn in {seconds:.0f} s",
                # not all that are sent away are to be back at the same moment
                retry_after=seconds * random.uniform(1, 1.5),  # noqa: S311  jitter, no secret
            )
        if seconds:
            time.sleep(seconds)

    def lower_rate(self, service: str, operation: str) -> None:
        """AWS has throttled a call: halve the rate of all workers, which then recovers within a minute."""
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
