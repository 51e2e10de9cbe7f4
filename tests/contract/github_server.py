"""An HTTP server whose answers a test decides, which keeps connections open as GitHub does."""

import http.server
import json
import threading
from collections.abc import Callable
from typing import Any, Self

Answer = tuple[int, dict[str, str], Any]
"""Status, headers and body; a body other than bytes is sent as JSON."""


class KeepAliveServer:
    """A server on this machine.

    Attributes:
        answer: returns the answer to a method, a path with query, and headers.
        asked: method and path of each request.
        connections: the number of connections so far.
        open: the number of open connections.
        most: the largest number of connections at the same time.
    """

    def __init__(self) -> None:
        self.answer: Callable[[str, str, dict[str, str]], Answer] = lambda *_: (
            404,
            {},
            {"message": "Not Found"},
        )
        self.asked: list[tuple[str, str]] = []
        self.connections = self.open = self.most = 0
        lock, outer = threading.Lock(), self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                with lock:
                    outer.connections += 1
                    outer.open += 1
                    outer.most = max(outer.most, outer.open)

            def finish(self) -> None:
                super().finish()
                with lock:
                    outer.open -= 1

            def _answer(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                outer.asked.append((self.command, self.path))
                status, headers, body = outer.answer(self.command, self.path, dict(self.headers))
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                content = b"" if status in {204, 304} else content
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(content))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PATCH = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_said: object) -> None: ...

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
