"""One connection: it receives requests, gives complete ones to the application, and sends the responses in order."""

import asyncio
import json
from collections import deque
from http import HTTPStatus
from typing import Any, cast

import httptools

from web.front.connection_owner import ConnectionOwner
from web.front.request import Request
from web.front.resource_limiter import FULL

RETRY_AFTER = 5  # seconds, with 503
CUT_OFF = "the body ended early, or is not in the chunks that its headers announce"
_FOR_EVER = float("inf")


class Connection(asyncio.Protocol):
    """A connection, with the callbacks of the event loop and of the parser (`on_...`).

    Attributes:
        reading: the request that is not complete yet.
        deadline: when the server calls `expire`, by the event loop's clock in seconds.
        is_made: whether the event loop has called `connection_made`.
        is_new: whether no request of this connection has been answered yet.
    """

    __slots__ = (
        "_busy",
        "_complete_requests",
        "_discards_input",
        "_environ",
        "_input_ended",
        "_new_bytes",
        "_output_blocked",
        "_owner",
        "_parser",
        "_paused",
        "_refusal",
        "_transport",
        "_writing",
        "deadline",
        "is_made",
        "is_new",
        "reading",
    )  # fmt: skip

    def __init__(self, owner: ConnectionOwner) -> None:
        self._owner = owner
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._environ: dict[str, Any] = {}
        self._complete_requests: deque[Request] = deque()  # in the order in which they arrived
        self._busy = False  # the application is working on a request
        self._discards_input = False  # further input is discarded
        self._input_ended = False  # the sender sends nothing more
        self._output_blocked = False  # the sender does not read its responses
        self._paused = False
        self._writing = 0  # bytes of the unfinished request that are being written to its file
        self._new_bytes = 0  # bytes of the current chunk that belong to the unfinished request
        self._refusal = b""  # is sent after the responses to earlier requests
        self.reading: Request | None = None
        self.deadline = _FOR_EVER
        self.is_made = False
        self.is_new = True

    # --- the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        self.is_made = True
        self._transport = cast(asyncio.Transport, transport)  # a stream always has this type
        self._environ = self._owner.environ(self._transport)
        self._set_deadline(self._owner.limits.head_seconds)

    def data_received(self, data: bytes) -> None:
        """Parse a chunk."""
        if self._discards_input:
            return
        was_busy, self._new_bytes = self._busy, len(data)
        try:
            self._parser.feed_data(data)
        except (
            httptools.HttpParserUpgrade
        ):  # the request is answered as if it had not asked for another protocol
            self._discards_input = True
            if self._complete_requests:
                self._complete_requests[-1].keep = False
        except httptools.HttpParserError as error:
            self.refuse(400, f"this is not an HTTP request: {error}")
        if self.reading is not None:
            self._check_limits(self.reading)
        self._start_next_request()
        if was_busy:
            self._pause()

    def eof_received(self) -> bool:
        """Note that the sender sends nothing more; returns whether a response must still be sent."""
        self._input_ended = True
        if self.reading is not None:
            self.refuse(400, CUT_OFF)
        return self._busy or bool(self._complete_requests)

    def pause_writing(self) -> None:
        """Start no further request of a sender that does not read its responses."""
        self._output_blocked = True

    def resume_writing(self) -> None:
        """Continue after the sender has read: `send_response` started no further request while its response waited."""
        self._output_blocked = False
        self._continue()

    def connection_lost(self, _error: Exception | None) -> None:
        """Free everything except what the application and the disk thread still use."""
        self._transport = None
        self._discards_input = True
        self._drop_unfinished_request()
        while self._complete_requests:
            self._owner.limiter.release(self._complete_requests.popleft())
        self._owner.connection_ended(self)

    # --- the parser

    def on_message_begin(self) -> None:
        """Begin a request."""
        if not self._discards_input:
            self.reading = Request()
            self.deadline = min(self.deadline, self._owner.now() + self._owner.limits.head_seconds)

    def on_url(self, part: bytes) -> None:
        """Append a part of the request's target."""
        if (request := self.reading) is not None:
            request.target += part
            request.head_bytes += len(part)
            if len(request.target) > self._owner.limits.target_bytes:
                self.refuse(414, f"the address is longer than {self._owner.limits.target_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header. Headers after the body are trailers, which are ignored."""
        request = self.reading
        if request is None or request.head_done:
            return
        request.headers.append((name, value))
        request.head_bytes += len(name) + len(value)
        if len(request.headers) > self._owner.limits.header_count:
            self.refuse(431, f"there are more than {self._owner.limits.header_count} headers")
        elif request.head_bytes > self._owner.limits.head_bytes:
            self.refuse(431, f"the headers are longer than {self._owner.limits.head_bytes} bytes")

    def on_headers_complete(self) -> None:
        """Check the headers before the body is read."""
        request = self.reading
        if request is None:
            return
        limits = self._owner.limits
        request.method = self._parser.get_method().decode("latin-1")
        request.version = self._parser.get_http_version()
        request.keep = request.version == "1.1" and self._parser.should_keep_alive()
        request.head_done = True
        self.deadline = self._owner.now() + limits.body_seconds
        if header_error := request.header_error(limits):
            self.refuse(*header_error)
        elif (
            request.expects_continue
            and not self._busy
            and not self._complete_requests
            and self._transport is not None
        ):
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, data: bytes) -> None:
        """Append a part of the body."""
        if (request := self.reading) is not None:
            request.size += len(data)
            if request.size > request.limit:
                self.refuse(*request.too_large_error())
            else:
                request.body += data

    def on_message_complete(self) -> None:
        """Complete the request."""
        self._new_bytes = 0
        request = self.reading
        if request is None:
            return
        limiter = self._owner.limiter
        if not limiter.update_memory(request) or (
            request.file and not limiter.reserve_disk(request, len(request.body))
        ):
            self.refuse(503, FULL)
        if self.reading is None:  # it was refused, here or by the limiter
            return
        self.reading = None
        self._owner.limiter.unfinished.pop(self, None)
        self._complete_requests.append(request)
        if len(self._complete_requests) > self._owner.limits.pipelined:
            request.keep = False
        if not request.keep:
            self._discards_input = True

    # --- from a request to its response

    def _check_limits(self, request: Request) -> None:
        """Check the limits of the unfinished request after each chunk."""
        owner, limits = self._owner, self._owner.limits
        request.received_bytes += self._new_bytes
        if not request.head_done and request.received_bytes > limits.head_bytes:
            self.refuse(431, f"the headers are longer than {limits.head_bytes} bytes")
            return
        if request.received_bytes > 2 * (request.size + limits.head_bytes):
            self.refuse(400, "the chunks are too small")
            return
        owner.limiter.unfinished.setdefault(self)
        if not owner.limiter.update_memory(request, self._writing):
            self.refuse(503, FULL)
        elif request is self.reading and len(request.body) > limits.in_memory_bytes and not self._writing:
            self._write_to_file(request)

    def _write_to_file(self, request: Request) -> None:
        data = bytes(request.body)
        if not self._owner.limiter.reserve_disk(request, len(data)):
            self.refuse(503, FULL)
        elif request is self.reading:
            request.body.clear()
            self._writing = len(data)
            self._pause()
            self._owner.store_body_part(request, data, lambda error: self._file_written(request, error))

    def _file_written(self, request: Request, error: OSError | None) -> None:
        self._writing = 0
        if request is not self.reading:  # it was refused meanwhile, or its sender has closed the connection
            self._owner.limiter.release(request)
            self._resume()  # further input is discarded
        elif error is not None:
            self.refuse(503, f"deployer cannot write temporary files ({error.strerror}); try again later")
        else:
            self._owner.limiter.update_memory(request)
            self._resume()

    def _start_next_request(self) -> None:
        """Give the next complete request to the application, or send the error response that follows all of them."""
        if self._busy or self._output_blocked or self._transport is None:
            return
        if self._complete_requests:
            request = self._complete_requests.popleft()
            if self._owner.submit_request(self, request, self._environ):
                self._busy = True
            else:
                self._owner.count_refusal(503)
                self._owner.limiter.release(request)
                self._send_last_response(
                    error_response(503, "too many requests are waiting; try again later")
                )
        elif self._refusal:
            self._send_last_response(self._refusal)

    def send_response(self, request: Request, answer: bytes, *, last: bool) -> None:
        """Send the application's response, then continue with the connection.

        Args:
            request: the request that was answered.
            answer: the complete response.
            last: whether the response announces that the connection closes.
        """
        self._owner.limiter.release(request)
        self._busy = self.is_new = False
        if self._transport is None:
            return
        if last:
            self._send_last_response(answer)
            return
        self._transport.write(answer)
        limits, unfinished = self._owner.limits, self.reading
        if unfinished is None:
            self._set_deadline(limits.idle_seconds)
        else:
            self._set_deadline(limits.body_seconds if unfinished.head_done else limits.head_seconds)
        self._continue()

    def _continue(self) -> None:
        """Start the next request. If there is none, close the connection of a sender that has ended, or read on."""
        self._start_next_request()
        if self._busy or self._output_blocked or self._transport is None:
            return
        if self._input_ended:
            self._transport.close()
        self._resume()

    def refuse(self, code: int, reason: str) -> None:
        """Respond with an error, after the responses to earlier requests, and close the connection.

        Args:
            code: the HTTP status.
            reason: one line.
        """
        self._drop_unfinished_request()
        if self._discards_input:
            return
        self._discards_input = True
        self._owner.count_refusal(code)
        self._refusal = error_response(code, reason)
        self._start_next_request()

    def expire(self) -> None:
        """End the connection, because its deadline has passed."""
        if self._transport is None:
            return
        if self.reading is not None and not self._discards_input:
            part = "body" if self.reading.head_done else "headers"
            self.refuse(408, f"the {part} took too long")
        elif self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once, without a response."""
        if self._transport is not None:
            self._transport.abort()

    def shorten_deadline(self, at: float) -> None:
        """Shorten the deadline, because the process is stopping.

        Args:
            at: the latest time, by the event loop's clock in seconds.
        """
        self.deadline = min(self.deadline, at)

    @property
    def is_idle(self) -> bool:
        """Whether no part of a request has arrived."""
        return self.reading is None

    def _send_last_response(self, answer: bytes) -> None:
        """Send a response and nothing after it; then wait until the sender closes the connection."""
        transport = self._transport
        if transport is None:
            return
        self._discards_input, self._refusal = True, b""
        self._drop_unfinished_request()
        while self._complete_requests:
            self._owner.limiter.release(self._complete_requests.popleft())
        transport.write(answer)
        if self._input_ended or transport.is_closing():
            transport.close()
            return
        transport.write_eof()
        self._resume()
        self._set_deadline(self._owner.limits.linger_seconds)

    def _drop_unfinished_request(self) -> None:
        """Drop the unfinished request."""
        request, self.reading = self.reading, None
        self._owner.limiter.unfinished.pop(self, None)
        if request is not None and not self._writing:
            self._owner.limiter.release(request)

    def _set_deadline(self, seconds: float) -> None:
        self.deadline = self._owner.now() + seconds
        self._owner.waits_for_sender(self)

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


def error_response(code: int, reason: str) -> bytes:
    """A complete response that closes the connection."""
    body = json.dumps({"error": reason}).encode() + b"\n"
    retry = f"Retry-After: {RETRY_AFTER}\r\n" if code == HTTPStatus.SERVICE_UNAVAILABLE else ""
    head = (
        f"HTTP/1.1 {code} {HTTPStatus(code).phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{retry}Connection: close\r\n\r\n"
    )
    return head.encode("latin-1") + body
