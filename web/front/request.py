"""A request that is being received, and the WSGI variables for it."""

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
_ON_DISK = "/var/tmp"  # noqa: S108  the files have no names
_names: dict[bytes, str] = {}  # names of headers in WSGI, a cache
_NAMES_LIMIT = 1000  # of the cache, because senders choose the names


class Request:
    """One request.

    Attributes:
        head_done: whether its headers are complete.
        keep: whether the connection may serve another request after this one.
        limit: the largest allowed body, in bytes.
        size: bytes of the body received so far.
        received_bytes: bytes received for this request so far, framing included.
        counted_memory: bytes of memory that `ResourceLimiter` has counted for this request.
        counted_disk: bytes of disk that `ResourceLimiter` has counted for its body.
    """

    __slots__ = (
        "body",
        "counted_disk",
        "counted_memory",
        "expects_continue",
        "file",
        "head_bytes",
        "head_done",
        "headers",
        "keep",
        "limit",
        "method",
        "received_bytes",
        "size",
        "target",
        "version",
    )  # fmt: skip

    def __init__(self) -> None:
        self.method = self.version = ""
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.file: IO[bytes] | None = None
        self.head_done = self.keep = self.expects_continue = False
        self.head_bytes = self.limit = self.size = self.received_bytes = self.counted_memory = (
            self.counted_disk
        ) = 0

    @property
    def memory_bytes(self) -> int:
        """The memory that it uses, in bytes. Bytes of headers count twice, because each header is an object."""
        return 2 * (self.head_bytes if self.head_done else self.received_bytes) + len(self.body)

    def header_error(self, limits: Limits) -> tuple[int, str] | None:
        """Read the headers and check the rules that the parser does not check; returns status and reason of an error.

        The parser itself refuses input that two programs could read as two different requests (RFC 9112, sections 5
        and 6): two lengths, a length together with chunks, folded headers, lines without CR.
        """
        found = self._framing_headers()
        hosts, coding = found.get(b"host", []), b",".join(found.get(b"transfer-encoding", []))
        expects = b",".join(found.get(b"expect", []))
        self.expects_continue = bool(expects) and self.version == "1.1"
        if self.version not in {"1.0", "1.1"}:
            return 505, "the version must be HTTP/1.1 or HTTP/1.0"
        if len(hosts) > 1 or (not hosts and self.version == "1.1"):
            return 400, "there must be exactly one Host header"
        if coding and (coding != b"chunked" or self.version != "1.1"):
            return 501, "the only supported transfer coding is chunked, in HTTP/1.1"
        if not self._set_path():
            return 400, "the request's target must be a path"
        webhook = self.target.startswith(WEBHOOKS)
        self.limit = limits.webhook_body_bytes if webhook else limits.body_bytes
        if expects and expects != b"100-continue":
            return 417, "the only supported expectation is 100-continue"
        if int(found.get(b"content-length", [b"0"])[0]) > self.limit:
            return self.too_large_error()
        return None

    def _framing_headers(self) -> dict[bytes, list[bytes]]:
        """The values of each header that determines the request's host or the length of its body, in lower case."""
        found: dict[bytes, list[bytes]] = {}
        for name, value in self.headers:
            if (name := name.lower()) in _FRAMING:
                found.setdefault(name, []).append(value.lower())
        return found

    def too_large_error(self) -> tuple[int, str]:
        """Status and reason for a body above its limit."""
        size, unit = (self.limit // MB, "MB") if self.limit >= MB else (self.limit // 1024, "kB")
        return 413, f"the body is larger than {size} {unit}"

    def _set_path(self) -> bool:
        """Reduce an absolute address to path and query (RFC 9112, 3.2.2); False if the target has no path."""
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

    def append_to_file(self, data: bytes | bytearray) -> None:
        """Append to the temporary file. The file has no name, so it cannot outlive the process.

        Raises:
            OSError: the disk is full, or no directory for temporary files exists.
        """
        if self.file is None:
            self.file = tempfile.TemporaryFile(buffering=0, dir=_temporary_directory())  # noqa: SIM115  `release_body` closes it
        rest = memoryview(data)
        while rest:
            rest = rest[self.file.write(rest) :]

    def release_body(self) -> None:
        """Free the memory and the file of the body."""
        self.body = bytearray()
        if self.file is not None:
            self.file.close()
            self.file = None

    def environ(self, connection: dict[str, Any]) -> dict[str, Any]:
        """The WSGI variables of this request.

        Args:
            connection: the variables that all requests of the connection share.

        Raises:
            OSError: the rest of the body cannot be written to its file.
        """
        source: IO[bytes]
        if self.file is None:
            source = io.BytesIO(self.body)
        else:
            self.append_to_file(self.body)
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
            if key := _names.get(name) or wsgi_header_name(name):
                text = value.decode("latin-1")
                environ[key] = f"{environ[key]},{text}" if key in environ else text
        return environ


def _temporary_directory() -> str | None:
    """The directory for temporary files: /var/tmp, because /tmp is memory on many systems."""
    if os.environ.get("TMPDIR") or not os.access(_ON_DISK, os.W_OK):
        return None  # tempfile chooses
    return _ON_DISK


def wsgi_header_name(name: bytes) -> str:
    """The name of a header in WSGI, or nothing if the application must not see the header.

    A name with `_` would become the same variable as the name with `-`, so it could pass a proxy that removes only the
    latter. Headers about the connection are hidden, because this server has already processed them.
    """
    text = name.decode("latin-1").upper()
    if "_" in text or text in _HIDDEN:
        return ""
    key = "CONTENT_TYPE" if text == "CONTENT-TYPE" else "HTTP_" + text.replace("-", "_")
    if len(_names) < _NAMES_LIMIT:
        _names[name] = key
    return key
