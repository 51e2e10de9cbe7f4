"""The Celery application: `celery -A workers ...` finds it in this module, by its name.

Flower and `celery call` load it too, and need nothing but Redis. What only a worker needs is checked when one starts.
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
from deployer.model.records import OUT_OF_TIME
from deployer.queue.lease import KernelTimer
from deployer.wiring import build, check_redis, check_worker, setup_logging, warn_at_start
from workers.tasks import register

try:
    deployer = build()
except ConfigError as error:
    raise SystemExit(f"deployer: {error}") from None
app = deployer.celery
app.conf.worker_consumer = "workers.consumer:Consumer"
register(app, deployer, KernelTimer())
_log = logging.getLogger("deployer.tasks")
_start_warnings: list[str] = []  # found before the log is set up


@signals.worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _begin_process(**_: Any) -> None:
    hide_memory()  # before a branch's files are evaluated beside it
    with suppress(TransientError):  # the first task that needs it tries again, and says so
        deployer.evaluator.start()


@signals.celeryd_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _check(**_: Any) -> None:
    """End a worker that cannot work before it takes a task.

    Celery logs what a receiver of its signals raises and goes on as if nothing were wrong; only SystemExit ends it.
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


@signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _log_our_way(**_: Any) -> None:
    setup_logging(deployer.config, "worker")
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)  # our own tasks tell what they did


@signals.celeryd_after_setup.connect(weak=False)  # type: ignore[untyped-decorator]
def _warn(**_: Any) -> None:
    warn_at_start(deployer.config, "".join(_start_warnings))


@signals.task_failure.connect(weak=False)  # type: ignore[untyped-decorator]
def _tell_lane_of_timeout(exception: BaseException, args: Sequence[Any], **_: Any) -> None:
    """Have work handed out again whose process was killed by `deployer.queue.lease`; Celery's main process calls this.

    Where Redis cannot be told, the lease runs out, and the attempt counts as one of a lost worker.
    """
    if not isinstance(exception, WorkerLostError) or "SIGALRM" not in str(exception):
        return
    repository, environment, token = args
    _log.error("a task of %s %s ran out of time; its process was killed", repository, environment)
    try:
        deployer.lanes.expire(Repository.parse(repository), token, environment, OUT_OF_TIME)
    except UnavailableError as error:
        _log.warning("ending the lease of %s: %s", repository, error)
