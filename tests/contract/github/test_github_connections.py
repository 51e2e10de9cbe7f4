"""The number of connections to GitHub that a process opens, and the error if it cannot open one."""

import gc
import os
import resource
import socket
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployer.github.host import GitHubHost
from deployer.model.environments import Repository
from deployer.model.errors import TransientError
from tests.contract.github_server import Answer, KeepAliveServer

MOST = 4


@pytest.fixture
def server() -> Iterator[KeepAliveServer]:
    with KeepAliveServer() as made:
        yield made


def app(server: KeepAliveServer, app_key: str) -> GitHubHost:
    """A host that is a GitHub App with one installation per owner."""

    def answer(_method: str, path: str, headers: dict[str, str]) -> Answer:
        _, kind, owner, *rest = path.split("/")
        if rest[-1:] == ["installation"]:
            return 200, {}, {"id": int(owner.removeprefix("owner-")), "permissions": {}}
        if rest[-1:] == ["access_tokens"]:
            until = datetime.now(UTC) + timedelta(hours=1)
            return 201, {}, {"token": f"ghs_{rest[0]}", "expires_at": until.isoformat()}
        if headers["Authorization"] == f"token ghs_{owner.removeprefix('owner-')}" and kind == "repos":
            return 200, {}, {"default_branch": f"{owner}-{rest[0]}"}
        return 404, {}, {"message": "Not Found"}

    server.answer = answer
    return GitHubHost(app_id="1", private_key=app_key, api_url=server.url)


def test_hundreds_of_repositories_share_a_few_connections(server: KeepAliveServer, app_key: str) -> None:
    """Eight threads read three installations with a hundred repositories each."""
    host, wrong = app(server, app_key), list[str]()
    repositories = [Repository(f"owner-{number % 3 + 1}", f"shop-{number}") for number in range(300)]

    def ask(repositories_of_thread: list[Repository]) -> None:
        for each in repositories_of_thread:
            found = host.default_branch(each)
            if found != f"{each.owner}-{each.name}":
                wrong.append(f"{each}: {found}")

    threads = [threading.Thread(target=ask, args=(repositories[number::8],)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert server.connections <= MOST
    tokens = Counter(path for _, path in server.asked if path.endswith("access_tokens"))
    assert len(tokens) == 3
    assert sum(tokens.values()) <= 3 * 8, "threads may ask for the first token at once; repositories do not"


def test_one_token_needs_one_connection(server: KeepAliveServer) -> None:
    server.answer = lambda *_: (200, {}, {"default_branch": "main"})
    host = GitHubHost("token", api_url=server.url)
    for number in range(300):
        host.default_branch(Repository("acme", f"shop-{number}"))
    assert (server.connections, server.open) == (1, 1)


def in_a_fork(what: Callable[[], str]) -> str:
    """The result of a function in a forked process, in which no other thread runs."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", DeprecationWarning
        )  # the warning is about this process's threads; Celery's parent process has none
        child = os.fork()
    if not child:
        try:
            os.write(writing, what().encode())
        except BaseException as error:  # noqa: BLE001
            os.write(writing, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read()
    os.waitpid(child, 0)
    return found


def test_a_forked_process_has_connections_of_its_own(server: KeepAliveServer) -> None:
    server.answer = lambda *_: (200, {}, {"default_branch": "main"})
    host, shop = GitHubHost("token", api_url=server.url), Repository("acme", "shop")
    host.default_branch(shop)
    assert in_a_fork(lambda: host.default_branch(shop)) == "main"
    assert host.default_branch(shop) == "main"
    assert server.connections == 2


def test_a_connection_that_github_closed_is_replaced(server: KeepAliveServer) -> None:
    server.answer = lambda *_: (200, {"Connection": "close"}, {"default_branch": "main"})
    host = GitHubHost("token", api_url=server.url)
    for _ in range(3):
        assert host.default_branch(Repository("acme", "shop")) == "main"
    assert (server.connections, server.most) == (3, 1)


def without_descriptors(what: Callable[[], str]) -> str:
    """The error of a function while its process cannot open a file, followed by its result afterwards."""
    gc.collect()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    taken: list[int] = []
    with suppress(OSError):
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    try:
        said = what()
    except TransientError as error:
        said = f"TransientError: {error}"
    for each in taken:
        os.close(each)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    return f"{said}; then {what()}"


@pytest.mark.parametrize(
    "name", ["127.0.0.1", "localhost"]
)  # a host name is resolved first, which needs a descriptor too
def test_a_process_without_descriptors_reports_that_and_not_github(
    name: str, server: KeepAliveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.github.client._backoff", lambda _: 0)
    server.answer = lambda *_: (200, {}, {"default_branch": "main"})
    host = GitHubHost("token", api_url=server.url.replace("127.0.0.1", name))
    found = in_a_fork(lambda: without_descriptors(lambda: host.default_branch(Repository("acme", "shop"))))
    said, _, then = found.partition("; then ")
    assert said == (
        "TransientError: reading repository acme/shop: this process cannot open another file or socket"
        " (its limit is 100): raise the limit (ulimit -n, LimitNOFILE of systemd, ulimits of Compose)"
    )
    assert then == "main"


def test_an_unreachable_github_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployer.github.client._backoff", lambda _: 0)
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(TransientError, match="GitHub cannot be reached"):
        GitHubHost("token", api_url=url).default_branch(Repository("acme", "shop"))


def test_credentials_of_a_netrc_file_are_not_sent(
    server: KeepAliveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password x\n")
    monkeypatch.setenv("NETRC", str(netrc))
    sent = list[str]()

    def answer(_method: str, _path: str, headers: dict[str, str]) -> Answer:
        sent.append(headers["Authorization"])
        return 200, {"Set-Cookie": "a=b"}, {"default_branch": headers.get("Cookie", "none")}

    server.answer = answer
    host = GitHubHost("token", api_url=server.url)
    assert [host.default_branch(Repository("acme", "shop")) for _ in range(2)] == ["none", "none"]
    assert sent == ["token token"] * 2


def test_the_number_of_cached_installation_tokens_is_bounded(
    server: KeepAliveServer, app_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.github.credentials._MAX_CACHED_TOKENS", 2)
    monkeypatch.setattr("deployer.github.sharing._MAX_TOKENS", 2)
    host = app(server, app_key)
    for number in (1, 2, 3, 3, 1):
        host.default_branch(Repository(f"owner-{number}", "shop"))
    tokens = [path for _, path in server.asked if path.endswith("access_tokens")]
    assert [path.split("/")[3] for path in tokens] == ["1", "2", "3", "1"]
