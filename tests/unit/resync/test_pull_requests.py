"""The head of each open pull request gets the status `deployer`, also without a push that would deploy it."""

import pytest
from world import HELLO, World, environment, sha

from deployer.model.events import PullRequestChange
from deployer.model.refs import Ref

MAIN, BRANCH = "refs/heads/main", "refs/heads/x"
PENDING = {"deployer.yml": "skipped: pending"}


@pytest.fixture
def world() -> World:
    made = World()
    made.push(MAIN, sha(9))
    made.run()
    for number in (2, 5):  # commits that no branch of the repository has
        made.host.push(HELLO, "refs/heads/other", sha(number), files={})
    made.host.remove(HELLO, "refs/heads/other")
    return made


def event(world: World, commit: str, *, action: str = "opened", fork: bool = False, branch: str = "x") -> str:
    """Deliver the event of a pull request; returns the answer's outcome."""
    change = PullRequestChange("d-pr", HELLO, action, 7, Ref.of_branch(branch), commit, fork, "main")
    answer = world.deployer.submit_delivery(change)
    world.run()
    world.post()
    return answer.outcome


def summary(world: World, commit: str) -> tuple[str, str]:
    status = world.host.statuses.get((HELLO, commit), {}).get("deployer")
    return (status.state, status.description) if status else ("", "")


@pytest.mark.parametrize("action", ["opened", "reopened", "synchronize"])
def test_a_head_in_a_fork_is_a_success_with_the_reason(world: World, action: str) -> None:
    assert event(world, sha(5), action=action, fork=True) == "ignored"
    assert summary(world, sha(5)) == (
        "success",
        "#7: skipped: its branch is in a fork, which deployer does not deploy",
    )
    assert environment(BRANCH) not in world.standing(HELLO), "nothing of a fork is deployed"


def test_a_closed_pull_request_shows_nothing(world: World) -> None:
    assert event(world, sha(5), action="closed", fork=True) == "ignored"
    assert summary(world, sha(5)) == ("", "")


def test_a_head_without_a_deploy_folder_is_a_success_with_the_reason(world: World) -> None:
    world.host.push(HELLO, BRANCH, sha(1), files={})
    assert event(world, sha(1)) == "queued"
    state, text = summary(world, sha(1))
    assert (state, text[:14]) == ("success", "x: skipped: th")
    assert "there is no deploy/pipeline.yml" in text


def test_a_head_that_was_pushed_before_deployer_was_installed_is_checked(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    world.redis.delete(f"deployer:{{acme/hello}}:display:{sha(1)}")
    world.host.statuses.pop((HELLO, sha(1)))
    assert event(world, sha(1)) == "queued"
    assert summary(world, sha(1)) == ("success", "x: is deployed")
    assert len(world.built(environment(BRANCH))) == 1, "it is not deployed again"


def test_a_head_that_shows_the_status_needs_no_work(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.tasks()
    change = PullRequestChange("d-pr", HELLO, "opened", 7, Ref.of_branch("x"), sha(1), False, "main")
    answer = world.deployer.submit_delivery(change)
    assert (answer.outcome, answer.reason) == ("ignored", f"{sha(1)[:12]} has the status deployer")


def test_a_head_that_its_environment_does_not_run_says_so(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    world.lanes_note(environment(BRANCH), held_at=sha(2), reason="a person chose another commit")
    assert event(world, sha(2)) == "ignored"
    assert summary(world, sha(2)) == ("success", "x: skipped: a person chose another commit")


def test_a_resync_repairs_open_pull_requests(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    world.redis.delete(f"deployer:{{acme/hello}}:display:{sha(1)}")
    world.host.statuses.pop((HELLO, sha(1)))
    world.host.open_pull(HELLO, "x")
    world.host.open_pull_of_fork(HELLO, sha(5))
    world.resync(HELLO)
    assert summary(world, sha(1)) == ("success", "x: is deployed")
    assert summary(world, sha(5))[0] == "success"
    count = len(world.host.posted)
    world.resync(HELLO)
    assert len(world.host.posted) == count


def test_a_resync_goes_on_without_the_right_to_read_pull_requests(world: World) -> None:
    world.host.comment_rights = False
    world.host.open_pull_of_fork(HELLO, sha(5))
    world.host.push(HELLO, BRANCH, sha(1), files=None)
    world.resync(HELLO)
    assert summary(world, sha(5)) == ("", "")
    assert world.lanes.dead_letters() == []


@pytest.mark.parametrize("message", ["docs [skip deploy]", "docs [skip ci]"])
def test_a_push_that_asks_to_be_skipped_is_a_success_with_the_reason(world: World, message: str) -> None:
    world.push(BRANCH, sha(1), message=message)
    world.run()
    state, text = summary(world, sha(1))
    assert state == "success"
    assert text.startswith("x: skipped: ")


def test_what_was_deployed_is_not_shown_as_skipped(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    world.push(BRANCH, sha(1), before=sha(1), message="again [skip deploy]")
    world.run()
    assert summary(world, sha(1)) == ("success", "x: is deployed")


def test_the_default_branch_can_let_a_skip_wait(world: World) -> None:
    world.push(MAIN, sha(8), before=sha(9), files=PENDING)
    world.run()
    world.push(BRANCH, sha(1), message="docs [skip deploy]")
    world.push("refs/heads/y", sha(2), files={"deployer.yml": "branches: [z]\nskipped: success"})
    world.run()
    event(world, sha(5), fork=True)
    assert {summary(world, sha(number))[0] for number in (1, 2, 5)} == {"pending"}
    world.push(MAIN, sha(7), before=sha(8))
    world.run()
    world.push(BRANCH, sha(3), before=sha(1), message="more [skip deploy]")
    world.run()
    assert summary(world, sha(3))[0] == "success"
