"""Counts wrong API tokens, so that guessing is slow to answer, seen, and costs a bounded memory."""

import ipaddress
import threading
import time
from collections.abc import Callable

WINDOW_SECONDS = 60.0
FROM_ADDRESS = 10  # wrong tokens of one address in a window that are answered with 401
FROM_ALL = 300  # of all addresses together
_ADDRESSES = 1024  # that are counted each by itself; a right token never needs the count


class WrongTokens:
    """Wrong tokens in the present window, by address and in all. Threads may use it at once.

    Args:
        clock: seconds that only grow.
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
            address: the TCP peer's; of IPv6 the network of 64 bits counts, which one sender has to itself.

        Returns:
            How many of this address there were in this window, and the seconds until the next wrong one is answered
            with 401; 0 if this one is.
        """
        key = _network(address)
        with self._lock:
            now = self._clock()
            if now >= self._ends_at:
                self._ends_at, self._all = now + WINDOW_SECONDS, 0
                self._by_address.clear()
            self._all += 1
            if key not in self._by_address and len(self._by_address) >= _ADDRESSES:
                key = ""  # all further ones share a count
            number = self._by_address[key] = self._by_address.get(key, 0) + 1
            over = number > FROM_ADDRESS or self._all > FROM_ALL
            return number, self._ends_at - now if over else 0.0

    @property
    def size(self) -> int:
        """How many counts are kept."""
        return len(self._by_address)


def _network(address: str) -> str:
    try:
        found = plain(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)


def plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An address; one of IPv4 that a socket of IPv6 shows as `::ffff:192.0.2.1` is one of IPv4.

    Raises:
        ValueError: it is none.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found
