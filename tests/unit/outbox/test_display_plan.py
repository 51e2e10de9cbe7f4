"""What a commit shows: the worst state of the environments that want it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.model.display import WANTS
from deployer.model.environments import Repository
from deployer.outbox.plan import missing_posts, wanted_by_place
from deployer.outbox.store import CommitDisplay, Shown, Wanted

HELLO = Repository.parse("acme/hello")
BUILD = "deployer/Build"
A, B = "development:refs/heads/a", "development:refs/heads/b"
STATES = ("success", "pending", "error", "failure")


def display(*rows: tuple[str, str, str], left: tuple[str, ...] = ()) -> CommitDisplay:
    """The display of a commit with rows of environment, place and state, the oldest first."""
    wanted = {
        (environment, place): Wanted(state, f"{environment[-1]}: {state}", at=at)
        for at, (environment, place, state) in enumerate(rows)
    }
    for environment in {environment for environment, _, _ in rows}:
        gone = environment in left
        wanted[environment, WANTS] = Wanted(
            "no" if gone else "yes", "overtaken by abc" if gone else "", at=100
        )
    return CommitDisplay(HELLO, "1" * 40, wanted, {})


@pytest.mark.parametrize(
    ("first", "second", "shown"),
    [
        ("failure", "success", "a: failure"),
        ("failure", "pending", "a: failure"),
        ("success", "pending", "b: pending"),
        ("pending", "success", "a: pending"),
        ("error", "failure", "b: failure"),
        ("success", "success", "b: success"),
    ],
)
def test_the_worst_state_counts_and_names_its_branch(first: str, second: str, shown: str) -> None:
    found = wanted_by_place(display((A, BUILD, first), (B, BUILD, second)))
    assert found[BUILD].text == shown


def test_an_environment_that_wants_another_commit_does_not_count() -> None:
    found = wanted_by_place(display((A, BUILD, "failure"), (B, BUILD, "success"), left=(A,)))
    assert found[BUILD].text == "b: success"


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        ("pending", ("error", "a: superseded: overtaken by abc")),
        ("success", ("success", "a: success")),
        ("failure", ("failure", "a: failure")),
    ],
)
def test_where_nobody_wants_the_commit_a_final_state_stays_and_a_pending_one_is_superseded(
    state: str, shown: tuple[str, str]
) -> None:
    found = wanted_by_place(display((A, BUILD, state), left=(A,)))[BUILD]
    assert (found.state, found.text) == shown


_rows = st.lists(
    st.tuples(
        st.sampled_from([A, B, "staging"]), st.sampled_from([BUILD, "deployer"]), st.sampled_from(STATES)
    ),
    max_size=12,
)


@given(_rows, st.sets(st.sampled_from([A, B, "staging"])))
def test_no_commit_that_nobody_wants_stays_pending_and_no_failure_is_hidden(
    rows: list[tuple[str, str, str]], left: set[str]
) -> None:
    made = display(*rows, left=tuple(left))
    last = {(environment, place): state for environment, place, state in rows}
    for place, found in wanted_by_place(made).items():
        present = [state for (each, name), state in last.items() if name == place and each not in left]
        if not present:
            assert found.state != "pending"
        assert ("failure" in present) <= (found.state == "failure")
        assert (found.state == "success") <= ({"failure", "error", "pending"}.isdisjoint(present))


def test_what_is_shown_needs_no_write_and_whether_a_commit_is_wanted_is_shown_nowhere() -> None:
    made = display((A, BUILD, "success"))
    assert [post.name for post in missing_posts(made)] == [BUILD]
    shown = CommitDisplay(HELLO, made.sha, made.wanted, {BUILD: Shown("success", "a: success")})
    assert missing_posts(shown) == []
