"""Files of `deploy/` are parsed with long forms and with the line of every entry."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.templates.document import Document, read_document
from deployer.templates.folder_files import UnreadableError

YAML = """\
# a comment
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    Properties:
      BucketName: !Sub
        - ${Name}-x
        - Name: !Ref PipelineName
      Tags:
        - {Key: a, Value: !GetAtt Other.Arn.More}
        - Key: b
  "two words": !If [Made, {A: !Ref B}, !Condition C]
"""
JSON = """\
{
\t"Resources": {"Bucket": {
\t\t"Type": "a\\u0022:{",
    "List": [1,
      {"x": -2.5e3, "y":
        null}]},
  "B\\u0061c": true
  }
}
"""


def test_short_forms_become_long_ones() -> None:
    properties = read_document("pipeline.yml", YAML.encode()).fields["Resources"]["Bucket"]["Properties"]
    assert properties["BucketName"] == {"Fn::Sub": ["${Name}-x", {"Name": {"Ref": "PipelineName"}}]}
    assert properties["Tags"][0]["Value"] == {"Fn::GetAtt": ["Other", "Arn.More"]}
    fields = read_document("pipeline.yml", YAML.encode()).fields
    assert fields["Resources"]["two words"] == {"Fn::If": ["Made", {"A": {"Ref": "B"}}, {"Condition": "C"}]}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("Resources",), 2),
        (("Resources", "Bucket"), 3),
        (("Resources", "Bucket", "Properties", "BucketName"), 6),
        (("Resources", "Bucket", "Properties", "BucketName", "Fn::Sub"), 6),
        (("Resources", "Bucket", "Properties", "BucketName", "Fn::Sub", 1, "Name", "Ref"), 8),
        (("Resources", "Bucket", "Properties", "Tags", 1, "Key"), 11),
        (("Resources", "two words", "Fn::If", 1, "A"), 12),
        (("Resources", "Nothing"), None),
        (("Resources", "Bucket", "Properties", "Tags", 2), None),
        (("Resources", "Bucket", "Type", "Fn::Sub"), None),
        (("Outputs",), None),
    ],
)
def test_lines_of_yaml(path: tuple[str | int, ...], line: int | None) -> None:
    assert read_document("pipeline.yml", YAML.encode()).line_of(*path) == line


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("Resources",), 2),
        (("Resources", "Bucket", "Type"), 3),
        (("Resources", "Bucket", "List", 1, "y"), 5),
        (("Resources", "Bac"), 7),
        (("Resources", "Bucket", "List", 2), None),
    ],
)
def test_lines_of_json(path: tuple[str | int, ...], line: int | None) -> None:
    assert read_document("pipeline.json", JSON.encode()).line_of(*path) == line


def test_the_nearest_line_is_that_of_the_deepest_existing_step() -> None:
    document = read_document("pipeline.yml", YAML.encode())
    assert document.nearest_line("Resources", "Bucket", "Properties", "Nothing", "More") == 5
    assert document.nearest_line("Outputs", "X") is None


def test_a_repeated_key_is_reported_with_its_line() -> None:
    assert read_document("a.yml", b"a: {b: 1,\n b: 2}\na: 3\n").repeated == (("b", 2), ("a", 3))
    assert read_document("a.json", b'{"a": [{"b": 1,\n "b": 2}]}').repeated == (("b", 2),)
    assert read_document("a.yml", b"a: {<<: {b: 1}, b: 2}\n").repeated == ()


def test_a_number_with_a_leading_zero_stays_text() -> None:
    assert read_document("a.yml", b"a: 012345670123\nb: 0\nc: 17\n").fields == {
        "a": "012345670123",
        "b": 0,
        "c": 17,
    }


@pytest.mark.parametrize(
    ("name", "content", "line", "text"),
    [
        ("a.json", b'{"a":\n1,}', 2, "not JSON"),
        ("a.yml", b"a: 1\nb: [", 2, "not YAML"),
        *(
            ("a.yml", text, line, "not YAML: a tab is used for indentation; YAML allows only spaces")
            for text, line in (
                (b"\ta: 1\n", 1),
                (b"a:\n\tb: 1\n", 2),
                (b"a:\n  b: 1\n\tc: 2\n", 3),
                (b"a:\n  b:\n  \tc: 2\n", 3),
                (b"a:\n\t- 1\n", 2),
                (b"a:\n  - x\n\t- y\n", 3),
                (b"a:\n  -\tx: 1\n  -\ty: 2\n", 2),
                (b"a:\n  b: |\n    x\n\ty\n", 4),
                (b"a: x\r\n\tb: 2\r\n", 2),
            )
        ),
        ("a.yml", b"a: |\n  all:\n  \techo\nb: [", 4, "did not find expected node content"),
        ("a.yml", b"a: 1\nb: \xff", 2, "not UTF-8 text (byte 8)"),
        ("a.yml", b"- a", 1, "it is not a mapping"),
        ("a.yml", b"a: &b 1\nc: *b", 2, "anchors and aliases are not supported; write the value out"),
        ("a.yml", b"a: 1\nb: !!int {c: 1}", 2, "not YAML: expected a scalar node, but found mapping"),
        ("a.yml", b"a: 1\nb: !!float [1]", 2, "not YAML: expected a scalar node, but found sequence"),
    ],
)
def test_an_unreadable_file_is_reported_with_its_line(
    name: str, content: bytes, line: int | None, text: str
) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_document(name, content)
    assert (caught.value.file, caught.value.line) == (f"deploy/{name}", line)
    assert text in caught.value.text


KEYS = st.text(st.characters(codec="utf-8"), max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, VALUES, max_size=4), st.sampled_from([None, 0, 2]))
def test_every_path_of_any_json_has_its_own_line(fields: dict[str, Any], indent: int | None) -> None:
    text = json.dumps(fields, indent=indent)
    document = read_document("a.json", text.encode())
    lines = text.split("\n")
    for path in _paths(fields):
        line = document.line_of(*path)
        assert line is not None
        if isinstance(path[-1], str):
            assert json.dumps(path[-1]) in lines[line - 1]
        elif indent is not None:
            assert _order(document, path)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    entries: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    found = []
    for step, inner in entries:
        found += [(*path, step), *_paths(inner, (*path, step))]
    return found


def _order(document: Document, path: tuple[str | int, ...]) -> bool:
    """Whether each entry of a list is on its own line, after the previous entry."""
    *start, last = path
    assert isinstance(last, int)
    before = document.line_of(*start, last - 1) if last else document.line_of(*start)
    here = document.line_of(*path)
    return before is not None and here is not None and before < here


@pytest.mark.parametrize("bug", [KeyError("x"), ValueError("x"), AttributeError("x")])
@pytest.mark.parametrize("text", [b"a: !Ref b", b"a: 1"])
def test_a_bug_in_the_parser_is_not_reported_as_an_error_in_the_file(
    monkeypatch: pytest.MonkeyPatch, bug: Exception, text: bytes
) -> None:
    def fail(*_: object) -> object:
        raise bug

    monkeypatch.setattr("deployer.templates.syntax.read_integer", fail)
    monkeypatch.setattr("deployer.templates.syntax.long_form_name", fail)
    with pytest.raises(type(bug)):
        read_document("a.yml", text)
