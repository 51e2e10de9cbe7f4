"""The limits for a request until it is complete."""

from dataclasses import dataclass, replace
from typing import Self

MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one web process. Times are totals in seconds; further bytes do not extend them."""

    head_seconds: float = 10
    """from the connection, or from the first byte of a later request, to the end of the headers"""
    body_seconds: float = 20
    """from the end of the headers to the end of the body"""
    idle_seconds: float = 75
    """between two requests of a connection; load balancers keep connections for 60 s and must not find them closed"""
    linger_seconds: float = 5
    """after the last response, while further bytes are discarded, because a reset could destroy the response"""
    head_bytes: int = 32 * 1024
    header_count: int = 100
    target_bytes: int = 8 * 1024
    body_bytes: int = 64 * 1024
    webhook_body_bytes: int = 25 * MB
    """GitHub's own limit"""
    in_memory_bytes: int = 64 * 1024
    """of a body in memory; a larger body goes to a temporary file"""
    memory: int = 40 * MB
    """of all requests without a response; buffers and objects need the rest of the promised 64 MB"""
    disk: int = 256 * MB
    """of all temporary files"""
    connections: int = 4096
    queued: int = 512
    """complete requests without a response"""
    pipelined: int = 8
    """complete requests of one connection without a response"""
    threads: int = 16
    webhook_threads: int = 2
    """for webhooks whose body is in memory; while one of them waits for Redis, the other one works"""
    webhooks_at_once: int = 32
    """that one thread runs together"""

    def with_descriptors(self, descriptors: int) -> Self:
        """Allow one connection for two file descriptors, because a body may need a file as well."""
        return replace(self, connections=min(self.connections, descriptors // 2))

    def shared_by(self, processes: int) -> Self:
        """The limits of one of several processes that serve the same port."""
        return replace(self, memory=self.memory // processes, disk=self.disk // processes)
