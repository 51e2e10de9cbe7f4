"""Tests of the supervisor and its watchdog, with small shell scripts as programs."""

import itertools
import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ops_kit import Process, gone

from sandbox.installation import alive, command_of, descendants, wait_for

# each sleep ends soon after its shell was killed, so that no program outlives a test for long
IDLE = "while :; do sleep 0.02; done"
IGNORES_TERM = f"trap '' TERM; echo ignores SIGTERM now; {IDLE}"


class SupervisorInDirectory:
    """Starts a supervisor in a directory and reads what its programs wrote there."""

    def __init__(self, directory: Path, start: Callable[..., Process]) -> None:
        self.directory = directory
        self._start = start

    def start(
        self, *programs: dict[str, Any], python: str = sys.executable, logs: str = "", **timing: float
    ) -> Process:
        timing = {"start": 20, "first_delay": 0.05, "longest_delay": 0.2, "assumed_ready": 0, **timing}
        files = {"logs": logs} if logs else {}
        settings = json.dumps({"programs": programs, "timing": timing, "python": python, **files})
        script = str(Path(__file__).with_name("supervised.py"))
        return self._start([sys.executable, script, settings], directory=self.directory)

    def touch(self, name: str) -> None:
        (self.directory / name).touch()

    def lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    def pid(self, name: str) -> int:
        """Wait for the process id that a program writes into a file."""
        return int(wait_for(f"{name} is written", lambda: self.lines(name))[0])

    def wait_for_event(self, event: str) -> None:
        wait_for(event, lambda: event in self.lines("events"))


@pytest.fixture
def place(tmp_path: Path, start: Callable[..., Process]) -> SupervisorInDirectory:
    return SupervisorInDirectory(tmp_path, start)


def shell_program(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "command": ["sh", "-c", script], **fields}


def logging_script(name: str, body: str = IDLE) -> str:
    """A script that writes to the file `events` when it starts and when it gets SIGTERM."""
    return f"trap 'echo {name} stops >> events; exit 0' TERM; echo {name} starts >> events; {body}"


def test_stages_start_in_order_and_stop_in_reverse(place: SupervisorInDirectory) -> None:
    supervisor = place.start(
        shell_program("web", logging_script("web"), stage=2),
        shell_program("redis", logging_script("redis"), stage=0, ready="redis-answers"),
        shell_program("github", logging_script("github"), stage=1, ready="github-answers"),
    )
    for name in ("redis", "github"):
        place.wait_for_event(f"{name} starts")
        with (place.directory / "events").open("a") as events:
            events.write(f"{name} answers\n")
        place.touch(f"{name}-answers")
    place.wait_for_event("web starts")
    supervisor.says("all are ready")
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert place.lines("events") == [
        *("redis starts", "redis answers", "github starts", "github answers", "web starts"),
        *("web stops", "github stops", "redis stops"),
    ]


def test_each_line_has_the_name_of_its_program(place: SupervisorInDirectory) -> None:
    supervisor = place.start(
        shell_program(
            "a", f"echo out; echo err >&2; printf 'no\\377text\\n'; printf 'no end'; exec 1>&- 2>&-; {IDLE}"
        ),
        shell_program("redis-long-name", IDLE),
    )
    supervisor.says("no end")
    supervisor.says("all are ready")
    supervisor.send(signal.SIGINT)
    assert supervisor.ends() == 0
    written = [line for line in supervisor.output.splitlines() if line.startswith("a ")]
    assert written == [f"a               | {line}" for line in ("out", "err", "no�text", "no end")]
    assert (
        supervisor.output.splitlines()[-1] == "deployer        | stopping; press Ctrl-C again to stop at once"
    )


ONCE_READY = "while [ ! -e go ]; do sleep 0.02; done; date +%s.%N >> starts; exit 3"


def test_a_program_that_ended_is_restarted_with_growing_delay(place: SupervisorInDirectory) -> None:
    supervisor = place.start(shell_program("a", ONCE_READY))
    supervisor.says("all are ready")
    place.touch("go")
    wait_for("five starts", lambda: len(place.lines("starts")) >= 5)
    delays = [float(each) for each in re.findall(r"status 3; restarting it in (\S+) s", supervisor.output)]
    assert delays[:4] == [0.05, 0.1, 0.2, 0.2]
    times = [float(each) for each in place.lines("starts")]
    waited = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(was >= said for was, said in zip(waited, delays, strict=False))


def test_a_program_that_ran_long_is_restarted_after_the_first_delay(place: SupervisorInDirectory) -> None:
    supervisor = place.start(shell_program("a", ONCE_READY), stable=0)
    supervisor.says("all are ready")
    place.touch("go")
    wait_for("four starts", lambda: len(place.lines("starts")) >= 4)
    assert set(re.findall(r"restarting it in (\S+) s", supervisor.output)) == {"0.05"}


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 3, f"signal {signal.SIGRTMIN + 3}")]
)
def test_a_killed_program_is_reported_with_the_signal(
    place: SupervisorInDirectory, number: int, name: str
) -> None:
    supervisor = place.start(shell_program("a", f"echo $$ > pid; {IDLE}"))
    supervisor.says("all are ready")
    os.kill(place.pid("pid"), number)
    supervisor.says(f"a was killed by {name}; restarting it in 0.05 s")
    supervisor.says("a is back")


