"""Counts wrong API tokens to limit guessing."""

import ipaddress
import threading
import time
from collections.abc import Callable

WINDOW_SECONDS = 60.0
FROM_ADDRESS = 10  # wrong tokens from one address per window; further ones get 429 instead of 401
FROM_ALL = 300  # wrong tokens from all addresses per window
_ADDRESSES = 1024  # addresses that are counted separately, which bounds the memory


class WrongTokens:
    """The number of wrong tokens in the current window, by address and in total. It is thread-safe.

    Args:
        clock: returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._ends_at = 0.0
        self._all = 0
        self._by_address: dict[str, int] = {}

    def count(self, address: str) -> tuple[int, float]:
        """Count a wrong token.

        Args:
            address: the address of the TCP peer. For IPv6 its /64 network is counted, because one sender usually has
                such a network.

        Returns:
            The number of wrong tokens from this address in this window, and the seconds until the window ends if the
            limit is exceeded, else 0.
        """
        key = _counted_address(address)
        with self._lock:
            now = self._clock()
            if now >= self._ends_at:
                self._ends_at, self._all = now + WINDOW_SECONDS, 0
                self._by_address.clear()
            self._all += 1
            if key not in self._by_address and len(self._by_address) >= _ADDRESSES:
                key = ""  # all further addresses share a counter
            number = self._by_address[key] = self._by_address.get(key, 0) + 1
            over = number > FROM_ADDRESS or self._all > FROM_ALL
            return number, self._ends_at - now if over else 0.0

    @property
    def size(self) -> int:
        """The number of counters."""
        return len(self._by_address)


def _counted_address(address: str) -> str:
    try:
        found = parse_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


def parse_address(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Parse an address. `::ffff:192.0.2.1`, as an IPv6 socket shows an IPv4 peer, becomes the IPv4 address.

    Raises:
        ValueError: the text is not an address.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found
