"""The supervisor and its guard, with programs that are small shell scripts."""

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

# a tick that ends with its shell, so that no program outlives a test for long
IDLE = "while :; do sleep 0.02; done"
DEAF = f"trap '' TERM; echo deaf from now on; {IDLE}"


class House:
    """A supervisor in a directory, and what its programs wrote there."""

    def __init__(self, directory: Path, start: Callable[..., Process]) -> None:
        self.directory = directory
        self._start = start

    def start(
        self, *programs: dict[str, Any], python: str = sys.executable, logs: str = "", **pace: float
    ) -> Process:
        pace = {"start": 20, "first_delay": 0.05, "longest_delay": 0.2, "taken_ready": 0, **pace}
        files = {"logs": logs} if logs else {}
        told = json.dumps({"programs": programs, "pace": pace, "python": python, **files})
        script = str(Path(__file__).with_name("supervised.py"))
        return self._start([sys.executable, script, told], directory=self.directory)

    def touch(self, name: str) -> None:
        (self.directory / name).touch()

    def lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    def pid(self, name: str) -> int:
        """The process id that a program writes into a file."""
        return int(wait_for(f"{name} is written", lambda: self.lines(name))[0])

    def happens(self, event: str) -> None:
        wait_for(event, lambda: event in self.lines("events"))


@pytest.fixture
def house(tmp_path: Path, start: Callable[..., Process]) -> House:
    return House(tmp_path, start)


def sh(name: str, script: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "command": ["sh", "-c", script], **fields}


def told(name: str, body: str = IDLE) -> str:
    """A script that notes when it starts and when it is asked to end."""
    return f"trap 'echo {name} stops >> events; exit 0' TERM; echo {name} starts >> events; {body}"


def test_stages_start_in_order_and_stop_in_reverse(house: House) -> None:
    supervisor = house.start(
        sh("web", told("web"), stage=2),
        sh("redis", told("redis"), stage=0, ready="redis-answers"),
        sh("github", told("github"), stage=1, ready="github-answers"),
    )
    for name in ("redis", "github"):
        house.happens(f"{name} starts")
        with (house.directory / "events").open("a") as events:
            events.write(f"{name} answers\n")
        house.touch(f"{name}-answers")
    house.happens("web starts")
    supervisor.says("all are ready")
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert house.lines("events") == [
        *("redis starts", "redis answers", "github starts", "github answers", "web starts"),
        *("web stops", "github stops", "redis stops"),
    ]


def test_lines_bear_the_name_of_who_wrote_them(house: House) -> None:
    supervisor = house.start(
        sh("a", f"echo out; echo err >&2; printf 'no\\377text\\n'; printf 'no end'; exec 1>&- 2>&-; {IDLE}"),
        sh("redis-long-name", IDLE),
    )
    supervisor.says("no end")
    supervisor.says("all are ready")
    supervisor.send(signal.SIGINT)
    assert supervisor.ends() == 0
    written = [line for line in supervisor.output.splitlines() if line.startswith("a ")]
    assert written == [f"a               | {line}" for line in ("out", "err", "no�text", "no end")]
    assert supervisor.output.splitlines()[-1] == "deployer        | stopping; ask again to hurry"


ONCE_READY = "while [ ! -e go ]; do sleep 0.02; done; date +%s.%N >> starts; exit 3"


def test_what_ends_is_started_again_with_growing_delay(house: House) -> None:
    supervisor = house.start(sh("a", ONCE_READY))
    supervisor.says("all are ready")
    house.touch("go")
    wait_for("five starts", lambda: len(house.lines("starts")) >= 5)
    delays = [
        float(each) for each in re.findall(r"status 3; starting it again in (\S+) s", supervisor.output)
    ]
    assert delays[:4] == [0.05, 0.1, 0.2, 0.2]
    times = [float(each) for each in house.lines("starts")]
    waited = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(was >= said for was, said in zip(waited, delays, strict=False))


def test_one_that_ran_long_is_started_again_at_the_first_delay(house: House) -> None:
    supervisor = house.start(sh("a", ONCE_READY), settled=0)
    supervisor.says("all are ready")
    house.touch("go")
    wait_for("four starts", lambda: len(house.lines("starts")) >= 4)
    assert set(re.findall(r"again in (\S+) s", supervisor.output)) == {"0.05"}


