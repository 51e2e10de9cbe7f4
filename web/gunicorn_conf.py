"""gunicorn's settings, for `gunicorn --config python:web.gunicorn_conf web.wsgi:app`; flags override them.

Each process has one event loop that reads the connections, and threads (`web.front.limits`) that wait for Redis and
hardly compute. Several processes (`--workers`) share the ports. Their counters are then kept in files of a directory
that lives as long as gunicorn's main process, so that `/metrics` tells of all of them whichever answers.
"""

import os
import shutil
import tempfile
from typing import Any

from web.front.reload import reload_state

SHARED = (
    "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client's own; not imported, since it looks once, at its import
)
worker_class = "web.front.worker.FrontWorker"
workers = 1
timeout = 60  # an event loop that has not gone round for so long hangs: gunicorn replaces its process
graceful_timeout = 30  # a request under way is answered before the process ends
accesslog = None  # an access log holds what people put into URLs; every delivery is logged by its id instead


def on_starting(server: Any) -> None:
    """Let several processes share their counters; a process reads the variable when it imports prometheus_client."""
    os.environ.pop(SHARED, None)  # of somebody else's
    if server.cfg.workers > 1:
        os.environ[SHARED] = tempfile.mkdtemp(prefix="deployer-metrics-")


def on_reload(server: Any) -> None:
    """Let the present processes accept connections until the new ones do."""
    reload_state.reload_begins(server.worker_age)


def on_exit(_server: Any) -> None:
    """Remove what the processes shared."""
    if SHARED in os.environ:
        shutil.rmtree(os.environ[SHARED], ignore_errors=True)
