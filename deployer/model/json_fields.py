"""Fields of a JSON body that a sender on the network composed, with their types checked."""

import json
import re
from typing import Any

from deployer.model.errors import PayloadError

DELIVERY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_LONGEST_TEXT = 1024  # characters; no field that is read is longer, and what is read may be kept


def json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise PayloadError("the body is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise PayloadError("the body is not JSON") from error
    if not isinstance(value, dict):
        raise PayloadError("the body is not a JSON object")
    return value


def _field(fields: dict[str, Any], name: str, kind: type) -> Any:
    if name not in fields:
        raise PayloadError(f"field {name} is missing")
    if not isinstance(fields[name], kind):
        raise PayloadError(f"field {name} is not {'text' if kind is str else 'an object'}")
    return fields[name]


def text_field(fields: dict[str, Any], name: str) -> str:
    value = str(_field(fields, name, str))
    try:
        value.encode()
    except UnicodeEncodeError as error:  # JSON can spell half of a surrogate pair, which no UTF-8 holds
        raise PayloadError(f"field {name} is not valid Unicode") from error
    if len(value) > _LONGEST_TEXT:
        raise PayloadError(f"field {name} is longer than {_LONGEST_TEXT:,} characters")
    return value


def object_list_field(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """A list of objects; empty where it is not there."""
    listed = fields.get(name) or []
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise PayloadError(f"field {name} is not a list of objects")
    return listed


def object_field(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value: dict[str, Any] = _field(fields, name, dict)
    return value
