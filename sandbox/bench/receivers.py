"""The receivers that are compared: how each is started, and how it answers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.bench.alternatives.installation import NotInstalledError, install_probot, install_webhook
from sandbox.bench.deliveries import SECRET
from sandbox.ports import free_port
from sandbox.processes import alive, descendants

_START_SECONDS = 60
_STOP_SECONDS = 15
_ALTERNATIVES = Path(__file__).parent / "alternatives"


@dataclass(frozen=True)
class Receiver:
    """A program that receives webhooks.

    Attributes:
        name: for the tables.
        command: its command line.
        port: of this machine.
        expected: a part of every response to a push.
        env: its environment variables besides those of this process.
        redis_url: the database in which it stores pushes, if it does.
    """

    name: str
    command: tuple[str, ...]
    port: int
    expected: bytes
    env: Mapping[str, str] = field(default_factory=dict)
    redis_url: str = ""


class RunningReceiver:
    """A receiver whose processes run."""

    def __init__(self, receiver: Receiver, process: subprocess.Popen[bytes]) -> None:
        self.receiver = receiver
        self._process = process

    @property
    def pids(self) -> list[int]:
        """The ids of its processes."""
        return descendants(self._process.pid)

    def processor_seconds(self) -> float:
        """The processor time of its processes and of their ended children."""
        ticks = 0
        for pid in self.pids:
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            ticks += sum(map(int, fields[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")


def bare_receiver(processes: int) -> Receiver:
    """gunicorn that answers `ok`."""
    return _gunicorn(f"bare `ok`, gunicorn gthread, {_count(processes)}", "bare", processes, b"200 OK", "")


def celery_receiver(processes: int, redis_url: str) -> Receiver:
    """Flask that verifies a push and sends it to Celery."""
    name = f"Flask + HMAC + Celery `apply_async`, same server, {_count(processes)}"
    return _gunicorn(name, "flask_celery", processes, b'"queued"', redis_url)


def _gunicorn(name: str, application: str, processes: int, expected: bytes, redis_url: str) -> Receiver:
    port = free_port()
    command = (
        *(sys.executable, "-m", "gunicorn", f"--bind=127.0.0.1:{port}", f"--workers={processes}"),
        *("--worker-class=gthread", "--threads=16", "--keep-alive=75", "--log-level=warning"),
        *("--no-control-socket", f"sandbox.bench.alternatives.receivers:{application}"),
    )
    env = {"DEPLOYER_GITHUB_WEBHOOK_SECRET": SECRET, "DEPLOYER_REDIS_URL": redis_url}
    return Receiver(name, command, port, expected, env, redis_url)


def deployer_receiver(processes: int, redis_url: str) -> Receiver:
    """`deployer web` as people start it."""
    port = free_port()
    env = {
        "DEPLOYER_API_TOKEN": SECRET,
        "DEPLOYER_AWS_EVENT_KEY": f"{SECRET}-events",
        "DEPLOYER_GITHUB_WEBHOOK_SECRET": SECRET,
        "DEPLOYER_REDIS_URL": redis_url,
        "DEPLOYER_REPOSITORIES": "bench/*",
        "DEPLOYER_WEB_PORT": str(port),
        "DEPLOYER_WEB_PROCESSES": str(processes),
    }
    command = (sys.executable, "-m", "deployer", "web")
    return Receiver(f"**deployer**, {_count(processes)}", command, port, b'"queued"', env, redis_url)


def webhook_receiver(directory: Path) -> Receiver:
    """Debian's `webhook`, which verifies a push and runs a command.

    Raises:
        NotInstalledError: it cannot be installed.
    """
    program, port = install_webhook(directory / "webhook"), free_port()
    signature = {"source": "header", "name": "X-Hub-Signature-256"}
    hook = {
        "id": "github",
        "execute-command": "/bin/true",
        "response-message": "ok",
        "trigger-rule": {"match": {"type": "payload-hmac-sha256", "secret": SECRET, "parameter": signature}},
        "trigger-rule-mismatch-http-response-code": 401,
    }
    hooks = directory / "hooks.json"
    hooks.write_text(json.dumps([hook]))
    command = (
        str(program), "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port), "-urlprefix", "webhooks",
    )  # fmt: skip
    return Receiver("`webhook` (Go), HMAC, runs `/bin/true`", command, port, b"200 OK")


def probot_receiver(directory: Path, processes: int) -> Receiver:
    """probot with a handler of pushes that does nothing.

    Raises:
        NotInstalledError: it cannot be installed.
    """
    modules, port = install_probot(directory / "probot"), free_port()
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    env = {
        "NODE_PATH": str(modules),
        "PORT": str(port),
        "PRIVATE_KEY": key.decode(),
        "PROCESSES": str(processes),
        "SECRET": SECRET,
    }
    command = ("node", str(_ALTERNATIVES / "probot.cjs"))
    return Receiver(f"probot 13 (Node), HMAC, {_count(processes)}", command, port, b"200 OK", env)


def _count(processes: int) -> str:
    return "1 process" if processes == 1 else f"{processes} processes"


def installed(directory: Path) -> tuple[list[Receiver], list[str]]:
    """The alternatives that can be installed, and a line about each that cannot."""
    found, skipped = list[Receiver](), list[str]()
    makers: tuple[Callable[[], Receiver], ...] = (
        lambda: webhook_receiver(directory),
        lambda: probot_receiver(directory, 1),
        lambda: probot_receiver(directory, 2),
    )
    for make in makers:
        try:
            found.append(make())
        except NotInstalledError as error:
            skipped.append(f"skipped: {error}")
    return found, list(dict.fromkeys(skipped))


@contextmanager
def running(receivers: list[Receiver], logs: Path) -> Iterator[list[RunningReceiver]]:
    """Run receivers; stop them at the end of the block.

    Raises:
        RuntimeError: one of them does not start.
    """
    with ExitStack() as stack:
        yield [
            stack.enter_context(_run(each, logs / f"receiver-{number}.log"))
            for number, each in enumerate(receivers)
        ]


@contextmanager
def _run(receiver: Receiver, log: Path) -> Iterator[RunningReceiver]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("DEPLOYER_", "AWS_"))}
    with log.open("wb") as output:
        process = subprocess.Popen(
            receiver.command, env={**clean, **receiver.env}, cwd=log.parent, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip
    family = [process.pid]
    try:
        _wait_until_listening(receiver, process, log)
        yield RunningReceiver(receiver, process)
        family = descendants(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pid in family:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def _wait_until_listening(receiver: Receiver, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", receiver.port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                text = log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{receiver.name} does not start: {text}") from None
            time.sleep(0.05)
        else:
            return
