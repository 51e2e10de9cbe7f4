"""Events of CodePipeline or CloudFormation from EventBridge: key verified, body read as a typed event."""

import hmac
import re

from deployer.model.errors import PayloadError, SignatureError
from deployer.model.events import CloudEvent, Ignored
from deployer.model.json_fields import DELIVERY_ID, json_object, object_field, text_field

_STACK_ARN = re.compile(
    r"arn:[a-z-]+:cloudformation:([a-z0-9-]+):(\d{12}):stack/([A-Za-z][-A-Za-z0-9]*)/[^/]+"
)


def verify_key(given: str | None, key: str) -> None:
    """Check `X-Deployer-Event-Key` in constant time.

    Raises:
        SignatureError: it is missing or another one.
    """
    if given is None or not hmac.compare_digest(given.encode("utf-8", "replace"), key.encode()):
        raise SignatureError("the header X-Deployer-Event-Key is missing or wrong")


def parse_event(body: bytes) -> CloudEvent | Ignored:
    """Read an EventBridge event about a pipeline or stack.

    Raises:
        PayloadError: the body is not an EventBridge event, or lacks a field of its type.
    """
    payload = json_object(body)
    delivery = text_field(payload, "id")
    if not DELIVERY_ID.fullmatch(delivery):
        raise PayloadError("field id is malformed")
    source = text_field(payload, "source")
    detail_type = text_field(payload, "detail-type")
    detail = object_field(payload, "detail")
    account, region = (text_field(payload, name) if name in payload else "" for name in ("account", "region"))
    if source == "aws.codepipeline":
        what = detail_type.removeprefix("CodePipeline ").removesuffix(" Execution State Change")
        if what not in {"Pipeline", "Stage"}:
            return Ignored(delivery, f"{detail_type[:80]} repeats its stage's event")
        state = text_field(detail, "state")
        about = f"stage {text_field(detail, 'stage')}: {state}" if what == "Stage" else f"execution: {state}"
        return CloudEvent(
            delivery,
            text_field(detail, "pipeline"),
            about,
            text_field(detail, "execution-id"),
            account,
            region,
        )
    if source == "aws.cloudformation" and detail_type == "CloudFormation Stack Status Change":
        found = _STACK_ARN.fullmatch(text_field(detail, "stack-id"))
        if not found:
            raise PayloadError("field detail.stack-id is not a stack's ARN")
        status = text_field(object_field(detail, "status-details"), "status")
        region, account, name = found.groups()
        if status.endswith("_IN_PROGRESS"):
            return Ignored(delivery, f"stack {name[:128]} is {status}; only the event of its end counts")
        return CloudEvent(delivery, name, f"stack: {status}", account=account, region=region)
    return Ignored(delivery, f"{source[:50]} {detail_type[:80]} is not an event of a pipeline or stack")
