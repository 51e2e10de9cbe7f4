"""The Celery application: `celery -A workers ...` finds it in this module, by its name."""

import logging
from typing import Any

from celery import signals

from deployer.adapters.aws_client import check_settings
from deployer.bootstrap import build, setup_logging
from deployer.config import REQUIRED_FOR_WORKER, require
from deployer.errors import ConfigError
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
register(app, deployer)


@signals.setup_logging.connect(weak=False)  # type: ignore[untyped-decorator]
def _log_our_way(**_: Any) -> None:
    setup_logging(deployer.config, "worker")
    logging.getLogger("celery.app.trace").setLevel(logging.WARNING)  # our own tasks tell what they did
