"""Celery workers: `celery -A workers worker`, `celery -A workers flower`."""
