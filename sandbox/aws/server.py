"""The simulated AWS as a server: in a process of its own, or in threads of a test's."""

from __future__ import annotations

import os
import socket
import threading

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import make_server

from sandbox.aws.simulator import Simulator

HOST = "127.0.0.1"


class _Handler(MotoRequestHandler):
    def log(self, *_said: object) -> None:
        """Say nothing: `/_sandbox/calls` shows what came."""

    def connection_dropped(self, *_error: object) -> None:
        """Close the connection, so that a client whose answer is withheld on order learns of it."""
        self.close_connection = True


class Server:
    """A simulator at an address of its own."""

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
        """Where the simulator is reached."""
        return f"http://{HOST}:{self._server.port}"

    def start(self) -> Server:
        """Begin to answer."""
        self.simulator.start(self.url)
        self._thread.start()
        return self

    def stop(self) -> None:
        """End everything: requests, builds, and what was written."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join(5)
        self._server.server_close()
        self.simulator.stop()


def default_speed() -> float:
    """How many times faster than AWS's look-alike pace, by the environment."""
    return float(os.environ.get("DEPLOYER_SANDBOX_SPEED") or 1.0)


def create(
    *,
    port: int = 0,
    github_url: str,
    events_url: str | None = None,
    event_key: str = "sandbox",
    speed: float | None = None,
) -> Server:
    """A server that is bound but not yet started; port 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    bound = socket.create_server((HOST, port))
    simulator = Simulator(
        github_url=github_url,
        events_url=events_url,
        event_key=event_key,
        speed=default_speed() if speed is None else speed,
    )
    return Server(simulator, bound)
