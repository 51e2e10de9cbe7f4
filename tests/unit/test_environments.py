import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.environments import NAME_LIMIT, Environment, Kind, Repository, from_tag_value, tag_value
from deployer.errors import PayloadError
from deployer.refs import Ref

OWNERS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,8}", fullmatch=True)
REPOS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
BRANCHES = st.one_of(
    st.from_regex(r"[a-z0-9][a-zA-Z0-9/#ü_-]{0,20}[a-z0-9]", fullmatch=True).filter(lambda b: "//" not in b),
    st.sampled_from(
        ["staging", "production", "main", "v1.2.3", "a/foo", "b/foo", "a-foo", "hotfix/main", "x" * 240]
    ),
)


@st.composite
def environments(draw: st.DrawFn) -> Environment:
    repository = Repository(draw(OWNERS), draw(REPOS))
    kind = draw(st.sampled_from(Kind))
    branch = Ref.of_branch(draw(BRANCHES)) if kind is Kind.DEVELOPMENT else None
    return Environment(repository, kind, branch)


def _identity(environment: Environment) -> tuple[str, str]:
    return environment.repository.key, environment.key


@given(environments(), environments())
def test_no_two_environments_share_a_name(one: Environment, other: Environment) -> None:
    assert (one.stack_name == other.stack_name) == (_identity(one) == _identity(other))


@given(environments())
def test_a_name_is_one_that_aws_takes(environment: Environment) -> None:
    assert re.fullmatch(r"[A-Za-z][-A-Za-z0-9]*", environment.stack_name)
    assert len(environment.stack_name) <= NAME_LIMIT


@given(environments())
def test_a_key_reads_back(environment: Environment) -> None:
    assert Environment.from_key(environment.repository, environment.key) == environment


@given(environments(), environments())
def test_only_its_own_stack_is_owned(one: Environment, other: Environment) -> None:
    assert one.owns(other.tags) == (_identity(one) == _identity(other))
    assert one.owns({**one.tags, "team": "x"})
    for key in one.tags:
        assert not one.owns({name: value for name, value in one.tags.items() if name != key})


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
    names = {
        Environment(Repository.parse(r), Kind.DEVELOPMENT, Ref.of_branch(b)).stack_name for r, b in pairs
    }
    assert len(names) == len(pairs)


@pytest.mark.parametrize(
    ("ref", "kind"),
    [
        ("refs/heads/main", Kind.STAGING),
        ("refs/heads/hotfix/main", Kind.DEVELOPMENT),
        ("refs/heads/staging", Kind.DEVELOPMENT),
        ("refs/heads/v1.2.3", Kind.DEVELOPMENT),
        ("refs/tags/v1.2.3", Kind.PRODUCTION),
        ("refs/tags/main", Kind.PRODUCTION),
    ],
)
def test_which_environment_a_ref_drives(ref: str, kind: Kind) -> None:
    environment = Environment.of_ref(Repository.parse("acme/hello"), Ref.parse(ref), "main")
    assert environment.kind is kind


def test_a_branch_named_staging_is_not_staging() -> None:
    repository = Repository.parse("acme/hello")
    branch = Environment.of_ref(repository, Ref.of_branch("staging"), "main")
    assert branch.stack_name != Environment(repository, Kind.STAGING).stack_name
    assert not branch.owns(Environment(repository, Kind.STAGING).tags)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_a_tag_value_is_one_that_aws_takes_and_reads_back(text: str) -> None:
    value = tag_value(text)
    assert re.fullmatch(r"[A-Za-z0-9_.:/=+@~-]*", value)
    assert len(value) <= 256
    assert from_tag_value(value) in {text, None}
    assert len(text.encode()) > 80 or from_tag_value(value) == text


@pytest.mark.parametrize(
    "name", ["", "acme", "acme/", "/x", "acme/hello/x", "ac me/x", "acme/..", "a/b\n", "-a/x"]
)
def test_a_repository_is_owner_and_name(name: str) -> None:
    with pytest.raises(PayloadError):
        Repository.parse(name)


@pytest.mark.parametrize("key", ["", "development", "development:", "testing", "development:refs/heads/"])
def test_a_key_of_something_else_is_refused(key: str) -> None:
    with pytest.raises(PayloadError):
        Environment.from_key(Repository.parse("acme/hello"), key)
