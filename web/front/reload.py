"""What gunicorn's processes know of each other during a reload.

gunicorn ends the old processes as soon as it has forked the new ones, which then need a second or more to start.
Connections made in between would wait so long for an answer, and GitHub gives up after ten seconds. So a process that a
reload replaces keeps accepting connections until a new process accepts them too.
"""

import mmap
import struct

_TWO_NUMBERS = struct.Struct("QQ")


class ReloadState:
    """Two numbers in memory that gunicorn's main process shares with all processes it forks.

    gunicorn numbers its worker processes from 1 in the order in which it starts them: `age`.
    """

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _TWO_NUMBERS.size)

    def reload_begins(self, newest_age: int) -> None:
        """Called in the main process before it forks the new processes.

        Args:
            newest_age: the age of the newest process that the reload replaces.
        """
        self._write(newest_age, self._read()[1])

    def accepts(self, age: int) -> None:
        """Called in a process when it accepts connections.

        Args:
            age: the process's own.
        """
        replaced, newest = self._read()
        self._write(replaced, max(newest, age))

    def is_replaced(self, age: int) -> bool:
        """Whether a reload replaces the process of this age; otherwise gunicorn itself is about to end."""
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
