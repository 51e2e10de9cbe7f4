"""Error responses: JSON for programs, a page for people, never a traceback."""

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
)  # the connection ended; the second is gunicorn's error for a malformed chunk
CUT_OFF = "the body ended early, or its chunked encoding is malformed"
RETRY_AFTER = 5  # seconds; AWS and scripts retry, GitHub does not
_CODES: tuple[tuple[type[DeployerError], int], ...] = (
    (UnavailableError, 503),
    (SignatureError, 401),
    (PayloadError, 400),
    (NotFoundError, 404),
    (PermanentError, 409),
)
_PEOPLE = ("/environments/", "/dead-letters/", "/repositories", "/static/")
RESPONSE_HEADERS = {
    # only deployer's own style sheet and icon, so that no text from a branch can run a script
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def log_path() -> str:
    """Return the request's path for the log, percent-encoded so that a `%0A` in it does not start a new line."""
    return quote(request.path)[:200]


def error_response(code: int, reason: str) -> Response:
    """Return an error as a page or as JSON, depending on the path.

    Args:
        code: the HTTP status.
        reason: the reason in one line.
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
        response.headers["WWW-Authenticate"] = _auth_challenge()
    return response


def _auth_challenge() -> str:
    """Return the challenge of a 401. Basic makes browsers ask for a password, so the API gets Bearer."""
    by_browser = deployer().config.api_token and not request.path.startswith("/api/")
    return 'Basic realm="deployer", charset="UTF-8"' if by_browser else "Bearer"


def register(app: Flask) -> None:
    """Register the error handlers and the headers of every response."""

    @app.errorhandler(DeployerError)
    def _handle_deployer_error(error: DeployerError) -> Response:
        code = next((code for kind, code in _CODES if isinstance(error, kind)), 500)
        reason = str(error)
        _log.warning("%s %s: %d %s", request.method, log_path(), code, reason)
        return error_response(code, reason)

    @app.errorhandler(HTTPException)
    def _handle_http_error(error: HTTPException) -> Response:
        code = error.code or 500
        response = error_response(code, one_line(error.description or error.name))
        for name, value in error.get_headers():
            if name == "Allow":
                response.headers[name] = value
        return response

    @app.errorhandler(Exception)
    def _handle_unexpected_error(error: Exception) -> Response:
        _log.error("%s %s failed", request.method, log_path(), exc_info=error)
        return error_response(500, "an unexpected error occurred; see the log of deployer's web process")

    @app.after_request
    def _set_headers(response: Response) -> Response:
        caching = response.headers.get("Cache-Control", "") if request.path.startswith("/static/") else None
        response.headers.update(RESPONSE_HEADERS)
        if caching is not None:
            response.headers["Cache-Control"] = caching
        return response
