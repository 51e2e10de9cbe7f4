"""One connection: bytes in, complete requests to the application, answers out, one after the other."""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Protocol, cast

import httptools

from web.front.limits import Limits
from web.front.request import Request
from web.front.room import FULL, Room

RETRY_AFTER = 5  # seconds, with 503
CUT_OFF = "the body ended early, or is not in the chunks that its headers promise"
_FOR_EVER = float("inf")


class Keeper(Protocol):
    """What a connection needs of the server it belongs to."""

    limits: Limits
    room: Room
    now: Callable[[], float]

    def environ(self, transport: asyncio.Transport) -> dict[str, Any]:
        """The WSGI variables that all requests of a connection share."""

    def waits(self, connection: "Connection") -> None:
        """The connection waits for its sender, until its deadline."""

    def works(self, connection: "Connection", request: Request, environ: dict[str, Any]) -> bool:
        """Hand a request to the application; False if it has too many."""

    def write(self, request: Request, data: bytes, then: Callable[[OSError | None], None]) -> None:
        """Write a part of a body to its file without stopping the event loop."""

    def gone(self, connection: "Connection") -> None:
        """The connection has ended."""

    def refused(self, code: int) -> None:
        """Count a request that the application never saw."""


class Connection(asyncio.Protocol):
    """The callbacks of the event loop and of the parser (`on_...`).

    Attributes:
        reading: the request that is not complete yet.
        deadline: when the server calls `expire`, in the loop's seconds.
        is_made: whether the event loop reads the connection, or has done so.
        is_new: whether no request of it was answered yet.
    """

    __slots__ = (
        "_blocked", "_busy", "_deaf", "_ended", "_environ", "_fresh", "_keeper", "_parser", "_paused", "_ready",
        "_refusal", "_transport", "_writing", "deadline", "is_made", "is_new", "reading",
    )  # fmt: skip

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._environ: dict[str, Any] = {}
        self._ready: deque[Request] = deque()  # complete, in the order in which they came
        self._busy = False  # the application has a request
        self._deaf = False  # what still comes is thrown away
        self._ended = False  # nothing more comes
        self._blocked = False  # the sender does not read its answers
        self._paused = False
        self._writing = 0  # bytes of the request that is read, on their way to its file
        self._fresh = 0  # bytes of the present chunk that belong to the request that is read
        self._refusal = b""  # to be sent after the answers to earlier requests
        self.reading: Request | None = None
        self.deadline = _FOR_EVER
        self.is_made = False
        self.is_new = True

    # --- the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        self.is_made = True
        self._transport = cast(asyncio.Transport, transport)  # a stream has no other
        self._environ = self._keeper.environ(self._transport)
        self._wait(self._keeper.limits.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Parse a chunk."""
        if self._deaf:
            return
        was_busy, self._fresh = self._busy, len(data)
        try:
            self._parser.feed_data(data)
        except (
            httptools.HttpParserUpgrade
        ):  # the request is answered as if it had not asked for another protocol
            self._deaf = True
            if self._ready:
                self._ready[-1].keep = False
        except httptools.HttpParserError as error:
            self.refuse(400, f"this is no HTTP request: {error}")
        if self.reading is not None:
            self._look(self.reading)
        self._next()
        if was_busy:
            self._pause()

    def eof_received(self) -> bool:
        """Nothing more comes; returns whether an answer is still to be sent."""
        self._ended = True
        if self.reading is not None:
            self.refuse(400, CUT_OFF)
        return self._busy or bool(self._ready)

    def pause_writing(self) -> None:
        """Take up no further request of a sender that does not read its answers."""
        self._blocked = True

    def resume_writing(self) -> None:
        """Go on, as after an answer: what `answered` left undone while its answer did not fit is done now."""
        self._blocked = False
        self._go_on()

    def connection_lost(self, _error: Exception | None) -> None:
        """Give back everything but what the application and the disk have in hand."""
        self._transport = None
        self._deaf = True
        self._drop()
        while self._ready:
            self._keeper.room.release(self._ready.popleft())
        self._keeper.gone(self)

    # --- the parser

    def on_message_begin(self) -> None:
        """A request begins."""
        if not self._deaf:
            self.reading = Request()
            self.deadline = min(self.deadline, self._keeper.now() + self._keeper.limits.head_seconds)

    def on_url(self, part: bytes) -> None:
        """A part of the request's target."""
        if (request := self.reading) is not None:
            request.target += part
            request.head_bytes += len(part)
            if len(request.target) > self._keeper.limits.target_bytes:
                self.refuse(414, f"the address is longer than {self._keeper.limits.target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; after the body they are trailers, which nobody needs."""
        request = self.reading
        if request is None or request.head_done:
            return
        request.headers.append((name, value))
        request.head_bytes += len(name) + len(value)
        if len(request.headers) > self._keeper.limits.header_count:
            self.refuse(431, f"there are more than {self._keeper.limits.header_count} headers")
        elif request.head_bytes > self._keeper.limits.head_bytes:
            self.refuse(431, f"the headers are longer than {self._keeper.limits.head_bytes} bytes")

    def on_headers_complete(self) -> None:
        """Judge the headers before anything of the body is read."""
        request = self.reading
        if request is None:
            return
        limits = self._keeper.limits
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        request.keep = request.version == "1.1" and self._parser.should_keep_alive()
        request.head_done = True
        self.deadline = self._keeper.now() + limits.body_seconds
        if fault := request.fault(limits):
            self.refuse(*fault)
        elif request.expects_continue and not self._busy and not self._ready and self._transport is not None:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        if (request := self.reading) is not None:
            request.size += len(data)
            if request.size > request.limit:
                self.refuse(*request.too_large())
            else:
                request.body += data

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._fresh = 0
        request = self.reading
        if request is None:
            return
        room = self._keeper.room
        if not room.count(request) or (request.file and not room.reserve(request, len(request.body))):
            self.refuse(503, FULL)
        if self.reading is None:  # refused, here or to make room
            return
        self.reading = None
        self._keeper.room.unfinished.pop(self, None)
        self._ready.append(request)
        if len(self._ready) > self._keeper.limits.pipelined:
            request.keep = False
        if not request.keep:
            self._deaf = True

    # --- what becomes of a request

    def _look(self, request: Request) -> None:
        """Hold an unfinished request to its limits after each chunk."""
        keeper, limits = self._keeper, self._keeper.limits
        request.raw += self._fresh
        if not request.head_done and request.raw > limits.head_bytes:
            self.refuse(431, f"the headers are longer than {limits.head_bytes} bytes")
            return
        if request.raw > 2 * (request.size + limits.head_bytes):
            self.refuse(400, "the chunks are too small")
            return
        keeper.room.unfinished.setdefault(self)
        if not keeper.room.count(request, self._writing):
            self.refuse(503, FULL)
        elif request is self.reading and len(request.body) > limits.kept_bytes and not self._writing:
            self._spool(request)

    def _spool(self, request: Request) -> None:
        data = bytes(request.body)
        if not self._keeper.room.reserve(request, len(data)):
            self.refuse(503, FULL)
        elif request is self.reading:
            request.body.clear()
            self._writing = len(data)
            self._pause()
            self._keeper.write(request, data, lambda error: self._spooled(request, error))

    def _spooled(self, request: Request, error: OSError | None) -> None:
        self._writing = 0
        if request is not self.reading:  # it was refused meanwhile, or its sender has gone
            self._keeper.room.release(request)
            self._resume()  # what still comes is thrown away
        elif error is not None:
            self.refuse(503, f"deployer cannot write temporary files ({error.strerror}); try again later")
        else:
            self._keeper.room.count(request)
            self._resume()

    def _next(self) -> None:
        """Hand the next complete request to the application, or send the refusal that comes after all of them."""
        if self._busy or self._blocked or self._transport is None:
            return
        if self._ready:
            request = self._ready.popleft()
            if self._keeper.works(self, request, self._environ):
                self._busy = True
            else:
                self._keeper.refused(503)
                self._keeper.room.release(request)
                self._say_last(refusal(503, "more requests wait than deployer can hold; try again later"))
        elif self._refusal:
            self._say_last(self._refusal)

    def answered(self, request: Request, answer: bytes, *, last: bool) -> None:
        """Send the application's answer, and go on with the connection.

        Args:
            request: the request that was answered.
            answer: the whole response.
            last: whether the answer announces that the connection ends.
        """
        self._keeper.room.release(request)
        self._busy = self.is_new = False
        if self._transport is None:
            return
        if last:
            self._say_last(answer)
            return
        self._transport.write(answer)
        limits, unfinished = self._keeper.limits, self.reading
        if unfinished is None:
            self._wait(limits.idle_seconds)
        else:
            self._wait(limits.body_seconds if unfinished.head_done else limits.head_seconds)
        self._go_on()

    def _go_on(self) -> None:
        """Take up the next request; without one end the connection of a sender that has ended, or read on."""
        self._next()
        if self._busy or self._blocked or self._transport is None:
            return
        if self._ended:
            self._transport.close()
        self._resume()

    def refuse(self, code: int, reason: str) -> None:
        """Answer with an error, after the answers to earlier requests, and end the connection.

        Args:
            code: the HTTP status.
            reason: one line.
        """
        self._drop()
        if self._deaf:
            return
        self._deaf = True
        self._keeper.refused(code)
        self._refusal = refusal(code, reason)
        self._next()

    def expire(self) -> None:
        """The deadline has passed."""
        if self._transport is None:
            return
        if self.reading is not None and not self._deaf:
            part = "body" if self.reading.head_done else "headers"
            self.refuse(408, f"the {part} took too long")
        elif self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """End at once, without an answer."""
        if self._transport is not None:
            self._transport.abort()

    def hurry(self, at: float) -> None:
        """Move the deadline forward, since the process is about to end."""
        self.deadline = min(self.deadline, at)

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come."""
        return self.reading is None

    def _say_last(self, answer: bytes) -> None:
        """Send an answer and nothing after it; then wait for the sender to end the connection."""
        transport = self._transport
        if transport is None:
            return
        self._deaf, self._refusal = True, b""
        self._drop()
        while self._ready:
            self._keeper.room.release(self._ready.popleft())
        transport.write(answer)
        if self._ended or transport.is_closing():
            transport.close()
            return
        transport.write_eof()
        self._resume()
        self._wait(self._keeper.limits.linger_seconds)

    def _drop(self) -> None:
        """Forget the request that is read."""
        request, self.reading = self.reading, None
        self._keeper.room.unfinished.pop(self, None)
        if request is not None and not self._writing:
            self._keeper.room.release(request)

    def _wait(self, seconds: float) -> None:
        self.deadline = self._keeper.now() + seconds
        self._keeper.waits(self)

    def _pause(self) -> None:
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def _resume(self) -> None:
        if (
            self._paused
            and self._transport is not None
            and not self._writing
            and not self._transport.is_closing()
        ):
            self._paused = False
            self._transport.resume_reading()


def refusal(code: int, reason: str) -> bytes:
    """A whole response that ends the connection."""
    body = json.dumps({"error": reason}).encode() + b"\n"
    retry = f"Retry-After: {RETRY_AFTER}\r\n" if code == HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = (
        f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{retry}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
