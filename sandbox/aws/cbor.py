"""CBOR in the form that AWS's RPC v2 protocol uses; boto3 uses it for CodePipeline."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

_BREAK = object()
_FALSE, _TRUE, _NULL, _UNDEFINED = 20, 21, 22, 23


def _encode_head(major: int, number: int) -> bytes:
    if number < 24:
        return bytes([major << 5 | number])
    for code, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 1 << (8 * size):
            return bytes([major << 5 | code]) + number.to_bytes(size, "big")
    raise ValueError("the number is too large for CBOR")


def dumps(value: Any) -> bytes:
    """Encode a value; a datetime becomes a timestamp."""
    if value is None or isinstance(value, bool):
        return _encode_head(7, _NULL if value is None else _TRUE if value else _FALSE)
    if isinstance(value, int):
        return _encode_head(0, value) if value >= 0 else _encode_head(1, -1 - value)
    if isinstance(value, float):
        return b"\xfb" + struct.pack(">d", value)
    if isinstance(value, datetime):
        return _encode_head(6, 1) + dumps(value.timestamp())
    if isinstance(value, bytes):
        return _encode_head(2, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _encode_head(3, len(text)) + text
    if isinstance(value, list):
        return _encode_head(4, len(value)) + b"".join(map(dumps, value))
    if isinstance(value, dict):
        return _encode_head(5, len(value)) + b"".join(dumps(k) + dumps(v) for k, v in value.items())
    raise TypeError(f"{type(value).__name__} cannot be encoded in CBOR")


def loads(content: bytes) -> Any:
    """Decode a value.

    Raises:
        ValueError: the content is not well-formed CBOR.
    """
    try:
        value, _ = _decode_item(content, 0)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise ValueError("not well-formed CBOR") from error
    return value


def _decode_item(content: bytes, at: int) -> tuple[Any, int]:
    major, info = content[at] >> 5, content[at] & 31
    at += 1
    if major == 7:
        return _decode_simple(content, at, info)
    if info == 31:
        return _decode_indefinite(content, at, major)
    number = info
    if info >= 24:
        size = 1 << (info - 24)
        number = int.from_bytes(content[at : at + size], "big")
        at += size
    if major in (0, 1):
        return (number if major == 0 else -1 - number), at
    if major in (2, 3):
        raw = content[at : at + number]
        return (raw if major == 2 else raw.decode()), at + number
    if major == 6:
        value, at = _decode_item(content, at)
        return (datetime.fromtimestamp(value, UTC) if number == 1 else value), at
    items = []
    for _ in range(number * (2 if major == 5 else 1)):
        value, at = _decode_item(content, at)
        items.append(value)
    return _collect_chunks(major, items), at


def _decode_simple(content: bytes, at: int, info: int) -> tuple[Any, int]:
    if info == 31:
        return _BREAK, at
    for code, size, form in ((25, 2, ">e"), (26, 4, ">f"), (27, 8, ">d")):
        if info == code:
            return struct.unpack(form, content[at : at + size])[0], at + size
    return {_FALSE: False, _TRUE: True}.get(info), at


def _decode_indefinite(content: bytes, at: int, major: int) -> tuple[Any, int]:
    items: list[Any] = []
    while True:
        value, at = _decode_item(content, at)
        if value is _BREAK:
            return _collect_chunks(major, items), at
        items.append(value)


def _collect_chunks(major: int, items: list[Any]) -> Any:
    if major == 5:
        return dict(zip(items[::2], items[1::2], strict=True))
    if major in (2, 3):
        return (b"" if major == 2 else "").join(items)
    return items
