"""Tests of `redeploy --wait` and `delete --wait`: the printed progress and the end."""

import json
from collections.abc import Callable, Iterator

import pytest
from cli_world import REPOSITORY, World

from deployer.model.errors import UnavailableError

A, B = "a" * 40, "b" * 40


@pytest.fixture
def while_waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Lets each pause of `--wait` do the next of some things instead, and its last one from then on."""

    def give(*things: Callable[[], object]) -> None:
        def each() -> Iterator[Callable[[], object]]:
            yield from things
            while True:
                yield things[-1]

        pauses = each()
        monkeypatch.setattr("deployer.cli.wait.time.sleep", lambda _seconds: next(pauses)())

    return give


def test_a_redeploy_shows_each_change_and_ends_with_the_page(
    world: World, while_waiting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.cli.wait.time.strftime", lambda _format: "12:00:00")
    world.push("refs/heads/x", A)

    def task() -> None:
        world.carry_out(world.queue.sent.pop(0)) if world.queue.sent else world.pass_time()

    while_waiting(task)
    result = world.run("redeploy", "acme/api", "x", "--wait")
    assert result.exit_code == 0, result.output
    head, *changes, end = result.stdout.splitlines()
    assert head.startswith("redeploy of acme/API x queued as ")
    assert changes[0] == "12:00:00 queued"
    assert "12:00:00 running: Source running, 2 pending" in changes
    assert not any("deployed" in each for each in changes)
    assert len(changes) == len(set(changes))
    assert end == f"deployed: {A[:12]} went through every stage"


def test_a_redeploy_that_fails_says_why(world: World, while_waiting: Callable[..., None]) -> None:
    world.push("refs/heads/x", A)
    world.cloud.fail_next_execution("2 tests failed")
    while_waiting(world.work)
    result = world.run("redeploy", "acme/api", "x", "--wait", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["outcome"]) == (1, "failed")
    assert found["reason"] == "Build failed: 2 tests failed"
    said = result.stderr.splitlines()[-1]
    assert said == (
        "deployer: the redeploy of acme/API x ended as failed: Build failed: 2 tests failed; "
        "see: deployer why acme/API x"
    )


def test_a_delete_waits_for_the_end(world: World, while_waiting: Callable[..., None]) -> None:
    world.push("refs/heads/x", A)
    while_waiting(world.work)
    result = world.run("delete", "acme/api", "x", "--wait")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("deleted: ")
    assert world.json("status") == []


def test_a_redeploy_that_a_push_replaced_does_not_wait_forever(
    world: World, while_waiting: Callable[..., None]
) -> None:
    world.push("refs/heads/x", A)
    while_waiting(lambda: world.push("refs/heads/x", B, delivery="newer"))
    result = world.run("redeploy", "acme/api", "x", "--wait")
    assert result.exit_code == 1
    assert "ended as superseded: replaced by newer" in result.stderr


def test_an_outage_of_redis_is_awaited(
    world: World, while_waiting: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world.push("refs/heads/x", A)
    lanes, answers = world.lanes.lanes, [True, False, False, True]

    def sometimes(*arguments: object) -> object:
        if answers and not answers.pop(0):
            raise UnavailableError("Redis does not answer")
        return lanes(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(world.lanes, "lanes", sometimes)
    while_waiting(lambda: None, lambda: None, lambda: None, world.work)
    result = world.run("redeploy", "acme/api", "x", "--wait", "--json")
    assert (result.exit_code, json.loads(result.stdout)["outcome"]) == (0, "deployed")
    said = [line for line in result.stderr.splitlines() if "Redis" in line]
    assert said == ["Redis does not answer; waiting for it to return", "Redis answers again"]


def test_redis_that_was_emptied_ends_the_wait(world: World, while_waiting: Callable[..., None]) -> None:
    world.push("refs/heads/x", A)
    while_waiting(world.redis.flushall)
    result = world.run("redeploy", "acme/api", "x", "--wait")
    assert result.exit_code == 1
    assert "neither the queue nor the history contains it: Redis may have been emptied" in result.stderr


def test_ctrl_c_leaves_the_work_and_says_so(world: World, while_waiting: Callable[..., None]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    world.push("refs/heads/x", A)
    while_waiting(interrupt)
    result = world.run("redeploy", "acme/api", "x", "--wait")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == (
        "no longer waiting; the redeploy continues: deployer why acme/API x"
    )
    (lane,) = world.lanes.lanes(REPOSITORY)
    assert [work.cause for work in lane.waiting] == ["redeploy"]


def test_the_wait_ends_after_its_timeout(world: World) -> None:
    world.push("refs/heads/x", A)
    result = world.run("delete", "acme/api", "x", "--wait", "--timeout", "0.05")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "deployer: the delete of acme/API x: it has not ended after 0.05 s and continues; see: deployer why acme/API x"
    )
