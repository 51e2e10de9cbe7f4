"""The schemas of CloudFormation's resource types, from the copy of the registry that cfn-lint has."""

from __future__ import annotations

import functools
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_NOT_MADE_BY_STACKS = ("Module", "AWS::CloudFormation::CustomResource")


@functools.cache
def _root() -> Path:
    # The files are read directly, because importing cfn-lint takes seconds.
    found = find_spec("cfnlint")
    if found is None or not found.submodule_search_locations:
        raise RuntimeError(
            "the simulator reads the schemas of resource types from cfn-lint; install cfn-lint"
        )
    return Path(found.submodule_search_locations[0]) / "data" / "schemas"


@functools.cache
def known_types() -> dict[str, str]:
    """The file of each resource type of the registry."""
    files: dict[str, str] = json.loads((_root() / "providers" / "us-east-1.json").read_text())
    return {kind: file for kind, file in files.items() if kind not in _NOT_MADE_BY_STACKS}


@functools.cache
def schema_of(kind: str) -> dict[str, Any] | None:
    """The schema of a resource type; None if the registry has no such type."""
    if kind not in known_types():
        return None
    schema: dict[str, Any] = json.loads((_root() / "resources" / f"{known_types()[kind]}.json").read_text())
    return schema


def is_legacy(schema: dict[str, Any]) -> bool:
    """Whether CloudFormation has no resource handler for a type, so that the service's own errors are shown."""
    return "handlers" not in schema


def names_of(schema: dict[str, Any], part: str) -> list[str]:
    """The names of properties in a part such as `readOnlyProperties`, with dots between nested names."""
    return [
        pointer.removeprefix("/properties/").replace("/properties/", "/").replace("/", ".")
        for pointer in schema.get(part, [])
    ]
