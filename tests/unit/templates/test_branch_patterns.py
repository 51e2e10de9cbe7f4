"""Tests of the patterns of branch names in the parameters file."""

from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.model.errors import PayloadError
from deployer.templates.branch_patterns import example_branch, pattern_problem, patterns_by_precedence


@pytest.mark.parametrize(
    ("patterns", "branch", "expected"),
    [
        ([], "x", []),
        (["bug/*"], "feature/x", []),
        (["*", "feature/*"], "feature/x", ["feature/*", "*"]),
        (["feature/*", "*"], "feature/x", ["feature/*", "*"]),
        # the exact name counts more than a pattern with as many characters
        (["feature/x*", "feature/x"], "feature/x", ["feature/x", "feature/x*"]),
        (["feature/x", "feature/x*"], "feature/x", ["feature/x", "feature/x*"]),
        # of two equals the first in the file counts, so it is first here
        (["*/login", "login*", "l*/login"], "l/login", ["l*/login", "*/login"]),
        (["f*-a", "f*a-"], "f-a-a-", ["f*a-"]),
        (["ab*", "*ab"], "abab", ["ab*", "*ab"]),
        (["*ab", "ab*"], "abab", ["*ab", "ab*"]),
        # neither ? nor [...] is a character of the name
        (["v[0-9]", "v?", "v*"], "v1", ["v[0-9]", "v?", "v*"]),
        (["Feature/*"], "feature/x", []),
    ],
)
def test_the_pattern_that_counts_most_is_first(patterns: list[str], branch: str, expected: list[str]) -> None:
    assert patterns_by_precedence(patterns, branch) == expected


@pytest.mark.parametrize(
    "pattern",
    [
        "feature/*",
        "*",
        "**",
        "feature/login",
        "v?",
        "v[0-9]",
        "[!x]y",
        "[a-z]*",
        "a*/b?c",
        "[]x]y",
        "x.lock*",
    ],
)
def test_a_pattern_that_matches_a_branch_has_no_problem(pattern: str) -> None:
    assert pattern_problem(pattern) == ""
    assert fnmatchcase(example_branch(pattern).branch, pattern)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("", "'' is not a branch pattern"),
        (5, "'5' is not a branch pattern"),
        (None, "'None' is not a branch pattern"),
        ("refs/heads/feature/*", "is a full ref; write the branch's short name"),
        ("a b", "matches no branch"),
        ("feature/[", "matches no branch"),
        ("[ ]x", "matches no branch"),
        ("/x*", "matches no branch"),
        ("x/", "matches no branch"),
        ("*..*", "matches no branch"),
        ("*.lock", "matches no branch"),
        ("x" * 256, "has more than 255 characters"),
    ],
)
def test_a_pattern_that_matches_no_branch_is_a_problem(pattern: object, words: str) -> None:
    assert words in pattern_problem(pattern)


@given(st.text("ab/*?[]!-.", max_size=12))
def test_the_example_of_a_pattern_matches_it(pattern: str) -> None:
    try:
        example = example_branch(pattern)
    except PayloadError:
        return
    assert fnmatchcase(example.branch, pattern)
