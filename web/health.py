"""The endpoints for monitoring: `/healthz`, `/readyz`, `/metrics`."""

from contextlib import suppress

from flask import Blueprint, current_app, jsonify
from werkzeug.wrappers import Response

from deployer.model.errors import UnavailableError
from deployer.queue.dead_letters import dead_letter_warnings
from deployer.settings.startup import NO_EVICTION, eviction_warning
from web.answers import RETRY_AFTER
from web.context import deployer, principal

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Return 200 while the process runs."""
    response: Response = jsonify(status="alive")
    return response


@blueprint.get("/readyz")
def readyz() -> Response:
    """Return 200 if deliveries can be accepted.

    Callers who may open the pages also get the failing part and the warnings.
    """
    code, details = 200, dict[str, object]()
    try:
        deployer().lanes.ping()
        if principal():
            details = {"parts": {"redis": "ok"}, "warnings": _collect_warnings()}
    except UnavailableError as error:
        code = 503
        if principal():
            details = {"parts": {"redis": str(error)}}
    response: Response = jsonify(status="ready" if code == 200 else "not ready", **details)
    response.status_code = code
    if code == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def _collect_warnings() -> list[str]:
    """Return the warnings for operators. Errors are suppressed, because deliveries can be accepted nevertheless."""
    lanes, found = deployer().lanes, list[str]()
    with suppress(UnavailableError):  # also raised if Redis forbids INFO
        if eviction := eviction_warning(lanes.read_server()):
            found.append(f"{eviction}; {NO_EVICTION}")
    with suppress(UnavailableError):
        found += dead_letter_warnings(lanes.dead_letter_totals())
    return found


@blueprint.get("/metrics")
def metrics() -> Response:
    """Return the metrics in Prometheus's text format, also without Redis."""
    body, content_type = current_app.extensions["deployer-metrics"].text()
    return Response(body, content_type=content_type)
