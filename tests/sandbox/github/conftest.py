"""Fixtures: a simulated GitHub, a receiver for its webhooks, and a clone that pushes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from github import Auth, Github
from github.Repository import Repository
from github_kit import SECRET, Receiver, WorkingCopy

from sandbox.github.server import GitHubServer, create

Call = Callable[..., Any]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def server(tmp_path: Path, receiver: Receiver) -> Iterator[GitHubServer]:
    server = create(0, data_dir=tmp_path / "github", webhook_url=receiver.url, webhook_secret=SECRET)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def copy(server: GitHubServer, tmp_path: Path) -> WorkingCopy:
    """A working copy of the empty repository acme/app."""
    server.hub.create("acme/app")
    return WorkingCopy.start(f"{server.url}/acme/app.git", tmp_path / "app")


@pytest.fixture
def pushed(copy: WorkingCopy) -> WorkingCopy:
    """The working copy after a first push of main."""
    copy.commit("README.md", "hello\n", "first")
    copy("push", "--quiet", "origin", "main")
    return copy


@pytest.fixture
def client(server: GitHubServer) -> Iterator[Github]:
    client = Github(
        base_url=f"{server.url}/api/v3",
        auth=Auth.Token("sandbox"),
        retry=None,
        seconds_between_requests=0,
        seconds_between_writes=0,
    )
    yield client
    client.close()


@pytest.fixture
def repo(client: Github, pushed: WorkingCopy) -> Repository:
    assert pushed.path.is_dir()
    return client.get_repo("acme/app")


@pytest.fixture
def call(server: GitHubServer) -> Iterator[Call]:
    """A function that makes an HTTP call to the server and returns the answer; it does not follow redirects."""
    pool = urllib3.PoolManager(retries=False)

    def do(method: str, path: str, **more: Any) -> urllib3.BaseHTTPResponse:
        return pool.request(method, f"{server.url}{path}", redirect=False, timeout=20, **more)

    yield do
    pool.clear()
