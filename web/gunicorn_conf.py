"""gunicorn's settings, for `gunicorn --config python:web.gunicorn_conf web.wsgi:app`; flags override them.

Each process has one event loop that reads the connections, and threads (`web.front.limits`) that mostly wait for Redis.
Several processes (`--workers`) share the ports. They then keep their counters in files of a directory that exists as
long as gunicorn's main process, so that `/metrics` counts all processes, whichever of them answers.
"""

import os
import shutil
import tempfile
from typing import Any

from web.front.reload import reload_state

SHARED = (
    "PROMETHEUS_MULTIPROC_DIR"  # read by prometheus_client when it is imported, so it is not imported here
)
worker_class = "web.front.worker.HttpServerWorker"
workers = 1
timeout = 60  # gunicorn replaces a process whose event loop has not run for so many seconds
graceful_timeout = 30  # seconds; a request that has begun is answered before the process ends
accesslog = None  # an access log would hold what people write into URLs; each delivery is logged by its id


def on_starting(server: Any) -> None:
    """Let several processes share their counters: prometheus_client reads this variable when it is imported."""
    os.environ.pop(SHARED, None)  # set by another program
    if server.cfg.workers > 1:
        os.environ[SHARED] = tempfile.mkdtemp(prefix="deployer-metrics-")


def on_reload(server: Any) -> None:
    """Let the current processes accept connections until the new ones do."""
    reload_state.begin_reload(server.worker_age)


def on_exit(_server: Any) -> None:
    """Remove the directory that the processes shared."""
    if SHARED in os.environ:
        shutil.rmtree(os.environ[SHARED], ignore_errors=True)
