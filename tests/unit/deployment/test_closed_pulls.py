"""The environment of a branch whose pull request is closed, if the default branch asks for its teardown."""

from typing import Any

import pytest
from world import HELLO, World, environment, sha

from deployer.model.environments import Environment, Kind
from deployer.model.events import PullRequestChange
from deployer.model.refs import Ref

MAIN, BRANCH = "refs/heads/main", "refs/heads/release/x"
DEV = environment(BRANCH)
RULES = "pull_requests: {closed: delete}\n"


@pytest.fixture
def world() -> World:
    return begin(RULES)


def begin(rules: str) -> World:
    made = World()
    made.push(MAIN, sha(9), files={"deployer.yml": rules})
    made.push(BRANCH, sha(1))
    made.host.open_pull(HELLO, "release/x")
    made.run()
    return made


def event(world: World, action: str, number: int = 1, branch: str = BRANCH, **more: Any) -> str:
    """A pull request's event arrives; no task runs yet."""
    if action == "closed":
        world.host.close_pull(HELLO, number)
    elif action == "reopened":
        world.host.close_pull(HELLO, number, closed=False)
    delivery = f"p{number}-{action}"
    fork = more.get("fork", False)
    change = PullRequestChange(delivery, HELLO, action, number, Ref(branch), sha(1), fork, "main")
    world.deployer.submit_delivery(change)
    return delivery


def close(world: World, **more: Any) -> tuple[str, str]:
    delivery = event(world, "closed", **more)
    world.run()
    world.post()
    return world.outcome(delivery)


def state(world: World, of: Environment = DEV) -> str:
    return world.record(of).status.state


def test_the_environment_goes_with_its_pull_request_and_stays_away(world: World) -> None:
    assert close(world)[0] == "deleted"
    assert state(world) == "deleted"
    assert not world.cloud.holds(DEV.stack_name)
    text, ended = world.host.pull_comments[HELLO, 1]
    assert ended
    assert "was deleted" in text
    world.resync(HELLO)
    assert state(world) == "deleted"
    assert state(world, environment(MAIN)) == "deployed"


@pytest.mark.parametrize("action", ["reopened", "opened"])
def test_a_pull_request_that_is_open_again_brings_it_back(world: World, action: str) -> None:
    close(world)
    if action == "opened":
        world.host.open_pull(HELLO, "release/x")
    event(world, action, 1 if action == "reopened" else 2)
    world.run()
    assert state(world) == "deployed"


def test_a_push_brings_it_back(world: World) -> None:
    close(world)
    world.push(BRANCH, sha(2), before=sha(1))
    world.run()
    assert state(world) == "deployed"


def test_a_reopening_does_not_bring_back_what_a_person_deleted(world: World) -> None:
    world.teardown(DEV)
    world.run()
    event(world, "reopened")
    world.run()
    assert state(world) == "deleted"


@pytest.mark.parametrize("rules", ["", "pull_requests: {closed: keep}\n", "pull_requests: {}\n"])
def test_without_the_setting_nothing_happens(rules: str) -> None:
    world = begin(rules)
    assert close(world)[0] == "ignored"
    assert state(world) == "deployed"


def test_a_branch_cannot_ask_for_it(world: World) -> None:
    world = World()
    world.push(MAIN, sha(9))
    world.push(BRANCH, sha(1), files={"deployer.yml": RULES})
    world.host.open_pull(HELLO, "release/x")
    world.run()
    assert close(world)[0] == "ignored"


def test_what_the_default_branch_says_now_counts(world: World) -> None:
    world.rules("pull_requests: {closed: keep}\n")  # staging has not deployed it yet
    close(world)
    assert state(world) == "deployed"


def test_unreadable_settings_delete_nothing(world: World) -> None:
    world.rules("pull_requests: {closed: sometimes}\n")
    close(world)
    assert state(world) == "deployed"


def test_a_branch_of_production_stays() -> None:
    world = begin(RULES + "production: {branches: 'release/*'}\n")
    close(world)
    assert state(world) == "deployed"


def test_a_branch_with_another_open_pull_request_stays(world: World) -> None:
    world.host.open_pull(HELLO, "release/x")
    close(world)
    assert state(world) == "deployed"


def test_the_default_branch_and_forks_never_go(world: World) -> None:
    world.host.open_pull(HELLO, "main")
    assert close(world, number=2, branch=MAIN)[0] == "ignored"
    assert close(world, fork=True)[0] == "ignored"
    world.run()
    assert state(world, environment(MAIN)) == "deployed"
    assert state(world) == "deployed"


def test_a_branch_that_is_the_default_one_by_now_stays(world: World) -> None:
    delivery = event(world, "closed")
    world.host.create(HELLO, "release/x")
    world.run()
    assert world.outcome(delivery)[0] != "deleted"
    assert world.cloud.holds(DEV.stack_name)


def test_a_push_that_the_close_replaced_in_the_queue_is_deployed_all_the_same(world: World) -> None:
    world.host.open_pull(HELLO, "release/x")  # so that the environment stays
    world.push(BRANCH, sha(2), before=sha(1))
    event(world, "closed")
    world.run()
    assert (world.record(DEV).spec.commit, state(world)) == (sha(2), "deployed")


def test_a_closed_pull_request_that_is_open_again_before_the_task_runs_changes_nothing(world: World) -> None:
    event(world, "closed")
    event(world, "reopened")
    world.run()
    assert state(world) == "deployed"


def test_production_is_not_touched(world: World) -> None:
    world.push("refs/tags/v1", sha(9), files={"deployer.yml": RULES})
    world.run()
    close(world)
    assert state(world, Environment(HELLO, Kind.PRODUCTION)) == "deployed"
