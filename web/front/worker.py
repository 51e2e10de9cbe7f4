"""gunicorn's worker class: gunicorn binds the ports, and starts, watches, reloads and ends the processes."""

import asyncio
import os
import resource
import signal
import time

from gunicorn.workers.base import Worker

from web.front.limits import Limits
from web.front.reload import reload_state
from web.front.server import Front

_SUCCESSOR_SECONDS = 15  # for the process that takes a replaced one's place; it starts in one or two
_FILES = 16 * 1024  # descriptors: a connection has one, and its body in a temporary file another


class FrontWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """Runs a `Front` in a process of gunicorn's.

    Of gunicorn's settings it obeys those about sockets, processes and `graceful_timeout`; `threads`, `keepalive`,
    `worker_connections` and the limits of requests are those of `web.front.limits`.
    """

    def init_signals(self) -> None:
        """As gunicorn does, but for the pipe that wakes gunicorn's own loops: the event loop has its own."""
        super().init_signals()
        signal.set_wakeup_fd(-1)

    def run(self) -> None:
        """Serve until gunicorn ends the process or has ended itself."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.handle_exit, signal.SIGTERM, None)
        metrics = self.wsgi.extensions["deployer-metrics"]
        front = Front(
            self.wsgi,
            Limits().on(_descriptors()).shared_by(self.cfg.workers),
            on_refusal=metrics.refused,
            multiprocess=self.cfg.workers > 1,
            watched=(b"/healthz",),
        )
        await front.listen([each.sock for each in self.sockets])
        reload_state.accepts(self.age)
        self._stops_at = float("inf")
        await front.run(self._goes_on, self.cfg.graceful_timeout, lambda: reload_state.is_replaced(self.age))

    def _goes_on(self) -> bool:
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


def _descriptors() -> int:
    """How many descriptors the process may have; the usual 1,024 would end before the connections do."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return most
