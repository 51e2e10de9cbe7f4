"""The Celery application, which `celery -A workers` finds by the name of this module.

Flower and `celery call` load it too, and need only Redis. What only a worker needs is checked when a worker starts.
"""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import signals

from deployer.local.process_memory import hide_memory
from deployer.model.environments import Repository
from deployer.model.errors import ConfigError, DeployerError, TransientError, UnavailableError
from deployer.queue.items import OUT_OF_TIME
from deployer.queue.lease import KernelTimer
from deployer.queue.progress_log import setup_logging
from deployer.wiring import build, check_redis, check_worker, warn_at_start
from workers.item_events import StopSign
from workers.outbox import register_sender
from workers.tasks import register

try:
    deployer = build()
except ConfigError as error:
    raise SystemExit(f"deployer: {error}") from None
app = deployer.celery
app.conf.worker_consumer = "workers.consumer:Consumer"
stop_sign = StopSign()
register(app, deployer, KernelTimer(), stop_sign)
register_sender(app, deployer)
_log = logging.getLogger("deployer.tasks")
_start_warnings: list[str] = []  # found before logging is set up


@signals.worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _start_process(**_: Any) -> None:
    hide_memory()  # before another process evaluates a branch's files
    with suppress(TransientError):  # the first task that needs it tries again and reports the error
        deployer.evaluator.start()


@signals.celeryd_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _check_worker(**_: Any) -> None:
    """End a worker with wrong settings before it takes a task.

    Celery only logs an exception of a signal's receiver and continues; only SystemExit ends the worker.
    """
    try:
        hide_memory()
        check_worker(deployer)
        _start_warnings.append(check_redis(deployer.config))
    except DeployerError as error:
        raise SystemExit(f"deployer: {error}") from None
    except Exception as error:
        logging.getLogger("deployer.start").exception("this worker cannot start")
        raise SystemExit(1) from error


@signals.worker_shutting_down.connect(weak=False)  # type: ignore[untyped-decorator]
def _take_no_more_items(**_: Any) -> None:
    stop_sign.set()


@signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _set_up_logging(**_: Any) -> None:
    setup_logging(deployer.config.log_level, "worker")
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)  # deployer's tasks log their own results


@signals.celeryd_after_setup.connect(weak=False)  # type: ignore[untyped-decorator]
def _log_start_warnings(**_: Any) -> None:
    warn_at_start(deployer.config, "".join(_start_warnings))


@signals.task_failure.connect(weak=False)  # type: ignore[untyped-decorator]
def _end_lease_of_killed_task(exception: BaseException, args: Sequence[Any], **_: Any) -> None:
    """End the lease of a task whose process was killed by `deployer.queue.lease`; Celery's main process calls this.

    If Redis is unavailable, the lease expires, and the attempt counts as one of a lost worker.
    """
    if not isinstance(exception, WorkerLostError) or "SIGALRM" not in str(exception):
        return
    repository, environment, token = args
    _log.error("a task of %s %s ran out of time; its process was killed", repository, environment)
    try:
        deployer.lanes.end_lease(Repository.parse(repository), token, environment, OUT_OF_TIME)
    except UnavailableError as error:
        _log.warning("ending the lease of %s: %s", repository, error)
