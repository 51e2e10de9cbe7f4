"""Fixtures: a simulated AWS in threads, a git repository, a receiver of events."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_harness import Aws, Receiver, Repository

from sandbox.aws import server


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """The receiver of the events."""
    running = Receiver()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of all repositories."""
    return tmp_path_factory.mktemp("repositories")


@pytest.fixture(scope="session")
def running(receiver: Receiver, repositories: Path) -> Iterator[Aws]:
    """The simulator, at a speed at which the order of events is still visible."""
    started = server.create(github_url=f"file://{repositories}", events_url=receiver.url, speed=20).start()
    yield Aws(started)
    started.stop()


@pytest.fixture
def aws(running: Aws, receiver: Receiver) -> Aws:
    """The simulator without resources or faults."""
    running.request("POST", "/_sandbox/reset")
    receiver.events.clear()
    receiver.refuse = 0
    return running


@pytest.fixture
def repository(repositories: Path) -> Repository:
    """A repository with a first commit on main."""
    shutil.rmtree(repositories, ignore_errors=True)
    repositories.mkdir()
    return Repository(repositories)
