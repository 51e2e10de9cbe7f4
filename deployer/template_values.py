"""The plain values that a template is made of."""

from typing import Any

KeyPath = tuple[str | int, ...]


def as_mapping(value: Any) -> dict[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, dict) else {}


def path_of_object(wanted: Any, value: Any) -> KeyPath:
    """Where in a value this very object stands, the first of those that are the same object."""
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
    """Text, a number or a truth value as CloudFormation writes it; None for all else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if isinstance(value, (dict, list, tuple, set, bytes)) or value is None else str(value)
