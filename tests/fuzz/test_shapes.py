"""A value of the wrong type anywhere in a `deploy/` folder breaks no promise.

The fuzzer changes bytes, which rarely results in a template; this test changes the values of a complete template.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from deployer.templates.document import read_document
from tests.fuzz.targets import TARGETS

SINK = Path(__file__).parent / "sink"
FILES = {path.name: read_document(path.name, path.read_bytes()).fields for path in sorted(SINK.iterdir())}
ODD: list[Any] = [
    *(None, True, 1, 1.5, 10**400, "", "x", "*", "${", "${}", "${AWS::}", "a" * 5000),
    *([], [[]], ["x", 1, None], {}, {"a": []}, {"a": {"b": {}}}),
    *({"Ref": value} for value in ([], {"Ref": 1}, "Text", "List", "Pipeline", "AWS::NoValue")),
    *({"Fn::Sub": value} for value in ({}, [], ["x", []], ["${a}", {"a": []}], "${Role.Arn.x}")),
    *({"Fn::If": value} for value in ([], ["Same", 1], [[], {}, []], ["Same", [], {}])),
    *({"Fn::Join": value} for value in ("x", ["", {}], [1, [1, []]])),
    *({"Fn::GetAtt": value} for value in ("A", [], [[], 1], ["Role", {"Ref": "Text"}])),
    *({f"Fn::{name}": [[], {}, []]} for name in ("Select", "Split", "FindInMap", "Transform")),
    *({f"Fn::{name}": [1]} for name in ("Select", "Split", "FindInMap", "Transform")),
    *({f"Fn::{name}": []} for name in ("ImportValue", "ForEach::X", "And", "Not", "Equals", "Select", "Split")),
    {"Condition": []},
]  # fmt: skip


def value_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values."""
    yield path
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for step, inner in entries:
        yield from value_paths(inner, (*path, step))


def with_value_at(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    """A copy with another value at a path, if the path still exists."""
    if not path:
        return odd
    step, *rest = path
    if isinstance(value, dict) and step in value:
        return {**value, step: with_value_at(value[step], tuple(rest), odd)}
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return [*value[:step], with_value_at(value[step], tuple(rest), odd), *value[step + 1 :]]
    return value


PATHS = [(name, path) for name, fields in FILES.items() for path in value_paths(fields)]
CHANGES = st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(ODD)), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(CHANGES)
def test_odd_values_break_no_promise(changes: list[tuple[tuple[str, tuple[Any, ...]], Any]]) -> None:
    files = dict(FILES)
    for (name, path), odd in changes:
        files[name] = with_value_at(files[name], path, odd)
    parts = []
    for name, fields in files.items():
        shown = name if name == "deployer.yml" else f"{Path(name).stem}.json"  # JSON is YAML too
        parts.append(f"=== {shown}\n{json.dumps(fields)}\n")
    TARGETS["deploy"]("".join(parts).encode())
