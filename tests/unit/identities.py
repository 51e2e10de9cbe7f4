"""Environments for property tests, and how an earlier release named them."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import strategies as st

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.refs import Ref

# Two branches whose former names are the same: they share 40 bits of the hash. Found in five seconds, by trying the
# capitals of one name.
TWINS = ("feaTurE/mONThLY-bILLIng-report", "feAtuRe/mONTHly-bIlLINg-report")
OWNERS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9-]{0,8}", fullmatch=True)
REPOS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,12}", fullmatch=True)
BRANCHES = st.one_of(
    st.from_regex(r"[a-z0-9][a-zA-Z0-9/#ü_-]{0,20}[a-z0-9]", fullmatch=True).filter(lambda b: "//" not in b),
    st.sampled_from(
        [
            "staging",
            "production",
            "main",
            "v1.2.3",
            "a/foo",
            "b/foo",
            "a-foo",
            "hotfix/main",
            "x" * 240,
            "production-fix",
            "x-production",
            "production-0123456789abcdef0123",
            "x-production-0123456789",
            "x-production-abcdefghijklmnopp",
        ]
    ),
)


@st.composite
def environments(draw: st.DrawFn) -> Environment:
    repository = Repository(draw(OWNERS), draw(REPOS))
    kind = draw(st.sampled_from(Kind))
    branch = Ref.of_branch(draw(BRANCHES)) if kind is Kind.DEVELOPMENT else None
    return Environment(repository, kind, branch)


@contextmanager
def former_release() -> Iterator[None]:
    """Environments are named as earlier releases named them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, "stack_name", property(lambda each: each.former_stack_name))
        yield
