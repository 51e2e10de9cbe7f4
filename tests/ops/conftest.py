import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import boto3
import pytest
from click.testing import CliRunner
from ops_kit import Process, Refusal, environment

from deployer.cli import main, processes
from sandbox.aws import server as aws_server

Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a process that has ended, with all below it, when the test has."""
    with ExitStack() as running:

        def begin(
            command: Sequence[str], *settings: Mapping[str, str], directory: Path = tmp_path
        ) -> Process:
            directory.mkdir(parents=True, exist_ok=True)
            process = Process(command, directory, environment(*settings))
            running.callback(process.kill_all)
            return process

        yield begin


@pytest.fixture(scope="session")
def aws() -> Iterator[str]:
    """The address of a simulated AWS without any stack, which workers ask before they ask GitHub."""
    running = aws_server.create(github_url="http://127.0.0.1:1").start()
    yield running.url
    running.stop()


@pytest.fixture
def refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refusal:
    """What a command of `deployer` says when it ends before the process itself is started."""

    def run(command: str, settings: Mapping[str, str]) -> str:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(os, "environ", environment(settings))
        monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it would go on with the former variables
        monkeypatch.setattr(processes, "_replace_process", lambda _: pytest.fail("it started"))
        result = CliRunner().invoke(main, [command])
        assert (result.exit_code, result.stdout) == (1, "")
        return result.stderr

    return run
