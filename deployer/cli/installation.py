"""Builds the parts of deployer for a command."""

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from deployer.wiring import Deployer


REDIS_URL_KEY = (
    "deployer.redis_url"  # the key of click's context under which an error message finds the address
)


def load_deployer(redis_seconds: float = 0) -> "Deployer":
    """Read the settings and return the parts of deployer, each of which is created when it is first used.

    Args:
        redis_seconds: how long each thread may wait in total for a Redis that does not answer; 0 for no such limit.

    Raises:
        ConfigError: a setting is malformed.
    """
    # imported here, because boto3, requests and Celery would delay `--help`
    from deployer.redis_store.circuit_breaker import RedisCircuitBreaker  # noqa: PLC0415
    from deployer.wiring import build  # noqa: PLC0415

    deployer = build(budget=RedisCircuitBreaker(redis_seconds) if redis_seconds else None)
    click.get_current_context().meta[REDIS_URL_KEY] = deployer.config.shown()["DEPLOYER_REDIS_URL"]
    return deployer
