"""Shows the characters that a reader cannot see, so that a name looks like what it is.

A branch may be called anything: one name may hold a character that moves the cursor of a terminal, that turns the
direction of all text after it, or that has no width and makes two names look alike.
"""

import json
import unicodedata

# control, format (direction, no width), half of a surrogate pair, every space and separator, private use, not assigned
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zs", "Zl", "Zp", "Co", "Cn"})
# Letters, marks and symbols by their category, and blank all the same: what has the property
# Default_Ignorable_Code_Point (https://www.unicode.org/Public/UCD/latest/ucd/DerivedCoreProperties.txt), then
# characters whose glyph is empty
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
    r"""Text in which every character that cannot be seen stands as its escape, such as `\u202e`.

    Of all spaces only U+0020 stays, which git allows in no name. Git allows no backslash either, so the escapes of a
    name can be told from its own characters. A character that Python's Unicode tables do not know yet is escaped too.

    Args:
        text: any text.
        keep: characters that stay as they are.

    Example:
        >>> visible("a\u202eb")
        'a\\u202eb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(each) if _is_hidden(each) and each not in keep else each for each in text)


def visible_json(text: str) -> str:
    """JSON that means the same, in which characters that cannot be seen stand as JSON's own escapes.

    Args:
        text: JSON, maybe indented by line feeds.
    """
    if text.isascii() and "\x7f" not in text:
        return text  # JSON itself escapes what is below the space
    # outside of its texts JSON has nothing but ASCII
    return "".join(json.dumps(each)[1:-1] if each != "\n" and _is_hidden(each) else each for each in text)


def _is_hidden(character: str) -> bool:
    return character != " " and (unicodedata.category(character) in _HIDDEN or character in _BLANK)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