@pytest.mark.parametrize(("fields", "where"), [({}, "see its output above"), ({"log": "a.log"}, "see a.log")])
def test_a_program_that_ends_before_it_was_ever_ready(
    place: SupervisorInDirectory, fields: dict[str, str], where: str
) -> None:
    supervisor = place.start(
        shell_program("redis", f"echo $$ > pid; {IDLE}"),
        shell_program("a", "exit 7", stage=1, ready="never", **fields),
    )
    assert supervisor.ends() == 1
    assert supervisor.output.splitlines()[-1] == (
        f"deployer | a ended with status 7 3 times before it was ready; {where}"
    )
    assert "stopping" not in supervisor.output
    gone([place.pid("pid")])


def test_a_program_that_never_becomes_ready(place: SupervisorInDirectory) -> None:
    supervisor = place.start(
        shell_program("a", f"echo $$ > pid; {IDLE}", ready="never"),
        shell_program("b", IDLE, ready="never"),
        start=0.3,
    )
    assert supervisor.ends() == 1
    assert supervisor.output == "deployer | a, b not ready after 0.3 s; stopping\n"
    gone([place.pid("pid")])


@pytest.mark.parametrize(
    ("command", "reason"),
    [("./not-there", "No such file or directory"), ("./not-executable", "Permission denied")],
)
def test_a_program_that_cannot_be_executed(place: SupervisorInDirectory, command: str, reason: str) -> None:
    (place.directory / "not-executable").write_text("#!/bin/sh\n")
    supervisor = place.start(
        shell_program("redis", f"echo $$ > pid; {IDLE}"), {"name": "a", "command": [command]}
    )
    assert supervisor.ends() == 1
    assert supervisor.output == f"deployer | starting a: {command}: {reason}\n"
    assert not any(alive(int(pid)) for pid in place.lines("pid"))


def test_a_program_that_can_no_longer_be_executed_is_tried_again(place: SupervisorInDirectory) -> None:
    program = place.directory / "program"
    program.write_text(f"#!/bin/sh\necho $$ > pid\n{IDLE}\n")
    program.chmod(0o700)
    supervisor = place.start({"name": "a", "command": ["./program"]})
    supervisor.says("all are ready")
    program.rename(place.directory / "away")
    os.kill(place.pid("pid"), signal.SIGKILL)
    supervisor.says("starting a: ./program: No such file or directory")
    (place.directory / "away").rename(program)
    supervisor.says("a is back")


def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(place: SupervisorInDirectory) -> None:
    supervisor = place.start(
        shell_program("deaf", f"echo $$ > pid; {IGNORES_TERM}", grace=0.3, stage=1),
        shell_program("redis", logging_script("redis")),
    )
    supervisor.says("ignores SIGTERM now")
    supervisor.says("all are ready")
    pid = place.pid("pid")
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert "deployer | deaf did not stop within 0.3 s; killing it\n" in supervisor.output
    assert not alive(pid)
    assert place.lines("events") == ["redis starts", "redis stops"]


LEAVES_A_CHILD = f"sh -c \"trap '' TERM; echo \\$\\$ > child; {IDLE}\" & "


def test_the_children_of_a_program_end_with_it(place: SupervisorInDirectory) -> None:
    supervisor = place.start(shell_program("a", LEAVES_A_CHILD + logging_script("a")))
    supervisor.says("all are ready")
    child = place.pid("child")
    assert alive(child)
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert place.lines("events")[-1] == "a stops"
    gone([child])


def test_the_children_of_a_crashed_program_end_before_it_is_restarted(place: SupervisorInDirectory) -> None:
    supervisor = place.start(shell_program("a", f"echo $$ > pid; {LEAVES_A_CHILD}{IDLE}"))
    supervisor.says("all are ready")
    child = place.pid("child")
    os.kill(place.pid("pid"), signal.SIGKILL)
    supervisor.says("a is back")
    gone([child])


def test_a_second_signal_shortens_the_grace(place: SupervisorInDirectory) -> None:
    supervisor = place.start(shell_program("deaf", IGNORES_TERM, grace=600))
    supervisor.says("ignores SIGTERM now")
    supervisor.says("all are ready")
    supervisor.send(signal.SIGINT)
    supervisor.says("stopping; press Ctrl-C again to stop at once")

    def asked_again() -> bool:
        supervisor.send(signal.SIGINT)
        return supervisor.popen.poll() is not None

    wait_for("the end", asked_again)
    assert supervisor.popen.returncode == 0
    assert "deaf did not stop within 1 s; killing it" in supervisor.output


