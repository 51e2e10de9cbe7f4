"""Limits the memory and the disk that all requests without a response may use."""

from collections.abc import Callable
from typing import Protocol

from web.front.limits import Limits
from web.front.request import Request


class Sender(Protocol):
    """A connection that is receiving a request."""

    reading: Request | None

    def refuse(self, code: int, reason: str) -> None:
        """Respond with an error and drop the request."""


FULL = "unfinished requests use all the memory or disk that deployer allows them; try again later"


class ResourceLimiter:
    """Counts the memory and disk of one process's requests. Only the event loop's thread may use it.

    If a limit is exceeded, the request that has been unfinished for the longest time is refused. An honest sender needs
    milliseconds, so slow senders cannot keep it out.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.memory = self.disk = 0
        self.unfinished: dict[Sender, None] = {}  # the oldest first

    def update_memory(self, request: Request, writing: int = 0) -> bool:
        """Count the memory that a request uses now.

        Args:
            request: the request.
            writing: bytes of its body that are being written to the disk.

        Returns:
            Whether the limit allows it.
        """
        memory_bytes = request.memory_bytes + writing
        self.memory += memory_bytes - request.counted_memory
        request.counted_memory = memory_bytes
        if self.memory > self._limits.memory:
            self._evict_oldest(lambda: self.memory > self._limits.memory, lambda _: True)
        return self.memory <= self._limits.memory

    def reserve_disk(self, request: Request, size: int) -> bool:
        """Count disk for a part of a body before it is written; returns whether the limit allows it."""
        self.disk += size
        request.counted_disk += size
        if self.disk > self._limits.disk:
            self._evict_oldest(lambda: self.disk > self._limits.disk, lambda each: each.counted_disk > 0)
        return self.disk <= self._limits.disk

    def release(self, request: Request) -> None:
        """Stop counting a request, and free its memory and its file."""
        self.memory -= request.counted_memory
        self.disk -= request.counted_disk
        request.counted_memory = request.counted_disk = 0
        request.release_body()

    def _evict_oldest(self, exceeded: Callable[[], bool], holds: Callable[[Request], bool]) -> None:
        for sender in list(self.unfinished):
            if not exceeded():
                return
            if sender.reading is not None and holds(sender.reading):
                sender.refuse(503, FULL)
