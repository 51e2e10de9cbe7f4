"""Free ports of this machine."""

import itertools
import random
import socket
from contextlib import suppress


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has, and that nobody gets before it is used.

    It is below those that the kernel gives out by itself (ip_local_port_range of
    https://www.kernel.org/doc/html/latest/networking/ip-sysctl.html), else another process could have it by then; and
    no port is given twice.
    """
    while True:
        port = next(_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


_PORTS = range(12_000, 32_000)
_ports = itertools.cycle(random.SystemRandom().sample(_PORTS, len(_PORTS)))
