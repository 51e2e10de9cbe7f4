"""The application under gunicorn, in separate processes."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox.installation import descendants
from tests.web.site import ENV, signature

# a process of its own takes no secrets that are easy to guess or published, as those of `Site` are
SECRET, AWS_KEY, TOKEN = (
    f"the {name} of the served application 74193" for name in ("secret", "key", "token")
)
SECRETS = {
    "DEPLOYER_GITHUB_WEBHOOK_SECRET": SECRET,
    "DEPLOYER_AWS_EVENT_KEY": AWS_KEY,
    "DEPLOYER_API_TOKEN": TOKEN,
}


def signed(body: bytes) -> str:
    """`X-Hub-Signature-256` of a body for the served application."""
    return signature(body, SECRET)


@dataclass
class Gunicorn:
    """A running server."""

    port: int
    webhook_port: int
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def workers(self) -> list[int]:
        """The processes that answer."""
        return [pid for pid in descendants(self.process.pid) if pid != self.process.pid]


@contextmanager
def gunicorn(
    redis_url: str,
    directory: Path,
    *options: str,
    files: int = 0,
    env: dict[str, str] | None = None,
    webhooks: bool = False,
) -> Iterator[Gunicorn]:
    """Serve the application; the socket listens before the server starts, so tests need not wait.

    Args:
        redis_url: its Redis.
        directory: where its log goes.
        options: of gunicorn.
        files: how many open files it is given at first; as many as this process has if 0.
        env: settings besides those of `Site`.
        webhooks: whether they have a port of their own.
    """
    listener, other = (socket.create_server(("127.0.0.1", 0), backlog=2048) for _ in range(2))
    settings = dict(env or {})
    log = directory / "log"
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--config",
        "python:web.gunicorn_conf",
        "--no-control-socket",
    ]
    command += ["--bind", f"fd://{listener.fileno()}", *options, "web.wsgi:app"]
    if webhooks:
        command += ["--bind", f"fd://{other.fileno()}"]
        settings["DEPLOYER_WEBHOOK_PORT"] = str(other.getsockname()[1])
    if files:
        command = ["sh", "-c", f'ulimit -Sn {files}; exec "$@"', "sh", *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=os.environ | ENV | SECRETS | {"DEPLOYER_REDIS_URL": redis_url} | settings,
            pass_fds=[listener.fileno(), other.fileno()],
            stderr=output,
            stdout=output,
        )
    with listener, other:
        try:
            yield Gunicorn(listener.getsockname()[1], other.getsockname()[1], process, log)
        finally:
            process.terminate()
            code = process.wait(20)
    written = log.read_text()
    assert code == 0, written
    assert "Traceback" not in written
    for secret in (SECRET, AWS_KEY, TOKEN):
        assert secret not in written
