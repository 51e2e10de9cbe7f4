"""The server of one process: an event loop that reads, threads that answer, deadlines, and an orderly end."""

import asyncio
import logging
import threading
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from queue import SimpleQueue
from socket import socket
from typing import Any
from wsgiref.types import WSGIApplication

from web.front.application import respond
from web.front.connection import Connection, refusal
from web.front.limits import Limits
from web.front.request import Request
from web.front.room import Room

_log = logging.getLogger("deployer.web.front")
_LOOK_SECONDS = 0.1  # a deadline is kept with this precision
_TELL_SECONDS = 10.0  # between two lines of the log about refused requests
# For how long an idle connection is kept while the process ends. Its sender may be about to use it, and loses the
# request if the connection ends at that moment; after a further request it is told to make a new connection.
_IDLE_SECONDS = 0.5
_IDLE_SECONDS_OF_REPLACED = 5.0  # another process serves already: nobody waits for this one to end
_FIRST_REQUEST_SECONDS = 3.0  # the connection was made a moment ago, for a request that is on its way
_BACKLOG = 2048

Job = Callable[[], None]


class Threads:
    """Threads that carry out jobs, the oldest first; they do not keep a process from ending."""

    def __init__(self, number: int, name: str) -> None:
        self._jobs: SimpleQueue[Job] = SimpleQueue()
        self.submit = self._jobs.put
        for _ in range(number):
            threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            self._jobs.get()()


