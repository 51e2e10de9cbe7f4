"""Texts of other people as Markdown, in which none of their characters has a meaning of its own.

GitHub turns `@name` into a mention that notifies people, `#1` into a reference, and HTML into elements. In code it does
none of these.
"""

import re

from deployer.model.visible import visible


def as_code(text: str) -> str:
    """Format text as Markdown code within a line, in which no character has a special meaning."""
    text = visible(text)
    fence = "`" * (_most_backticks(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}" if text else ""


def code_block(command: str) -> str:
    """Format a command as a block of Markdown code, which GitHub offers to copy."""
    fence = "`" * max(3, _most_backticks(command) + 1)
    return f"{fence}sh\n{command}\n{fence}"


def _most_backticks(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
