"""`dead-letters`."""

import pytest
from cli_world import World

from deployer.errors import TransientError

A = "a" * 40


@pytest.fixture
def letter(world: World) -> str:
    """The id of a dead letter that AWS's absence left."""
    world.cloud.fail_next(TransientError("reading stack x: AWS cannot be reached"), times=2)
    world.push("refs/heads/feature/x", A, delivery="d-1")
    (found,) = world.lanes.dead_letters()
    return found.id


def test_list(world: World, letter: str) -> None:
    head, row = world.run("dead-letters", "list").stdout.splitlines()
    assert head.split() == ["ID", "ENVIRONMENT", "TASK", "WHEN", "REASON"]
    assert row.startswith(f"{letter}  acme/API feature/x  sync  ")
    assert row.endswith("reading stack x: AWS cannot be reached")
    (found,) = world.json("dead-letters", "list")
    assert found["id"] == letter
    assert (found["work"]["attempts"], found["work"]["deliveries"]) == (2, ["d-1"])


def test_an_empty_list(world: World) -> None:
    assert world.run("dead-letters", "list").stdout == "no dead letters\n"
    assert world.json("dead-letters", "list") == []


def test_show(world: World, letter: str) -> None:
    text = world.run("dead-letters", "show", letter).stdout
    assert text.splitlines()[0] == letter
    assert "attempts     2" in text
    assert "deliveries   d-1" in text or "deliveries  " in text
    assert "Traceback (most recent call last)" in text
    assert "TransientError: reading stack x" in text
    assert "Traceback" in world.json("dead-letters", "show", letter)["traceback"]


def test_why_tells_of_it(world: World, letter: str) -> None:
    text = world.run("why", "acme/api", "feature/x").stdout
    assert letter in text
    assert "AWS cannot be reached" in text


def test_replay(world: World, letter: str) -> None:
    result = world.run("dead-letters", "replay", letter)
    assert (result.exit_code, result.stdout.startswith(f"{letter} queued as replay-")) == (0, True)
    world.work()
    assert world.json("dead-letters", "list") == []
    delivery = world.lanes.delivery("d-1")
    assert delivery is not None
    assert delivery.outcome == "deployed"


def test_discard(world: World, letter: str) -> None:
    assert world.run("dead-letters", "discard", letter).stdout == f"{letter} discarded\n"
    assert world.json("dead-letters", "list") == []


@pytest.mark.parametrize("command", ["show", "replay", "discard"])
@pytest.mark.parametrize("identity", ["acme~api-999", "nonsense"])
def test_the_unknown(world: World, command: str, identity: str) -> None:
    result = world.run("dead-letters", command, identity)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"deployer: there is no dead letter {identity}; see: deployer dead-letters list\n"
