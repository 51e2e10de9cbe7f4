"""Prints the output of several programs for people."""

import itertools
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from deployer.queue import progress_log as progress

_COLOURS = ("36", "32", "33", "35", "34", "96", "92")


class Console:
    """Prints whole lines from several threads.

    Args:
        out: receives the text.
        names: of the programs; each has a colour of its own at a terminal.
        with_logs: whether the programs have log files. Then each line of the supervisor begins with the time, and
            lines that are no warnings are held until `release_held_lines`.
    """

    def __init__(self, out: TextIO, names: Sequence[str], *, with_logs: bool) -> None:
        self._out = out
        self._with_logs = with_logs
        self._writing = threading.Lock()
        self._width = max(len("deployer"), *(len(name) for name in names))
        use_colours = out.isatty() and not os.environ.get("NO_COLOR")
        colours = itertools.cycle(_COLOURS)
        self._colours = {name: next(colours) if use_colours else "" for name in names}
        self._held_lines: list[str] | None = [] if with_logs else None

    def print_line(self, text: str, name: str = "deployer") -> None:
        """Print a line with the name of the program that it is about."""
        if self._with_logs:
            self.print_text(f"{time.strftime('%H:%M:%S')}  {name}: {text}\n")
            return
        colour = self._colours.get(name, "")
        label = f"{name:<{self._width}} |"
        self.print_text(f"\x1b[{colour}m{label}\x1b[0m {text}\n" if colour else f"{label} {text}\n")

    def print_text(self, text: str) -> None:
        """Print text unchanged, never within a line of another thread."""
        # a closed terminal must not prevent the programs from being stopped
        with self._writing, suppress(OSError, ValueError):
            self._out.write(text)
            self._out.flush()

    def print_progress(self, shown: progress.ReadableLine | None) -> None:
        """Show a line to people. Lines that are no warnings are held until all programs are ready."""
        if shown is None:
            return
        with self._writing:
            if self._held_lines is not None and not shown.warning:
                self._held_lines.append(shown.text)
                return
        self.print_text(f"{shown.text}\n")

    def release_held_lines(self) -> None:
        with self._writing:
            held, self._held_lines = self._held_lines or [], None
        for text in held:
            self.print_text(f"{text}\n")
