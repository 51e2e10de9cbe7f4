"""The server as its connections use it."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from web.front.limits import Limits
from web.front.request import Request
from web.front.resource_limiter import ResourceLimiter

if TYPE_CHECKING:
    from web.front.connection import Connection


class ConnectionOwner(Protocol):
    """The server to which a connection belongs, as far as the connection uses it."""

    limits: Limits
    limiter: ResourceLimiter
    now: Callable[[], float]

    def environ(self, transport: asyncio.Transport) -> dict[str, Any]:
        """The WSGI variables that all requests of a connection share."""

    def waits_for_sender(self, connection: "Connection") -> None:
        """Note that the connection waits for its sender, until its deadline."""

    def submit_request(self, connection: "Connection", request: Request, environ: dict[str, Any]) -> bool:
        """Give a request to the application; False if too many requests wait."""

    def store_body_part(
        self, request: Request, data: bytes, when_written: Callable[[OSError | None], None]
    ) -> None:
        """Write a part of a body to its file without blocking the event loop."""

    def connection_ended(self, connection: "Connection") -> None:
        """Note that the connection has ended."""

    def count_refusal(self, code: int) -> None:
        """Count a request that never reached the application."""
