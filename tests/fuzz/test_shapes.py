"""Whatever stands in a place of a `deploy/` folder where another kind of value belongs breaks no promise either.

The fuzzer changes bytes, which seldom stay a template; this changes the values of one that has everything.
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


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where any value stands."""
    yield place
    entries = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for step, inner in entries:
        yield from places(inner, (*place, step))


def changed(value: Any, place: tuple[Any, ...], odd: Any) -> Any:
    """The same with another value in a place, if it still has that place."""
    if not place:
        return odd
    step, *rest = place
    if isinstance(value, dict) and step in value:
        return {**value, step: changed(value[step], tuple(rest), odd)}
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return [*value[:step], changed(value[step], tuple(rest), odd), *value[step + 1 :]]
    return value


PLACES = [(name, place) for name, fields in FILES.items() for place in places(fields)]
CHANGES = st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(ODD)), min_size=1, max_size=3)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(CHANGES)
def test_odd_values_break_no_promise(changes: list[tuple[tuple[str, tuple[Any, ...]], Any]]) -> None:
    files = dict(FILES)
    for (name, place), odd in changes:
        files[name] = changed(files[name], place, odd)
    parts = []
    for name, fields in files.items():
        shown = name if name == "deployer.yml" else f"{Path(name).stem}.json"  # which is YAML, too
        parts.append(f"=== {shown}\n{json.dumps(fields)}\n")
    TARGETS["deploy"]("".join(parts).encode())
