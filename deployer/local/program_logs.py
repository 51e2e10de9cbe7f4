"""The log files of the programs that `deployer up` runs."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

_LIMIT = 10_000_000  # bytes of one file; one previous file is kept


class ProgramLog:
    """The log file of one program.

    A full disk must not stop the program, so lines that cannot be written are lost.

    Args:
        path: the file.
        limit: bytes. A file that would grow beyond them is renamed to `<path>.1`, and a new one is opened.
    """

    def __init__(self, path: Path, limit: int = _LIMIT) -> None:
        self.path = path
        self._limit = limit
        self._file: IO[bytes] | None = None
        self._size = 0
        self._writing = threading.Lock()  # the last output of the previous process may still be read

    def start_empty(self) -> None:
        """Remove the previous files and open a new one."""
        with suppress(OSError):
            self._previous.unlink(missing_ok=True)
        self._open_file()

    def write(self, line: bytes) -> None:
        """Append a line."""
        with self._writing, suppress(OSError, ValueError):
            if self._size + len(line) > self._limit:
                self._rotate_files()
            if self._file:
                self._file.write(line)
                self._file.flush()
                self._size += len(line)

    def close(self) -> None:
        """Close the file. Lines that are written later are lost."""
        with self._writing, suppress(OSError):
            if self._file:
                self._file.close()
            self._file = None

    def last_lines(self, number: int) -> list[str]:
        """The last lines of the file."""
        with suppress(OSError):
            return self.path.read_text(errors="replace").splitlines()[-number:]
        return []

    @property
    def _previous(self) -> Path:
        return self.path.with_name(f"{self.path.name}.1")

    def _open_file(self) -> None:
        self._size = 0
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115

    def _rotate_files(self) -> None:
        if self._file:
            with suppress(OSError):
                self._file.close()
        self._file = None
        with suppress(OSError):
            self.path.replace(self._previous)
        self._open_file()
