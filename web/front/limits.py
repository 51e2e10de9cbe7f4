"""What a sender may cost before its request is complete."""

from dataclasses import dataclass, replace
from typing import Self

MB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one web process. Seconds are totals: a byte now and then does not renew them."""

    head_seconds: float = 10
    """from the connection, or from a later request's first byte, to the end of the headers"""
    body_seconds: float = 20
    """from the end of the headers to the end of the body"""
    idle_seconds: float = 75
    """between two requests of a connection; load balancers keep theirs for 60 and must not find it closed"""
    linger_seconds: float = 5
    """after the last answer, while late bytes are thrown away: a reset would take the answer from the sender"""
    head_bytes: int = 32 * 1024
    header_count: int = 100
    target_bytes: int = 8 * 1024
    body_bytes: int = 64 * 1024
    webhook_body_bytes: int = 25 * MB
    """GitHub's own limit"""
    kept_bytes: int = 64 * 1024
    """of a body in memory; more of it goes to a temporary file"""
    memory: int = 40 * MB
    """of all requests without an answer; the rest of the 64 MB that are promised is for buffers and objects"""
    disk: int = 256 * MB
    """of all temporary files"""
    connections: int = 4096
    queued: int = 512
    """complete requests without an answer"""
    pipelined: int = 8
    """complete requests of one connection without an answer"""
    threads: int = 16

    def on(self, descriptors: int) -> Self:
        """With no more connections than a process may have open files for: half of them, since bodies need some too."""
        return replace(self, connections=min(self.connections, descriptors // 2))

    def shared_by(self, processes: int) -> Self:
        """The share of one of several processes that serve the same port."""
        return replace(self, memory=self.memory // processes, disk=self.disk // processes)
