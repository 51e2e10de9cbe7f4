"""Limits the time of a worker's shutdown; `deployer worker` loads this with the tasks.

After SIGTERM Celery takes no more messages and waits for the running tasks without a limit. Celery's soft shutdown
has a limit, but always sleeps the whole time, and its cold shutdown takes seconds itself. Here a timer hands the
running tasks back to their queues shortly before DEPLOYER_DRAIN_SECONDS are over.
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
_HAND_BACK_SECONDS = 3.0  # of DEPLOYER_DRAIN_SECONDS; at most half of them
_LEAST_SECONDS = 0.5
_CHECK_SECONDS = 0.02
_consumers: list[Any] = []


@signals.worker_ready.connect(weak=False)  # type: ignore[untyped-decorator]
def _store_consumer(sender: Any, **_: Any) -> None:
    _consumers.append(sender)


@signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
def _start_drain_timer(how: str = "", **_: Any) -> None:
    if how == "Warm":
        seconds = deployer.config.drain_seconds
        hand_back = max(min(_HAND_BACK_SECONDS, seconds / 2), _LEAST_SECONDS)
        timer = threading.Timer(max(seconds - hand_back, 0), _hand_back_tasks_and_exit, (hand_back,))
        timer.daemon = True  # a worker without running tasks does not wait for the timer
        timer.start()


def _hand_back_tasks_and_exit(seconds: float) -> None:
    """Hand back every running task, return the messages that no process took, and end.

    SIGTERM raises SystemExit in a pool process (billiard's `reset_signals`), at which the runner hands the task back. A
    process that does not end is killed with this one, and its lease expires.
    """
    _log.warning(
        "tasks still run and %g s are nearly over, so they are handed back", deployer.config.drain_seconds
    )
    children = active_children()
    for child in children:
        child.terminate()
    closing = threading.Thread(target=_return_messages, daemon=True)  # do not wait for a Redis that hangs
    closing.start()
    deadline = time.monotonic() + seconds
    while (closing.is_alive() or any(child.is_alive() for child in children)) and time.monotonic() < deadline:
        time.sleep(_CHECK_SECONDS)
    logging.shutdown()
    os._exit(0)


def _return_messages() -> None:
    """Close the broker's connections, which returns the messages that were taken and not begun."""
    for consumer in _consumers:
        if connection := consumer.connection:
            ignore_errors(connection, connection.close)  # type: ignore[no-untyped-call]
