"""The files into which `deployer up` writes what its programs print: begun anew at each start, bounded in size."""

import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

_LIMIT = 10_000_000  # bytes of one file; the one before is kept


class ProgramLog:
    """What one program prints.

    A disk that is full must not stop a program: what cannot be written is lost.

    Args:
        path: the file.
        limit: bytes after which it becomes `<path>.1`, and a new one is begun.
    """

    def __init__(self, path: Path, limit: int = _LIMIT) -> None:
        self.path = path
        self._limit = limit
        self._file: IO[bytes] | None = None
        self._size = 0
        self._writing = threading.Lock()  # a process that was replaced may still have its last lines read

    def begin(self) -> None:
        """Begin the file anew."""
        with suppress(OSError):
            self._earlier.unlink(missing_ok=True)
        self._open()

    def write(self, line: bytes) -> None:
        """Append a line."""
        with self._writing, suppress(OSError, ValueError):
            if self._size + len(line) > self._limit:
                self._turn()
            if self._file:
                self._file.write(line)
                self._file.flush()
                self._size += len(line)

    def close(self) -> None:
        """End it; what is written later is lost."""
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
    def _earlier(self) -> Path:
        return self.path.with_name(f"{self.path.name}.1")

    def _open(self) -> None:
        self._size = 0
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(self.path, "wb", opener=lambda name, flags: os.open(name, flags, 0o600))  # noqa: SIM115

    def _turn(self) -> None:
        if self._file:
            with suppress(OSError):
                self._file.close()
        self._file = None
        with suppress(OSError):
            self.path.replace(self._earlier)
        self._open()
