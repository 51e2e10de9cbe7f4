"""The temporary directory of the simulator, with the processes that run in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any


class ClosedError(RuntimeError):
    """The simulator is stopping."""


class Processes:
    """Starts each process in its own process group, so that all can be killed with their children."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def run_command(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout: float,
        output: IO[bytes] | int = subprocess.PIPE,
    ) -> tuple[int, bytes]:
        """Run a command until it ends; return its exit status and its output, which is empty if it goes to a file.

        Raises:
            TimeoutError: the command took too long and was killed.
            ClosedError: `kill_all` has been called.
        """
        with self._lock:
            if self._closed:
                raise ClosedError
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            printed, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill_group(process)
            process.communicate()
            raise TimeoutError(f"{command[0]} took longer than {timeout:g} s") from None
        finally:
            # Background processes of the command end with it.
            _kill_group(process)
            with self._lock:
                self._running.discard(process)
        return process.returncode, printed or b""

    def kill_all(self) -> None:
        """Kill all processes; no more processes can be started."""
        with self._lock:
            self._closed = True
            for process in self._running:
                _kill_group(process)


def _kill_group(process: subprocess.Popen[Any]) -> None:
    # A process group exists as long as one of its processes does; an empty group is no error.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


class Workspace:
    """The directories for git mirrors, executions, and logs of builds."""

    def __init__(self) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="sandbox-aws-"))
        self.home = self._make_directory("home")
        self.mirrors = self._make_directory("mirrors")
        self.logs = self._make_directory("logs")
        self.executions = self._make_directory("executions")
        self.tools = self._make_directory("tools")

    def _make_directory(self, name: str) -> Path:
        path = self._root / name
        path.mkdir()
        return path

    def remove(self) -> None:
        """Remove the temporary directory."""
        shutil.rmtree(self._root, ignore_errors=True)
