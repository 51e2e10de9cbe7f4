"""Bounds a worker's shutdown: `deployer worker` loads this beside the tasks.

SIGTERM makes Celery take no more messages and wait for the running tasks as long as they take. Its own soft shutdown
would bound that, but sleeps the whole time even when the tasks end at once, and its cold one needs seconds of its own.
Here a timer has the tasks that still run handed back to their lanes shortly before DEPLOYER_DRAIN_SECONDS are over.
"""

import logging
import os
import threading
import time
from typing import Any

from billiard import active_children
from celery import signals
from kombu.common import ignore_errors

from workers.celery import deployer

_log = logging.getLogger("deployer.drain")
_HAND_BACK_SECONDS = 3.0  # of those that a stopping worker has; half of them at most
_LEAST_SECONDS = 0.5
_LOOK_SECONDS = 0.02
_consumers: list[Any] = []


@signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
def _know(sender: Any, **_: Any) -> None:
    _consumers.append(sender)


@signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
def _bound(how: str = "", **_: Any) -> None:
    if how == "Warm":
        seconds = deployer.config.drain_seconds
        hand_back = max(min(_HAND_BACK_SECONDS, seconds / 2), _LEAST_SECONDS)
        timer = threading.Timer(max(seconds - hand_back, 0), _hand_back, (hand_back,))
        timer.daemon = True  # a worker whose tasks are done does not wait for it
        timer.start()


def _hand_back(seconds: float) -> None:
    """Have every task that still runs handed back, return the messages that none took up, and end.

    SIGTERM raises SystemExit in a pool process (billiard's `reset_signals`); the runner does the rest. A process
    that does not end by itself is killed with this one, and its lane's lease runs out.
    """
    _log.warning("tasks still run, and %g s are nearly over: they go back", deployer.config.drain_seconds)
    children = active_children()
    for child in children:
        child.terminate()
    closing = threading.Thread(target=_return_messages, daemon=True)  # a Redis that hangs is not waited for
    closing.start()
    deadline = time.monotonic() + seconds
    while (closing.is_alive() or any(child.is_alive() for child in children)) and time.monotonic() < deadline:
        time.sleep(_LOOK_SECONDS)
    logging.shutdown()
    os._exit(0)


def _return_messages() -> None:
    """Close the connections to the broker, which puts back what was taken and not begun. Nobody uses them any more."""
    for consumer in _consumers:
        if connection := consumer.connection:
            ignore_errors(connection, connection.close)  # type: ignore[no-untyped-call]
