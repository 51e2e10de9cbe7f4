"""The HTTP server of one process: it accepts connections, enforces deadlines and runs the application in threads."""

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from socket import socket
from typing import Any
from wsgiref.types import WSGIApplication

from web.front.connection import Connection, error_response
from web.front.limits import Limits
from web.front.request import WEBHOOKS, Request
from web.front.resource_limiter import ResourceLimiter
from web.front.wsgi_call import run_application

_log = logging.getLogger("deployer.web.front")
_CHECK_SECONDS = 0.1  # the precision of deadlines
_LOG_SECONDS = 10.0  # between two log lines about refused requests
# How long an idle connection is kept while the process stops. If its sender uses it at the moment in which it closes,
# the request is lost. A sender that sends a further request is told in the response to open a new connection.
_IDLE_SECONDS = 0.5
_IDLE_SECONDS_OF_REPLACED = 5.0  # another process already serves, so nobody waits until this one ends
_FIRST_REQUEST_SECONDS = 3.0  # the connection was opened a moment ago for a request that is about to arrive
_BACKLOG = 2048

Job = Callable[[], None]


def run_in_turn(jobs: Sequence[Job]) -> None:
    """Run jobs one after another."""
    for job in jobs:
        job()


class Threads:
    """Threads that run jobs, the oldest first. They do not prevent the process from ending.

    Args:
        number: how many threads.
        name: of the threads.
        run: runs the jobs that a thread takes.
        at_once: how many of the waiting jobs a thread takes at once.
    """

    def __init__(
        self, number: int, name: str, run: Callable[[Sequence[Job]], None] = run_in_turn, at_once: int = 1
    ) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self.submit = self._jobs.put
        self._run, self._at_once = run, at_once
        for _ in range(number):
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            jobs = [self._jobs.get()]
            with suppress(Empty):
                while len(jobs) < self._at_once:
                    jobs.append(self._jobs.get_nowait())
            self._run(jobs)


