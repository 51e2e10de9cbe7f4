"""Tests of the embedded Redis with a real server."""

import fcntl
import os
import shutil
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deployer.local import embedded_redis
from deployer.local.embedded_redis import EmbeddedRedis, prepare, server_programs
from deployer.model.errors import ConfigError
from sandbox.installation import wait_for


class Server:
    """A prepared server that runs."""

    def __init__(self, prepared: EmbeddedRedis) -> None:
        self.prepared = prepared
        self.process = subprocess.Popen(prepared.command, pass_fds=(prepared.lock,))
        os.close(prepared.lock)  # from now on the server alone holds it
        wait_for("it is ready", self.ready)

    def ready(self) -> bool:
        assert self.process.poll() is None, self.prepared.log.read_text()
        return self.prepared.is_ready()

    def client(self, host: str = "127.0.0.1", password: str | None = None) -> redis.Redis:
        return redis.Redis(
            host=host,
            port=self.prepared.port,
            password=self.prepared.password if password is None else password or None,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    with ExitStack() as running:

        def start(directory: Path = tmp_path / "redis", **options: Any) -> Server:
            server = Server(prepare(directory, **options))
            running.callback(server.kill)
            return server

        yield start


def test_acknowledged_writes_outlive_kill_9(serve: Serve) -> None:
    first = serve()
    with first.client() as client:
        for number in range(1000):
            client.rpush("lane", number)
        first.kill()
    with serve().client() as client:
        assert client.lrange("lane", 0, -1) == [str(number) for number in range(1000)]


def test_a_write_is_on_the_disk_before_it_is_acknowledged(serve: Serve) -> None:
    with serve().client() as client:
        assert client.config_get("appendfsync") == {"appendfsync": "always"}


def test_a_truncated_append_only_file_is_loaded(serve: Serve, tmp_path: Path) -> None:
    first = serve()
    with first.client() as client:
        client.set("whole", "1")
        client.set("cut", "x" * 100)
        first.kill()
    [file] = (tmp_path / "redis").rglob("*.incr.aof")
    os.truncate(file, file.stat().st_size - 10)
    with serve().client() as client:
        assert (client.get("whole"), client.get("cut")) == ("1", None)


def test_address_and_password_stay_the_same(serve: Serve) -> None:
    first = serve()
    first.kill()
    assert serve().prepared.url == first.prepared.url


def test_no_other_host_reaches_it(serve: Serve) -> None:
    server = serve()
    with server.client() as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
    with server.client(host="127.0.0.2") as other, pytest.raises(redis.ConnectionError, match="refused"):
        other.ping()


def test_a_full_redis_refuses_writes(serve: Serve) -> None:
    with serve().client() as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_clients_need_the_password(serve: Serve) -> None:
    server = serve()
    prepared = server.prepared
    for password in ("", "guessed"):
        with server.client(password=password) as client, pytest.raises(redis.AuthenticationError):
            client.ping()
    with redis.Redis.from_url(prepared.url) as client:
        assert client.ping()
    assert prepared.password in prepared.url
    assert len(prepared.password) >= 32
    assert prepared.password not in repr(prepared)


def test_other_users_cannot_read_the_password(serve: Serve) -> None:
    directory = serve().prepared.directory
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert {modes[name] for name in ("redis.conf", "password", "lock")} == {0o600}
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_without_password(serve: Serve) -> None:
    prepared = serve(with_password=False).prepared
    assert prepared.url == f"redis://127.0.0.1:{prepared.port}/0"
    with redis.Redis.from_url(prepared.url) as client:
        assert client.ping()


def test_a_directory_of_any_name(serve: Serve, tmp_path: Path) -> None:
    directory = tmp_path / 'our "data" \\ dir # é'
    server = serve(directory)
    with server.client() as client:
        client.set("a", "1")
    assert (directory / "appendonlydir").is_dir()
    assert (directory / "redis.log").exists()


def test_a_second_server_in_the_same_directory_is_refused(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve()
    monkeypatch.setattr(embedded_redis, "_LOCK_SECONDS", 0.2)
    with pytest.raises(ConfigError) as raised:
        prepare(tmp_path / "redis")
    assert str(raised.value) == (
        f"a server already uses {tmp_path / 'redis'}; stop it, or set DEPLOYER_DATA_DIR to another directory"
    )


def test_a_server_that_is_still_ending_is_awaited(tmp_path: Path) -> None:
    (tmp_path / "redis").mkdir()
    program = ["flock", str(tmp_path / "redis" / "lock"), "sh", "-c", "echo locked; exec sleep 0.5"]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        os.close(prepare(tmp_path / "redis").lock)
        assert holder.wait() == 0


def test_a_port_that_another_program_uses_now_is_replaced(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        (tmp_path / "port").write_text(f"{taken}\n")
        prepared = prepare(tmp_path)
        os.close(prepared.lock)
    assert prepared.port != taken
    assert (tmp_path / "port").read_text() == f"{prepared.port}\n"


@pytest.mark.parametrize("text", ["", "nonsense", "99999", "-1", "0"])
def test_a_malformed_port_file_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "port").write_text(text)
    prepared = prepare(tmp_path)
    os.close(prepared.lock)
    assert 0 < prepared.port < 65536


def test_the_lock_is_not_left_to_programs_that_were_not_given_it(tmp_path: Path) -> None:
    prepared = prepare(tmp_path)
    assert fcntl.fcntl(prepared.lock, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(prepared.lock)


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only directory on the PATH that may hold a server; the machine's own may be in any other one."""
    tools, servers = tmp_path / "tools", tmp_path / "servers"
    for directory in (tools, servers):
        directory.mkdir()
    shell = shutil.which("sh")
    assert shell
    (tools / "sh").symlink_to(shell)
    monkeypatch.setenv("PATH", f"{servers}:{tools}")
    return servers


def program(directory: Path, name: str, says: str) -> Path:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o700)
    return path


def test_a_server_of_the_machine_is_preferred(on_path: Path) -> None:
    [carried] = list(server_programs())
    valkey = program(on_path, "valkey-server", "echo 'Valkey server v=8.1.3 sha=00000000:0'")
    assert list(server_programs()) == [valkey, carried]
    redis_server = program(on_path, "redis-server", "echo 'Redis server v=7.0.15 sha=00000000:0'")
    assert list(server_programs()) == [redis_server, valkey, carried]


@pytest.mark.parametrize("says", ["echo 'Redis server v=6.0.16 sha=0'", "exit 1", "echo hello"])
def test_a_server_that_is_too_old_or_none_is_passed_over(on_path: Path, says: str) -> None:
    program(on_path, "redis-server", says)
    assert [path.name for path in server_programs()] == ["valkey-server"]


def test_no_server_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_redis, "server_programs", lambda: iter(()))
    with pytest.raises(
        ConfigError, match="no redis-server is on the PATH; install one, or set DEPLOYER_REDIS"
    ):
        prepare(tmp_path / "redis")
    assert not (tmp_path / "redis").exists()


def test_checking_a_stopped_server_is_fast(tmp_path: Path) -> None:
    """A supervisor asks again and again, and must hear signals in between."""
    prepared = prepare(tmp_path)
    os.close(prepared.lock)
    started = time.monotonic()
    assert not prepared.is_ready()
    assert time.monotonic() - started < 1
