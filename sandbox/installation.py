"""A whole installation of one's own, started as people start it: `deployer up --sandbox` on free ports.

The demonstration and the end-to-end tests drive it from outside, by git, HTTP and the command line.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from sandbox.http_calls import Answer, call
from sandbox.ports import free_port
from sandbox.processes import alive, command_of, descendants
from sandbox.waiting import NeverHappenedError, wait_for
from sandbox.working_copy import WorkingCopy

__all__ = [
    "Answer",
    "Installation",
    "NeverHappenedError",
    "WorkingCopy",
    "alive",
    "call",
    "command_of",
    "descendants",
    "free_port",
    "wait_for",
]

_START_SECONDS = 90
_STOP_SECONDS = 45


class Installation:
    """`deployer up --sandbox`, with all its state in one directory.

    Args:
        directory: where it runs and keeps its state.
        settings: more environment variables.
        log: where its output goes.
    """

    def __init__(
        self, directory: Path, settings: Mapping[str, str] | None = None, log: Path | None = None
    ) -> None:
        self.directory = directory
        self.log = log or directory / "up.log"
        web, github, aws = free_port(), free_port(), free_port()
        self.web, self.github, self.aws = (f"http://127.0.0.1:{port}" for port in (web, github, aws))
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DEPLOYER_", "AWS_"))}
        self._env = {
            **clean,
            "DEPLOYER_WEB_PORT": str(web),
            "DEPLOYER_SANDBOX_GITHUB_PORT": str(github),
            "DEPLOYER_SANDBOX_AWS_PORT": str(aws),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    # --- life ---

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        assert self._process  # noqa: S101  a caller's mistake
        return self._process.pid

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            NeverHappenedError: it did not become ready, with the end of its output.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deployer", "up", "--sandbox", "--log-to=stdout"],
                cwd=self.directory, env=self._env, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        try:
            wait_for("the installation is ready", self._ready, _START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def _ready(self) -> bool:
        if self._process and self._process.poll() is not None:
            raise NeverHappenedError(
                f"deployer up ended with {self._process.returncode}:\n{self.output()[-3000:]}"
            )
        try:
            healthy = call("GET", f"{self.web}/readyz", seconds=2).status == 200
            return (
                healthy
                and call("GET", f"{self.aws}/_sandbox/health", seconds=2).status == 200
                and self._told()
            )
        except (OSError, urllib.error.URLError):
            return False

    def _told(self) -> bool:
        return "git clone" in self.output()

    def stop(self) -> list[int]:
        """Interrupt it as Ctrl-C does; returns the processes that were left behind, which should be none."""
        if self._process is None:
            return []
        family = descendants(self._process.pid)
        if self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGINT)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        left = [pid for pid in family if alive(pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self._process = None
        return left

    def output(self) -> str:
        """All that it has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def env(self) -> dict[str, str]:
        """What the command line needs to speak with it, from the file that it wrote."""
        told = dotenv_values(self.directory / ".sandbox" / "env")
        return {**self._env, **{name: value for name, value in told.items() if value is not None}}

    # --- what people do ---

    def repository(self, full_name: str, *, sample: bool = True) -> None:
        """Make a repository on the simulated GitHub."""
        body = json.dumps({"full_name": full_name, "sample": sample}).encode()
        answer = call(
            "POST", f"{self.github}/_sandbox/repositories", body, {"Content-Type": "application/json"}, 60
        )
        if answer.status not in {200, 201}:
            raise RuntimeError(f"making {full_name}: {answer.status} {answer.text}")

    def clone(self, into: Path, full_name: str = "acme/hello") -> WorkingCopy:
        """Clone a repository as a person does."""
        return WorkingCopy(into, f"{self.github}/{full_name}.git")

    def cli(self, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        """Run `deployer` with these arguments."""
        return subprocess.run(
            [sys.executable, "-m", "deployer", *arguments],
            cwd=self.directory, env=self.env, capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip

    def fault(self, simulator: str, orders: Mapping[str, Any]) -> None:
        """Order faults of one simulator: `github` or `aws`."""
        _order({"github": self.github, "aws": self.aws}[simulator], "faults", orders)

    def stack_status(self, stack: str, status: str, **more: Any) -> None:
        """Put a stack of the simulated AWS into a status, from which it goes on as the service would.

        `more`: `reason`, `seconds` of a status in progress, `token`, and `account` and `region` of the stack.
        """
        _order(self.aws, f"stacks/{stack}", {"status": status, **more})

    def limits(self, **limits: Any) -> None:
        """Limit `stacks` and `pipelines` of the simulated AWS in a `region` of an `account`."""
        _order(self.aws, "limits", limits)

    def heal(self) -> None:
        """End every fault."""
        for address in (self.github, self.aws):
            call("DELETE", f"{address}/_sandbox/faults")

    def processes(self, words: str) -> list[int]:
        """Processes of the installation whose command line has these words; parents before children."""
        return [pid for pid in descendants(self.pid) if words in command_of(pid)]

    # --- what people see ---

    def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Call deployer's API."""
        headers = {
            "Authorization": f"Bearer {self.env['DEPLOYER_API_TOKEN']}",
            "Content-Type": "application/json",
        }
        data = json.dumps(body).encode() if body is not None else None
        answer = call(method, f"{self.web}/api/v1/{path}", data, headers)
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.text}")
        return answer.json

    def environment(self, environment: str, full_name: str = "acme/hello") -> dict[str, Any] | None:
        """What the API knows of an environment: a branch's full ref, `staging` or `production`."""
        found = self.api(f"environments?deleted=1&repository={urllib.parse.quote(full_name)}")
        for each in found["environments"]:
            if environment in {each["environment"], each["environment"].partition(":")[2]}:
                return dict(each)
        return None

    def settled(
        self, environment: str, commit: str, full_name: str = "acme/hello", seconds: float = 90
    ) -> dict[str, Any]:
        """Wait until an environment has come to its end at a commit."""

        def look() -> dict[str, Any]:
            found = self.environment(environment, full_name) or {}
            ended = found.get("commit") == commit and found.get("state") in {"deployed", "failed"}
            return found if ended else {}

        return wait_for(f"{full_name} {environment} ends at {commit[:12]}", look, seconds)

    def deleted(self, environment: str, full_name: str = "acme/hello", seconds: float = 90) -> None:
        """Wait until an environment is gone."""

        def look() -> bool:
            found = self.environment(environment, full_name)
            return bool(found) and found["state"] == "deleted"  # type: ignore[index]

        wait_for(f"{full_name} {environment} is gone", look, seconds)

    def statuses(self, commit: str, full_name: str = "acme/hello") -> dict[str, dict[str, Any]]:
        """The latest status of every context on a commit, as GitHub shows them."""
        return {each["context"]: each for each in self._statuses(commit, full_name)}

    def told(self, commit: str, context: str, full_name: str = "acme/hello") -> list[str]:
        """The descriptions of all statuses that one context of a commit ever had, oldest first."""
        listed = self._statuses(commit, full_name)
        return [str(each["description"]) for each in listed if each["context"] == context]

    def _statuses(self, commit: str, full_name: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"repository": full_name, "sha": commit})
        listed = call("GET", f"{self.github}/_sandbox/statuses?{query}").json
        return sorted(listed, key=lambda each: int(each["id"]))

    def aws_state(self) -> dict[str, Any]:
        """What the simulated AWS holds."""
        return dict(call("GET", f"{self.aws}/_sandbox/state").json)

    def stacks(self) -> dict[str, dict[str, Any]]:
        """Every stack that is not deleted, by its name."""
        return {each["name"]: each for each in self.aws_state()["stacks"]}

    def executions(self, pipeline: str) -> list[dict[str, Any]]:
        """A pipeline's executions, oldest first."""
        for each in self.aws_state()["pipelines"]:
            if each["name"] == pipeline:
                return list(each["executions"])
        return []

    def site(self, stack: str) -> str:
        """The address of the page that an environment's application serves."""
        bucket = self.stacks()[f"{stack}-app"]["outputs"]["BucketName"]
        return f"{self.aws}/{bucket}/index.html"

    def aws_calls(self) -> list[dict[str, Any]]:
        """Every call that came to the simulated AWS."""
        answer = call("GET", f"{self.aws}/_sandbox/calls").json
        return list(answer["calls"] if isinstance(answer, dict) else answer)

    @contextmanager
    def running(self) -> Iterator["Installation"]:
        """Start it, and stop it at the end.

        Raises:
            NeverHappenedError: a process was left behind.
        """
        self.start()
        try:
            yield self
        finally:
            left = self.stop()
        if left:
            raise NeverHappenedError(f"processes {left} were left behind")


def _order(address: str, what: str, orders: Mapping[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    answer = call("POST", f"{address}/_sandbox/{what}", json.dumps(orders).encode(), headers)
    if answer.status != 200:
        raise RuntimeError(f"ordering {orders}: {answer.status} {answer.text}")
