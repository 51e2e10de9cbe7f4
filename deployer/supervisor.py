"""Runs programs side by side on one machine: starts them in order, restarts what ends, stops them in order.

Every program is a process group of its own, so that Ctrl-C reaches the supervisor alone and nothing that a program
started outlives it. A guard process (see `deployer.guard`) ends them all when the supervisor itself is killed.
"""

import itertools
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TextIO

from deployer import guard, progress
from deployer.program_logs import ProgramLog
from deployer.times import backoff

_COLOURS = ("36", "32", "33", "35", "34", "96", "92")
_LOOK_SECONDS = 0.2
_LAST_LINES_SECONDS = 2.0
_LAST_LINES = 8  # of a program that does not come up
_HURRIED_SECONDS = 1.0
_ONE_REQUEST_SECONDS = 0.5  # one Ctrl-C may come twice: from the terminal and from make


@dataclass(frozen=True)
class Program:
    """One program to keep running.

    Args:
        name: how its output and messages call it.
        command: what to execute.
        stage: programs of a stage start once all lower ones are ready, and stop before they do.
        grace: seconds from SIGTERM to SIGKILL when it is stopped.
        ready: whether it can be used; asked again and again after each start, so it must answer within a second.
            A program without it is taken to be ready when it has run for `Pace.taken_ready`.
        env: its environment; the supervisor's own if None.
        keep_open: file descriptors that it inherits.
        log: a file it writes to, if that is not its output.
    """

    name: str
    command: Sequence[str]
    stage: int = 0
    grace: float = 10.0
    ready: Callable[[], bool] | None = None
    env: Mapping[str, str] | None = None
    keep_open: tuple[int, ...] = ()
    log: Path | None = None


@dataclass(frozen=True)
class Pace:
    """Seconds and counts that decide how patient a supervisor is."""

    start: float = 60.0
    """for a stage to become ready"""
    first_delay: float = 0.5
    longest_delay: float = 30.0
    taken_ready: float = 2.0
    settled: float = 30.0
    """a program that ran this long starts again at the first delay"""
    early_ends: int = 3
    """how often a program may end before it was ever ready"""


class StartError(Exception):
    """A program did not come up; the text is one line."""


