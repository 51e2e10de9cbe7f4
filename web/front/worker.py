"""The worker class for gunicorn, which binds the ports, and starts, watches, reloads and stops the processes."""

import asyncio
import os
import resource
import signal
import time

from gunicorn.workers.base import Worker

from web.front.limits import Limits
from web.front.reload import reload_state
from web.front.server import HttpServer

_SUCCESSOR_SECONDS = (
    15  # a replaced process waits so long for its successor, which needs one or two seconds to start
)
_FILES = 16 * 1024  # file descriptors: one for a connection, and one for its body in a temporary file


class HttpServerWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """Runs an `HttpServer` in a process of gunicorn.

    It obeys gunicorn's settings for sockets, processes and `graceful_timeout`. `web.front.limits` takes the place of
    `threads`, `keepalive`, `worker_connections` and gunicorn's limits for requests.
    """

    def init_signals(self) -> None:
        """Do what gunicorn does, without the pipe that wakes gunicorn's loops: the event loop has its own."""
        super().init_signals()
        signal.set_wakeup_fd(-1)

    def run(self) -> None:
        """Serve until gunicorn stops this process or has ended itself."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.handle_exit, signal.SIGTERM, None)
        metrics = self.wsgi.extensions["deployer-metrics"]
        server = HttpServer(
            self.wsgi,
            Limits().with_descriptors(_raise_descriptor_limit()).shared_by(self.cfg.workers),
            on_refusal=metrics.count_refused,
            multiprocess=self.cfg.workers > 1,
            health_paths=(b"/healthz",),
            run_webhooks=self.wsgi.extensions["deployer-run-together"],
        )
        await server.listen([each.sock for each in self.sockets])
        reload_state.mark_accepting(self.age)
        self._stops_at = float("inf")
        await server.run(
            self._keeps_running, self.cfg.graceful_timeout, lambda: reload_state.is_replaced(self.age)
        )

    def _keeps_running(self) -> bool:
        self.notify()
        if self.ppid != os.getppid():
            return False
        if self.alive:
            return True
        now = time.monotonic()
        self._stops_at = min(self._stops_at, now + _SUCCESSOR_SECONDS)
        return (
            reload_state.is_replaced(self.age)
            and not reload_state.successor_accepts()
            and now < self._stops_at
        )


def _raise_descriptor_limit() -> int:
    """Raise the limit of file descriptors, because the usual 1,024 is below that of connections, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
