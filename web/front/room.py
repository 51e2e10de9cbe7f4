"""Counts the memory and the disk of all requests that have no answer yet, and makes room when one of them is short."""

from collections.abc import Callable
from typing import Protocol

from web.front.limits import Limits
from web.front.request import Request


class Sender(Protocol):
    """A connection in the middle of a request."""

    reading: Request | None

    def refuse(self, code: int, reason: str) -> None:
        """Answer with an error and drop the request."""


FULL = "too many unfinished requests hold the memory or the disk that deployer grants them; try again later"


class Room:
    """Memory and disk of one process's requests. It is used by the event loop's thread alone.

    Whoever needs room gets it from the request that has been unfinished for the longest time: an honest sender needs
    milliseconds, so slow ones cannot keep it out.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.memory = self.disk = 0
        self.unfinished: dict[Sender, None] = {}  # the oldest first

    def count(self, request: Request, writing: int = 0) -> bool:
        """Count what a request holds now.

        Args:
            request: the request.
            writing: bytes of it that are on their way to the disk.

        Returns:
            Whether there is room for it.
        """
        cost = request.cost + writing
        self.memory += cost - request.counted
        request.counted = cost
        if self.memory > self._limits.memory:
            self._relieve(lambda: self.memory > self._limits.memory, lambda _: True)
        return self.memory <= self._limits.memory

    def reserve(self, request: Request, size: int) -> bool:
        """Count disk for a part of a request's body before it is written; returns whether there is room for it."""
        self.disk += size
        request.spooled += size
        if self.disk > self._limits.disk:
            self._relieve(lambda: self.disk > self._limits.disk, lambda each: each.spooled > 0)
        return self.disk <= self._limits.disk

    def release(self, request: Request) -> None:
        """Count a request no more, and give back what it holds."""
        self.memory -= request.counted
        self.disk -= request.spooled
        request.counted = request.spooled = 0
        request.discard()

    def _relieve(self, short: Callable[[], bool], holds: Callable[[Request], bool]) -> None:
        for sender in list(self.unfinished):
            if not short():
                return
            if sender.reading is not None and holds(sender.reading):
                sender.refuse(503, FULL)
