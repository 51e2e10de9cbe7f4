"""Shows the characters that a reader cannot see, so that a name looks like what it is.

A branch may be called anything: one name may hold a character that moves the cursor of a terminal, that turns the
direction of all text after it, or that has no width and makes two names look alike.
"""

import json
import unicodedata

# control, format (direction, no width), half of a surrogate pair, line and paragraph separators
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# letters, marks and symbols by their category, and blank all the same
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def visible(text: str, keep: str = "") -> str:
    r"""Text in which every character that cannot be seen stands as its escape, such as `\u202e`.

    Spaces stay. Git allows no backslash in a name, so the escapes of a name can be told from its own characters.

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
    return unicodedata.category(character) in _HIDDEN or character in _BLANK


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
