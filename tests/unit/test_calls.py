"""What a deployment costs is counted through all its tasks, kept with its environment, and told once."""

from typing import Any

import pytest
from world import HELLO, World, environment, sha

from deployer.errors import TransientError

BRANCH = "refs/heads/x"


@pytest.fixture
def world() -> World:
    return World()


def told(world: World, prefix: str) -> dict[str, int]:
    found = world.lanes.counters().items()
    return {name.removeprefix(prefix): value for name, value in found if name.startswith(prefix)}


def made(world: World) -> dict[str, int]:
    """The calls that the doubles have seen."""
    stages = len(world.cloud.called("execution"))
    posts = sum(
        call[2].context not in ("deployer/prepare", "deployer/teardown") for call in world.host.called("post")
    )
    return {
        "aws": len(world.cloud.calls) - stages,
        "aws_stages": stages,
        "github": len(world.host.calls) - posts,
        "github_stages": posts,
    }


def forget(world: World) -> None:
    world.cloud.calls.clear()
    world.host.calls.clear()


def test_a_deployment_knows_all_its_calls(world: World) -> None:
    world.push(BRANCH, sha(1))
    forget(world)
    world.run()
    seen = made(world)
    assert world.record(environment(BRANCH)).calls == seen
    assert min(seen.values()) > 1
    assert told(world, "calls:") == seen
    assert told(world, "deployment-calls:") == {**seen, "count": 1}


def test_attempts_that_failed_are_counted_too(world: World) -> None:
    world.push(BRANCH, sha(1))
    forget(world)
    world.host.fail_next(TransientError("GitHub answers 502"), method="files")
    world.cloud.fail_next(TransientError("AWS is away"), method="create_stack")
    world.run()
    assert world.record(environment(BRANCH)).calls == made(world)
    assert told(world, "calls:") == made(world)


def test_a_replay_goes_on_with_the_count_of_what_died(world: World) -> None:
    world.push(BRANCH, sha(1))
    forget(world)
    world.host.fail_next(TransientError("GitHub answers 502"), times=3, method="files")
    world.run()
    (letter,) = world.lanes.dead_letters()
    assert letter.arguments.github_calls == made(world)["github"]
    assert world.record(environment(BRANCH)).calls == {}
    world.deployer.intake.replay(letter.id)
    world.run()
    assert world.record(environment(BRANCH)).calls == made(world)


def test_what_took_the_place_of_a_push_bears_its_calls(world: World) -> None:
    world.push(BRANCH, sha(1))
    forget(world)
    world.tasks()  # the stack is being created
    world.push(BRANCH, sha(2), sha(1))
    world.run()
    assert world.built(environment(BRANCH))[-1] == (sha(2), "succeeded")
    assert world.record(environment(BRANCH)).calls == made(world)
    assert told(world, "deployment-calls:")["count"] == 1


def test_looking_costs_the_environment_nothing(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    before = world.record(environment(BRANCH)).calls
    world.cloud.start(environment(BRANCH).stack_name, sha(1), "a person's, in the console")
    world.event(environment(BRANCH))
    world.run()
    assert world.lanes.activity()[0].outcome == "deployed"
    world.deployer.intake.resync(HELLO)
    world.run()
    assert world.record(environment(BRANCH)).calls == before
    assert told(world, "deployment-calls:")["count"] == 1


def test_a_teardown_has_its_own_cost(world: World) -> None:
    world.push(BRANCH, sha(1))
    world.run()
    world.remove(BRANCH, sha(1))
    forget(world)
    world.run()
    record = world.record(environment(BRANCH))
    assert record.state == "deleted"
    assert record.calls == made(world)
    assert told(world, "deployment-calls:")["count"] == 1, "it is no deployment"


def test_interrupted_work_takes_its_calls_along(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push(BRANCH, sha(1))
    forget(world)

    def ended(*_: Any) -> Any:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(world.host, "files", ended)
        with pytest.raises(SystemExit):
            world.run()
    world.run()
    assert world.record(environment(BRANCH)).calls == made(world)
    assert told(world, "calls:") == made(world)
