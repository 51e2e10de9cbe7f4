"""Statuses are true where several environments want one commit, and where deployer stops or skips something."""

import pytest
from world import HELLO, World, environment, sha

MAIN = "refs/heads/main"
A, B = "refs/heads/a", "refs/heads/b"


@pytest.fixture
def world() -> World:
    return World()


def summary(world: World, commit: str) -> tuple[str, str]:
    found = world.host.statuses[HELLO, commit]["deployer"]
    return found.state, found.description


def test_a_second_branch_at_a_commit_does_not_turn_the_failure_of_the_first_green(world: World) -> None:
    world.cloud.fail_next_execution("tests are red")
    world.push(A, sha(1))
    world.run()
    assert world.statuses(sha(1))["deployer/Build"] == "failure"
    world.push(B, sha(1))
    world.run()
    build = world.host.statuses[HELLO, sha(1)]["deployer/Build"]
    assert (build.state, build.description) == ("failure", "a: Build failed: tests are red")
    assert summary(world, sha(1))[0] == "failure"
    assert summary(world, sha(1))[1].startswith("a: ")


def test_once_the_failed_branch_has_moved_on_the_other_branch_alone_counts(world: World) -> None:
    world.cloud.fail_next_execution("tests are red")
    world.push(A, sha(1))
    world.run()
    world.push(B, sha(1))
    world.run()
    world.push(A, sha(2), before=sha(1))
    world.run()
    assert set(world.statuses(sha(1)).values()) == {"success"}
    assert set(world.statuses(sha(2)).values()) == {"success"}


def test_staging_has_stages_of_its_own_and_shares_the_summary(world: World) -> None:
    world.cloud.fail_next_execution("tests are red")
    world.push(MAIN, sha(1))
    world.run()
    assert world.statuses(sha(1)) == {
        "deployer": "failure",
        "deployer/staging/prepare": "success",
        "deployer/staging/Source": "success",
        "deployer/staging/Build": "failure",
    }
    world.push(B, sha(1))
    world.run()
    assert world.statuses(sha(1))["deployer/Build"] == "success"
    assert summary(world, sha(1))[1].startswith("staging: ")


def test_production_has_one_status(world: World) -> None:
    world.rules()
    world.host.merge(HELLO, sha(1))
    world.push("refs/tags/v1", sha(1))
    world.run()
    assert world.statuses(sha(1)) == {"deployer/production": "success"}
    assert "pending" not in world.statuses("f" * 40).values()


def test_a_skipped_push_is_a_success_with_the_reason(world: World) -> None:
    wishes = {"deployer.yml": "paths: {exclude: 'docs/*'}"}
    world.push(A, sha(1), files=wishes)
    world.run()
    world.push(A, sha(2), before=sha(1), files={**wishes, "docs/a": "1"})
    world.run()
    state, text = summary(world, sha(2))
    assert state == "success"
    assert text.startswith("a: skipped: nothing among the paths of deploy/deployer.yml has changed")
    assert set(world.statuses(sha(1)).values()) == {"success"}, "the branch still wants it"


def test_an_overtaken_commit_is_superseded_in_the_summary(world: World) -> None:
    world.push(A, sha(1))
    world.tasks()
    assert summary(world, sha(1)) == ("pending", "a: is being deployed")
    world.push(A, sha(2), before=sha(1))
    world.run()
    assert summary(world, sha(1)) == ("error", f"a: superseded: overtaken by {sha(2)[:12]}")
    assert summary(world, sha(2)) == ("success", "a: is deployed")


def test_a_deleted_branch_leaves_its_final_states(world: World) -> None:
    world.push(A, sha(1))
    world.run()
    world.remove(A, sha(1))
    world.run()
    assert set(world.statuses(sha(1)).values()) == {"success"}
    assert environment(A) not in world.standing(HELLO)


def test_a_template_that_is_refused_fails_the_summary(world: World) -> None:
    world.push(A, sha(1), template="Resources: {}")
    world.run()
    assert world.statuses(sha(1)) == {"deployer": "failure", "deployer/prepare": "failure"}
