"""Free ports of this machine."""

import itertools
import random
import socket
from contextlib import suppress


def free_port() -> int:
    """A port of 127.0.0.1 that no process uses.

    The port is below the range from which the kernel assigns ports itself (ip_local_port_range of
    https://www.kernel.org/doc/html/latest/networking/ip-sysctl.html), so that no other process gets it before it is
    used. No port is returned twice.
    """
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


_PORTS = range(12_000, 32_000)
_ports = itertools.cycle(random.SystemRandom().sample(_PORTS, len(_PORTS)))
