"""Tests of the output of `make run`: a banner when everything works, then important lines; the rest is in files."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ops_kit import Process, answer, deployer

from deployer.local.program_logs import ProgramLog
from deployer.model.environments import Environment, Repository
from deployer.model.refs import Ref
from deployer.queue import progress_log as progress
from sandbox.installation import WorkingCopy, free_port, wait_for

Start = Callable[..., Process]
X = Environment.of_ref(Repository("acme", "hello"), Ref("refs/heads/x"), "main")


def test_a_clone_works_as_soon_as_the_web_is_ready_and_people_see_what_matters(
    start: Start, tmp_path: Path
) -> None:
    web, github = free_port(), free_port()
    settings = {
        "DEPLOYER_WEB_PORT": str(web),
        "DEPLOYER_SANDBOX_GITHUB_PORT": str(github),
        "DEPLOYER_SANDBOX_AWS_PORT": str(free_port()),
        "DEPLOYER_SANDBOX_SPEED": "20",
        "DEPLOYER_POLL_SECONDS": "0.5",
    }
    process = start(deployer("up", "--sandbox"), settings)
    ready = f"http://127.0.0.1:{web}/readyz"
    wait_for("the web is ready", lambda: (found := answer(ready)) is not None and found.status == 200, 60)
    # right away, before anything is printed
    copy = WorkingCopy(tmp_path / "hello", f"http://127.0.0.1:{github}/acme/hello.git")
    assert (copy.directory / "deploy" / "pipeline.yml").exists()

    copy.branch("my-branch")
    commit = copy.write("Try it", {})
    copy.push()
    process.says("acme/hello my-branch: DEPLOYED: ", 60)
    process.send(signal.SIGINT)
    assert process.ends(90) == 0  # a task under way may take DEPLOYER_DRAIN_SECONDS

    before, banner, after = process.output.partition("\n  deployer is ready\n")
    assert banner, process.output
    assert f"  Dashboard          http://127.0.0.1:{web}/\n" in after
    assert "  Logs               .sandbox/logs/*.log, emptied at each start\n" in after
    assert all("warning" in line for line in before.splitlines() if line)
    told = [line.partition("  ")[2] for line in after.partition("Ctrl-C\n")[2].splitlines() if line]
    mine = [line.partition(": ")[2] for line in told if line.startswith("acme/hello my-branch: ")]
    short = commit[:8]
    assert mine[0] == f"pushed {short}"
    assert [line for line in mine if line.startswith(("provisioning", "running"))] == [
        f"provisioning {short}",
        f"running {short}",
    ]
    assert mine[-1].startswith(
        f"DEPLOYED: {commit[:12]} went through every stage  http://127.0.0.1:{web}/env"
    )
    assert sum(line.startswith("acme/hello staging: pushed ") for line in told) == 1
    assert not any("ignored" in line or "deployer." in line for line in told), told

    logs = tmp_path / ".sandbox" / "logs"
    names = ("redis", "github", "aws", "web", "worker", "scheduler")
    assert {path.name for path in logs.iterdir()} == {f"{name}.log" for name in names}
    assert "deployer.sync" in (logs / "worker.log").read_text()
    assert "deployer.progress" in (logs / "web.log").read_text()


def test_without_a_terminal_the_logs_stay_on_stdout(start: Start, tmp_path: Path) -> None:
    process = start(deployer("up", "--sandbox", "--log-to", "stdout"), {"DEPLOYER_WEB_PORT": "0"})
    assert process.ends() == 1  # the port is wrong; nothing was started
    assert not (tmp_path / ".sandbox" / "logs").exists()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (
            "2026-11-29 22:26:30,123 INFO    worker deployer.progress: acme/hello x: running 1a2b",
            progress.ReadableLine("22:26:30  acme/hello x: running 1a2b", warning=False),
        ),
        (
            "2026-11-29 22:26:30,123 WARNING scheduler deployer.scheduler: Redis is empty",
            progress.ReadableLine("22:26:30  scheduler: warning: Redis is empty", warning=True),
        ),
        (
            "2026-11-29 22:26:30,123 ERROR   worker deployer.tasks: it is a dead letter: why",
            progress.ReadableLine("22:26:30  worker: error: it is a dead letter: why", warning=True),
        ),
        ("2026-11-29 22:26:30,123 INFO    web deployer.web: delivery d-1 ignored", None),
        (
            "2026-11-29 22:26:30,123 INFO    web deployer.progress: acme/hello \x9b2J\u202ex: pushed 1a2b",
            progress.ReadableLine("22:26:30  acme/hello \\u009b2J\\u202ex: pushed 1a2b", warning=False),
        ),
        ("Traceback (most recent call last):", None),
        ("", None),
    ],
)
def test_what_people_see_of_a_log_line(line: str, shown: progress.ReadableLine | None) -> None:
    assert progress.readable_line(line) == shown


def test_every_line_of_progress_is_recognised() -> None:
    """The form of the lines and what reads them are two places: they must agree."""
    code = (
        "import logging; from deployer.queue import progress_log as progress;"
        "from deployer.queue.progress_log import setup_logging;"
        "setup_logging('INFO', 'web');"
        "progress.log_outcome('acme/hello x', 'failed', 'w' * 300, 'http://dash/environments/x');"
        "progress.log_retry('acme/hello x', 'GitHub answers 502', 15.2)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = [progress.readable_line(line) for line in done.stderr.splitlines()]
    assert first is not None
    assert second is not None
    assert first.text.endswith(f"acme/hello x: FAILED: {'w' * 200}…  http://dash/environments/x")
    assert second.text.endswith("acme/hello x: GitHub answers 502; tries again in 15 s")


@pytest.mark.parametrize(
    ("ref", "after", "text"),
    [
        ("x", "a" * 40, "pushed aaaaaaaa"),
        ("main", "a" * 40, "pushed aaaaaaaa to main"),
        ("x", "", "x deleted on GitHub"),
    ],
)
def test_a_push_names_its_ref_where_the_environment_does_not(
    caplog: pytest.LogCaptureFixture, ref: str, after: str, text: str
) -> None:
    caplog.set_level("INFO", progress.NAME)
    progress.log_push(X, ref, after)
    assert caplog.messages == [f"acme/hello x: {text}"]


def test_a_log_file_is_emptied_at_start_and_limited(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "web.log"
    for _ in range(2):
        log = ProgramLog(path, limit=1000)
        log.start_empty()
        for number in range(100):
            log.write(f"line {number:5}\n".encode() * 2)
        log.close()
    kept = (path.parent / "web.log.1").read_text() + path.read_text()
    assert path.stat().st_size <= 1000
    assert len(kept) <= 2000
    assert kept.splitlines()[-1] == "line    99"
    assert log.last_lines(1) == ["line    99"]
    assert path.stat().st_mode & 0o077 == 0


def test_a_disk_that_is_full_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "logs").touch()  # no directory can be made there
    log = ProgramLog(tmp_path / "logs" / "web.log")
    log.start_empty()
    log.write(b"lost\n")
    assert log.last_lines(3) == []
