"""How long a server asks to wait, read from its headers: always a number of seconds within bounds, or nothing."""

import math
import time
from email.utils import parsedate_to_datetime

from deployer.errors import LONGEST_RETRY_AFTER


def seconds_asked(value: str | None) -> float | None:
    """The seconds that a `Retry-After` header asks for; None where it asks for nothing that can be waited for.

    Args:
        value: the header: a number of seconds or an HTTP date (RFC 9110, 10.2.3), or None.

    Returns:
        From 0 to `LONGEST_RETRY_AFTER`. None for a missing, negative or infinite number, `nan` and any other text.
    """
    if value is None:
        return None
    seconds = _number(value)
    if seconds is None:
        try:
            seconds = max(parsedate_to_datetime(value).timestamp() - time.time(), 0)
        except (ValueError, OverflowError):
            return None
    return min(seconds, LONGEST_RETRY_AFTER) if seconds >= 0 else None


def seconds_until(value: str | None) -> float | None:
    """The seconds until a time given as epoch seconds, such as `x-ratelimit-reset`; None where it is no time.

    Returns:
        From 1 to `LONGEST_RETRY_AFTER`: the server's clock may differ from this machine's.
    """
    at = _number(value or "")
    return None if at is None else min(max(at - time.time(), 1.0), LONGEST_RETRY_AFTER)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
