"""AWS's wire formats by botocore's models: the query protocol, JSON 1.1, RPC v2 CBOR.

A member that botocore's model does not have raises an error, so that no answer contains a field that the real service
does not send.
"""

from __future__ import annotations

import functools
import json
import uuid
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from botocore.session import get_session

from sandbox.aws import cbor

QUERY, JSON, CBOR = "query", "json", "cbor"


class AwsError(Exception):
    """An error that the service answers: its code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


@functools.cache
def service_model(service: str) -> Any:
    """botocore's model of a service."""
    return get_session().get_service_model(service)


def operation_model(service: str, operation: str) -> Any:
    """botocore's model of an operation.

    Raises:
        AwsError: InvalidAction.
    """
    model = service_model(service)
    if operation not in model.operation_names:
        raise AwsError("InvalidAction", f"Could not find operation {operation}")
    return model.operation_model(operation)


def parse_request(service: str, operation: str, form: str, body: bytes) -> dict[str, Any]:
    """The parameters of a request, with the names and types of botocore's model.

    Raises:
        AwsError: the body does not conform to the protocol.
    """
    shape = operation_model(service, operation).input_shape
    try:
        if form == CBOR:
            return dict(cbor.loads(body) if body else {})
        if form == JSON:
            return dict(json.loads(body or b"{}"))
        flat = dict(parse_qsl(body.decode(), keep_blank_values=True))
    except (ValueError, TypeError) as error:
        raise AwsError("SerializationException", f"The request's body cannot be read: {error}") from error
    return {} if shape is None else dict(_parse_query(shape, flat, ""))


def _has_key(flat: Mapping[str, str], key: str) -> bool:
    """Whether the flat parameters hold a value under this key or below it."""
    return key in flat or any(each.startswith(key + ".") for each in flat)


def _parse_query(shape: Any, flat: Mapping[str, str], prefix: str) -> Any:
    if shape.type_name == "structure":
        keys = {name: f"{prefix}.{name}" if prefix else name for name in shape.members}
        return {
            name: _parse_query(shape.members[name], flat, key)
            for name, key in keys.items()
            if _has_key(flat, key)
        }
    if shape.type_name == "list":
        values: list[Any] = []
        while _has_key(flat, key := f"{prefix}.member.{len(values) + 1}"):
            values.append(_parse_query(shape.member, flat, key))
        return values
    if shape.type_name == "map":
        pairs: dict[str, Any] = {}
        while (key := f"{prefix}.entry.{len(pairs) + 1}") and f"{key}.key" in flat:
            pairs[flat[f"{key}.key"]] = _parse_query(shape.value, flat, f"{key}.value")
        return pairs
    text = flat[prefix]
    if shape.type_name == "boolean":
        return text.lower() == "true"
    if shape.type_name in ("integer", "long"):
        return int(text)
    return text


def encode_answer(service: str, operation: str, form: str, result: Mapping[str, Any]) -> tuple[str, bytes]:
    """The content type and the body of an answer."""
    shape = operation_model(service, operation).output_shape
    if form != QUERY:
        plain = {} if shape is None else _json_value(shape, result, timestamps=form == CBOR)
        if form == CBOR:
            return "application/cbor", cbor.dumps(plain)
        return "application/x-amz-json-1.1", json.dumps(plain).encode()
    inner = ""
    if shape is not None:
        inner = f"<{operation}Result>{_to_xml(shape, result)}</{operation}Result>"
    namespace = service_model(service).metadata["xmlNamespace"]
    request_id = f"<ResponseMetadata><RequestId>{uuid.uuid4()}</RequestId></ResponseMetadata>"
    text = f'<{operation}Response xmlns="{namespace}">{inner}{request_id}</{operation}Response>'
    return "text/xml", text.encode()


def error_answer(service: str, form: str, error: AwsError) -> tuple[str, bytes]:
    """The content type and the body of an error."""
    if form == CBOR:
        return "application/cbor", cbor.dumps({"__type": error.code, "message": error.message})
    if form == JSON:
        body = json.dumps({"__type": error.code, "message": error.message})
        return "application/x-amz-json-1.1", body.encode()
    kind = "Sender" if error.status < 500 else "Receiver"
    fields = f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
    if service == "s3":
        return "application/xml", f"<Error>{fields}<RequestId>{uuid.uuid4()}</RequestId></Error>".encode()
    text = (
        f"<ErrorResponse><Error><Type>{kind}</Type>{fields}</Error>"
        f"<RequestId>{uuid.uuid4()}</RequestId></ErrorResponse>"
    )
    return "text/xml", text.encode()


def _known_members(shape: Any, value: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    unknown = set(value) - set(shape.members)
    if unknown:
        raise KeyError(f"{shape.name} has no member {', '.join(sorted(unknown))}")
    return [(k, shape.members[k], v) for k, v in value.items() if v is not None]


def _to_xml(shape: Any, value: Any) -> str:
    if shape.type_name == "structure":
        return "".join(f"<{k}>{_to_xml(s, v)}</{k}>" for k, s, v in _known_members(shape, value))
    if shape.type_name == "list":
        return "".join(f"<member>{_to_xml(shape.member, v)}</member>" for v in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return escape(str(value))


def _json_value(shape: Any, value: Any, *, timestamps: bool) -> Any:
    if shape.type_name == "structure":
        return {k: _json_value(s, v, timestamps=timestamps) for k, s, v in _known_members(shape, value)}
    if shape.type_name == "list":
        return [_json_value(shape.member, v, timestamps=timestamps) for v in value]
    if shape.type_name == "map":
        return {k: _json_value(shape.value, v, timestamps=timestamps) for k, v in value.items()}
    if isinstance(value, datetime) and not timestamps:
        return value.timestamp()
    return value
