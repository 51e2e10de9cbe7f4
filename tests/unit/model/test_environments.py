"""Environments: their keys, tags, names, and the refs that deploy them."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from deployer.model.environments import (
    Environment,
    Kind,
    Repository,
    from_tag_value,
    ref_from_tags,
    ref_tags,
    tag_value,
)
from deployer.model.errors import PayloadError
from deployer.model.refs import Ref
from tests.unit.identities import environments


def _identity(environment: Environment) -> tuple[str, str]:
    return environment.repository.key, environment.key


@given(environments())
def test_a_key_reads_back(environment: Environment) -> None:
    assert Environment.from_key(environment.repository, environment.key) == environment


@given(environments(), environments())
def test_an_environment_owns_only_a_stack_with_all_its_tags(one: Environment, other: Environment) -> None:
    assert one.owns(other.tags) == (_identity(one) == _identity(other))
    assert one.owns({**one.tags, "team": "x"})
    for key in one.tags:
        assert not one.owns({name: value for name, value in one.tags.items() if name != key})


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
def test_which_environment_a_ref_deploys(ref: str, kind: Kind) -> None:
    environment = Environment.of_ref(Repository.parse("acme/hello"), Ref.parse(ref), "main")
    assert environment.kind is kind


@pytest.mark.parametrize(
    ("branch", "name"),
    [
        ("feature/x", "feature/x"),
        ("staging", "refs/heads/staging"),
        ("refs/heads/main", "refs/heads/refs/heads/main"),
        ("refs/tags/v1", "refs/heads/refs/tags/v1"),
        ("-rf", "refs/heads/-rf"),
    ],
)
def test_the_shown_name_can_be_typed(branch: str, name: str) -> None:
    ref = Ref.of_branch(branch)
    environment = Environment(Repository("acme", "api"), Kind.DEVELOPMENT, ref)
    assert environment.name == name
    assert str(environment) == f"acme/api {name}"
    assert Ref.from_user_input(name) == ref


def test_a_branch_named_staging_is_not_staging() -> None:
    repository = Repository.parse("acme/hello")
    branch = Environment.of_ref(repository, Ref.of_branch("staging"), "main")
    assert branch.stack_name != Environment(repository, Kind.STAGING).stack_name
    assert not branch.owns(Environment(repository, Kind.STAGING).tags)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
@example("x" * 257)
@example("中" * 100)
def test_aws_accepts_every_tag_value_and_it_reads_back(text: str) -> None:
    value = tag_value(text)
    assert re.fullmatch(r"[A-Za-z0-9_.:/=+@-]*", value)
    assert len(value) <= 256
    assert from_tag_value(value) in {text, None}
    assert len(text.encode()) > 80 or from_tag_value(value) == text


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400))
@example("中" * 340)
def test_a_ref_of_any_length_reads_back_from_its_tags(text: str) -> None:
    name = f"refs/heads/{text}"
    tags = ref_tags(name)
    for value in tags.values():
        assert re.fullmatch(r"[A-Za-z0-9_.:/=+@-]{1,256}", value)
    try:
        Ref.parse(name)
    except PayloadError:
        assert ref_from_tags(tags) is None
    else:
        assert ref_from_tags(tags) == name
    assert from_tag_value(tags["deployer:ref"]) == (name if len(tags) == 1 else None)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"deployer:ref": ""},
        {"deployer:ref": "=FF"},
        {"deployer:ref": "v1.2"},
        {"deployer:ref": "refs/tags/"},
        {"deployer:ref": tag_value("x" * 300)},
        {"deployer:ref": tag_value("x" * 300), "deployer:ref.1": "x" * 256},
        {"deployer:ref": "refs/heads/x", "deployer:ref.1": "refs/heads/y"},
    ],
)
def test_tags_with_an_incomplete_ref_give_none(tags: dict[str, str]) -> None:
    assert ref_from_tags(tags) is None


@pytest.mark.parametrize(
    "name", ["", "acme", "acme/", "/x", "acme/hello/x", "ac me/x", "acme/..", "a/b\n", "-a/x"]
)
def test_a_repository_is_owner_and_name(name: str) -> None:
    with pytest.raises(PayloadError):
        Repository.parse(name)


@pytest.mark.parametrize("key", ["", "development", "development:", "testing", "development:refs/heads/"])
def test_a_malformed_key_is_refused(key: str) -> None:
    with pytest.raises(PayloadError):
        Environment.from_key(Repository.parse("acme/hello"), key)
