"""The HTTP server of the simulated AWS, which runs in threads of its process."""

from __future__ import annotations

import os
import socket
import threading

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server

from sandbox.aws.simulator import Simulator

HOST = "127.0.0.1"


class _Handler(MotoRequestHandler):
    def log(self, *_message: object) -> None:
        """Log nothing, because `/_sandbox/calls` shows the calls."""

    def connection_dropped(self, *_error: object) -> None:
        """Close the connection, so that a client notices at once that an injected fault withholds its answer."""
        self.close_connection = True


class Server:
    """A simulator that listens at an address."""

    def __init__(self, simulator: Simulator, bound: socket.socket) -> None:
        self.simulator = simulator
        with bound:
            self._server = make_server(
                HOST, 0, simulator, threaded=True, request_handler=_Handler, fd=bound.fileno()
            )
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="sandbox-aws", daemon=True
        )

    @property
    def url(self) -> str:
        """The URL of the simulator."""
        return f"http://{HOST}:{self._server.port}"

    def start(self) -> Server:
        """Start to answer requests."""
        self.simulator.start(self.url)
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop the server and all builds; remove the files."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5)
        self._server.server_close()
        self.simulator.stop()


def default_speed() -> float:
    """The factor by which waits are shortened: DEPLOYER_SANDBOX_SPEED, by default 1."""
    return float(os.environ.get("DEPLOYER_SANDBOX_SPEED") or 1.0)


def create(
    *,
    port: int = 0,
    github_url: str,
    events_url: str | None = None,
    event_key: str = "sandbox",
    speed: float | None = None,
) -> Server:
    """A server that is bound to its port but not started; port 0 selects a free port.

    Raises:
        OSError: the port is in use.
    """
    bound = socket.create_server((HOST, port))
    simulator = Simulator(
        github_url=github_url,
        events_url=events_url,
        event_key=event_key,
        speed=default_speed() if speed is None else speed,
    )
    return Server(simulator, bound)
