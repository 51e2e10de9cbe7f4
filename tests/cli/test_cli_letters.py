"""`dead-letters`."""

import re

import pytest
from cli_world import World

from deployer.model.environments import Repository
from deployer.model.errors import TransientError
from deployer.queue.dead_letter_record import WORKER_LOST

A, B, C = "a" * 40, "b" * 40, "c" * 40


@pytest.fixture
def letter(world: World) -> str:
    """The id of a dead letter that AWS's absence left."""
    world.cloud.fail_next(TransientError("reading stack x: AWS cannot be reached"), times=2)
    world.push("refs/heads/feature/x", A, delivery="d-1")
    (found,) = world.lanes.dead_letters()
    return found.id


def test_list(world: World, letter: str) -> None:
    head, row = world.run("dead-letters", "list").stdout.splitlines()
    assert head.split() == ["ID", "ENVIRONMENT", "TASK", "AGE", "ATTEMPTS", "KIND", "REASON"]
    assert row.startswith(f"{letter}  acme/API feature/x  sync  ")
    assert row.endswith("2         TransientError  reading stack x: AWS cannot be reached")
    (found,) = world.json("dead-letters", "list")
    assert found["id"] == letter
    assert (found["work"]["attempts"], found["work"]["deliveries"]) == (2, ["d-1"])
    assert (found["kind"], len(found["attempts"])) == ("TransientError", 2)
    assert 0 <= found["age_seconds"] < 60


def test_an_empty_list(world: World) -> None:
    assert world.run("dead-letters", "list").stdout == "no dead letters\n"
    assert world.json("dead-letters", "list") == []


def test_show(world: World, letter: str) -> None:
    text = world.run("dead-letters", "show", letter).stdout
    assert text.splitlines()[0] == letter
    assert re.search(
        r"^  sync was given up after 2 attempts in \d+ s: reading stack x: AWS cannot be reached$",
        text,
        re.MULTILINE,
    )
    assert "attempts     2" in text
    attempt = r"^20\d\d-\d\d-\d\dT[\d:.]+Z  \d+ s +sync  reading stack x: AWS cannot be reached$"
    assert len(re.findall(attempt, text, re.MULTILINE)) == 2
    assert "deliveries   d-1" in text or "deliveries  " in text
    assert "Traceback (most recent call last)" in text
    assert "TransientError: reading stack x" in text
    assert "Traceback" in world.json("dead-letters", "show", letter)["traceback"]


def test_why_shows_the_dead_letter(world: World, letter: str) -> None:
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


# --- many at once


@pytest.fixture
def several(world: World, letter: str) -> dict[str, str]:
    """Ids of dead letters by what they died of: AWS's absence, a bug, lost workers."""
    world.cloud.fail_next(RuntimeError("a bug"))
    world.push("refs/heads/feature/y", B, delivery="d-2")
    world.push("refs/heads/feature/z", C, delivery="d-3", work=False)
    while world.lanes.lanes():  # no worker ever comes back
        for dispatch in world.queue.sent:
            world.lanes.begin(Repository.parse(dispatch.repository), dispatch.token)
        world.lanes.clock_offset_ms += 61_000
        world.queue.sent = world.lanes.sweep()
    found = {each.kind: each.id for each in world.lanes.dead_letters()}
    assert found.keys() == {"TransientError", "RuntimeError", WORKER_LOST}
    assert found["TransientError"] == letter
    return found


def left(world: World) -> set[str]:
    """The kinds that are on the list."""
    return {each.kind for each in world.lanes.dead_letters()}


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize(
    ("filters", "kinds"),
    [
        ("--kind RuntimeError", {"RuntimeError"}),
        ("--kind Other", set()),
        ("--repository acme/api", {"RuntimeError", "TransientError", WORKER_LOST}),
        ("--repository acme/other", set()),
        ("--task sync", {"RuntimeError", "TransientError", WORKER_LOST}),
        ("--task deployer.sync --kind WorkerLost", {WORKER_LOST}),
        ("--task delete", set()),
    ],
)
def test_filters_apply_to_list_replay_and_discard(world: World, filters: str, kinds: set[str]) -> None:
    listed = world.json("dead-letters", "list", *filters.split())
    planned = world.json("dead-letters", "replay", "--all", "--dry-run", *filters.split())
    assert {each["kind"] for each in listed} == {each["kind"] for each in planned} == kinds
    assert len(left(world)) == 3, "nothing was done yet"
    done = world.json("dead-letters", "discard", "--all", "--yes", *filters.split())
    assert len(done) == len(kinds)
    assert left(world) == {"RuntimeError", "TransientError", WORKER_LOST} - kinds


