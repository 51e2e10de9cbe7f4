"""An installation started by `deployer up --sandbox` on free ports.

The demonstration and the end-to-end tests drive it from outside, with git, HTTP and the command line.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from sandbox.http_calls import Answer, call
from sandbox.ports import free_port
from sandbox.processes import alive, command_of, descendants
from sandbox.waiting import WaitTimeoutError, wait_for
from sandbox.working_copy import WorkingCopy

_JSON = {"Content-Type": "application/json"}

__all__ = [
    "Answer",
    "Installation",
    "WaitTimeoutError",
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
_POST_SECONDS = 10


class Installation:
    """`deployer up --sandbox`, with all its state in one directory.

    Args:
        directory: its working directory, which also holds its state.
        settings: more environment variables.
        log: the file for its output; by default `up.log` in the directory.
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

    # --- start and stop ---

    @property
    def pid(self) -> int:
        """The process id of the supervisor."""
        assert self._process  # noqa: S101  an error of the caller
        return self._process.pid

    def start(self) -> None:
        """Start the installation and wait until it is ready.

        Raises:
            WaitTimeoutError: it is not ready in time, or ended; the message has the end of its output.
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
            raise WaitTimeoutError(
                f"deployer up ended with exit status {self._process.returncode}:\n{self.output()[-3000:]}"
            )
        try:
            healthy = call("GET", f"{self.web}/readyz", seconds=2).status == 200
            return (
                healthy
                and call("GET", f"{self.aws}/_sandbox/health", seconds=2).status == 200
                and self._has_printed_addresses()
            )
        except (OSError, urllib.error.URLError):
            return False

    def _has_printed_addresses(self) -> bool:
        return "git clone" in self.output()

    def stop(self) -> list[int]:
        """Interrupt the supervisor as Ctrl-C does; return the ids of processes that still run, which should be none."""
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
        """Everything that the installation has printed."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    @property
    def env(self) -> dict[str, str]:
        """The environment variables for `deployer` commands, from the file that the installation wrote."""
        written = dotenv_values(self.directory / ".sandbox" / "env", interpolate=False)
        return {**self._env, **{name: value for name, value in written.items() if value is not None}}

    # --- actions ---

    def repository(self, full_name: str, *, sample: bool = True) -> None:
        """Create a repository on the simulated GitHub."""
        body = json.dumps({"full_name": full_name, "sample": sample}).encode()
        answer = call(
            "POST", f"{self.github}/_sandbox/repositories", body, {"Content-Type": "application/json"}, 60
        )
        if answer.status not in {200, 201}:
            raise RuntimeError(f"creating {full_name}: {answer.status} {answer.text}")

    def clone(self, into: Path, full_name: str = "acme/hello") -> WorkingCopy:
        """Clone a repository."""
        return WorkingCopy(into, f"{self.github}/{full_name}.git")

    def cli(self, *arguments: str, timeout: float = 90) -> subprocess.CompletedProcess[str]:
        """Run `deployer` with these arguments."""
        return subprocess.run(
            [sys.executable, "-m", "deployer", *arguments],
            cwd=self.directory, env=self.env, capture_output=True, text=True, check=False, timeout=timeout,
        )  # fmt: skip

    def fault(self, simulator: str, rules: Mapping[str, Any]) -> None:
        """Inject faults into a simulator: `github` or `aws`."""
        _post_control({"github": self.github, "aws": self.aws}[simulator], "faults", rules)

    def stack_status(self, stack: str, status: str, **more: Any) -> None:
        """Set the status of a stack in the simulated AWS, which continues from it as the service does.

        Args:
            stack: its name.
            status: its new status.
            more: `reason`, `seconds` (how long a status in progress lasts), `token`, `account` and `region`.
        """
        _post_control(self.aws, f"stacks/{stack}", {"status": status, **more})

    def limits(self, **limits: Any) -> None:
        """Set how many `stacks` and `pipelines` the simulated AWS allows in a `region` of an `account`."""
        _post_control(self.aws, "limits", limits)

    def clear_faults(self) -> None:
        """Clear all faults."""
        for address in (self.github, self.aws):
            call("DELETE", f"{address}/_sandbox/faults")

    def processes(self, words: str) -> list[int]:
        """The ids of its processes whose command line contains these words, parents before children."""
        return [pid for pid in descendants(self.pid) if words in command_of(pid)]

    # --- state ---

    def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Call deployer's API; return the JSON of its answer.

        Raises:
            RuntimeError: the answer has an error status.
        """
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
        """The API's record of an environment, named by a branch's full ref, `staging` or `production`."""
        found = self.api(f"environments?deleted=1&repository={urllib.parse.quote(full_name)}")
        for each in found["environments"]:
            if environment in {each["environment"], each["environment"].partition(":")[2]}:
                return dict(each)
        return None

    def settled(
        self, environment: str, commit: str, full_name: str = "acme/hello", seconds: float = 90
    ) -> dict[str, Any]:
        """Wait until an environment is deployed or failed at a commit; return its record."""

        def read_record() -> dict[str, Any]:
            found = self.environment(environment, full_name) or {}
            ended = found.get("commit") == commit and found.get("state") in {"deployed", "failed"}
            return found if ended else {}

        return wait_for(
            f"{full_name} {environment} is deployed or failed at {commit[:12]}", read_record, seconds
        )

    def deleted(self, environment: str, full_name: str = "acme/hello", seconds: float = 90) -> None:
        """Wait until an environment is deleted."""

        def is_deleted() -> bool:
            found = self.environment(environment, full_name)
            return bool(found) and found["state"] == "deleted"  # type: ignore[index]

        wait_for(f"{full_name} {environment} is deleted", is_deleted, seconds)

    def statuses(self, commit: str, full_name: str = "acme/hello") -> dict[str, dict[str, Any]]:
        """The latest commit status of every context. If some wait to be posted, wait a little for that."""
        self._wait_for_posts()
        return {each["context"]: each for each in self._list_statuses(commit, full_name)}

    def told(self, commit: str, context: str, full_name: str = "acme/hello") -> list[str]:
        """The descriptions of all statuses of one context of a commit, oldest first."""
        listed = self._list_statuses(commit, full_name)
        return [str(each["description"]) for each in listed if each["context"] == context]

    def _wait_for_posts(self) -> None:
        """Wait until GitHub shows everything, but not for long, because GitHub may refuse it."""

        def is_posted() -> bool:
            return "\ndeployer_github_posts_waiting 0.0\n" in call("GET", f"{self.web}/metrics").text

        with suppress(WaitTimeoutError):
            wait_for("GitHub shows everything", is_posted, _POST_SECONDS)

    def _list_statuses(self, commit: str, full_name: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"repository": full_name, "sha": commit})
        listed = call("GET", f"{self.github}/_sandbox/statuses?{query}").json
        return sorted(listed, key=lambda each: int(each["id"]))

    def aws_state(self) -> dict[str, Any]:
        """The state of the simulated AWS."""
        return dict(call("GET", f"{self.aws}/_sandbox/state").json)

    def stacks(self) -> dict[str, dict[str, Any]]:
        """Every stack that is not deleted, by name."""
        return {each["name"]: each for each in self.aws_state()["stacks"]}

    def executions(self, pipeline: str, *, automatic: bool = False) -> list[dict[str, Any]]:
        """A pipeline's executions, oldest first; `automatic` includes the one that its creation started."""
        for each in self.aws_state()["pipelines"]:
            if each["name"] == pipeline:
                return [e for e in each["executions"] if automatic or e["trigger"] != "CreatePipeline"]
        return []

    def site(self, stack: str) -> str:
        """The URL of the page that an environment's application serves."""
        bucket = self.stacks()[f"{stack}-app"]["outputs"]["BucketName"]
        return f"{self.aws}/{bucket}/index.html"

    def open_pull(self, branch: str, full_name: str = "acme/hello") -> int:
        """Open a pull request of a branch; returns its number."""
        body = json.dumps({"head": branch, "base": "main", "title": f"Merge {branch}"}).encode()
        answer = call("POST", f"{self.github}/api/v3/repos/{full_name}/pulls", body, _JSON)
        return int(answer.json["number"])

    def change_pull(self, number: int, state: str, full_name: str = "acme/hello") -> None:
        """Close a pull request, or open it again."""
        body = json.dumps({"state": state}).encode()
        call("PATCH", f"{self.github}/api/v3/repos/{full_name}/pulls/{number}", body, _JSON)

    def comments(self, number: int, full_name: str = "acme/hello") -> list[str]:
        """The comments on a pull request, once GitHub shows all that deployer wants to show."""
        self._wait_for_posts()
        path = f"{self.github}/api/v3/repos/{full_name}/issues/{number}/comments"
        return [str(each["body"]) for each in call("GET", path).json]

    def aws_calls(self) -> list[dict[str, Any]]:
        """Every call that the simulated AWS answered."""
        answer = call("GET", f"{self.aws}/_sandbox/calls").json
        return list(answer["calls"] if isinstance(answer, dict) else answer)

    @contextmanager
    def running(self) -> Iterator["Installation"]:
        """Start the installation; stop it at the end of the block.

        Raises:
            WaitTimeoutError: a process still runs after the stop.
        """
        self.start()
        try:
            yield self
        finally:
            left = self.stop()
        if left:
            raise WaitTimeoutError(f"processes {left} still run after the stop")


def _post_control(address: str, what: str, fields: Mapping[str, Any]) -> None:
    headers = {"Content-Type": "application/json"}
    answer = call("POST", f"{address}/_sandbox/{what}", json.dumps(fields).encode(), headers)
    if answer.status != 200:
        raise RuntimeError(f"POST /_sandbox/{what} {fields}: {answer.status} {answer.text}")
