"""The programs that a supervisor runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Program:
    """A program that the supervisor keeps running.

    Args:
        name: the name under which its output and messages about it are printed.
        command: the command line to execute.
        stage: a program starts when all programs of lower stages are ready, and stops before them.
        grace: seconds from SIGTERM to SIGKILL when the program is stopped.
        ready: returns whether the program is ready. The supervisor calls it repeatedly after each start, so it must
            return within a second. A program without it counts as ready after `Timing.assumed_ready` seconds.
        env: the program's environment variables; None for those of the supervisor.
        keep_open: file descriptors that the program inherits.
        log: the file to which the program writes its log, if it does not print it.
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
class Timing:
    """The time limits of a supervisor, in seconds.

    Attributes:
        start: a stage must be ready within this time.
        first_delay, longest_delay: before a program is restarted; the delay doubles with each restart.
        assumed_ready: a program without a `ready` function counts as ready after this time.
        stable: a program that ran this long is restarted after `first_delay` again.
        early_exits: how often a program may end before it was ever ready (a count).
    """

    start: float = 60.0
    first_delay: float = 0.5
    longest_delay: float = 30.0
    assumed_ready: float = 2.0
    stable: float = 30.0
    early_exits: int = 3


class StartError(Exception):
    """A program could not be started; the text is one line."""
