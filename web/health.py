"""`/healthz`, `/readyz` and `/metrics`: for whoever watches over the process."""

from flask import Blueprint, current_app, jsonify
from werkzeug.wrappers import Response

from deployer.errors import UnavailableError
from web.answers import one_line
from web.context import deployer

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    response: Response = jsonify(status="alive")
    return response


@blueprint.get("/readyz")
def readyz() -> Response:
    """Whether deliveries can be accepted, and which part is away if not."""
    try:
        deployer().lanes.ping()
    except UnavailableError as error:
        away: Response = jsonify(status="not ready", parts={"redis": one_line(error)})
        away.status_code = 503
        return away
    ready: Response = jsonify(status="ready", parts={"redis": "ok"})
    return ready


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus text; answered without Redis too."""
    body, content_type = current_app.extensions["deployer-metrics"].text()
    return Response(body, content_type=content_type)
