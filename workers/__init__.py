"""Celery workers: `celery -A workers worker`, `celery -A workers flower`."""

from workers.app import app, deployer
from workers.tasks import register

tasks = register(app, deployer)

__all__ = ["app", "tasks"]
