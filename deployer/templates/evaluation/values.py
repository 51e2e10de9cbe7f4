"""The plain values of a template: mappings, lists and texts."""

from typing import Any

KeyPath = tuple[str | int, ...]


def as_mapping(value: Any) -> dict[str, Any]:
    """Return the value if it is a mapping, otherwise an empty mapping."""
    return value if isinstance(value, dict) else {}


def path_of_object(wanted: Any, value: Any) -> KeyPath:
    """Path to the first place in a value that contains this same object; empty if there is none."""
    left: list[tuple[KeyPath, Any]] = [((), value)]
    while left:
        path, each = left.pop()
        if each is wanted:
            return path
        if isinstance(each, dict):
            left += [((*path, key), inner) for key, inner in each.items()]
        elif isinstance(each, list):
            left += [((*path, position), inner) for position, inner in enumerate(each)]
    return ()


def as_text(value: Any) -> str | None:
    """Format a text, a number or a boolean as CloudFormation does; return None for any other value."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if isinstance(value, (dict, list, tuple, set, bytes)) or value is None else str(value)