class HttpServer:
    """Serves a WSGI application. It must run in the event loop's thread.

    Args:
        application: the WSGI application; several threads run it at once.
        limits: the limits for each sender and for all of them.
        on_refusal: called with the HTTP status of each request that never reached the application.
        multiprocess: whether other processes serve the same ports.
        health_paths: paths with their own thread, so that a health check is answered while all other threads wait.
        run_webhooks: runs the webhooks that wait at the moment, in a thread of their own.
    """

    def __init__(
        self,
        application: WSGIApplication,
        limits: Limits,
        *,
        on_refusal: Callable[[int], None] = lambda _: None,
        multiprocess: bool = False,
        health_paths: Collection[bytes] = (),
        run_webhooks: Callable[[Sequence[Job]], None] = run_in_turn,
    ) -> None:
        self.limits = limits
        self.limiter = ResourceLimiter(limits)
        self._application = application
        self._on_refusal = on_refusal
        self._multiprocess = multiprocess
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._threads = Threads(limits.threads, "request")
        self._health_paths, self._health_thread = health_paths, Threads(1, "health_paths")
        self._webhook_threads = Threads(
            limits.webhook_threads, "webhooks", run_webhooks, limits.webhooks_at_once
        )
        self._disk = Threads(1, "disk")
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}  # wait for their senders, the longest first
        self._queued = 0
        self._answers: deque[tuple[Connection, Request, bytes, bool]] = deque()
        self._is_woken = False
        self._ending = False
        self._refusals: Counter[int] = Counter()
        self._logged_at = 0.0

    async def listen(self, sockets: Sequence[socket]) -> None:
        """Accept connections on sockets that are already bound."""
        for each in sockets:
            each.setblocking(False)
            self._servers.append(await self._loop.create_server(self._accepted, sock=each, backlog=_BACKLOG))

    async def run(
        self, alive: Callable[[], bool], drain_seconds: float, is_replaced: Callable[[], bool] = lambda: False
    ) -> None:
        """Serve until `alive` returns False. Then accept nothing more and answer the requests that have begun.

        Args:
            alive: called ten times a second.
            drain_seconds: how long requests that have begun may take then.
            is_replaced: called at the end; returns whether another process already serves instead of this one.
        """
        while alive():
            self._expire_connections()
            await asyncio.sleep(_CHECK_SECONDS)
        await self._drain_connections(
            drain_seconds, _IDLE_SECONDS_OF_REPLACED if is_replaced() else _IDLE_SECONDS
        )

    async def _drain_connections(self, seconds: float, idle_seconds: float) -> None:
        self._ending = True
        over = self.now() + seconds
        await self._stop_accepting(over)
        soon, later = (
            min(over, self.now() + each) for each in (idle_seconds, max(idle_seconds, _FIRST_REQUEST_SECONDS))
        )
        while self._connections and self.now() < over:
            for connection in self._waiting:
                connection.shorten_deadline(
                    over if not connection.is_idle else later if connection.is_new else soon
                )
            self._expire_connections()
            await asyncio.sleep(_CHECK_SECONDS / 4)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # the event loop calls their `connection_lost`

    async def _stop_accepting(self, over: float) -> None:
        """Leave new connections to other processes, and serve those that the event loop has already accepted.

        asyncio's `Server.close` drops a connection that was accepted a moment ago and has no transport yet. So the
        event loop first stops watching the sockets, and the servers close when each accepted connection has its
        transport.
        """
        for server in self._servers:
            for each in server.sockets:
                self._loop.remove_reader(each)
        await asyncio.sleep(0)  # the event loop calls `_accepted` for the connections that it has accepted
        while not all(each.is_made for each in self._connections) and self.now() < over:  # noqa: ASYNC110  it takes milliseconds
            await asyncio.sleep(_CHECK_SECONDS / 10)
        for server in self._servers:
            server.close()

    def _expire_connections(self) -> None:
        """End the connections whose deadline has passed, and log how many requests were refused."""
        now = self.now()
        for connection in [each for each in self._waiting if each.deadline <= now]:
            connection.expire()
        if self._refusals and now >= self._logged_at + _LOG_SECONDS:
            text = ", ".join(f"{code}: {number}" for code, number in sorted(self._refusals.items()))
            _log.warning("requests refused before they were complete: %s", text)
            self._refusals.clear()
            self._logged_at = now

    def _accepted(self) -> Connection:
        connection = Connection(self)
        self._connections.add(connection)
        return connection

    # --- called by connections (`ConnectionOwner`)

    def environ(self, transport: asyncio.Transport) -> dict[str, Any]:
        """The WSGI variables that all requests of a connection share."""
        own = transport.get_extra_info("sockname") or ("", 0)
        peer = transport.get_extra_info("peername") or ("", 0)
        return {
            "SCRIPT_NAME": "",
            "SERVER_NAME": own[0],
            "SERVER_PORT": str(own[1]),
            "REMOTE_ADDR": peer[0],
            "REMOTE_PORT": str(peer[1]),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.multithread": True,
            "wsgi.multiprocess": self._multiprocess,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
        }

    def waits_for_sender(self, connection: Connection) -> None:
        """Note that the connection waits for its sender. If too many do, close the one that has waited longest."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None
        if len(self._connections) > self.limits.connections:
            oldest = next(iter(self._waiting))
            self.connection_ended(oldest)
            oldest.abort()

    def submit_request(self, connection: Connection, request: Request, environ: dict[str, Any]) -> bool:
        """Give a request to a thread; False if too many requests wait for one."""
        threads = self._threads
        if request.target.partition(b"?")[0] in self._health_paths:
            threads = self._health_thread
        elif self._queued >= self.limits.queued:
            return False
        elif request.target.startswith(WEBHOOKS) and request.size <= self.limits.in_memory_bytes:
            threads = self._webhook_threads  # a large body would delay the others
        self._queued += 1
        self._waiting.pop(connection, None)
        threads.submit(lambda: self._answer(connection, request, environ))
        return True

    def store_body_part(
        self, request: Request, data: bytes, when_written: Callable[[OSError | None], None]
    ) -> None:
        """Write a part of a body in the disk thread, so that a slow disk delays only this sender."""

        def job() -> None:
            failure = None
            try:
                request.append_to_file(data)
            except OSError as error:
                failure = error
            self._loop.call_soon_threadsafe(when_written, failure)

        self._disk.submit(job)

    def connection_ended(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._waiting.pop(connection, None)
        self._connections.discard(connection)

    def count_refusal(self, code: int) -> None:
        """Count a request that never reached the application."""
        self._refusals[code] += 1
        self._on_refusal(code)

    def _answer(self, connection: Connection, request: Request, environ: dict[str, Any]) -> None:
        """Run the application in one of the threads."""
        try:
            whole = request.environ(environ)
        except OSError as error:
            answer, last = (
                error_response(503, f"deployer cannot write temporary files ({error.strerror})"),
                True,
            )
        else:
            try:
                answer, last = run_application(
                    self._application, whole, lambda: self._ending or not request.keep
                )
            except Exception:  # noqa: BLE001  the sender gets a response after any error
                _log.exception("the application failed")
                answer, last = error_response(500, "an unexpected error occurred; see deployer's log"), True
        self._answers.append((connection, request, answer, last))
        if not self._is_woken:  # one wake-up of the event loop serves all answers that are ready by then
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._send_answers)

    def _send_answers(self) -> None:
        self._is_woken = False  # before the answers are taken, so that a later one wakes the event loop again
        while self._answers:
            connection, request, answer, last = self._answers.popleft()
            self._queued -= 1
            connection.send_response(request, answer, last=last)
