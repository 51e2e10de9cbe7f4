"""The constraints of AWS's request shapes (lengths, patterns, enums), by botocore's models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from sandbox.aws.protocol import operation_model

# botocore's patterns are those of Java; a pattern that Python does not read is not checked.
_UNREADABLE = re.compile(r"\\p\{|\\Q|\(\?[iu]\)|\[\^?\[|&&")


def constraint_message(shape: Any, value: Any, path: str = "") -> str | None:
    """The service's message about a value that breaks constraints of a shape; None if it breaks none."""
    found = list(_violations(shape, value, path))
    if not found:
        return None
    count = f"{len(found)} validation error{'s' if len(found) > 1 else ''} detected: "
    return count + "; ".join(found)


def request_message(service: str, operation: str, request: Mapping[str, Any]) -> str | None:
    """The service's message about a request that breaks constraints; the case of the names of members is ignored."""
    return constraint_message(operation_model(service, operation).input_shape, request)


def _violations(shape: Any, value: Any, path: str) -> Iterator[str]:
    if shape.type_name == "structure" and isinstance(value, Mapping):
        given = {str(k).casefold(): v for k, v in value.items()}
        for name, member in shape.members.items():
            if (held := given.get(name.casefold())) is not None:
                yield from _violations(member, held, f"{path}.{_lower_first(name)}".lstrip("."))
    elif shape.type_name == "list" and isinstance(value, list):
        yield from _length_violations(shape, value, path)
        for number, item in enumerate(value, 1):
            yield from _violations(shape.member, item, f"{path}.{number}.member")
    elif shape.type_name == "string" and isinstance(value, str):
        yield from _text_violations(shape, value, path)
    elif shape.type_name in ("integer", "long") and re.fullmatch(r"-?\d+", str(value)):
        yield from _number_violations(shape, int(value), path)


def _text_violations(shape: Any, value: str, path: str) -> Iterator[str]:
    if shape.enum and value not in shape.enum:
        yield _violation(value, path, f"Member must satisfy enum value set: [{', '.join(shape.enum)}]")
    yield from _length_violations(shape, value, path)
    pattern = shape.metadata.get("pattern")
    if pattern and not _UNREADABLE.search(pattern) and not _matches(pattern, value):
        yield _violation(value, path, f"Member must satisfy regular expression pattern: {pattern}")


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.fullmatch(pattern, value) is not None
    except re.error:
        return True


def _length_violations(shape: Any, value: str | list[Any], path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if most is not None and len(value) > most:
        yield _violation(value, path, f"Member must have length less than or equal to {most}")
    if least is not None and len(value) < least:
        yield _violation(value, path, f"Member must have length greater than or equal to {least}")


def _number_violations(shape: Any, value: int, path: str) -> Iterator[str]:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if most is not None and value > most:
        yield _violation(value, path, f"Member must have value less than or equal to {most}")
    if least is not None and value < least:
        yield _violation(value, path, f"Member must have value greater than or equal to {least}")


def _violation(value: Any, path: str, constraint: str) -> str:
    return f"Value '{value}' at '{path}' failed to satisfy constraint: {constraint}"


def _lower_first(name: str) -> str:
    return name[:1].lower() + name[1:]
