"""Redis servers of a test's own: they can be killed, hang and return, fail over, and speak TLS."""

import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from deployer.embedded_redis import binaries
from sandbox.installation import wait_for


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A server that keeps port and data from one start to the next.

    Args:
        directory: its own, made if missing.
        settings: lines of its configuration.
        arguments: put behind the configuration's path, as `--sentinel`.
        binary: its program; with `tls_binary` one that only serves under another name.
        client: more options of `client`.
    """

    def __init__(
        self,
        directory: Path,
        *settings: str,
        arguments: Sequence[str] = (),
        binary: Path | None = None,
        client: dict[str, Any] | None = None,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory, self.port = directory, free_port()
        self._binary = binary or next(binaries())
        self._options = client or {}
        self._config = directory / "redis.conf"
        port = [] if any(line.startswith("tls-port ") for line in settings) else [f"port {self.port}"]
        own = ["bind 127.0.0.1", *port, f'dir "{directory}"', f'logfile "{directory}/log"', 'save ""']
        self._config.write_text("\n".join([*own, *(line.format(port=self.port) for line in settings)]) + "\n")
        self._command = ["redis-server", str(self._config), *arguments]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        return redis.Redis(
            port=self.port,
            socket_timeout=5,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
            **self._options,
        )

    def start(self, *, wait: bool = True) -> "Server":
        self.process = subprocess.Popen(self._command, executable=self._binary)
        if wait:
            wait_for("the server answers", self._answers, 20)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.directory / "log").read_text()
        with self.client as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def hang(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """`kill -9`, unless it has gone."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


@cache
def tls_binary() -> Path | None:
    """A server's program that speaks TLS: `redis-server`, or the same program as Debian's redis-tools has it."""
    for name in ("redis-server", "redis-check-rdb"):
        if (found := shutil.which(name)) and _speaks_tls(found):
            return Path(found)
    return None


def _speaks_tls(program: str) -> bool:
    """Whether it gets as far as to miss its certificates; either way it ends at once."""
    done = subprocess.run(
        ["redis-server", *["--port", "0", "--tls-port", "1", "--bind", "127.0.0.1", "--save"], ""],
        executable=program, capture_output=True, text=True, timeout=10, check=False,
    )  # fmt: skip
    return "Failed to configure TLS" in done.stdout
