"""Reads the parameters and the body of an API request."""

import base64
import binascii
import json
from typing import Any

from flask import request

from deployer.model.environments import Repository
from deployer.model.errors import PayloadError
from web.answers import BROKEN, CUT_OFF

MOST_ROWS = 500  # of a page
_LONGEST_CURSOR = 2000


def read_limit() -> int:
    """Return how many rows the caller wants at most.

    Raises:
        PayloadError: the parameter is no such number.
    """
    return read_number("limit", MOST_ROWS, 1, MOST_ROWS)


def read_number(name: str, default: int, low: int, high: int) -> int:
    """Return the value of a parameter.

    Raises:
        PayloadError: the value is not a number within the bounds.
    """
    text = request.args.get(name, str(default))
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not low <= int(text) <= high:
        raise PayloadError(f"{name} must be a number from {low} to {high}")
    return int(text)


def read_cursor() -> str:
    """Return where the page begins; empty for the first page.

    Raises:
        PayloadError: the parameter is no cursor.
    """
    text = request.args.get("cursor", "")
    try:
        if len(text) <= _LONGEST_CURSOR:
            return base64.b64decode(text, b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        pass
    raise PayloadError("cursor must be the value of next in the answer with the page before")


def write_cursor(last: str) -> str | None:
    """Return the cursor of the next page; None if there is none.

    Args:
        last: where that page begins.
    """
    return base64.urlsafe_b64encode(last.encode()).decode() if last else None


def read_repository() -> Repository | None:
    """Return the repository to which the caller limits a list; None for all.

    Raises:
        PayloadError: the parameter is no repository's name.
    """
    text = request.args.get("repository")
    return Repository.parse(text) if text else None


def read_json_body(*known: str) -> dict[str, Any]:
    """Return the JSON object of the body; an empty body is an empty object.

    Args:
        known: the allowed fields. Others are refused, so that a misspelt field is not silently ignored.

    Raises:
        PayloadError: the body is not such an object.
    """
    try:
        raw = request.get_data()
    except BROKEN as error:
        raise PayloadError(CUT_OFF) from error
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise PayloadError("the body is not JSON") from error
    if not isinstance(value, dict):
        raise PayloadError("the body is not a JSON object")
    if unknown := sorted(value.keys() - set(known)):
        raise PayloadError(
            f"the body has an unknown field {unknown[0][:100]!r}; it may have: {', '.join(known)}"
        )
    return value