@pytest.mark.parametrize(
    ("number", "name"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGRTMIN + 3, f"signal {signal.SIGRTMIN + 3}")]
)
def test_killed_ones_are_named_with_their_signal(house: House, number: int, name: str) -> None:
    supervisor = house.start(sh("a", f"echo $$ > pid; {IDLE}"))
    supervisor.says("all are ready")
    os.kill(house.pid("pid"), number)
    supervisor.says(f"a was killed by {name}; starting it again in 0.05 s")
    supervisor.says("a is back")


@pytest.mark.parametrize(
    ("fields", "where"), [({}, "its lines above say why"), ({"log": "a.log"}, "a.log says why")]
)
def test_one_that_ends_before_it_was_ever_ready(house: House, fields: dict[str, str], where: str) -> None:
    supervisor = house.start(
        sh("redis", f"echo $$ > pid; {IDLE}"), sh("a", "exit 7", stage=1, ready="never", **fields)
    )
    assert supervisor.ends() == 1
    assert supervisor.output.splitlines()[-1] == (
        f"deployer | a ended with status 7 3 times before it was ready; {where}"
    )
    assert "stopping" not in supervisor.output
    gone([house.pid("pid")])


def test_one_that_never_becomes_ready(house: House) -> None:
    supervisor = house.start(
        sh("a", f"echo $$ > pid; {IDLE}", ready="never"), sh("b", IDLE, ready="never"), start=0.3
    )
    assert supervisor.ends() == 1
    assert supervisor.output == "deployer | a, b not ready after 0.3 s; stopping\n"
    gone([house.pid("pid")])


@pytest.mark.parametrize(
    ("command", "reason"),
    [("./not-there", "No such file or directory"), ("./not-executable", "Permission denied")],
)
def test_one_that_cannot_be_executed(house: House, command: str, reason: str) -> None:
    (house.directory / "not-executable").write_text("#!/bin/sh\n")
    supervisor = house.start(sh("redis", f"echo $$ > pid; {IDLE}"), {"name": "a", "command": [command]})
    assert supervisor.ends() == 1
    assert supervisor.output == f"deployer | starting a: {command}: {reason}\n"
    assert not any(alive(int(pid)) for pid in house.lines("pid"))


def test_one_that_can_no_longer_be_executed_is_tried_again(house: House) -> None:
    program = house.directory / "program"
    program.write_text(f"#!/bin/sh\necho $$ > pid\n{IDLE}\n")
    program.chmod(0o700)
    supervisor = house.start({"name": "a", "command": ["./program"]})
    supervisor.says("all are ready")
    program.rename(house.directory / "away")
    os.kill(house.pid("pid"), signal.SIGKILL)
    supervisor.says("starting a: ./program: No such file or directory")
    (house.directory / "away").rename(program)
    supervisor.says("a is back")


def test_one_that_does_not_end_is_killed_after_its_grace(house: House) -> None:
    supervisor = house.start(
        sh("deaf", f"echo $$ > pid; {DEAF}", grace=0.3, stage=1), sh("redis", told("redis"))
    )
    supervisor.says("deaf from now on")
    supervisor.says("all are ready")
    pid = house.pid("pid")
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert "deployer | deaf had 0.3 s to stop; killing it\n" in supervisor.output
    assert not alive(pid)
    assert house.lines("events") == ["redis starts", "redis stops"]


LEAVES_A_CHILD = f"sh -c \"trap '' TERM; echo \\$\\$ > child; {IDLE}\" & "


def test_what_a_program_started_ends_with_it(house: House) -> None:
    supervisor = house.start(sh("a", LEAVES_A_CHILD + told("a")))
    supervisor.says("all are ready")
    child = house.pid("child")
    assert alive(child)
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert house.lines("events")[-1] == "a stops"
    gone([child])


def test_what_a_crashed_program_started_is_ended_before_it_starts_again(house: House) -> None:
    supervisor = house.start(sh("a", f"echo $$ > pid; {LEAVES_A_CHILD}{IDLE}"))
    supervisor.says("all are ready")
    child = house.pid("child")
    os.kill(house.pid("pid"), signal.SIGKILL)
    supervisor.says("a is back")
    gone([child])


def test_a_second_signal_hurries(house: House) -> None:
    supervisor = house.start(sh("deaf", DEAF, grace=600))
    supervisor.says("deaf from now on")
    supervisor.says("all are ready")
    supervisor.send(signal.SIGINT)
    supervisor.says("stopping; ask again to hurry")

    def asked_again() -> bool:
        supervisor.send(signal.SIGINT)
        return supervisor.popen.poll() is not None

    wait_for("the end", asked_again)
    assert supervisor.popen.returncode == 0
    assert "deaf had 1 s to stop; killing it" in supervisor.output


