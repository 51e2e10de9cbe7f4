"""Patterns of branch names that choose parameter values for development environments."""

import re
import string
from collections.abc import Iterable
from fnmatch import fnmatchcase

from deployer.model.errors import PayloadError
from deployer.model.refs import Ref

PATTERNS_LIMIT, PATTERN_LENGTH_LIMIT = 100, 255
_WILDCARD = re.compile(r"\*|\?|\[!?\]?[^\]]*\]")
_EXAMPLES = string.ascii_lowercase[::-1] + string.ascii_uppercase + string.digits + "-_.+#/"


def patterns_by_precedence(patterns: Iterable[str], branch: str) -> list[str]:
    """The patterns that match a branch, the one that counts most first.

    A name without wildcards counts most, then the pattern with most characters that are not wildcards. Of two that are
    equal in this, the first in the file counts.

    Args:
        patterns: patterns without a `pattern_problem`, in the order of the file.
        branch: the branch's short name.
    """
    matching = [each for each in patterns if fnmatchcase(branch, each)]
    return sorted(matching, key=_specificity, reverse=True)


def _specificity(pattern: str) -> tuple[bool, int]:
    literal = _WILDCARD.sub("", pattern)
    return literal == pattern, len(literal)


def pattern_problem(pattern: object) -> str:
    """Why a pattern can match no branch; empty if it can match one."""
    if not isinstance(pattern, str) or not pattern:
        return f"{str(pattern)[:80]!r} is not a branch pattern, such as feature/*; put it in quotes"
    shown = repr(pattern[:80])
    if len(pattern) > PATTERN_LENGTH_LIMIT:
        return f"{shown}... has more than {PATTERN_LENGTH_LIMIT} characters"
    if pattern.startswith("refs/"):
        return f"{shown} is a full ref; write the branch's short name, such as feature/*"
    try:
        example_branch(pattern)
    except PayloadError:
        return (
            f"{shown} matches no branch, because git does not allow such a name; write one such as feature/*"
        )
    return ""


def example_branch(pattern: str) -> Ref:
    """A branch that matches a pattern.

    Raises:
        PayloadError: git allows no name that matches it.
    """

    def matching_character(found: re.Match[str]) -> str:
        return next((each for each in _EXAMPLES if fnmatchcase(each, found.group())), "?")

    return Ref.of_branch(_WILDCARD.sub(matching_character, pattern))
