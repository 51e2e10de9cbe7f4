"""Receives webhook deliveries from GitHub or AWS: `POST /webhooks/...`.

The order of the checks is part of the interface: size, content type, signature over the raw bytes. Only then are the
body and the headers of the event used. Until then the body is read in parts, and a large one is stored in a temporary
file, so that it does not fill the memory.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import IO

from flask import Blueprint, current_app, g, jsonify, request
from werkzeug.wrappers import Response

from deployer.aws.events import parse_event, verify_key
from deployer.github.webhook import BODY_LIMIT, BodySignature, parse_delivery
from deployer.model.errors import PayloadError, SignatureError, UnavailableError, one_line
from deployer.model.events import Ping
from deployer.queue.submit import Answer
from web.answers import BROKEN, CUT_OFF, error_response
from web.context import deployer
from web.metrics import Metrics

blueprint = Blueprint("webhooks", __name__, url_prefix="/webhooks")
_log = logging.getLogger("deployer.web.receiver")
_CHUNK = 64 * 1024
LARGEST_IN_MEMORY = 64 * 1024  # bytes; the body of a push is smaller
_DRAIN_LIMIT = 2 * BODY_LIMIT
_JSON = "application/json"
_EVENT_HEADERS = ("X-GitHub-Event", "X-GitHub-Delivery")
_FORM = "application/x-www-form-urlencoded"
EARLIER_FAILURE = (
    "deployer.failure"  # in a WSGI environment: why `web.push_shortcut` could not submit the push
)


class _TooLarge(Exception):  # noqa: N818  it becomes a response, not an error
    pass


@blueprint.post("/github")
def github() -> Response:
    """Accept a delivery from GitHub."""
    if failure := request.environ.get(EARLIER_FAILURE):
        raise failure
    parts = deployer()
    signature = BodySignature(parts.config.webhook_secrets)
    with _receive_body(signature.update) as body:
        if refusal := _reject_other_type(_JSON, _FORM):
            return refusal
        signature.verify(request.headers.get("X-Hub-Signature-256"))
        content = body.read()
    headers = {name: request.headers[name] for name in _EVENT_HEADERS if name in request.headers}
    event = parse_delivery({**headers, "Content-Type": request.mimetype}, content)
    if isinstance(event, Ping):
        return _delivery_response(Answer(event.delivery, "pong", "the webhook works"), 200)
    return _delivery_response(parts.submit_delivery(event), 202)


@blueprint.post("/aws")
def aws() -> Response:
    """Accept an event of CodePipeline or CloudFormation, sent by EventBridge."""
    parts = deployer()
    with _receive_body(lambda _: None) as body:
        if refusal := _reject_other_type(_JSON):
            return refusal
        if not parts.config.aws_event_key:
            raise SignatureError("events from AWS are disabled: DEPLOYER_AWS_EVENT_KEY is not set")
        verify_key(request.headers.get("X-Deployer-Event-Key"), parts.config.aws_event_key)
        content = body.read()
    return _delivery_response(parts.submitter.submit_aws(parse_event(content)), 202)


@blueprint.errorhandler(_TooLarge)
def _too_large(_error: _TooLarge) -> Response:
    return error_response(413, f"the body is larger than {BODY_LIMIT // 1024 // 1024} MB")


def _reject_other_type(*content_types: str) -> Response | None:
    """Return an error if the body has another content type."""
    # the body has been read by now, because a sender that is still sending would miss the response
    if request.mimetype in content_types:
        return None
    return error_response(415, f"the content type must be {' or '.join(content_types)}")


@contextmanager
def _receive_body(each: Callable[[bytes], None]) -> Iterator[IO[bytes]]:
    """Receive the raw body completely, and yield it as a file.

    Args:
        each: called with each part of the body.

    Raises:
        _TooLarge: the body is larger than the limit.
        PayloadError: the body ended early.
        UnavailableError: the disk is full.
    """
    request.max_content_length = (
        sys.maxsize
    )  # Flask's own check would answer while the sender is still sending
    source = request.environ["wsgi.input"]
    # PEP 3333 promises no `seekable`
    if request.environ.get("wsgi.input_terminated") and getattr(source, "seekable", lambda: False)():
        _read_parts(source.read, each)  # deployer's own server has received it completely
        source.seek(0)
        yield source
        return
    with SpooledTemporaryFile(LARGEST_IN_MEMORY) as kept:

        def keep_part(part: bytes) -> None:
            each(part)
            try:
                kept.write(part)
            except OSError as error:
                text = f"deployer cannot write temporary files ({error.strerror}); try again later"
                raise UnavailableError(text) from error

        _read_parts(request.stream.read, keep_part)
        kept.seek(0)
        yield kept


def _read_parts(read: Callable[[int], bytes], each: Callable[[bytes], None]) -> None:
    """Read a body to its end in parts. Further parts of a body that is too large are dropped."""
    length = request.content_length
    too_large = length is not None and length > BODY_LIMIT
    size = 0
    try:
        while part := read(_CHUNK):
            size += len(part)
            too_large = too_large or size > BODY_LIMIT
            if not too_large:
                each(part)
            elif (
                size > _DRAIN_LIMIT
            ):  # many senders read the response only after they have sent the whole body
                break
    except BROKEN as error:
        raise PayloadError(CUT_OFF) from error
    if too_large:
        raise _TooLarge
    if length is not None and size < length:
        raise PayloadError(CUT_OFF)


def _delivery_response(answer: Answer, code: int) -> Response:
    response: Response = jsonify(log_answer(answer))
    response.status_code = code
    return response


def log_answer(answer: Answer) -> dict[str, str]:
    """Log the answer to a delivery, and return it as JSON for the sender."""
    reason = one_line(answer.reason)
    _log.info("delivery %s: %s%s", answer.delivery, answer.outcome, f", {reason}" if reason else "")
    return {"delivery": answer.delivery, "outcome": answer.outcome, "reason": reason}


@blueprint.before_request
def _start_clock() -> None:
    g.started = time.perf_counter()


@blueprint.after_request
def _count_answer(response: Response) -> Response:
    if "started" not in g:  # refused earlier, because this port serves no webhooks
        return response
    metrics: Metrics = current_app.extensions["deployer-metrics"]
    source = (request.endpoint or "").rpartition(".")[2]
    metrics.count_answer(source, response.status_code, time.perf_counter() - g.started)
    return response
