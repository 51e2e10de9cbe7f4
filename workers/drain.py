"""Bounds a worker's warm shutdown: `deployer worker` loads this beside the tasks.

SIGTERM makes Celery wait for the running tasks as long as they take. Its own soft shutdown would bound that, but
sleeps the whole time even when the tasks end at once. Here a timer turns the shutdown into a cold one when
DEPLOYER_DRAIN_SECONDS are over; the lanes hand the work out again.
"""

import logging
import os
import signal
import threading
from typing import Any

from celery import signals

from workers.celery import deployer

_log = logging.getLogger("deployer.drain")


@signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
def _bound(how: str = "", **_: Any) -> None:
    if how == "Warm":
        timer = threading.Timer(deployer.config.drain_seconds, _stop_waiting)
        timer.daemon = True  # a worker whose tasks are done does not wait for it
        timer.start()


def _stop_waiting() -> None:
    _log.warning("tasks still run after %g s; ending them", deployer.config.drain_seconds)
    os.kill(os.getpid(), signal.SIGQUIT)
