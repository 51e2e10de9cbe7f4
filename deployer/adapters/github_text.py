"""Cuts text to the lengths that GitHub takes."""

import unicodedata

_JOINER = "\u200d"


def cut(text: str, limit: int) -> str:
    """The text, or its beginning and an ellipsis, at most `limit` characters.

    A character that people see can be several of Python's: an emoji with a joiner, a letter with its accent.
    """
    if len(text) <= limit:
        return text
    end = limit - 1
    while end > 0 and _continues(text, end):
        end -= 1
    return f"{text[: end or limit - 1].rstrip()}…"


def _continues(text: str, at: int) -> bool:
    """Whether the character at this place is drawn together with the one before it."""
    here = text[at]
    return (
        _JOINER in (here, text[at - 1])
        or unicodedata.category(here).startswith("M")
        or "\U0001f3fb" <= here <= "\U0001f3ff"  # skin tones
    )