def test_one_ctrl_c_that_comes_twice_does_not_hurry(house: House) -> None:
    """From the terminal and from make."""
    slow = "trap 'sleep 1.4; echo a stops >> events; exit 0' TERM; echo listens; "
    supervisor = house.start(sh("a", slow + IDLE, grace=60))
    supervisor.says("listens")
    supervisor.says("all are ready")
    supervisor.send(signal.SIGINT)
    supervisor.says("stopping")
    supervisor.send(signal.SIGINT)
    assert supervisor.ends() == 0
    assert house.lines("events") == ["a stops"]


def test_a_signal_while_it_starts(house: House) -> None:
    supervisor = house.start(sh("a", told("a"), ready="never"), sh("b", told("b"), stage=1))
    house.happens("a starts")
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert house.lines("events") == ["a starts", "a stops"]
    assert "all are ready" not in supervisor.output


def guards(supervisor: Process) -> list[int]:
    return [pid for pid in descendants(supervisor.pid) if "guard.py" in command_of(pid)]


@pytest.mark.parametrize("its_first_guard_died", [False, True])
def test_the_guard_ends_everything_after_kill_9(house: House, its_first_guard_died: bool) -> None:
    supervisor = house.start(
        sh("redis", told("redis")),
        sh("a", f"echo $$ > pid; {LEAVES_A_CHILD}{told('a')}", stage=1),
        sh("deaf", f"echo $$ > deaf; {DEAF}", stage=2, grace=0.2),
    )
    supervisor.says("all are ready")
    [guard] = wait_for("a guard", lambda: guards(supervisor))
    if its_first_guard_died:
        os.kill(guard, signal.SIGKILL)
        [guard] = wait_for("another guard", lambda: [pid for pid in guards(supervisor) if pid != guard])
        os.kill(house.pid("deaf"), signal.SIGKILL)
        supervisor.says("deaf is back")  # and so the guard has been told everything
    pids = [house.pid(name) for name in ("pid", "child", "deaf")]
    supervisor.send(signal.SIGKILL)
    gone([*pids, guard])
    assert house.lines("events")[-2:] == ["a stops", "redis stops"]


def test_the_guard_ends_with_its_supervisor_and_leaves_signals_to_it(house: House) -> None:
    supervisor = house.start(sh("a", told("a")))
    supervisor.says("all are ready")
    [guard] = wait_for("a guard", lambda: guards(supervisor))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guard, number)
    supervisor.send(signal.SIGHUP)
    assert supervisor.ends() == 0
    gone([guard])
    assert house.lines("events") == ["a starts", "a stops"]


@pytest.mark.parametrize("python", ["/nowhere/python", "/bin/false"])
def test_without_a_guard_it_still_stops_what_it_started(house: House, python: str) -> None:
    """A machine that is out of processes may refuse the guard and nothing else."""
    supervisor = house.start(sh("a", told("a")), sh("b", f"echo $$ > pid; {IDLE}", stage=1), python=python)
    supervisor.says("all are ready")
    os.kill(house.pid("pid"), signal.SIGKILL)
    supervisor.says("b is back")
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    assert house.lines("events") == ["a starts", "a stops"]


NEWS = "2026-11-29 22:26:30,123 INFO    a deployer.progress: acme/hello x: running"
WARNING = "2026-11-29 22:26:30,123 WARNING a deployer.tasks: Redis is away"


def test_with_files_people_see_news_after_what_is_said_at_the_start(house: House) -> None:
    script = f"echo noise; echo '{NEWS}'; echo '{WARNING}'; touch written; {IDLE}"
    supervisor = house.start(sh("a", script, ready="may-go"), logs="logs")
    supervisor.says("22:26:30  a: warning: Redis is away\n")
    house.touch("may-go")
    supervisor.says("acme/hello x: running\n")
    supervisor.send(signal.SIGTERM)
    assert supervisor.ends() == 0
    _, ready, news, *_ = supervisor.output.splitlines()
    assert ready.endswith("  deployer: all are ready")
    assert news == "22:26:30  acme/hello x: running"
    assert house.lines("logs/a.log") == ["noise", NEWS, WARNING]


def test_with_files_a_program_that_does_not_come_up_shows_its_last_lines(house: House) -> None:
    supervisor = house.start(sh("a", "echo the reason; exit 3", ready="never"), logs="logs")
    assert supervisor.ends() == 1
    *_, reason, end = supervisor.output.splitlines()
    assert reason.endswith("  a: the reason")
    assert end.endswith("  deployer: a ended with status 3 3 times before it was ready; logs/a.log says why")
