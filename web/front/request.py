"""A request while it is read, and the WSGI environment that is made of it."""

import io
import os
import sys
import tempfile
from typing import IO, Any
from urllib.parse import unquote_to_bytes

import httptools

from web.front.limits import MB, Limits

WEBHOOKS = b"/webhooks/"
_FRAMING = {b"host", b"content-length", b"transfer-encoding", b"expect"}

_HIDDEN = {"CONTENT-LENGTH", "TRANSFER-ENCODING", "CONNECTION", "EXPECT", "PROXY"}
_ON_DISK = "/var/tmp"  # noqa: S108  files there have no name
_names: dict[bytes, str] = {}  # headers as WSGI spells them
_NAMES_LIMIT = 1000  # the senders choose the names


class Request:
    """One request.

    Attributes:
        head_done: whether its headers are complete.
        keep: whether the connection may serve another request after it.
        limit: bytes that its body may have.
        size: bytes that its body has so far.
        raw: bytes that the network sent for it so far.
        counted: bytes of memory that `Room` has counted for it.
        spooled: bytes of its body for which `Room` has counted disk.
    """

    __slots__ = (
        "body", "counted", "expects_continue", "file", "head_bytes", "head_done", "headers", "keep", "limit",
        "method", "raw", "size", "spooled", "target", "version",
    )  # fmt: skip

    def __init__(self) -> None:
        self.method = self.version = ""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.file: IO[bytes] | None = None
        self.head_done = self.keep = self.expects_continue = False
        self.head_bytes = self.limit = self.size = self.raw = self.counted = self.spooled = 0

    @property
    def cost(self) -> int:
        """Bytes of memory that it holds; each header is an object of its own, so its bytes count twice."""
        return 2 * (self.head_bytes if self.head_done else self.raw) + len(self.body)

    def fault(self, limits: Limits) -> tuple[int, str] | None:
        """What is wrong with the headers that the parser let pass, as status and reason; it also reads them.

        The parser refuses what would let two programs see two different requests (RFC 9112, sections 5 and 6): two
        lengths, a length beside chunks, folded headers, lines without CR.
        """
        found: dict[bytes, list[bytes]] = {}
        for name, value in self.headers:
            if (name := name.lower()) in _FRAMING:
                found.setdefault(name, []).append(value.lower())
        hosts, coding = found.get(b"host", []), b",".join(found.get(b"transfer-encoding", []))
        expects = b",".join(found.get(b"expect", []))
        self.expects_continue = bool(expects) and self.version == "1.1"
        if self.version not in {"1.0", "1.1"}:
            return 505, "the version must be HTTP/1.1 or HTTP/1.0"
        if len(hosts) > 1 or (not hosts and self.version == "1.1"):
            return 400, "there must be one header Host"
        if coding and (coding != b"chunked" or self.version != "1.1"):
            return 501, "the only transfer coding that is understood is chunked, in HTTP/1.1"
        if not self._set_path():
            return 400, "the request's target must be a path"
        webhook = self.target.startswith(WEBHOOKS)
        self.limit = limits.webhook_body_bytes if webhook else limits.body_bytes
        if expects and expects != b"100-continue":
            return 417, "the only expectation that is understood is 100-continue"
        if int(found.get(b"content-length", [b"0"])[0]) > self.limit:
            return self.too_large()
        return None

    def too_large(self) -> tuple[int, str]:
        """The refusal of a body that is over its limit."""
        size, unit = (self.limit // MB, "MB") if self.limit >= MB else (self.limit // 1024, "kB")
        return 413, f"the body is larger than {size} {unit}"

    def _set_path(self) -> bool:
        """Leave path and query of an absolute address (RFC 9112, 3.2.2); False for what has none."""
        if self.target.startswith(b"/"):
            return True
        try:
            url = httptools.parse_url(self.target)
        except httptools.HttpParserInvalidURLError:
            return False
        if not url.schema or self.method == "CONNECT":
            return False
        self.target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
        return True

    def spool(self, data: bytes | bytearray) -> None:
        """Append to the temporary file, which has no name that could outlive the process.

        Raises:
            OSError: the disk is full, or there is no directory for temporary files.
        """
        if self.file is None:
            self.file = tempfile.TemporaryFile(buffering=0, dir=_directory())  # noqa: SIM115  `discard` closes it
        rest = memoryview(data)
        while rest:
            rest = rest[self.file.write(rest) :]

    def discard(self) -> None:
        """Give the memory and the file back."""
        self.body = bytearray()
        if self.file is not None:
            self.file.close()
            self.file = None

    def environ(self, connection: dict[str, Any]) -> dict[str, Any]:
        """The WSGI environment.

        Args:
            connection: the variables that all requests of the connection share.

        Raises:
            OSError: the rest of the body cannot be written to its file.
        """
        source: IO[bytes]
        if self.file is None:
            source = io.BytesIO(self.body)
        else:
            self.spool(self.body)
            self.body = bytearray()
            self.file.seek(0)
            source = self.file
        path, _, query = self.target.partition(b"?")
        environ = {
            **connection,
            "REQUEST_METHOD": self.method,
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "SERVER_PROTOCOL": f"HTTP/{self.version}",
            "CONTENT_LENGTH": str(self.size),
            "wsgi.input": source,
            "wsgi.errors": sys.stderr,
        }
        for name, value in self.headers:
            if key := _names.get(name) or wsgi_name(name):
                text = value.decode("latin-1")
                environ[key] = f"{environ[key]},{text}" if key in environ else text
        return environ


def _directory() -> str | None:
    """Where temporary files go. On many systems /tmp is memory, which large bodies must not fill; /var/tmp is not."""
    if os.environ.get("TMPDIR") or not os.access(_ON_DISK, os.W_OK):
        return None  # what tempfile chooses
    return _ON_DISK


def wsgi_name(name: bytes) -> str:
    """A header's name as WSGI spells it, or nothing where the application must not see the header.

    A name with `_` would become the same variable as its twin with `-`, and so pass a proxy that removes that twin.
    The headers about the connection describe what the front has already undone.
    """
    text = name.decode("latin-1").upper()
    if "_" in text or text in _HIDDEN:
        return ""
    key = "CONTENT_TYPE" if text == "CONTENT-TYPE" else "HTTP_" + text.replace("-", "_")
    if len(_names) < _NAMES_LIMIT:
        _names[name] = key
    return key
