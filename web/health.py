"""`/healthz`, `/readyz` and `/metrics`: for whoever watches over the process."""

from flask import Blueprint, current_app, jsonify
from werkzeug.wrappers import Response

from deployer.errors import UnavailableError
from deployer.letters import warnings_of
from web.answers import RETRY_AFTER
from web.context import deployer

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    response: Response = jsonify(status="alive")
    return response


@blueprint.get("/readyz")
def readyz() -> Response:
    """Whether deliveries can be accepted, and which part is away if not; with what awaits people's decision."""
    try:
        deployer().lanes.ping()
    except UnavailableError as error:
        away: Response = jsonify(status="not ready", parts={"redis": str(error)})
        away.status_code = 503
        away.headers["Retry-After"] = str(RETRY_AFTER)
        return away
    ready: Response = jsonify(status="ready", parts={"redis": "ok"}, warnings=_warnings())
    return ready


def _warnings() -> list[str]:
    """What to tell whoever watches; nothing where that takes too long, since it makes no delivery unacceptable."""
    try:
        return warnings_of(deployer().lanes.dead_letters())
    except UnavailableError:
        return []


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus text; answered without Redis too."""
    body, content_type = current_app.extensions["deployer-metrics"].text()
    return Response(body, content_type=content_type)