class _Child:
    """A program and its present process."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.reader: threading.Thread | None = None
        self.ready = self.ever_ready = False
        self.ends = 0
        self.started_at = self.start_at = 0.0


def _ending(status: int) -> str:
    """How a process ended, in words; most of the real-time signals have no name."""
    if status >= 0:
        return f"ended with status {status}"
    named = -status in set(signal.Signals)
    return f"was killed by {signal.Signals(-status).name if named else f'signal {-status}'}"


class Supervisor:
    """Keeps programs running until SIGINT, SIGTERM or SIGHUP; must run in the main thread.

    Args:
        programs: what to run.
        pace: how patient to be.
        out: where the programs' lines and the supervisor's own go.
        logs: a directory; with it every program's lines go to a file there, and only what `deployer.progress` makes
            of them is shown. Before all programs are ready, warnings alone are shown, so that what is said then comes
            last.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        pace: Pace | None = None,
        out: TextIO | None = None,
        logs: Path | None = None,
    ) -> None:
        self._children = [_Child(program) for program in programs]
        self._pace = pace or Pace()
        self._out = out or sys.stdout
        self._writing = threading.Lock()
        self._width = max(len("deployer"), *(len(program.name) for program in programs))
        colourful = self._out.isatty() and not os.environ.get("NO_COLOR")
        colours = itertools.cycle(_COLOURS)
        self._colours = {program.name: next(colours) if colourful else "" for program in programs}
        self._logs = {program.name: ProgramLog(logs / f"{program.name}.log") for program in programs if logs}
        self._kept_back: list[str] | None = [] if logs else None  # until all programs are ready
        self._asked_at: list[float] = []  # when signals asked for an end
        self._stopping_at = float("inf")
        self._woken = -1
        self._guard: subprocess.Popen[str] | None = None

    def run(self, when_ready: Callable[[], None] = lambda: None) -> int:
        """Start everything, keep it running, and stop it when a signal says so.

        Args:
            when_ready: called once, when every program was ready.

        Returns:
            An exit status: 0 if a signal ended it, 1 if a program did not come up.
        """
        for log in self._logs.values():
            log.begin()
        with self._signals():
            try:
                for stage in sorted({child.program.stage for child in self._children}):
                    if not self._asked_at:
                        self._start_stage(stage)
                if not self._asked_at:
                    when_ready()
                    self._show_kept_back()
                while not self._asked_at:
                    self._tend()
                    self._pause(_LOOK_SECONDS)
            except StartError as error:
                self.say(str(error))
                return 1
            finally:
                self._stop_all()
                for log in self._logs.values():
                    log.close()
        return 0

    def say(self, text: str, name: str = "deployer") -> None:
        """Write a line under a name."""
        if self._logs:
            self.write(f"{time.strftime('%H:%M:%S')}  {name}: {text}\n")
            return
        colour = self._colours.get(name, "")
        label = f"{name:<{self._width}} |"
        self.write(f"\x1b[{colour}m{label}\x1b[0m {text}\n" if colour else f"{label} {text}\n")

    def write(self, text: str) -> None:
        """Write as it is, never in the middle of another's line."""
        with (
            self._writing,
            suppress(OSError, ValueError),
        ):  # a closed terminal must not keep anything from stopping
            self._out.write(text)
            self._out.flush()

    # --- starting and keeping up

    def _start_stage(self, stage: int) -> None:
        children = [child for child in self._children if child.program.stage == stage]
        for child in children:
            self._start(child)
        deadline = time.monotonic() + self._pace.start
        while not self._asked_at:
            self._tend()
            waiting = [child.program.name for child in children if not child.ready]
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise StartError(f"{', '.join(waiting)} not ready after {self._pace.start:g} s; stopping")
            self._pause(_LOOK_SECONDS / 4)

    def _start(self, child: _Child) -> None:
        program = child.program
        try:
            process = subprocess.Popen(  # noqa: S603  the commands are the caller's own
                list(program.command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=None if program.env is None else dict(program.env),
                process_group=0,
                pass_fds=program.keep_open,
            )
        except OSError as error:
            text = f"starting {program.name}: {program.command[0]}: {error.strerror}"
            if not child.ever_ready:
                raise StartError(text) from error
            self.say(text)
            child.start_at = time.monotonic() + self._pace.longest_delay
            return
        child.process, child.ready, child.started_at = process, False, time.monotonic()
        self._tell_guard(f"add {process.pid} {program.stage} {program.grace}")
        assert process.stdout is not None  # noqa: S101  for mypy: it was asked for above
        child.reader = threading.Thread(target=self._copy, args=(program.name, process.stdout), daemon=True)
        child.reader.start()

    def _copy(self, name: str, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip("\r\n")
                if log := self._logs.get(name):
                    log.write(line)
                    self._show(progress.readable(text))
                else:
                    self.say(text, name)

    def _show(self, shown: progress.Shown | None) -> None:
        """Show people a line of a program; news wait until the programs are all ready."""
        if shown is None:
            return
        with self._writing:
            if self._kept_back is not None and not shown.warning:
                self._kept_back.append(shown.text)
                return
        self.write(f"{shown.text}\n")

    def _show_kept_back(self) -> None:
        with self._writing:
            kept, self._kept_back = self._kept_back or [], None
        for text in kept:
            self.write(f"{text}\n")

    def _tend(self) -> None:
        """Notice what ended, start again what is due, notice what became ready."""
        self._keep_guard()
        for child in self._children:
            if child.process is None:
                if child.start_at and time.monotonic() >= child.start_at:
                    self._start(child)
            elif child.process.poll() is not None:
                self._ended(child)
            elif not child.ready and self._is_ready(child):
                if child.ever_ready:
                    self.say(f"{child.program.name} is back")
                child.ready = child.ever_ready = True

    def _is_ready(self, child: _Child) -> bool:
        if child.program.ready:
            return child.program.ready()
        return time.monotonic() - child.started_at > self._pace.taken_ready

    def _ended(self, child: _Child) -> None:
        name, pace = child.program.name, self._pace
        how = self._collect(child)
        if time.monotonic() - child.started_at >= pace.settled:
            child.ends = 0
        child.ends += 1
        if not child.ever_ready and child.ends >= pace.early_ends:
            raise StartError(
                f"{name} {how} {child.ends} times before it was ready; {self._where_it_says(child.program)} why"
            )
        delay = backoff(pace.first_delay, 2, child.ends - 1, pace.longest_delay)
        child.start_at = time.monotonic() + delay
        self.say(f"{name} {how}; starting it again in {delay:g} s")

    def _where_it_says(self, program: Program) -> str:
        """Where people find why a program ended; the last lines of its log are shown at once."""
        if program.log:
            return f"{program.log} says"
        if log := self._logs.get(program.name):
            for line in log.last_lines(_LAST_LINES):
                self.say(line, program.name)
            return f"{log.path} says"
        return "its lines above say"

    # --- stopping

    def _stop_all(self) -> None:
        self._stopping_at = time.monotonic()
        if self._asked_at:
            self.say("stopping; ask again to hurry")
        for stage in sorted({child.program.stage for child in self._children}, reverse=True):
            self._stop_stage([child for child in self._children if child.program.stage == stage])
        self._tell_guard("done")
        if self._guard and self._guard.stdin:
            with suppress(OSError):
                self._guard.stdin.close()
            self._guard.wait()

    def _stop_stage(self, children: list[_Child]) -> None:
        started = time.monotonic()
        for child in children:
            if child.process is not None:
                child.process.terminate()
        while running := [child for child in children if child.process is not None]:
            for child in running:
                process = child.process
                if process is None or process.poll() is not None:
                    self._collect(child)
                    continue
                grace = min(child.program.grace, _HURRIED_SECONDS) if self._hurried() else child.program.grace
                if time.monotonic() - started > grace:
                    self.say(f"{child.program.name} had {grace:g} s to stop; killing it")
                    self._kill_group(process.pid)
                    process.wait()
                    self._collect(child)
            if any(child.process is not None for child in children):
                self._pause(_LOOK_SECONDS / 4)

    def _hurried(self) -> bool:
        """Whether somebody asked again after the stop began."""
        return bool(self._asked_at) and self._asked_at[-1] > self._stopping_at + _ONE_REQUEST_SECONDS

    def _collect(self, child: _Child) -> str:
        """Forget an ended process and end what it left behind; returns how it ended, in words."""
        process = child.process
        assert process is not None  # noqa: S101  callers looked
        self._kill_group(process.pid)
        if child.reader:
            child.reader.join(_LAST_LINES_SECONDS)
        self._tell_guard(f"gone {process.pid}")
        child.process, child.ready = None, False
        return _ending(process.returncode)

    @staticmethod
    def _kill_group(pid: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    # --- the guard

    def _tell_guard(self, line: str) -> None:
        self._keep_guard()
        if self._guard and self._guard.stdin:
            with suppress(OSError):  # a guard that died is replaced, and told everything, at the next look
                self._guard.stdin.write(line + "\n")
                self._guard.stdin.flush()

    def _keep_guard(self) -> None:
        if self._guard and self._guard.poll() is None:
            return
        command = [sys.executable, "-I", "-S", str(Path(guard.__file__))]
        self._guard = None
        with suppress(OSError):  # out of processes, say: tried again at the next look
            self._guard = subprocess.Popen(  # noqa: S603  our own script
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
                env={},  # it needs no setting, and so has no secret
            )  # fmt: skip
        if self._guard is None:
            return
        for child in self._children:
            if child.process is not None:
                self._tell_guard(f"add {child.process.pid} {child.program.stage} {child.program.grace}")

    # --- signals

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Count the signals that ask for an end, and let them and any child's end cut a pause short."""
        self._woken, writing = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(writing, False)

        def interrupt(*_: object) -> None:
            self._asked_at.append(time.monotonic())

        handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), interrupt)
        handlers[signal.SIGCHLD] = lambda *_: None
        former = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        former_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(former_fd)
            for number, handler in former.items():
                signal.signal(number, handler)
            os.close(self._woken)
            os.close(writing)

    def _pause(self, seconds: float) -> None:
        if select.select([self._woken], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                os.read(self._woken, 512)
