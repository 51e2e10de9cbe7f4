"""The HTTP front with a small application in a thread of this process; tests use raw sockets."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from web.front.limits import Limits
from web.front.server import HttpServer, run_in_turn

WATCHED = "/watched"  # it has a thread of its own, and the application answers it at once


@dataclass
class Served:
    """A running front.

    Attributes:
        seen: what the application was asked, as (method, path, query, body, environ).
        held: cleared, it keeps the application from answering.
    """

    port: int
    front: HttpServer
    loop: asyncio.AbstractEventLoop
    seen: list[tuple[str, str, str, bytes, dict[str, Any]]] = field(default_factory=list)
    held: threading.Event = field(default_factory=threading.Event)
    refused: list[int] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    opened: list[socket.socket] = field(default_factory=list)

    def connect(self) -> socket.socket:
        """A connection whose calls give up after ten seconds; it is closed at the latest with the front."""
        made = socket.create_connection(("127.0.0.1", self.port), 10)
        self.opened.append(made)
        return made

    def exchange(self, *parts: bytes, end: bool = False) -> bytes:
        """All that the front answers until it ends the connection.

        Args:
            parts: what is sent.
            end: whether the sender says that nothing more comes.
        """
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            if end:
                connection.shutdown(socket.SHUT_WR)
            return everything(connection)


def everything(connection: socket.socket) -> bytes:
    """What comes until the end of the connection."""
    found = bytearray()
    while part := connection.recv(65536):
        found += part
    return bytes(found)


def one(connection: socket.socket) -> bytes:
    """One response with a Content-Length, and nothing after it."""
    found = bytearray()
    while b"\r\n\r\n" not in found:
        part = connection.recv(1)
        assert part, bytes(found)
        found += part
    length = int(found.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
    rest = bytearray()
    while len(rest) < length:
        part = connection.recv(length - len(rest))
        assert part, bytes(found + rest)
        rest += part
    return bytes(found + rest)


@contextmanager
def serving(
    limits: Limits | None = None, drain_seconds: float = 5, run_webhooks: Any = run_in_turn
) -> Iterator[Served]:
    """Serve an application that answers with the path and the size of the body."""
    started: list[Served] = []
    ready = threading.Event()

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        served = started[0]
        body = environ["wsgi.input"].read()
        path = environ["PATH_INFO"]
        served.seen.append((environ["REQUEST_METHOD"], path, environ["QUERY_STRING"], body, environ))
        if path != WATCHED:
            served.held.wait(30)
        if path == "/bug":
            raise RuntimeError("planted")
        if path == "/split":
            start_response("200 OK", [("X-Name", "a\r\nSet-Cookie: b")])
            return [b""]
        if path == "/nothing":
            start_response("204 No Content", [])
            return [b"ignored"]
        if path == "/large":
            start_response("200 OK", [])
            return [b"x" * 1_000_000] * 8
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [f"{path} {len(body)}".encode()]

    async def main() -> None:
        refused: list[int] = []
        front = HttpServer(
            application,
            limits or Limits(),
            on_refusal=refused.append,
            health_paths=(WATCHED.encode(),),
            run_webhooks=run_webhooks,
        )
        listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
        port = listener.getsockname()[1]
        await front.listen([listener])
        served = Served(port, front, asyncio.get_running_loop(), refused=refused)
        served.held.set()
        started.append(served)
        ready.set()
        await front.run(lambda: not served.ending.is_set(), drain_seconds)
        served.ended.set()

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield started[0]
    finally:
        for each in started[0].opened:
            each.close()
        started[0].held.set()
        started[0].ending.set()
        thread.join(10)
    assert not thread.is_alive()
    limiter = started[0].front.limiter
    assert (limiter.memory, limiter.disk, limiter.unfinished) == (0, 0, {}), "everything was given back"
