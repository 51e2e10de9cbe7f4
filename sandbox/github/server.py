"""The simulated GitHub as one HTTP server on this machine."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask, Response, request
from werkzeug.serving import WSGIRequestHandler, make_server

from sandbox.github import control, pages, rest, seed, smart_http
from sandbox.github.hub import Hub
from sandbox.github.rest import Calls

HOST = "127.0.0.1"
PUBLIC = "sandbox"  # the webhook secret, which is public
_BY_ID = re.compile(r"/api/v3/repositories/(\d{1,12})(?=/|\?|$)")
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}


class _QuietHandler(WSGIRequestHandler):
    """Writes no log line per request, because `/_sandbox/calls` lists the requests."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Write nothing."""


class GitHubServer:
    """A simulated GitHub. Its address is known at once; it answers between `start` and `stop`."""

    def __init__(self, port: int, data_dir: Path, webhook_url: str, webhook_secret: str) -> None:
        # werkzeug would end the whole process if the port is in use; our own socket raises OSError instead.
        with socket.create_server((HOST, port), backlog=128) as bound:
            self.port = bound.getsockname()[1]
            self._server = make_server(
                HOST, self.port, _placeholder, True, request_handler=_QuietHandler, fd=bound.fileno()
            )
        self.url = f"http://{HOST}:{self.port}"
        try:
            self.hub = Hub(data_dir.resolve(), self.url, webhook_url, webhook_secret)
        except BaseException:
            self._server.server_close()
            raise
        self.calls = Calls()
        self._server.app = build_application(self.hub, self.calls)
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="github", daemon=True
        )
        self._stopped = False

    def start(self) -> None:
        """Start to answer requests and to send webhooks, in separate threads."""
        self.hub.sender.start()
        self._thread.start()

    def stop(self) -> None:
        """Stop answering and sending, and close all files. The next run sends the remaining deliveries."""
        if self._stopped:
            return
        self._stopped = True
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self.hub.sender.stop()
        self.hub.store.close()

    def set_webhook(self, url: str, secret: str = PUBLIC) -> None:
        """Send deliveries to this address from now on."""
        self.hub.set_webhook(url, secret)

    def ensure_sample(self, full_name: str = seed.SAMPLE_NAME) -> bool:
        """Create the sample repository if it is missing; returns whether it was missing."""
        return seed.ensure_sample(self.hub, full_name)

    def wait_idle(self, timeout: float = 10.0) -> bool:
        """Wait until every due webhook was sent; returns False after `timeout` seconds."""
        return self.hub.sender.wait_idle(timeout)


def create(
    port: int = 0,
    *,
    data_dir: Path,
    webhook_url: str = "http://127.0.0.1:8080/webhooks/github",
    webhook_secret: str = PUBLIC,
) -> GitHubServer:
    """Bind a simulated GitHub to a port of 127.0.0.1 (0 for a free port). `.start()` starts it."""
    return GitHubServer(port, data_dir, webhook_url, webhook_secret)


def build_application(hub: Hub, calls: Calls) -> Flask:
    """The WSGI application, which records the calls of its APIs."""
    app = Flask(
        "sandbox.github", template_folder=str(Path(__file__).parent / "templates"), static_folder=None
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False

    @app.before_request
    def same_site() -> Response | None:
        # A page of another site in the same browser must not send requests that change something here.
        if request.method not in _SAFE_METHODS and request.headers.get("Sec-Fetch-Site") == "cross-site":
            return Response("Not from another site.\n", 403, mimetype="text/plain")
        return None

    app.wsgi_app = _ById(app.wsgi_app, hub)  # type: ignore[method-assign]
    rest.add_api(app, hub, calls)
    app.register_blueprint(control.blueprint(hub, calls))
    app.register_blueprint(smart_http.blueprint(hub))
    app.register_blueprint(pages.blueprint(hub))
    return app


class _ById:
    """Answers `/repositories/{id}/...`, to which a former name is redirected, as `/repos/{name}/...`."""

    def __init__(self, inner: Callable[..., Any], hub: Hub) -> None:
        self._inner = inner
        self._hub = hub

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        found = _BY_ID.match(environ.get("PATH_INFO", ""))
        name = self._hub.store.name_by_id(int(found.group(1))) if found else None
        if found and name:
            for key in ("PATH_INFO", "REQUEST_URI"):
                if key in environ:
                    environ[key] = _BY_ID.sub(f"/api/v3/repos/{name}", environ[key], count=1)
        return self._inner(environ, start_response)


def _placeholder(_environ: object, _start_response: object) -> list[bytes]:
    raise RuntimeError("the server has no application yet")
