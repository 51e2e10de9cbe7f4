"""Answers a valid push before Flask's routing, which takes most of the time of such a request.

Everything else passes to Flask unchanged: another path, event or content type, a wrong signature, a payload that cannot
be read. So Flask's handlers are the only ones that answer errors, and `web.receiver` remains the whole receiver; a test
compares both ways. See docs/decisions/0046-push-shortcut.md.
"""

import json
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIEnvironment

from deployer.github.webhook import parse_delivery, verify_signature
from deployer.model.errors import DeployerError, PayloadError, SignatureError
from deployer.model.events import Push
from deployer.wiring import Deployer
from web.answers import RESPONSE_HEADERS
from web.metrics import Metrics
from web.receiver import EARLIER_FAILURE, LARGEST_IN_MEMORY, log_answer

_PATH = "/webhooks/github"
_JSON = "application/json"


class PushShortcut:
    """WSGI middleware in front of the Flask application.

    Args:
        application: the WSGI application of Flask.
        deployer: the parts.
        metrics: counts the answers.
    """

    def __init__(
        self,
        application: Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]],
        deployer: Deployer,
        metrics: Metrics,
    ) -> None:
        self._application = application
        self._deployer = deployer
        self._metrics = metrics
        self._port = str(deployer.config.webhook_port or "")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a valid push; pass any other request to the application."""
        started = time.perf_counter()
        body = self._read_push_body(environ)
        if body is None:
            return self._application(environ, start_response)
        try:
            verify_signature(
                body, environ.get("HTTP_X_HUB_SIGNATURE_256"), self._deployer.config.webhook_secrets
            )
            headers = {
                "X-GitHub-Event": "push",
                "X-GitHub-Delivery": environ.get("HTTP_X_GITHUB_DELIVERY", ""),
                "Content-Type": _JSON,
            }
            push = parse_delivery(headers, body)
        except (SignatureError, PayloadError):
            push = None
        if not isinstance(push, Push):
            environ["wsgi.input"].seek(0)
            return self._application(environ, start_response)
        if self._deployer.budget:
            self._deployer.budget.start_request()
        try:
            answer = self._deployer.submit_delivery(push)
        except DeployerError as error:
            environ[EARLIER_FAILURE] = (
                error  # the work may have been stored, so it must not be submitted again
            )
            environ["wsgi.input"].seek(0)
            return self._application(environ, start_response)
        text = json.dumps(log_answer(answer), separators=(",", ":")).encode() + b"\n"
        start_response(
            "202 ACCEPTED",
            [("Content-Type", _JSON), ("Content-Length", str(len(text))), *RESPONSE_HEADERS.items()],
        )
        self._metrics.count_answer("github", 202, time.perf_counter() - started)
        return [text]

    def _read_push_body(self, environ: WSGIEnvironment) -> bytes | None:
        """The body of a request that is probably a valid push; None for any other request, which stays unread."""
        if (
            environ["REQUEST_METHOD"] != "POST"
            or environ["PATH_INFO"] != _PATH
            or environ.get("HTTP_X_GITHUB_EVENT") != "push"
            or environ.get("CONTENT_TYPE") != _JSON
            or not environ.get("wsgi.input_terminated")
            or (self._port and environ.get("SERVER_PORT") != self._port)
        ):
            return None
        length: str = environ.get("CONTENT_LENGTH") or ""
        source: Any = environ["wsgi.input"]
        if not length.isascii() or not length.isdigit() or int(length) > LARGEST_IN_MEMORY:
            return None
        if not getattr(source, "seekable", lambda: False)():
            return None
        body: bytes = source.read(LARGEST_IN_MEMORY + 1)
        if len(body) != int(length):
            source.seek(0)
            return None
        return body
