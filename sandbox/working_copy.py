"""A clone of a repository, in which commits are made as a developer makes them."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path


class WorkingCopy:
    """A clone that can commit and push."""

    def __init__(self, directory: Path, address: str) -> None:
        self.directory = directory
        self._env = {
            **os.environ,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_AUTHOR_NAME": "Ada",
            "GIT_AUTHOR_EMAIL": "ada@example.com",
            "GIT_COMMITTER_NAME": "Ada",
            "GIT_COMMITTER_EMAIL": "ada@example.com",
        }
        subprocess.run(
            ["git", "clone", "-q", address, str(directory)], check=True, env=self._env, capture_output=True
        )

    def git(self, *arguments: str) -> str:
        """Run git in the clone; return its output.

        Raises:
            RuntimeError: git failed; the message has its error text.
        """
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.directory,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout.strip()

    def branch(self, name: str, start: str = "origin/main") -> None:
        """Create a branch and switch to it."""
        self.git("fetch", "-q", "--prune", "origin")
        self.git("checkout", "-q", "-B", name, "--no-track", start)

    def write(self, message: str, files: Mapping[str, str]) -> str:
        """Write files and commit them; return the commit."""
        for name, text in files.items():
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.head

    def read(self, name: str) -> str:
        """The text of a file."""
        return (self.directory / name).read_text(encoding="utf-8")

    def push(self, *what: str) -> None:
        """Push the named refs, by default the current branch."""
        self.git("push", "-q", "--force", "origin", *(what or ("HEAD",)))

    @property
    def head(self) -> str:
        """The current commit."""
        return self.git("rev-parse", "HEAD")
