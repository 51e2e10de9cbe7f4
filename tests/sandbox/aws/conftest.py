"""A simulator in threads, a git repository for it to build, and a receiver of its events."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from aws_harness import Aws, Receiver, Repository

from sandbox.aws import server


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    """Where the events go."""
    running = Receiver()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of all repositories."""
    return tmp_path_factory.mktemp("repositories")


@pytest.fixture(scope="session")
def running(receiver: Receiver, repositories: Path) -> Iterator[Aws]:
    """The simulator, at a speed that leaves its order of things to be seen."""
    started = server.create(github_url=f"file://{repositories}", events_url=receiver.url, speed=20).start()
    yield Aws(started)
    started.stop()


@pytest.fixture
def aws(running: Aws, receiver: Receiver) -> Aws:
    """The simulator with nothing in it."""
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
