"""Runs several programs on one machine.

It starts them in the order of their stages, restarts those that end, and stops them in reverse order.
Each program runs in its own process group. So Ctrl-C reaches only the supervisor, and the supervisor can end every
process that a program started. If the supervisor itself is killed, a watchdog process ends the programs
(see `deployer.local.supervisor_watchdog`).
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TextIO

from deployer.local import supervisor_watchdog
from deployer.local.console import Console
from deployer.local.program_logs import ProgramLog
from deployer.local.programs import Program, StartError, Timing
from deployer.model.durations import backoff
from deployer.queue import progress_log as progress

_CHECK_SECONDS = 0.2  # between two checks of all programs
_READ_REST_SECONDS = 2.0  # for reading the last output of a program that has ended
_SHOWN_LINES = 8  # of the log of a program that does not start
_SHORT_GRACE_SECONDS = 1.0  # when people ask a second time
_SAME_REQUEST_SECONDS = 0.5  # one Ctrl-C can arrive twice: from the terminal and from make


class _Child:
    """A program and its current process."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self.reader: threading.Thread | None = None
        self.ready = self.ever_ready = False
        self.exits = 0
        self.started_at = self.start_at = 0.0


def _describe_exit(status: int) -> str:
    """Describe how a process ended. Most real-time signals have no name, so their number is given."""
    if status >= 0:
        return f"ended with status {status}"
    named = -status in set(signal.Signals)
    return f"was killed by {signal.Signals(-status).name if named else f'signal {-status}'}"


