"""Fields of a JSON body from the network, read with a check of their types."""

import json
import re
from typing import Any

import msgspec

from deployer.model.errors import PayloadError

DELIVERY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_LONGEST_TEXT = 1024  # characters, because a field that is read may be stored


def json_object(body: bytes) -> dict[str, Any]:
    """The JSON object that a body contains.

    Raises:
        PayloadError: the body is not UTF-8, not JSON, or another JSON value.
    """
    try:
        value = msgspec.json.decode(body)  # twice as fast
    except (msgspec.MsgspecError, RecursionError, ValueError):
        value = _decode_json(body)
    if not isinstance(value, dict):
        raise PayloadError("the body is not a JSON object")
    return value


def _decode_json(body: bytes) -> Any:
    """The value of a body that msgspec refuses. Python's own parser accepts some of them, such as the number 1e999."""
    try:
        return json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise PayloadError("the body is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise PayloadError("the body is not JSON") from error


def _typed_field(fields: dict[str, Any], name: str, kind: type) -> Any:
    if name not in fields:
        raise PayloadError(f"field {name} is missing")
    if not isinstance(fields[name], kind):
        raise PayloadError(f"field {name} is not {'text' if kind is str else 'an object'}")
    return fields[name]


def text_field(fields: dict[str, Any], name: str) -> str:
    """A field with a text.

    Raises:
        PayloadError: the field is missing, is not a text, is not valid Unicode, or has over 1,024 characters.
    """
    value = str(_typed_field(fields, name, str))
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can escape half of a surrogate pair, which UTF-8 cannot encode
        raise PayloadError(f"field {name} is not valid Unicode") from error
    if len(value) > _LONGEST_TEXT:
        raise PayloadError(f"field {name} is longer than {_LONGEST_TEXT:,} characters")
    return value


def object_list_field(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A field with a list of objects; empty if the field is missing.

    Raises:
        PayloadError: the field has another value.
    """
    listed = fields.get(name) or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise PayloadError(f"field {name} is not a list of objects")
    return listed


def object_field(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """A field with an object.

    Raises:
        PayloadError: the field is missing or is not an object.
    """
    value: dict[str, Any] = _typed_field(fields, name, dict)
    return value
