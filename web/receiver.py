"""`POST /webhooks/...`: the door for deliveries of GitHub and AWS.

The order of the checks is part of the promise: size, content type, signature over the raw bytes, and only then is
anything believed that the body or the event's headers say.
"""

import logging
import sys
import time

from flask import Blueprint, current_app, g, jsonify, request
from werkzeug.wrappers import Response

from deployer.errors import PayloadError, SignatureError, one_line
from deployer.events import BODY_LIMIT, Ping, parse_aws, parse_github, verify_key, verify_signature
from deployer.intake import Answer
from web.answers import BROKEN, CUT_OFF, refuse
from web.context import deployer
from web.metrics import Metrics

blueprint = Blueprint("webhooks", __name__, url_prefix="/webhooks")
_log = logging.getLogger("deployer.web.receiver")
_CHUNK = 64 * 1024
_DRAIN_LIMIT = 2 * BODY_LIMIT
_JSON = "application/json"
_EVENT_HEADERS = ("X-GitHub-Event", "X-GitHub-Delivery")
_FORM = "application/x-www-form-urlencoded"


class _TooLarge(Exception):  # noqa: N818  it is an answer, not an error
    pass


@blueprint.post("/github")
def github() -> Response:
    """Accept a delivery of GitHub."""
    parts = deployer()
    body, refusal = _read(_JSON, _FORM)
    if refusal:
        return refusal
    verify_signature(body, request.headers.get("X-Hub-Signature-256"), parts.config.webhook_secrets)
    headers = {name: request.headers[name] for name in _EVENT_HEADERS if name in request.headers}
    event = parse_github({**headers, "Content-Type": request.mimetype}, body)
    if isinstance(event, Ping):
        return _say(Answer(event.delivery, "pong", "the webhook works"), 200)
    return _say(parts.intake.github(event), 202)


@blueprint.post("/aws")
def aws() -> Response:
    """Accept an event of CodePipeline or CloudFormation, sent by EventBridge."""
    parts = deployer()
    body, refusal = _read(_JSON)
    if refusal:
        return refusal
    if not parts.config.aws_event_key:
        raise SignatureError("no event of AWS is accepted here: DEPLOYER_AWS_EVENT_KEY is not set")
    verify_key(request.headers.get("X-Deployer-Event-Key"), parts.config.aws_event_key)
    return _say(parts.intake.aws(parse_aws(body)), 202)


def _read(*content_types: str) -> tuple[bytes, Response | None]:
    """The raw body, or the refusal of one that is too large or of another type."""
    # the body is read before its type is judged: a sender that is still sending would miss the answer
    try:
        body = _bounded_body()
    except _TooLarge:
        return b"", refuse(413, f"the body is larger than {BODY_LIMIT // 1024 // 1024} MB")
    except BROKEN as error:
        raise PayloadError(CUT_OFF) from error
    if request.mimetype not in content_types:
        return b"", refuse(415, f"the content type must be {' or '.join(content_types)}")
    return body, None


def _bounded_body() -> bytes:
    request.max_content_length = (
        sys.maxsize
    )  # Flask's own check would answer while the sender is still sending
    length = request.content_length
    too_large = length is not None and length > BODY_LIMIT
    kept = bytearray()
    read = 0
    while chunk := request.stream.read(_CHUNK):
        read += len(chunk)
        if too_large or read > BODY_LIMIT:
            too_large = True
            kept.clear()
            if read > _DRAIN_LIMIT:  # polite to a body a little too large, but not for ever
                break
        else:
            kept += chunk
    if too_large:
        raise _TooLarge
    if length is not None and read < length:
        raise PayloadError(CUT_OFF)
    return bytes(kept)


def _say(answer: Answer, code: int) -> Response:
    reason = one_line(answer.reason)
    _log.info("delivery %s: %s%s", answer.delivery, answer.outcome, f", {reason}" if reason else "")
    response: Response = jsonify(delivery=answer.delivery, outcome=answer.outcome, reason=reason)
    response.status_code = code
    return response


@blueprint.before_request
def _start() -> None:
    g.started = time.perf_counter()


@blueprint.after_request
def _measure(response: Response) -> Response:
    metrics: Metrics = current_app.extensions["deployer-metrics"]
    source = (request.endpoint or "").rpartition(".")[2]
    metrics.received(source, response.status_code, time.perf_counter() - g.started)
    return response
