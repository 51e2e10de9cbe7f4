"""Errors and headers of every answer: one line of JSON for programs, a page for people, never a traceback."""

import logging
from urllib.parse import quote

from flask import Flask, jsonify, render_template, request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, HTTPException
from werkzeug.wrappers import Response

from deployer.model.errors import (
    DeployerError,
    NotFoundError,
    PayloadError,
    PermanentError,
    SignatureError,
    UnavailableError,
    one_line,
)
from web.context import deployer

_log = logging.getLogger("deployer.web")
BROKEN = (
    ClientDisconnected,
    ParseException,
)  # a connection that ended; gunicorn's word for a malformed chunk
CUT_OFF = "the body ended early, or is not in the chunks that its headers promise"
RETRY_AFTER = 5  # seconds; GitHub repeats nothing by itself, AWS and scripts do
_CODES: tuple[tuple[type[DeployerError], int], ...] = (
    (UnavailableError, 503),
    (SignatureError, 401),
    (PayloadError, 400),
    (NotFoundError, 404),
    (PermanentError, 409),
)
_PEOPLE = ("/environments/", "/dead-letters/", "/repositories", "/static/")
_HEADERS = {
    # own style sheet and icon, nothing else: no script runs here, whatever a branch is called
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def log_path() -> str:
    """The request's path as the log may hold it: encoded again, so that nobody's `%0A` begins a line there."""
    return quote(request.path)[:200]


def refuse(code: int, reason: str) -> Response:
    """An error in the form that fits who asked.

    Args:
        code: the HTTP status.
        reason: one line.
    """
    for_people = request.path == "/" or request.path.startswith(_PEOPLE)
    response: Response
    if for_people:
        response = Response(render_template("problem.html", code=code, reason=reason), mimetype="text/html")
    else:
        response = jsonify(error=reason)
    response.status_code = code
    if code == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    if code == 401 and not request.path.startswith("/webhooks/"):
        response.headers["WWW-Authenticate"] = _challenge()
    return response


def _challenge() -> str:
    """What a 401 asks for; a browser shows its own form for Basic, of no use to programs or without a token."""
    by_browser = deployer().config.api_token and not request.path.startswith("/api/")
    return 'Basic realm="deployer", charset="UTF-8"' if by_browser else "Bearer"


def register(app: Flask) -> None:
    """Answer every error of the application, and set the headers of every answer."""

    @app.errorhandler(DeployerError)
    def _ours(error: DeployerError) -> Response:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), 500)
        reason = str(error)
        _log.warning("%s %s: %d %s", request.method, log_path(), code, reason)
        return refuse(code, reason)

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        code = error.code or 500
        response = refuse(code, one_line(error.description or error.name))
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        _log.error("%s %s failed", request.method, log_path(), exc_info=error)
        return refuse(500, "something unexpected went wrong; the log of deployer's web process says what")

    @app.after_request
    def _headers(response: Response) -> Response:
        response.headers.update(_HEADERS)
        if not request.path.startswith("/static/"):
            response.headers["Cache-Control"] = "no-store"
        return response
