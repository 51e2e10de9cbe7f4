"""The git repositories from which source actions check out commits."""

from __future__ import annotations

import hashlib
import os
import threading
import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sandbox.aws.workspace import Processes, Workspace

_SECONDS = 60.0
_FIELDS = "%H%x00%s%x00%an%x00%cI"


class SourceError(Exception):
    """A commit cannot be checked out; the message is the service's."""


@dataclass(frozen=True)
class Commit:
    """A commit that has been checked out."""

    sha: str
    subject: str
    author: str
    when: datetime


class Repositories:
    """Git repositories below one URL, each with a local mirror that is fetched before every use."""

    def __init__(self, base_url: str, workspace: Workspace, processes: Processes) -> None:
        self._base_url = base_url.rstrip("/")
        self._workspace = workspace
        self._processes = processes
        self._locks: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)

    def web_url(self, repository: str) -> str:
        """The URL of the repository's page."""
        return f"{self._base_url}/{repository}"

    def list_refs(self, repository: str) -> dict[str, str]:
        """The branches and tags of a repository, each with its commit or tag object.

        Raises:
            SourceError: the repository does not exist, or git does not answer.
        """
        url = f"{self._base_url}/{repository}.git"
        status, printed = self._run_git(
            self._workspace.mirrors, "ls-remote", "--quiet", "--heads", "--tags", "--refs", url
        )
        if status:
            raise SourceError(f"could not read the refs of {repository}: {_last_line(printed)}")
        pairs = (line.split("\t") for line in printed.splitlines() if "\t" in line)
        return {ref: sha for sha, ref in pairs}

    def check_out(self, repository: str, branch: str, pin: str | None, into: Path) -> Commit:
        """Check out the head of a branch, or the pinned commit, into a directory.

        Raises:
            SourceError: the repository, the branch or the commit does not exist, or git does not answer.
        """
        url = f"{self._base_url}/{repository}.git"
        mirror = self._workspace.mirrors / hashlib.sha256(url.encode()).hexdigest()[:24]
        with self._locks[url]:
            self._update_mirror(repository, url, mirror)
            sha = self._resolve_commit(repository, url, mirror, branch, pin)
        _, shown = self._run_git(mirror, "log", "-1", f"--format={_FIELDS}", sha)
        sha, subject, author, when = shown.strip().split("\0")
        into.mkdir(parents=True, exist_ok=True)
        index = self._workspace.mirrors / f"index-{uuid.uuid4()}"
        try:
            self._run_or_raise(mirror, "read-tree", sha, index=index)
            self._run_or_raise(
                mirror, f"--work-tree={into}", "checkout-index", "--all", "--force", index=index, cwd=into
            )
        finally:
            index.unlink(missing_ok=True)
        return Commit(sha, subject, author, datetime.fromisoformat(when).astimezone(UTC))

    def _update_mirror(self, repository: str, url: str, mirror: Path) -> None:
        if not mirror.exists():
            self._run_or_raise(mirror, "init", "--quiet", "--bare", str(mirror))
        # Without garbage collection, commits that a force push removed from a branch stay available, as at GitHub.
        status, printed = self._run_git(
            mirror, "-c", "gc.auto=0", "fetch", "--quiet", "--prune", "--force", url, "+refs/*:refs/*"
        )
        if status:
            raise SourceError(
                f"Unable to use Connection: could not read the repository {repository}: {_last_line(printed)}"
            )

    def _resolve_commit(self, repository: str, url: str, mirror: Path, branch: str, pin: str | None) -> str:
        wanted = pin or f"refs/heads/{branch}"
        status, printed = self._run_git(mirror, "rev-parse", "--verify", "--quiet", f"{wanted}^{{commit}}")
        if status and pin and not self._run_git(mirror, "fetch", "--quiet", url, pin)[0]:
            status, printed = self._run_git(mirror, "rev-parse", "--verify", "--quiet", f"{pin}^{{commit}}")
        if status and pin:
            raise SourceError(f"[GitHub] No commit {pin} was found in the repository {repository}.")
        if status:
            raise SourceError(
                f"[GitHub] No Branch [{branch}] found in FullRepositoryName [{repository}]: "
                "check that the branch exists and that the connection may read it."
            )
        return printed.strip()

    def _run_or_raise(
        self, mirror: Path, *command: str, index: Path | None = None, cwd: Path | None = None
    ) -> None:
        status, printed = self._run_git(mirror, *command, index=index, cwd=cwd)
        if status:
            raise SourceError(f"git {command[0]} failed: {_last_line(printed)}")

    def _run_git(
        self, mirror: Path, *command: str, index: Path | None = None, cwd: Path | None = None
    ) -> tuple[int, str]:
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self._workspace.home),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_DIR": str(mirror),
            **({"GIT_INDEX_FILE": str(index)} if index else {}),
        }
        try:
            status, printed = self._processes.run_command(
                ["git", *command], cwd=cwd or self._workspace.mirrors, env=env, timeout=_SECONDS
            )
        except TimeoutError as error:
            raise SourceError(str(error)) from error
        return status, printed.decode(errors="replace")


def _last_line(printed: str) -> str:
    lines = [line.strip() for line in printed.split("\n") if line.strip()]
    return lines[-1] if lines else "git said nothing"
