"""Waiting for something that happens in another process."""

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_POLL_SECONDS = 0.1


class WaitTimeoutError(AssertionError):
    """An expected state was not reached in time."""


def wait_for(what: str, check: Callable[[], _T], seconds: float = 60) -> _T:
    """Call `check` until it returns a true value; return that value.

    Args:
        what: the expected state, for the error text.
        check: returns a true value as soon as the state is reached.
        seconds: the time limit.

    Raises:
        WaitTimeoutError: the time limit is over; the message has the last value.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise WaitTimeoutError(f"{what}: not within {seconds:.0f} s; the last value was {answer!r}")
        time.sleep(_POLL_SECONDS)
