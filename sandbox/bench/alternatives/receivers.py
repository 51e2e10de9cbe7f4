"""Two receivers that people would write: one that only answers, and one that sends each push to Celery.

`gunicorn --worker-class=gthread --threads=16 sandbox.bench.alternatives.receivers:bare` (or `:flask_celery`). The
second verifies the signature, as deployer does, but knows neither duplicates nor an order.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIEnvironment

from celery import Celery
from flask import Flask, request
from flask.typing import ResponseReturnValue

_SECRET = os.environ.get("DEPLOYER_GITHUB_WEBHOOK_SECRET", "").encode()


def bare(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Read the body and answer `ok`."""
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


_celery = Celery("alternative", broker=os.environ.get("DEPLOYER_REDIS_URL"), set_as_current=False)
_celery.conf.update(task_ignore_result=True, task_default_queue="alternative")
flask_celery = Flask(__name__)


@_celery.task(name="alternative.deploy")  # type: ignore[untyped-decorator]
def _deploy(repository: str, ref: str, commit: str, delivery: str) -> None:
    """Do nothing: only sending is measured."""


@flask_celery.post("/webhooks/github")
def receive_push() -> ResponseReturnValue:
    """Verify a push and send it to a worker."""
    body = request.get_data()
    expected = "sha256=" + hmac.new(_SECRET, body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected, request.headers.get("X-Hub-Signature-256", "")):
        return {"error": "the signature does not match"}, 401
    push = json.loads(body)
    delivery = request.headers["X-GitHub-Delivery"]
    _deploy.apply_async(args=[push["repository"]["full_name"], push["ref"], push["after"], delivery])
    return {"delivery": delivery, "outcome": "queued"}, 202
