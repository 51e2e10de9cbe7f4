"""The state that gunicorn's processes share during a reload.

gunicorn stops the old processes as soon as it has forked the new ones, which then need a second or more to start.
Connections made in between would wait that long for a response, and GitHub stops waiting after ten seconds. So a
process that a reload replaces continues to accept connections until a new process accepts them.
"""

import mmap
import struct

_TWO_NUMBERS = struct.Struct("QQ")


class ReloadState:
    """Two numbers in memory that gunicorn's main process shares with the processes that it forks.

    The `age` of a worker process is its number: gunicorn counts them from 1 in the order of their start.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _TWO_NUMBERS.size)

    def begin_reload(self, newest_age: int) -> None:
        """Record that a reload begins; the main process calls this before it forks the new processes.

        Args:
            newest_age: the age of the newest process that the reload replaces.
        """
        self._write(newest_age, self._read()[1])

    def mark_accepting(self, age: int) -> None:
        """Record that this process accepts connections.

        Args:
            age: the age of this process.
        """
        replaced, newest = self._read()
        self._write(replaced, max(newest, age))

    def is_replaced(self, age: int) -> bool:
        """Whether a reload replaces the process of this age. If not, gunicorn itself is stopping."""
        return age <= self._read()[0]

    def successor_accepts(self) -> bool:
        """Whether a process started by the newest reload accepts connections."""
        replaced, newest = self._read()
        return newest > replaced

    def _read(self) -> tuple[int, int]:
        replaced, newest = _TWO_NUMBERS.unpack_from(self._memory)
        return replaced, newest

    def _write(self, replaced: int, newest: int) -> None:
        _TWO_NUMBERS.pack_into(self._memory, 0, replaced, newest)


reload_state = ReloadState()
