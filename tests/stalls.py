"""Takes out of a measured time what the machine, and not the product, took."""

import threading
import time
from typing import Self

_EVERY, _USUAL = 0.01, 0.05  # seconds between two looks, and by which a look is late at any time


class Stopwatch:
    """Measures seconds in which this process could run: those in which the whole machine stood still do not count."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._stalled = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="stopwatch", daemon=True)

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        took = time.monotonic() - self._began
        self._ended.set()
        self._thread.join()
        self.seconds = took - self._stalled

    def _look(self) -> None:
        ended = False
        while not ended:
            before = time.monotonic()
            ended = self._ended.wait(_EVERY)
            late = time.monotonic() - before - _EVERY
            self._stalled += late if late > _USUAL else 0.0

    _began = 0.0