def test_one_ctrl_c_that_arrives_twice_does_not_shorten_the_grace(place: SupervisorInDirectory) -> None:
    """It arrives from the terminal and from make."""
    slow = "trap 'sleep 1.4; echo a stops >> events; exit 0' TERM; echo listens; "
    supervisor = place.start(shell_program("a", slow + IDLE, grace=60))
    supervisor.says("listens")
    supervisor.says("all are ready")
    supervisor.send(signal.SIGINT)
    supervisor.says("stopping")
    supervisor.send(signal.SIGINT)
    assert supervisor.ends() == 0
    assert place.lines("events") == ["a stops"]


def test_a_signal_while_programs_start(place: SupervisorInDirectory) -> None:
    supervisor = place.start(
        shell_program("a", logging_script("a"), ready="never"),
        shell_program("b", logging_script("b"), stage=1),
    )
    place.wait_for_event("a starts")
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert place.lines("events") == ["a starts", "a stops"]
    assert "all are ready" not in supervisor.output


def watchdogs(supervisor: Process) -> list[int]:
    return [pid for pid in descendants(supervisor.pid) if "supervisor_watchdog.py" in command_of(pid)]


@pytest.mark.parametrize("first_watchdog_killed", [False, True])
def test_the_watchdog_ends_everything_after_kill_9(
    place: SupervisorInDirectory, first_watchdog_killed: bool
) -> None:
    supervisor = place.start(
        shell_program("redis", logging_script("redis")),
        shell_program("a", f"echo $$ > pid; {LEAVES_A_CHILD}{logging_script('a')}", stage=1),
        shell_program("deaf", f"echo $$ > deaf; {IGNORES_TERM}", stage=2, grace=0.2),
    )
    supervisor.says("all are ready")
    [watchdog] = wait_for("a watchdog", lambda: watchdogs(supervisor))
    if first_watchdog_killed:
        os.kill(watchdog, signal.SIGKILL)
        [watchdog] = wait_for(
            "another watchdog", lambda: [pid for pid in watchdogs(supervisor) if pid != watchdog]
        )
        os.kill(place.pid("deaf"), signal.SIGKILL)
        supervisor.says("deaf is back")  # so the new watchdog knows all processes
    pids = [place.pid(name) for name in ("pid", "child", "deaf")]
    supervisor.send(signal.SIGKILL)
    gone([*pids, watchdog])
    assert place.lines("events")[-2:] == ["a stops", "redis stops"]


def test_the_watchdog_ignores_signals_and_ends_with_its_supervisor(place: SupervisorInDirectory) -> None:
    supervisor = place.start(shell_program("a", logging_script("a")))
    supervisor.says("all are ready")
    [watchdog] = wait_for("a watchdog", lambda: watchdogs(supervisor))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(watchdog, number)
    supervisor.send(signal.SIGHUP)
    assert supervisor.ends() == 0
    gone([watchdog])
    assert place.lines("events") == ["a starts", "a stops"]


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_without_a_watchdog_the_supervisor_still_stops_its_programs(
    place: SupervisorInDirectory, python: str
) -> None:
    """A machine that has reached its limit of processes may refuse only the watchdog."""
    supervisor = place.start(
        shell_program("a", logging_script("a")),
        shell_program("b", f"echo $$ > pid; {IDLE}", stage=1),
        python=python,
    )
    supervisor.says("all are ready")
    os.kill(place.pid("pid"), signal.SIGKILL)
    supervisor.says("b is back")
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert place.lines("events") == ["a starts", "a stops"]


NEWS = "2026-11-29 22:26:30,123 INFO    a deployer.progress: acme/hello x: running"
WARNING = "2026-11-29 22:26:30,123 WARNING a deployer.tasks: Redis is away"


def test_with_log_files_people_see_progress_after_the_start_message(place: SupervisorInDirectory) -> None:
    script = f"echo noise; echo '{NEWS}'; echo '{WARNING}'; touch written; {IDLE}"
    supervisor = place.start(shell_program("a", script, ready="may-go"), logs="logs")
    supervisor.says("22:26:30  a: warning: Redis is away\n")
    place.touch("may-go")
    supervisor.says("acme/hello x: running\n")
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    _, ready, news, *_ = supervisor.output.splitlines()
    assert ready.endswith("  deployer: all are ready")
    assert news == "22:26:30  acme/hello x: running"
    assert place.lines("logs/a.log") == ["noise", NEWS, WARNING]


def test_with_log_files_the_last_lines_of_a_program_that_does_not_start_are_shown(
    place: SupervisorInDirectory,
) -> None:
    supervisor = place.start(shell_program("a", "echo the reason; exit 3", ready="never"), logs="logs")
    assert supervisor.ends() == 1
    *_, reason, end = supervisor.output.splitlines()
    assert reason.endswith("  a: the reason")
    assert end.endswith("  deployer: a ended with status 3 3 times before it was ready; see logs/a.log")