class Front:
    """Serves a WSGI application; must run in the event loop's thread.

    Args:
        application: the WSGI application; several threads run it at once.
        limits: what senders may cost.
        on_refusal: called with the HTTP status of each request that the application never saw.
        multiprocess: whether other processes serve the same ports.
        watched: paths that have a thread of their own: whoever watches over this process is answered although all
            other threads wait for something else.
    """

    def __init__(
        self,
        application: WSGIApplication,
        limits: Limits,
        *,
        on_refusal: Callable[[int], None] = lambda _: None,
        multiprocess: bool = False,
        watched: Collection[bytes] = (),
    ) -> None:
        self.limits = limits
        self.room = Room(limits)
        self._application = application
        self._on_refusal = on_refusal
        self._multiprocess = multiprocess
        self._loop = asyncio.get_running_loop()
        self.now = self._loop.time
        self._threads = Threads(limits.threads, "request")
        self._watched, self._watched_thread = watched, Threads(1, "watched")
        self._disk = Threads(1, "disk")
        self._servers: list[asyncio.Server] = []
        self._connections: set[Connection] = set()
        self._waiting: dict[Connection, None] = {}  # for their senders, the longest first
        self._queued = 0
        self._ending = False
        self._refusals: Counter[int] = Counter()
        self._told_at = 0.0

    async def listen(self, sockets: Sequence[socket]) -> None:
        """Accept connections on bound sockets."""
        for each in sockets:
            each.setblocking(False)
            self._servers.append(await self._loop.create_server(self._accepted, sock=each, backlog=_BACKLOG))

    async def run(
        self, alive: Callable[[], bool], drain_seconds: float, is_replaced: Callable[[], bool] = lambda: False
    ) -> None:
        """Serve until `alive` says no; then accept nothing more and answer what has begun.

        Args:
            alive: asked ten times a second.
            drain_seconds: how long requests that have begun may take then.
            is_replaced: asked at the end: whether another process already serves in place of this one.
        """
        while alive():
            self._look()
            await asyncio.sleep(_LOOK_SECONDS)
        await self._end(drain_seconds, _IDLE_SECONDS_OF_REPLACED if is_replaced() else _IDLE_SECONDS)

    async def _end(self, seconds: float, idle_seconds: float) -> None:
        self._ending = True
        over = self.now() + seconds
        await self._stop_accepting(over)
        soon, later = (
            min(over, self.now() + each) for each in (idle_seconds, max(idle_seconds, _FIRST_REQUEST_SECONDS))
        )
        while self._connections and self.now() < over:
            for connection in self._waiting:
                connection.hurry(over if not connection.idle else later if connection.is_new else soon)
            self._look()
            await asyncio.sleep(_LOOK_SECONDS / 4)
        for connection in list(self._connections):
            connection.abort()
        await asyncio.sleep(0)  # the loop tells them so

    async def _stop_accepting(self, over: float) -> None:
        """Leave new connections to other processes, and serve those that the loop has accepted already.

        asyncio's `Server.close` drops a connection that was accepted a moment ago and has no transport yet. So the loop
        first stops looking at the sockets, and the servers are closed once every accepted connection has its transport.
        """
        for server in self._servers:
            for each in server.sockets:
                self._loop.remove_reader(each)
        await asyncio.sleep(0)  # the loop calls `_accepted` for what it has accepted
        while not all(each.is_made for each in self._connections) and self.now() < over:  # noqa: ASYNC110  ended soon
            await asyncio.sleep(_LOOK_SECONDS / 10)
        for server in self._servers:
            server.close()

    def _look(self) -> None:
        """End what has passed its deadline, and tell the log how many requests were refused."""
        now = self.now()
        for connection in [each for each in self._waiting if each.deadline <= now]:
            connection.expire()
        if self._refusals and now >= self._told_at + _TELL_SECONDS:
            text = ", ".join(f"{code}: {number}" for code, number in sorted(self._refusals.items()))
            _log.warning("requests refused before they were read to their end: %s", text)
            self._refusals.clear()
            self._told_at = now

    def _accepted(self) -> Connection:
        connection = Connection(self)
        self._connections.add(connection)
        return connection

    # --- what connections call (`connection.Keeper`)

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

    def waits(self, connection: Connection) -> None:
        """The connection waits for its sender; of too many, the one that has waited longest is closed."""
        self._waiting.pop(connection, None)
        self._waiting[connection] = None
        if len(self._connections) > self.limits.connections:
            oldest = next(iter(self._waiting))
            self.gone(oldest)
            oldest.abort()

    def works(self, connection: Connection, request: Request, environ: dict[str, Any]) -> bool:
        """Hand a request to a thread; False if too many wait for one."""
        watched = request.target.partition(b"?")[0] in self._watched
        if self._queued >= self.limits.queued and not watched:
            return False
        self._queued += 1
        self._waiting.pop(connection, None)
        threads = self._watched_thread if watched else self._threads
        threads.submit(lambda: self._answer(connection, request, environ))
        return True

    def write(self, request: Request, data: bytes, then: Callable[[OSError | None], None]) -> None:
        """Write a part of a body in the disk's thread; a slow disk then stops its sender and nobody else."""

        def job() -> None:
            failure = None
            try:
                request.spool(data)
            except OSError as error:
                failure = error
            self._loop.call_soon_threadsafe(then, failure)

        self._disk.submit(job)

    def gone(self, connection: Connection) -> None:
        """The connection has ended."""
        self._waiting.pop(connection, None)
        self._connections.discard(connection)

    def refused(self, code: int) -> None:
        """Count a request that the application never saw."""
        self._refusals[code] += 1
        self._on_refusal(code)

    def _answer(self, connection: Connection, request: Request, environ: dict[str, Any]) -> None:
        """Run the application; in one of the threads."""
        try:
            whole = request.environ(environ)
        except OSError as error:
            answer, last = refusal(503, f"deployer cannot write temporary files ({error.strerror})"), True
        else:
            try:
                answer, last = respond(self._application, whole, lambda: self._ending or not request.keep)
            except Exception:  # noqa: BLE001  whatever it is, its sender gets an answer
                _log.exception("the application failed")
                answer, last = refusal(500, "something unexpected went wrong; the log says what"), True
        self._loop.call_soon_threadsafe(self._answered, connection, request, answer, last)

    def _answered(self, connection: Connection, request: Request, answer: bytes, last: bool) -> None:
        self._queued -= 1
        connection.answered(request, answer, last=last)
