"""The configuration of gunicorn: `gunicorn --config python:web.gunicorn_conf web.wsgi:app`.

Each process has one event loop that reads the connections, and threads (`web.front.limits`) that mostly wait for Redis.
Several processes (`--workers`) share the ports. Their counters are in files in a directory that exists as long as
gunicorn's main process, so that every process can return the `/metrics` of all.
"""

import os
import shutil
import tempfile
from typing import Any

from web.front.reload import reload_state

SHARED = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported, so this module must not import it
worker_class = "web.front.worker.HttpServerWorker"
workers = 1
timeout = 60  # seconds; gunicorn replaces a process whose event loop is blocked longer
graceful_timeout = 30  # seconds; a process answers its current requests before it ends
accesslog = (
    None  # an access log would contain everything that people write into URLs; deliveries are logged by id
)


def on_starting(server: Any) -> None:
    """Create the directory in which several processes share their counters."""
    os.environ.pop(SHARED, None)  # another program may have set it
    if server.cfg.workers > 1:
        os.environ[SHARED] = tempfile.mkdtemp(prefix="deployer-metrics-")


def on_reload(server: Any) -> None:
    """Keep the current processes accepting connections until the new ones do."""
    reload_state.begin_reload(server.worker_age)


def on_exit(_server: Any) -> None:
    """Remove the directory of the shared counters."""
    if SHARED in os.environ:
        shutil.rmtree(os.environ[SHARED], ignore_errors=True)
