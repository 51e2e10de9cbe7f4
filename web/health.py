"""`/healthz`, `/readyz` and `/metrics`: for whoever watches over the process."""

from concurrent.futures import ThreadPoolExecutor

from flask import Blueprint, current_app, jsonify
from werkzeug.wrappers import Response

from deployer.errors import UnavailableError
from deployer.letters import warnings_of
from web.context import deployer

blueprint = Blueprint("health", __name__)
_READY_SECONDS = 1.0  # whoever probes waits about as long; a Redis that hangs takes longer to be given up
_WARN_SECONDS = 0.5
_asker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readyz")


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    response: Response = jsonify(status="alive")
    return response


@blueprint.get("/readyz")
def readyz() -> Response:
    """Whether deliveries can be accepted, and which part is away if not; with what awaits people's decision."""
    asked = _asker.submit(deployer().lanes.ping)
    try:
        asked.result(_READY_SECONDS)
    except (UnavailableError, TimeoutError) as error:
        asked.cancel()
        reason = str(error) or f"Redis does not answer within {_READY_SECONDS:g} s"
        away: Response = jsonify(status="not ready", parts={"redis": reason})
        away.status_code = 503
        return away
    ready: Response = jsonify(status="ready", parts={"redis": "ok"}, warnings=_warnings())
    return ready


def _warnings() -> list[str]:
    """What to tell whoever watches; nothing where that takes too long, since it makes no delivery unacceptable."""
    asked = _asker.submit(deployer().lanes.dead_letters)
    try:
        return warnings_of(asked.result(_WARN_SECONDS))
    except (UnavailableError, TimeoutError):
        asked.cancel()
        return []


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus text; answered without Redis too."""
    body, content_type = current_app.extensions["deployer-metrics"].text()
    return Response(body, content_type=content_type)
