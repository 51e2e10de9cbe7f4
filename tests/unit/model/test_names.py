"""The names of stacks and pipelines."""

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.model.environments import NAME_LIMIT, NAME_PATTERNS, Environment, Kind, Repository
from deployer.model.refs import Ref
from tests.unit.identities import TWINS, environments

HELLO = Repository.parse("acme/hello")
# What a branch may be called to look like another kind's name, in the present form and in the former one.
POSES = [
    "production", "staging", "production-fix", "x-production", "x-staging", "production-0123456789",
    "x-production-0123456789abcdef", "production-0123456789abcdef0123", "x-production-abcdefghijklmnopp",
    "staging-abcdefghijklmnops", "production-abcdefghijklmnopp/x", "p" * 60, "-".join("p" * 40),
    "x-" * 60 + "production",
]  # fmt: skip


def _identity(environment: Environment) -> tuple[str, str]:
    return environment.repository.key, environment.key


def _development(branch: str, repository: Repository = HELLO) -> Environment:
    return Environment(repository, Kind.DEVELOPMENT, Ref.of_branch(branch))


@given(environments(), environments())
def test_no_two_environments_share_a_name(one: Environment, other: Environment) -> None:
    same = _identity(one) == _identity(other)
    assert (one.stack_name == other.stack_name) == same
    assert one.stack_name != other.former_stack_name


@given(environments())
@example(Environment(Repository("a", "_"), Kind.PRODUCTION))
@example(Environment(Repository("a", "7"), Kind.STAGING))
@example(Environment(Repository("a", "x" * 100), Kind.PRODUCTION))
@example(Environment(Repository("a", "x" * 100), Kind.DEVELOPMENT, Ref.of_branch("ü")))
def test_aws_accepts_every_name(environment: Environment) -> None:
    for name in environment.stack_names:
        assert re.fullmatch(r"[a-z][-a-z0-9]*", name)
        assert "--" not in name  # databases and other services refuse it in names that are made of this one
        assert len(name) <= NAME_LIMIT
    assert re.search(r"-[a-z2-7]{16}[dsp]$", environment.stack_name)  # 80 bits


def test_two_branches_with_the_same_former_hash_have_different_names() -> None:
    one, other = map(_development, TWINS)
    assert one.former_stack_name == other.former_stack_name, "the attack works on the former form"
    assert one.stack_name != other.stack_name
    assert not one.owns(other.tags)


@pytest.mark.parametrize(
    ("pairs"),
    [
        [("acme/hello", "a/foo"), ("acme/hello", "b/foo"), ("acme/hello", "a-foo")],
        [("acme/a-b", "c"), ("acme/a", "b-c")],
        [("acme/hello", "x"), ("other/hello", "x")],
        [("acme/hello", "feature/ü#1"), ("acme/hello", "feature/--1"), ("acme/hello", "feature/1")],
        [("acme/hello", "x" * 240), ("acme/hello", "x" * 239 + "y")],
        [("acme/hello", "Feature"), ("acme/hello", "feature")],
    ],
)
def test_names_that_collided_elsewhere(pairs: list[tuple[str, str]]) -> None:
    names = {_development(branch, Repository.parse(repository)).stack_name for repository, branch in pairs}
    assert len(names) == len(pairs)


@given(environments())
@example(Environment(Repository("a", "_"), Kind.PRODUCTION))
@example(Environment(Repository("a", "x" * 100), Kind.PRODUCTION))
@example(Environment(Repository("a", "x" * 90 + ".production"), Kind.STAGING))
def test_iam_can_tell_the_kinds_apart_by_their_names(environment: Environment) -> None:
    matched = {
        kind
        for kind, patterns in NAME_PATTERNS.items()
        if any(fnmatchcase(environment.stack_name, each) for each in patterns)
    }
    assert matched == {environment.kind}


@given(st.sampled_from(POSES), st.sampled_from(["hello", "production", "x-production", "a" * 95, "p"]))
def test_iam_allows_every_branch_its_own_name(branch: str, repository: str) -> None:
    name = _development(branch, Repository("acme", repository)).stack_name
    for kind in (Kind.STAGING, Kind.PRODUCTION):
        assert not any(fnmatchcase(name, each) for each in NAME_PATTERNS[kind])


@given(environments())
@example(_development("production-fix"))
@example(_development("production-fix-the-lamp"))
@example(_development("production-databases-cleanup"))
def test_what_is_called_after_an_environment_has_another_kinds_form_only_if_a_branch_spells_it(
    environment: Environment,
) -> None:
    for kind in {Kind.STAGING, Kind.PRODUCTION} - {environment.kind}:
        letter = NAME_PATTERNS[kind][0][-1]
        spelt = re.search(rf"-{kind}-.{{16}}{letter}-", environment.stack_name)
        # the hash and what a template adds never complete the form
        assert bool(spelt) == fnmatchcase(f"{environment.stack_name}-app", f"{NAME_PATTERNS[kind][0]}-*")
        assert not spelt or spelt.end() <= len(environment.stack_name) - 17


@given(environments())
def test_the_pattern_of_the_present_form_matches_no_former_name_of_another_kind(
    environment: Environment,
) -> None:
    for kind, (present, *_) in NAME_PATTERNS.items():
        assert kind is environment.kind or not fnmatchcase(environment.former_stack_name, present)


@pytest.mark.parametrize(
    ("branch", "denied"),
    [
        ("production-fix", False),
        ("production-0123456789", False),
        ("feature/python", False),
        ("staging-x", False),
        ("production", True),  # the limit that docs/security.md states: only until it is made again
        ("x/staging", True),
    ],
)
def test_which_branches_with_a_former_name_the_former_patterns_hit(branch: str, *, denied: bool) -> None:
    name = _development(branch).former_stack_name
    patterns = [each for kind in (Kind.STAGING, Kind.PRODUCTION) for each in NAME_PATTERNS[kind]]
    assert any(fnmatchcase(name, each) for each in patterns) == denied


def test_a_former_name_has_not_changed() -> None:
    assert _development("feature/login").former_stack_name == "hello-feature-login-8055356903"
    assert Environment(HELLO, Kind.STAGING).former_stack_name == "hello-staging-6c8d64e774"
