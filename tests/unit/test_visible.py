import json
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.errors import DeployerError, one_line
from deployer.visible import visible, visible_json

ANY = st.text(st.characters(), max_size=40)  # halves of surrogate pairs too
NAMES = st.text(st.characters(exclude_characters="\\"), max_size=40)


def hidden(text: str) -> set[str]:
    return {each for each in text if unicodedata.category(each) in {"Cc", "Cf", "Cs", "Zl", "Zp"}}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("feature/ü#1", "feature/ü#1"),
        ("ветка/中文 🚀", "ветка/中文 🚀"),
        ("\u202eniam", "\\u202eniam"),
        ("a\u200bb\u2066c\ufeff", "a\\u200bb\\u2066c\\ufeff"),
        ("a\u2028b\x85c", "a\\u2028b\\u0085c"),
        ("\x1b[2J\x9b2J\n", "\\u001b[2J\\u009b2J\\u000a"),
        ("main\u3164", "main\\u3164"),
        ("x\U000e0001", "x\\U000e0001"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_cannot_be_seen_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(ANY)
@example("\u202e")
def test_nothing_hidden_is_left(text: str) -> None:
    assert not hidden(visible(text))
    assert hidden(visible(text, keep="\n")) <= {"\n"}
    assert visible(visible(text)) == visible(text)


@given(NAMES, NAMES)
@example("main", "main\u200b")
@example("a\u2028b", "a b")
def test_two_names_that_differ_are_shown_differently(one: str, other: str) -> None:
    assert (visible(one) == visible(other)) == (one == other)


@given(st.dictionaries(ANY, st.lists(ANY, max_size=3), max_size=3))
@example({"\x7f": []})
@example({"\u202e": ["\x9b2J", "\U000e0001", "\ud800", "\n"]})
def test_json_means_the_same(value: dict[str, list[str]]) -> None:
    text = visible_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(text) == value
    assert hidden(text) <= {"\n"}


@given(ANY)
@example("\u202e" * 2000)
@example("x" * 3000)
def test_an_error_is_one_visible_line(text: str) -> None:
    line = str(DeployerError(text))
    assert line == one_line(text)
    assert len(line) <= 500
    assert not hidden(line)
