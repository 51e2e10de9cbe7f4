"""Escapes for invisible characters."""

import json
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.model.errors import DeployerError, one_line
from deployer.model.visible import visible, visible_json

ANY = st.text(st.characters(), max_size=40)  # halves of surrogate pairs too
NAMES = st.text(st.characters(exclude_characters="\\"), max_size=40)


# https://www.unicode.org/Public/16.0.0/ucd/DerivedCoreProperties.txt, Default_Ignorable_Code_Point: all of its ranges
DEFAULT_IGNORABLE = [
    *(
        (0x00AD, 0x00AD),
        (0x034F, 0x034F),
        (0x061C, 0x061C),
        (0x115F, 0x1160),
        (0x17B4, 0x17B5),
        (0x180B, 0x180F),
    ),
    *(
        (0x200B, 0x200F),
        (0x202A, 0x202E),
        (0x2060, 0x206F),
        (0x3164, 0x3164),
        (0xFE00, 0xFE0F),
        (0xFEFF, 0xFEFF),
    ),
    *((0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF)),
]


def hidden(text: str) -> set[str]:
    unseen = {"Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Co", "Cn"}
    return {each for each in text if each != " " and unicodedata.category(each) in unseen}


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
        ("main\ufe0f", "main\\ufe0f"),
        ("main\U000e0101", "main\\U000e0101"),
        ("a\u00a0b\u2003c\u3000", "a\\u00a0b\\u2003c\\u3000"),
        ("main\ue000", "main\\ue000"),
        ("main\u2065\ufff0", "main\\u2065\\ufff0"),
        ("main\u2800\U0001d159", "main\\u2800\\U0001d159"),
        ("ein Wort", "ein Wort"),
    ],
)
def test_invisible_characters_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_every_default_ignorable_character_is_escaped() -> None:
    ignored = [chr(code) for first, last in DEFAULT_IGNORABLE for code in range(first, last + 1)]
    assert len(ignored) == 4174, "as the file counts them"
    left = [
        f"U+{ord(each):04X}"
        for each in ignored
        if visible(f"main{each}") != f"main{visible(each)}" or visible(each) == each
    ]
    assert not left


@given(ANY)
@example("\u202e")
@example("\u00a0\ue000\u2065")
def test_no_text_keeps_an_invisible_character(text: str) -> None:
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
def test_escaped_json_has_the_same_value(value: dict[str, list[str]]) -> None:
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
