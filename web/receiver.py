"""`POST /webhooks/...`: the door for deliveries of GitHub and AWS.

The order of the checks is part of the promise: size, content type, signature over the raw bytes, and only then is
anything believed that the body or the event's headers say. Until then the body is in no process's memory: it is read
in parts, and kept in a temporary file when it is large.
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

from deployer.aws.events import parse_aws, verify_key
from deployer.github.webhook import BODY_LIMIT, BodySignature, parse_github
from deployer.model.errors import PayloadError, SignatureError, UnavailableError, one_line
from deployer.model.events import Ping
from deployer.queue.submit import Answer
from web.answers import BROKEN, CUT_OFF, refuse
from web.context import deployer
from web.metrics import Metrics

blueprint = Blueprint("webhooks", __name__, url_prefix="/webhooks")
_log = logging.getLogger("deployer.web.receiver")
_CHUNK = 64 * 1024
_KEPT = 64 * 1024  # in memory; a push is smaller
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
    signature = BodySignature(parts.config.webhook_secrets)
    with _received(signature.update) as body:
        if refusal := _other_type(_JSON, _FORM):
            return refusal
        signature.verify(request.headers.get("X-Hub-Signature-256"))
        content = body.read()
    headers = {name: request.headers[name] for name in _EVENT_HEADERS if name in request.headers}
    event = parse_github({**headers, "Content-Type": request.mimetype}, content)
    if isinstance(event, Ping):
        return _say(Answer(event.delivery, "pong", "the webhook works"), 200)
    return _say(parts.intake.github(event), 202)


@blueprint.post("/aws")
def aws() -> Response:
    """Accept an event of CodePipeline or CloudFormation, sent by EventBridge."""
    parts = deployer()
    with _received(lambda _: None) as body:
        if refusal := _other_type(_JSON):
            return refusal
        if not parts.config.aws_event_key:
            raise SignatureError("no event of AWS is accepted here: DEPLOYER_AWS_EVENT_KEY is not set")
        verify_key(request.headers.get("X-Deployer-Event-Key"), parts.config.aws_event_key)
        content = body.read()
    return _say(parts.intake.aws(parse_aws(content)), 202)


@blueprint.errorhandler(_TooLarge)
def _too_large(_error: _TooLarge) -> Response:
    return refuse(413, f"the body is larger than {BODY_LIMIT // 1024 // 1024} MB")


def _other_type(*content_types: str) -> Response | None:
    """The refusal of a body of another type."""
    # the body is read before its type is judged: a sender that is still sending would miss the answer
    if request.mimetype in content_types:
        return None
    return refuse(415, f"the content type must be {' or '.join(content_types)}")


@contextmanager
def _received(each: Callable[[bytes], None]) -> Iterator[IO[bytes]]:
    """The raw body as a file to read, which has been received whole.

    Args:
        each: called with each part of it.

    Raises:
        _TooLarge: it is over the limit.
        PayloadError: it is cut off.
        UnavailableError: there is no room for it on the disk.
    """
    request.max_content_length = (
        sys.maxsize
    )  # Flask's own check would answer while the sender is still sending
    source = request.environ["wsgi.input"]
    # PEP 3333 promises no `seekable`
    if request.environ.get("wsgi.input_terminated") and getattr(source, "seekable", lambda: False)():
        _read(source.read, each)  # deployer's own server has received it whole
        source.seek(0)
        yield source
        return
    with SpooledTemporaryFile(_KEPT) as kept:

        def keep(part: bytes) -> None:
            each(part)
            try:
                kept.write(part)
            except OSError as error:
                text = f"deployer cannot write temporary files ({error.strerror}); try again later"
                raise UnavailableError(text) from error

        _read(request.stream.read, keep)
        kept.seek(0)
        yield kept


def _read(read: Callable[[int], bytes], each: Callable[[bytes], None]) -> None:
    """Read a body to its end in parts; of one that is too large no further part is kept."""
    length = request.content_length
    too_large = length is not None and length > BODY_LIMIT
    size = 0
    try:
        while part := read(_CHUNK):
            size += len(part)
            too_large = too_large or size > BODY_LIMIT
            if not too_large:
                each(part)
            elif size > _DRAIN_LIMIT:  # polite to a body a little too large, but not for ever
                break
    except BROKEN as error:
        raise PayloadError(CUT_OFF) from error
    if too_large:
        raise _TooLarge
    if length is not None and size < length:
        raise PayloadError(CUT_OFF)


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
    if "started" not in g:  # refused before: this port serves no webhooks
        return response
    metrics: Metrics = current_app.extensions["deployer-metrics"]
    source = (request.endpoint or "").rpartition(".")[2]
    metrics.received(source, response.status_code, time.perf_counter() - g.started)
    return response
