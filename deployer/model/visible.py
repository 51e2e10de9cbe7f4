"""Escapes for characters that readers cannot see, so that no name looks like another one.

A branch may have any name: a character in it can move the cursor of a terminal, reverse the direction of the text after
it, or have no width, so that two names look alike.
"""

import json
import unicodedata

# control, format (direction, no width), surrogate, space or separator, private use, unassigned
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Co", "Cn"})
# Characters that are blank although their category is letter, mark or symbol: those with the property
# Default_Ignorable_Code_Point (https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt), then
# those with an empty glyph
_BLANK = frozenset(
    chr(code)
    for first, last in (
        *((0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x3164, 0x3164)),
        *((0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xE0100, 0xE01EF)),
        *((0x2800, 0x2800), (0x13441, 0x13442), (0x16FE4, 0x16FE4), (0x1D159, 0x1D159)),
    )
    for code in range(first, last + 1)
)


def visible(text: str, keep: str = "") -> str:
    r"""Text in which an escape such as `\u202e` replaces every invisible character.

    U+0020 is the only space that is not replaced; git allows it in no name. Git allows no backslash either, so every
    escape in a name is unambiguous. A character that Python's Unicode tables do not know yet is replaced too.

    Args:
        text: any text.
        keep: characters that are not replaced.

    Example:
        >>> visible("a\u202eb")
        'a\\u202eb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(each) if _is_hidden(each) and each not in keep else each for each in text)


def visible_json(text: str) -> str:
    """JSON with the same value, in which JSON's own escapes replace invisible characters.

    Args:
        text: JSON, with or without line feeds for indentation.
    """
    if text.isascii() and "\x7f" not in text:
        return text  # JSON itself escapes the control characters below U+0020
    # outside of its strings JSON is ASCII
    return "".join(json.dumps(each)[1:-1] if each != "\n" and _is_hidden(each) else each for each in text)


def _is_hidden(character: str) -> bool:
    return character != " " and (unicodedata.category(character) in _HIDDEN or character in _BLANK)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