def test_all_of_a_kind_are_replayed(world: World, several: dict[str, str]) -> None:
    (told,) = world.json("dead-letters", "replay", "--all", "--kind", WORKER_LOST)
    assert (told["id"], told["outcome"], told["error"]) == (several[WORKER_LOST], "queued", "")
    assert left(world) == {"RuntimeError", "TransientError"}
    world.work()
    assert [world.outcome(each) for each in ("d-1", "d-2", "d-3")] == ["dead-lettered"] * 2 + ["deployed"]
    assert world.run("dead-letters", "replay", "--all").stdout.count(" queued as replay-") == 2
    world.work()
    assert [world.outcome(each) for each in ("d-1", "d-2", "d-3")] == ["deployed"] * 3
    nothing = world.run("dead-letters", "replay", "--all")
    assert (nothing.exit_code, nothing.stdout) == (0, "no dead letters\n")


def test_the_newest_request_of_an_environment_wins_when_all_are_replayed(world: World, letter: str) -> None:
    world.cloud.fail_next(RuntimeError("a bug"))
    world.push("refs/heads/feature/x", B, delivery="d-newer")
    assert len(world.json("dead-letters", "replay", "--all")) == 2
    world.work()
    assert (world.outcome("d-1"), world.outcome("d-newer")) == ("superseded", "deployed")
    assert letter not in {each.id for each in world.lanes.dead_letters()}


@pytest.mark.parametrize("command", ["replay", "discard"])
def test_a_failed_replay_or_discard_does_not_stop_the_others(
    world: World, several: dict[str, str], command: str
) -> None:
    first, last = several["RuntimeError"], several[WORKER_LOST]
    result = world.run("dead-letters", command, first, "acme~api-1", last)
    assert result.exit_code == 1
    assert [line.split()[0] for line in result.stdout.splitlines()] == [first, last]
    named, summary = result.stderr.splitlines()
    assert named == "acme~api-1: there is no dead letter acme~api-1; see: deployer dead-letters list"
    assert summary == f"deployer: 1 of 3 were not {command}ed"
    assert left(world) == {"TransientError"}


def test_a_dry_run_reports_unknown_ids(world: World, letter: str) -> None:
    result = world.run("dead-letters", "discard", letter, "acme~api-1", "--dry-run")
    assert (result.exit_code, letter in result.stdout) == (1, True)
    assert "no dead letter acme~api-1" in result.stderr
    assert left(world) == {"TransientError"}


@pytest.mark.usefixtures("several")
@pytest.mark.parametrize(
    "arguments",
    [
        "replay",
        "discard",
        "replay acme~api-1 --all",
        "discard acme~api-1 --kind RuntimeError",
        "discard --all",
        "discard --all --kind RuntimeError",
        "replay --kind RuntimeError",
        "replay --all --repository nonsense",
    ],
)
def test_wrong_usage_replays_and_discards_nothing(world: World, arguments: str) -> None:
    result = world.run("dead-letters", *arguments.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(left(world)) == 3


def test_status_ends_with_a_warning(world: World, several: dict[str, str]) -> None:
    assert len(several) == 3
    for arguments in (("status",), ("status", "acme/api"), ("status", "--json")):
        lines = world.run(*arguments).stderr.splitlines()
        assert len(lines) == 1
        assert re.fullmatch(
            r"3 dead letters await a decision, the oldest for \d+ \w+; see: deployer dead-letters list",
            lines[0],
        )
    assert world.run("status", "acme/other").stderr == ""
    world.run("dead-letters", "discard", several["RuntimeError"], several[WORKER_LOST])
    assert world.run("status").stderr.startswith("1 dead letter awaits a decision, for ")
    world.run("dead-letters", "discard", "--all", "--yes")
    assert world.run("status").stderr == ""
