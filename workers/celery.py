"""The Celery application: `celery -A workers ...` finds it in this module, by its name."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from billiard.exceptions import WorkerLostError
from celery import signals

from deployer.adapters.aws_client import check_settings
from deployer.bootstrap import build, setup_logging
from deployer.config import REQUIRED_FOR_WORKER, require
from deployer.environments import Repository
from deployer.errors import ConfigError, TransientError, UnavailableError
from deployer.ledger import OUT_OF_TIME
from workers.lease import KernelTimer
from workers.tasks import register

try:
    deployer = build()
    require(deployer.config, *REQUIRED_FOR_WORKER)
    deployer.host.check()
    check_settings()
except ConfigError as error:
    raise SystemExit(f"deployer: {error}") from None
app = deployer.celery
app.conf.worker_consumer = "workers.consumer:Consumer"
register(app, deployer, KernelTimer())
_log = logging.getLogger("deployer.tasks")


@signals.worker_process_init.connect(weak=False)  # type: ignore[untyped-decorator]
def _start_evaluator(**_: Any) -> None:
    with suppress(TransientError):  # the first task that needs it tries again, and says so
        deployer.evaluator.start()


@signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _log_our_way(**_: Any) -> None:
    setup_logging(deployer.config, "worker")
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)  # our own tasks tell what they did


@signals.task_failure.connect(weak=False)  # type: ignore[untyped-decorator]
def _tell_lane_of_timeout(exception: BaseException, args: Sequence[Any], **_: Any) -> None:
    """Have work handed out again whose process was killed by `workers.lease`; Celery's main process calls this.

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