class Supervisor:
    """Keeps programs running until SIGINT, SIGTERM or SIGHUP arrives. It must run in the main thread.

    Args:
        programs: the programs to run.
        timing: the time limits.
        out: receives the output of the programs and the supervisor's own messages.
        logs: a directory for one log file per program. If it is given, people see only what `progress_log`
            selects from the output. Until all programs are ready they see only warnings, so that the text printed
            by `when_ready` comes after them.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        timing: Timing | None = None,
        out: TextIO | None = None,
        logs: Path | None = None,
    ) -> None:
        self._children = [_Child(program) for program in programs]
        self._timing = timing or Timing()
        self._logs = {program.name: ProgramLog(logs / f"{program.name}.log") for program in programs if logs}
        names = [program.name for program in programs]
        self.console = Console(out or sys.stdout, names, with_logs=bool(logs))
        self._stop_requests: list[float] = []  # times of the signals that ask to stop (time.monotonic())
        self._stop_began_at = float("inf")
        self._wakeup_fd = -1
        self._watchdog: subprocess.Popen[str] | None = None

    def run(self, when_ready: Callable[[], None] = lambda: None) -> int:
        """Start all programs, keep them running, and stop them when a signal asks for it.

        Args:
            when_ready: called once, after all programs have become ready.

        Returns:
            The exit status: 0 after a signal, 1 if a program could not be started.
        """
        for log in self._logs.values():
            log.start_empty()
        with self._handle_signals():
            try:
                for stage in sorted({child.program.stage for child in self._children}):
                    if not self._stop_requests:
                        self._start_stage(stage)
                if not self._stop_requests:
                    when_ready()
                    self.console.release_held_lines()
                while not self._stop_requests:
                    self._check_programs()
                    self._wait_for_signal(_CHECK_SECONDS)
            except StartError as error:
                self.console.print_line(str(error))
                return 1
            finally:
                self._stop_all()
                for log in self._logs.values():
                    log.close()
        return 0

    # --- starting and restarting

    def _start_stage(self, stage: int) -> None:
        children = [child for child in self._children if child.program.stage == stage]
        for child in children:
            self._start_process(child)
        deadline = time.monotonic() + self._timing.start
        while not self._stop_requests:
            self._check_programs()
            waiting = [child.program.name for child in children if not child.ready]
            if not waiting:
                return
            if time.monotonic() > deadline:
                raise StartError(f"{', '.join(waiting)} not ready after {self._timing.start:g} s; stopping")
            self._wait_for_signal(_CHECK_SECONDS / 4)

    def _start_process(self, child: _Child) -> None:
        program = child.program
        try:
            process = subprocess.Popen(  # noqa: S603  the caller chose these commands
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
            self.console.print_line(text)
            child.start_at = time.monotonic() + self._timing.longest_delay
            return
        child.process, child.ready, child.started_at = process, False, time.monotonic()
        self._send_to_watchdog(f"add {process.pid} {program.stage} {program.grace}")
        assert process.stdout is not None  # noqa: S101  for mypy: stdout is a pipe
        child.reader = threading.Thread(
            target=self._copy_output, args=(program.name, process.stdout), daemon=True
        )
        child.reader.start()

    def _copy_output(self, name: str, lines: IO[bytes]) -> None:
        with lines:
            for line in lines:
                text = line.decode(errors="replace").rstrip("\r\n")
                if log := self._logs.get(name):
                    log.write(line)
                    self.console.print_progress(progress.readable_line(text))
                else:
                    self.console.print_line(text, name)

    def _check_programs(self) -> None:
        """Detect programs that ended or became ready, and restart those whose delay is over."""
        self._ensure_watchdog()
        for child in self._children:
            if child.process is None:
                if child.start_at and time.monotonic() >= child.start_at:
                    self._start_process(child)
            elif child.process.poll() is not None:
                self._schedule_restart(child)
            elif not child.ready and self._is_ready(child):
                if child.ever_ready:
                    self.console.print_line(f"{child.program.name} is back")
                child.ready = child.ever_ready = True

    def _is_ready(self, child: _Child) -> bool:
        if child.program.ready:
            return child.program.ready()
        return time.monotonic() - child.started_at > self._timing.assumed_ready

    def _schedule_restart(self, child: _Child) -> None:
        name, timing = child.program.name, self._timing
        how = self._collect_exit(child)
        if time.monotonic() - child.started_at >= timing.stable:
            child.exits = 0
        child.exits += 1
        if not child.ever_ready and child.exits >= timing.early_exits:
            raise StartError(
                f"{name} {how} {child.exits} times before it was ready; {self._log_hint(child.program)}"
            )
        delay = backoff(timing.first_delay, 2, child.exits - 1, timing.longest_delay)
        child.start_at = time.monotonic() + delay
        self.console.print_line(f"{name} {how}; restarting it in {delay:g} s")

    def _log_hint(self, program: Program) -> str:
        """Say where people find the reason why a program ended, after printing the last lines of its log."""
        if program.log:
            return f"see {program.log}"
        if log := self._logs.get(program.name):
            for line in log.last_lines(_SHOWN_LINES):
                self.console.print_line(line, program.name)
            return f"see {log.path}"
        return "see its output above"

    # --- stopping

    def _stop_all(self) -> None:
        self._stop_began_at = time.monotonic()
        if self._stop_requests:
            self.console.print_line("stopping; press Ctrl-C again to stop at once")
        for stage in sorted({child.program.stage for child in self._children}, reverse=True):
            self._stop_stage([child for child in self._children if child.program.stage == stage])
        self._send_to_watchdog("done")
        if self._watchdog and self._watchdog.stdin:
            with suppress(OSError):
                self._watchdog.stdin.close()
            self._watchdog.wait()

    def _stop_stage(self, children: list[_Child]) -> None:
        started = time.monotonic()
        for child in children:
            if child.process is not None:
                child.process.terminate()
        while running := [child for child in children if child.process is not None]:
            for child in running:
                process = child.process
                if process is None or process.poll() is not None:
                    self._collect_exit(child)
                    continue
                grace = (
                    min(child.program.grace, _SHORT_GRACE_SECONDS)
                    if self._is_urgent()
                    else child.program.grace
                )
                if time.monotonic() - started > grace:
                    self.console.print_line(
                        f"{child.program.name} did not stop within {grace:g} s; killing it"
                    )
                    self._kill_group(process.pid)
                    process.wait()
                    self._collect_exit(child)
            if any(child.process is not None for child in children):
                self._wait_for_signal(_CHECK_SECONDS / 4)

    def _is_urgent(self) -> bool:
        """Whether people asked a second time after the stop began."""
        return (
            bool(self._stop_requests)
            and self._stop_requests[-1] > self._stop_began_at + _SAME_REQUEST_SECONDS
        )

    def _collect_exit(self, child: _Child) -> str:
        """Forget a process that has ended, kill the rest of its process group, and describe how it ended."""
        process = child.process
        assert process is not None  # noqa: S101  callers checked it
        self._kill_group(process.pid)
        if child.reader:
            child.reader.join(_READ_REST_SECONDS)
        self._send_to_watchdog(f"gone {process.pid}")
        child.process, child.ready = None, False
        return _describe_exit(process.returncode)

    @staticmethod
    def _kill_group(pid: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    # --- the watchdog

    def _send_to_watchdog(self, line: str) -> None:
        self._ensure_watchdog()
        if self._watchdog and self._watchdog.stdin:
            with suppress(
                OSError
            ):  # the next check replaces a watchdog that ended, and sends it all processes
                self._watchdog.stdin.write(line + "\n")
                self._watchdog.stdin.flush()

    def _ensure_watchdog(self) -> None:
        if self._watchdog and self._watchdog.poll() is None:
            return
        command = [sys.executable, "-I", "-S", str(Path(supervisor_watchdog.__file__))]
        self._watchdog = None
        with suppress(OSError):  # for example, no more processes are allowed; the next check tries again
            self._watchdog = subprocess.Popen(  # noqa: S603  the script is deployer's own
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
                env={},  # it needs no settings, so it gets no secrets
            )  # fmt: skip
        if self._watchdog is None:
            return
        for child in self._children:
            if child.process is not None:
                self._send_to_watchdog(f"add {child.process.pid} {child.program.stage} {child.program.grace}")

    # --- signals

    @contextmanager
    def _handle_signals(self) -> Iterator[None]:
        """Record the signals that ask to stop. They, and the end of a child, interrupt `_wait_for_signal`."""
        self._wakeup_fd, writing = os.pipe()
        os.set_blocking(self._wakeup_fd, False)
        os.set_blocking(writing, False)

        def record_request(*_: object) -> None:
            self._stop_requests.append(time.monotonic())

        handlers = dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), record_request)
        handlers[signal.SIGCHLD] = lambda *_: None
        previous = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        previous_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous_fd)
            for number, handler in previous.items():
                signal.signal(number, handler)
            os.close(self._wakeup_fd)
            os.close(writing)

    def _wait_for_signal(self, seconds: float) -> None:
        if select.select([self._wakeup_fd], [], [], seconds)[0]:
            with suppress(BlockingIOError):
                os.read(self._wakeup_fd, 512)
