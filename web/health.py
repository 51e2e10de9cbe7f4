"""`/healthz`, `/readyz` and `/metrics`: for whoever watches over the process."""

from contextlib import suppress

from flask import Blueprint, current_app, jsonify
from werkzeug.wrappers import Response

from deployer.model.errors import UnavailableError
from deployer.queue.dead_letters import warnings_of
from deployer.settings.startup import NO_EVICTION, eviction_warning
from web.answers import RETRY_AFTER
from web.context import deployer, principal

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """The process answers."""
    response: Response = jsonify(status="alive")
    return response


@blueprint.get("/readyz")
def readyz() -> Response:
    """Whether deliveries can be accepted.

    Those who may open the pages are told which part is away, and what awaits people's decision.
    """
    code, details = 200, dict[str, object]()
    try:
        deployer().lanes.ping()
        if principal():
            details = {"parts": {"redis": "ok"}, "warnings": _warnings()}
    except UnavailableError as error:
        code = 503
        if principal():
            details = {"parts": {"redis": str(error)}}
    response: Response = jsonify(status="ready" if code == 200 else "not ready", **details)
    response.status_code = code
    if code == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def _warnings() -> list[str]:
    """What to tell whoever watches; none of it makes a delivery unacceptable, so nothing fails for want of it."""
    lanes, found = deployer().lanes, list[str]()
    with suppress(UnavailableError):  # also where Redis does not allow INFO
        if eviction := eviction_warning(lanes.server()):
            found.append(f"{eviction}; {NO_EVICTION}")
    with suppress(UnavailableError):
        found += warnings_of(lanes.dead_letters())
    return found


@blueprint.get("/metrics")
def metrics() -> Response:
    """Prometheus text; answered without Redis too."""
    body, content_type = current_app.extensions["deployer-metrics"].text()
    return Response(body, content_type=content_type)
