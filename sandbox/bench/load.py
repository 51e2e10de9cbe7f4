"""Sends requests over a few connections, with as little work for each request as possible.

The sender shares the cores with the server that it measures, so requests are complete beforehand, and of a response
only its end and one expected part are looked for.
"""

import re
import select
import socket
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

CONNECTIONS = 16
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_SILENCE_SECONDS = 10.0


class BrokenAnswerError(RuntimeError):
    """A server did not answer as expected."""


@dataclass
class Load:
    """What a server answered.

    Attributes:
        seconds: from the first request to the last response.
        latencies: of each request, in seconds.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Requests per second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: int) -> float:
        """A percentile of the latencies, in milliseconds."""
        return 1000 * statistics.quantiles(self.latencies, n=100)[percent - 1]


class _Connection:
    """One connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_SILENCE_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.since = 0.0

    def send(self, request: bytes, since: float) -> None:
        self.since = since
        self.received = b""
        self.socket.sendall(request)

    def receive(self) -> bytes:
        """Read on; the response if it is complete."""
        data = self.socket.recv(65536)
        if not data:
            raise BrokenAnswerError(f"the connection was closed after {self.received[:200]!r}")
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return b""
        length = _LENGTH.search(head)
        complete = len(body) >= int(length[1]) if length else body.endswith(b"0\r\n\r\n")
        return self.received if complete else b""


def send_requests(
    port: int, requests: Iterator[bytes], seconds: float, expected: bytes, rate: float = 0.0
) -> Load:
    """Send requests for some seconds, and wait for the responses to all of them.

    Args:
        port: the server's.
        requests: complete requests. The load ends when there are no more.
        seconds: how long.
        expected: a part of every response.
        rate: requests per second; 0 for one after another on each connection. At a rate, the latency counts from the
            time at which the request was due, so a slow response delays no later request unnoticed.

    Raises:
        BrokenAnswerError: a response is another one, or does not come.
    """
    load, poll = Load(), select.epoll()
    connections = {each.socket.fileno(): each for each in (_Connection(port) for _ in range(CONNECTIONS))}
    for number in connections:
        poll.register(number, select.EPOLLIN)
    idle, busy = list(connections.values()), 0
    started = due = time.perf_counter()
    ends = started + seconds
    more = True
    try:
        while True:
            now = time.perf_counter()
            more = more and now < ends
            while more and idle and (not rate or due <= now):
                request = next(requests, None)
                if request is None:
                    more = False
                    break
                idle.pop().send(request, due if rate else time.perf_counter())
                busy += 1
                due += 1 / rate if rate else 0
            if not more and not busy:
                break
            wait = max(0.0, due - time.perf_counter()) if rate and idle and more else _SILENCE_SECONDS
            found = poll.poll(wait)
            if not found and wait == _SILENCE_SECONDS:
                raise BrokenAnswerError(f"no answer within {_SILENCE_SECONDS:g} s")
            for number, _ in found:
                connection = connections[number]
                if answer := connection.receive():
                    if expected not in answer:
                        raise BrokenAnswerError(f"{answer[:300]!r} has no {expected!r}")
                    load.latencies.append(time.perf_counter() - connection.since)
                    busy -= 1
                    idle.append(connection)
        load.seconds = time.perf_counter() - started
        return load
    finally:
        poll.close()
        for connection in connections.values():
            connection.socket.close()
