"""Each call to AWS and GitHub is counted once, whatever becomes of the task that made it."""

from typing import Any

import pytest
from world import World, sha

from deployer.model.errors import TransientError

BRANCH = "refs/heads/x"


@pytest.fixture
def world() -> World:
    made = World()
    made.push(BRANCH, sha(1))
    made.cloud.calls.clear()
    made.host.calls.clear()
    return made


def counted(world: World) -> dict[str, int]:
    found = world.lanes.counters().items()
    return {name.removeprefix("calls:"): value for name, value in found if name.startswith("calls:")}


def made(world: World) -> dict[str, int]:
    """The calls that the doubles have seen."""
    stages = len(world.cloud.called("execution"))
    posts = sum(len(list(world.host.called(each))) for each in ("post_commit_status", "comment_on_pulls"))
    return {
        "aws": len(world.cloud.calls) - stages,
        "aws_stages": stages,
        "github": len(world.host.calls) - posts,
        "github_stages": posts,
    }


def test_a_deployment_counts_all_its_calls_by_purpose(world: World) -> None:
    world.run()
    assert counted(world) == made(world)
    assert min(made(world).values()) > 1


def test_attempts_that_failed_are_counted_too(world: World) -> None:
    world.host.fail_next(TransientError("GitHub answers 502"), method="files")
    world.cloud.fail_next(TransientError("AWS is away"), method="create_stack")
    world.run()
    assert counted(world) == made(world)


def test_the_calls_of_a_dead_letter_and_of_its_replay_are_counted(world: World) -> None:
    world.host.fail_next(TransientError("GitHub answers 502"), times=3, method="files")
    world.run()
    (letter,) = world.lanes.dead_letters()
    before = counted(world)
    assert 0 < before["github"] == made(world)["github"]
    world.deployer.submitter.replay(letter.id)
    world.run()
    assert counted(world) == made(world)


def test_the_calls_of_an_interrupted_task_are_counted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    read_files = world.host.files

    def ended(*arguments: Any) -> Any:
        read_files(*arguments)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(world.host, "files", ended)
        with pytest.raises(SystemExit):
            world.run()
    assert 0 < counted(world)["github"] == made(world)["github"]
    world.run()
    assert counted(world) == made(world)
