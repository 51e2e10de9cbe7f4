"""A dictionary of bounded size that drops the least recently used entry."""

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

_T = TypeVar("_T")


class BoundedCache(Generic[_T]):
    """A dictionary that drops its least recently used entry when it is full. Threads may share it.

    Args:
        most: the largest number of entries.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = Lock()
        self._kept: OrderedDict[object, _T] = OrderedDict()

    def get(self, key: object) -> _T | None:
        """The value of a key, or None. The entry becomes the most recently used one."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: object, value: _T) -> None:
        """Store a value; the entry becomes the most recently used one."""
        with self._lock:
            self._kept[key] = value
            self._kept.move_to_end(key)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)

    def remove(self, key: object) -> None:
        """Remove an entry, if it exists."""
        with self._lock:
            self._kept.pop(key, None)
