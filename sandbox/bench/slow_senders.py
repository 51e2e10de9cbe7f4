"""`python -m sandbox.bench.slow_senders PORT NUMBER`: connections that send a byte a second.

Every other connection has sent its headers and is slow in the body. A connection that the server closes is opened
again.
"""

import resource
import socket
import sys
import time
from contextlib import suppress

_HEAD = b"POST /webhooks/github HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
_BODY = b"Content-Length: 8000\r\n\r\n"
_ROUND_SECONDS = 1.0


def _connect(port: int, number: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(_HEAD + _BODY if number % 2 else _HEAD)
    connection.setblocking(False)
    return connection


def main() -> None:
    """Send until this process is stopped."""
    port, number = int(sys.argv[1]), int(sys.argv[2])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, number + 100), most))
    connections = [_connect(port, each) for each in range(number)]
    print("connected", flush=True)
    while True:
        for index, connection in enumerate(connections):
            try:
                connection.send(b"x")
            except OSError:
                connection.close()
                with suppress(OSError):
                    connections[index] = _connect(port, index)
            time.sleep(_ROUND_SECONDS / number)


if __name__ == "__main__":
    main()
