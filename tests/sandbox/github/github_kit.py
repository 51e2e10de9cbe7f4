"""A receiver that records webhooks, and a working copy of a repository."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

DEADLINE = 15.0
SECRET = "sandbox"
ENVIRONMENT = {
    **{k: v for k, v in os.environ.items() if not k.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_TEMPLATE_DIR": "",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.com",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.com",
}


@dataclass(frozen=True)
class Received:
    """One request of a webhook."""

    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> str:
        return self.headers["X-GitHub-Event"]

    @property
    def guid(self) -> str:
        return self.headers["X-GitHub-Delivery"]

    @property
    def payload(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    def signed(self, digest: Callable[..., Any], secret: str = SECRET) -> str:
        return hmac.new(secret.encode(), self.body, digest).hexdigest()

    def check(self) -> None:
        """Assert both signatures."""
        assert self.headers["X-Hub-Signature-256"] == f"sha256={self.signed(hashlib.sha256)}"
        assert self.headers["X-Hub-Signature"] == f"sha1={self.signed(hashlib.sha1)}"


class Receiver:
    """The receiver of a webhook: it records each request and answers `status`."""

    def __init__(self) -> None:
        self.status = 202
        self.received: list[Received] = []
        self._arrived = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver._arrived:
                    receiver.received.append(Received(dict(self.headers.items()), body))
                    receiver._arrived.notify_all()
                answer = b'{"outcome":"queued"}'
                self.send_response(receiver.status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_args: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self, count: int, event: str | None = None) -> list[Received]:
        """Wait for `count` requests (of one event, if given) and return all of them."""

        def matching() -> list[Received]:
            return [r for r in self.received if event in {None, r.event}]

        with self._arrived:
            assert self._arrived.wait_for(lambda: len(matching()) >= count, DEADLINE), self.received
        return matching()

    def push(self, count: int = 1) -> dict[str, Any]:
        """The payload of the push event with this number."""
        return self.wait(count, "push")[count - 1].payload


class WorkingCopy:
    """A working copy that the real git command changes."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def clone(cls, url: str, path: Path) -> WorkingCopy:
        git("clone", "--quiet", url, str(path))
        return cls(path)

    @classmethod
    def start(cls, url: str, path: Path) -> WorkingCopy:
        """An empty working copy with `url` as its origin, which is faster than a clone of an empty repository."""
        git("init", "--quiet", "--initial-branch=main", str(path))
        copy = cls(path)
        copy("remote", "add", "origin", url)
        return copy

    def __call__(self, *args: str) -> str:
        return git("-C", str(self.path), *args)

    def commit(self, name: str, text: str, message: str = "change") -> str:
        """Commit a file and return the commit's SHA."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        self("add", "--all")
        self("commit", "--quiet", "-m", message)
        return self("rev-parse", "HEAD")


def git(*args: str) -> str:
    """The output of git; an error of git fails the test."""
    result = subprocess.run(["git", *args], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def git_refused(*args: str) -> str:
    """The error output of git; a success of git fails the test."""
    result = subprocess.run(["git", *args], capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert result.returncode != 0
    return result.stderr
