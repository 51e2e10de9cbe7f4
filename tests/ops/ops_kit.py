"""Starts, watches and ends real processes for tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from sandbox.installation import Answer, alive, call, descendants, wait_for

SECRET = "the-webhook-secret-of-these-tests"
WEB = {"DEPLOYER_GITHUB_WEBHOOK_SECRET": SECRET, "DEPLOYER_REPOSITORIES": "acme/*"}
WORKER = {
    "DEPLOYER_ARTIFACT_BUCKET": "artifacts",
    "DEPLOYER_GITHUB_TOKEN": "ghp_token",
    "DEPLOYER_CONCURRENCY": "1",
    "DEPLOYER_UNFENCED": "yes",  # the AWS behind it is simulated, or never called
    "AWS_DEFAULT_REGION": "us-east-1",
}
CELERY = [sys.executable, "-m", "celery", "--app=workers"]
Refusal = Callable[[str, Mapping[str, str]], str]


def aws_settings(url: str) -> dict[str, str]:
    """What a process needs to use the simulated AWS at this address."""
    return {"AWS_ENDPOINT_URL": url, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


class Process:
    """A process of its own session, whose output goes to a file in its working directory."""

    def __init__(self, command: Sequence[str], directory: Path, env: Mapping[str, str] | None = None) -> None:
        self._log = directory / "output"
        with self._log.open("wb") as output:
            self.popen = subprocess.Popen(
                command, cwd=directory, env=env, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self.popen.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def says(self, text: str, seconds: float = 20) -> None:
        """Wait until its output has a text."""

        def look() -> bool:
            ended = self.popen.poll() is not None
            if text in self.output:
                return True
            assert not ended, f"ended without saying {text!r}:\n{self.output}"
            return False

        try:
            wait_for(f"it says {text!r}", look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output[-3000:]}") from None

    def ends(self, seconds: float = 20) -> int:
        """Wait until it has ended; returns its exit status."""
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still runs after {seconds} s:\n{self.output[-3000:]}") from None

    def send(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill_all(self) -> None:
        """End all processes that still run."""
        family = descendants(self.pid) if self.popen.poll() is None else []
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.wait()
        for pid in family:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def deployer(*arguments: str) -> list[str]:
    """The command line of `deployer`."""
    return [sys.executable, "-m", "deployer", *arguments]


def environment(*settings: Mapping[str, str]) -> dict[str, str]:
    """This process's variables without any setting, and the given ones."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DEPLOYER_", "AWS_"))}
    for some in settings:
        env.update(some)
    return env


def gone(pids: Iterable[int], seconds: float = 20) -> None:
    """Wait until none of the processes runs."""
    pids = list(pids)
    wait_for(f"{pids} have ended", lambda: not any(alive(pid) for pid in pids), seconds)


def answer(url: str) -> Answer | None:
    """Return the response of an address, or None while no program listens."""
    try:
        return call("GET", url, seconds=5)
    except OSError:
        return None


def ended(tmp_path: Path, command: list[str], settings: Mapping[str, str]) -> tuple[int, str, str]:
    """Run a command to its end; returns its exit status and what it said."""
    done = subprocess.run(
        command, cwd=tmp_path, env=environment(settings), capture_output=True, text=True, check=False, timeout=30
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr
