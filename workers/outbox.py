"""The task that posts on GitHub what the outbox wants, with the job of the scheduler that calls for it.

It is no step of a queue: it holds no lease, and a queue never waits for it.
"""

import logging
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError

from deployer.model.errors import DeployerError
from deployer.wiring import Deployer

_log = logging.getLogger("deployer.outbox")
TASK = "deployer.post"
_MESSAGE_SECONDS = 20.0  # until a message that was lost, or whose worker died, is sent again
_EXPIRY_SECONDS = 600.0  # of a message that no worker takes; longer than clocks of machines may differ


def register_sender(app: Celery, deployer: Deployer) -> Any:
    """Register the task in the application, and return it."""

    def post() -> str:
        try:
            result = deployer.display_sender.post_missing()
            deployer.outbox.end_message()
        except DeployerError as error:  # Redis is unavailable; another message comes later
            _log.warning("posting on GitHub: %s", error)
            return f"failed: {error}"
        return result

    post.__doc__ = "Post on GitHub what it does not show yet."
    return app.task(post, name=TASK)


def call_sender(deployer: Deployer) -> None:
    """Send a message to a worker if something has to be posted, unless one is on its way.

    Raises:
        UnavailableError: Redis is unavailable.
    """
    if not deployer.outbox.is_due() or not deployer.outbox.claim_message(_MESSAGE_SECONDS):
        return
    try:
        deployer.celery.send_task(TASK, retry=False, expires=_EXPIRY_SECONDS)
    except (OperationalError, OSError) as error:
        _log.warning("sending %s to the workers: %s; it is sent again", TASK, type(error).__name__)
