"""Runs the WSGI application for one request and builds the complete response."""

from collections.abc import Callable
from email.utils import formatdate
from time import time
from typing import Any
from wsgiref.types import WSGIApplication

_BODILESS = ("1", "204", "304")
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "date", "server"}
_date = (0, "")


class _StartResponse:
    """Records the status and headers that the application gives to `start_response` (PEP 3333)."""

    def __init__(self) -> None:
        self.status = ""
        self.headers: list[tuple[str, str]] = []
        self.parts: list[bytes] = []

    def start(
        self, status: str, headers: list[tuple[str, str]], _error: object = None
    ) -> Callable[[bytes], object]:
        self.status, self.headers = status, headers
        return self.parts.append


def run_application(
    application: WSGIApplication, environ: dict[str, Any], last: Callable[[], bool]
) -> tuple[bytes, bool]:
    """Run the application for a request.

    Args:
        application: the WSGI application.
        environ: the request as WSGI variables.
        last: returns whether the connection closes after this response; called when the application has finished.

    Returns:
        The complete response, and whether it announces that the connection closes.

    Raises:
        Exception: any error that the application raises.
        ValueError: the application's status or headers would break the response.
    """
    answer = _StartResponse()
    result = application(environ, answer.start)
    try:
        answer.parts.extend(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    body = b"".join(answer.parts)
    lines = [f"HTTP/1.1 {answer.status}"]
    length = None
    for name, value in answer.headers:
        lower = name.lower()
        if lower == "content-length":
            length = value
        elif lower not in _HOP_BY_HOP:
            lines.append(f"{name}: {value}")
    if answer.status.startswith(_BODILESS):
        body = b""
    elif environ["REQUEST_METHOD"] == "HEAD":
        body = b""
        lines.append(f"Content-Length: {length or 0}")
    else:
        lines.append(f"Content-Length: {len(body)}")
    lines.append(f"Date: {_now()}")
    ends = last()
    if ends:
        lines.append("Connection: close")
    head = "\r\n".join(lines)
    if not answer.status or head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise ValueError("the application returned a malformed status or header")
    return head.encode("latin-1") + b"\r\n\r\n" + body, ends


def _now() -> str:
    global _date  # noqa: PLW0603  all responses within a second share one text
    second = int(time())
    if _date[0] != second:
        _date = (second, formatdate(second, usegmt=True))
    return _date[1]
