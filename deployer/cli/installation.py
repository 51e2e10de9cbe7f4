"""Builds the parts of deployer for a command."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deployer.wiring import Deployer


REDIS_URL_KEY = "deployer.redis_url"  # where the context keeps the address that a message may name


def load_deployer(redis_seconds: float = 0) -> "Deployer":
    """Settings read and every part ready to be made.

    Args:
        redis_seconds: how long each thread may wait in vain for Redis, all its commands together; 0 for as long as
            each command takes.

    Raises:
        ConfigError: a setting is malformed.
    """
    # not at the top: it brings boto3, requests and Celery along, which `--help` must not wait for
    from deployer.redis_store.connection import Budget  # noqa: PLC0415
    from deployer.wiring import build  # noqa: PLC0415

    deployer = build(budget=Budget(redis_seconds) if redis_seconds else None)
    click.get_current_context().meta[REDIS_URL_KEY] = deployer.config.shown()["DEPLOYER_REDIS_URL"]
    return deployer
