"""Waiting for something that happens in another process."""

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_POLL_SECONDS = 0.1


class NeverHappenedError(AssertionError):
    """What was waited for did not come to be in time."""


def wait_for(what: str, check: Callable[[], _T], seconds: float = 60) -> _T:
    """Ask until the answer is true.

    Args:
        what: what is waited for, in words.
        check: gives something true once it has come to be.
        seconds: how long to wait.

    Raises:
        NeverHappenedError: with the last answer.
    """
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise NeverHappenedError(f"{what}: not within {seconds:.0f} s; the last answer was {answer!r}")
        time.sleep(_POLL_SECONDS)
