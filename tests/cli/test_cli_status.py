"""Tests of `status` at a terminal and in a pipe: width, filters, `--watch`."""

import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import click
import pytest
import rich.console
from cli_world import REPOSITORY, World
from hypothesis import given
from hypothesis import strategies as st

from deployer.cli import output
from deployer.cli.table_width import GAP, Shrink, cut_text, display_width, fit_table
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment
from deployer.model.errors import UnavailableError
from deployer.model.refs import Ref
from deployer.queue.record_store import Page
from deployer.views import derived_values

A = "a" * 40
LONG = "feature/the-checkout-shows-the-right-price-in-every-currency-of-the-world-JIRA-1234"


def record(branch: str, state: str = "deployed", **fields: object) -> EnvironmentRecord:
    environment = Environment.of_ref(REPOSITORY, Ref.of_branch(branch), "main")
    stages = [
        {"name": "Source", "status": "succeeded"},
        {"name": "IntegrationTests", "status": "failed" if state == "failed" else "succeeded"},
        {"name": "Deploy", "status": "not-reached" if state == "failed" else "succeeded"},
    ]
    found = EnvironmentRecord(str(REPOSITORY), environment.key, environment.stack_name)
    return found.but(
        ref=f"refs/heads/{branch}",
        state=state,
        commit=A,
        outcome=state,
        stages=stages,
        changed_at=1.0,
        **fields,
    )


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], io.StringIO]:
    """Makes the commands believe that they write to a terminal of so many columns."""

    def make(columns: int) -> io.StringIO:
        screen = io.StringIO()
        console = rich.console.Console(
            file=screen, width=columns, force_terminal=True, color_system="standard"
        )
        monkeypatch.setattr(rich.console, "Console", lambda **_options: console)
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)
        monkeypatch.setattr(output.shutil, "get_terminal_size", lambda: os.terminal_size((columns, 24)))
        return screen

    return make


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_each_environment_is_one_line_of_the_terminal(
    world: World, terminal: Callable[[int], io.StringIO], columns: int
) -> None:
    for each in (record(LONG), record("short", "failed"), record("\u958b\u767a" * 20)):
        world.know(each)
    screen = terminal(columns)
    assert world.run("status").exit_code == 0
    lines = [click.unstyle(line).rstrip() for line in screen.getvalue().splitlines()]
    assert len(lines) == 4
    assert max(map(display_width, lines)) <= columns
    (line,) = [line for line in lines if "feature" in line]
    (failed,) = [line for line in lines if " short " in line]
    assert "failed" in failed
    if columns < 150:
        assert "\u2026" in line
        assert line.split("\u2026")[1].split()[0].endswith("34")  # the end of the name is there, too
    else:
        assert LONG in line
        assert "1 ok, IntegrationTests failed, 1 not reached" in failed
    if columns >= 80:
        assert {"aaaaaaaa", "deployed"} <= set(line.split())


def test_a_pipe_gets_everything(world: World) -> None:
    world.know(record(LONG))
    head, line = world.run("status").stdout.splitlines()
    assert LONG in line
    assert head.split() == ["REPOSITORY", "ENVIRONMENT", "STATE", "COMMIT", "STAGES", "OUTCOME", "WHEN"]


@pytest.mark.parametrize(
    ("text", "width", "middle", "shown"),
    [
        ("feature/login", 13, True, "feature/login"),
        ("feature/login", 9, True, "feat\u2026ogin"),
        ("feature/login", 8, True, "feat\u2026gin"),
        ("feature/login", 8, False, "feature\u2026"),
        ("feature/login", 1, True, "\u2026"),
        ("feature/login", 0, True, ""),
        ("\u958b\u767a\u74b0\u5883", 5, True, "\u958b\u2026\u5883"),
        ("\u958b\u767a\u74b0\u5883", 4, False, "\u958b\u2026"),
    ],
)
def test_cut(text: str, width: int, middle: bool, shown: str) -> None:
    assert cut_text(text, width, middle=middle) == shown
    assert display_width(shown) <= width


_CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=60)


@given(
    st.lists(st.tuples(_CELLS, _CELLS, _CELLS), min_size=1, max_size=5),
    st.integers(20, 200),
    st.tuples(st.booleans(), st.booleans()),
)
def test_a_table_fits_if_its_columns_can_shrink(
    cells: list[tuple[str, str, str]], width: int, middle: tuple[bool, bool]
) -> None:
    headings = ["A", "B", "C"]
    rules = {"A": Shrink(5, middle[0]), "B": Shrink(5, middle[1]), "C": Shrink(leave_out=1)}
    shown, rows = fit_table(headings, cells, width, rules)
    widths = [max(display_width(row[at]) for row in [shown, *rows]) for at in range(len(shown))]
    assert sum(widths) + GAP * (len(widths) - 1) <= width
    assert shown[:2] == ["A", "B"]
    if sum(max(1, *(display_width(row[at]) for row in cells)) for at in range(3)) + 2 * GAP <= width:
        assert (shown, rows) == (headings, [list(row) for row in cells])


def test_columns_are_left_out_in_order_if_shrinking_is_not_enough() -> None:
    rules = {"B": Shrink(leave_out=2), "C": Shrink(leave_out=1)}
    row = ["a" * 10, "b" * 10, "c" * 10]
    assert fit_table("ABC", [row], 33, rules)[0] == ["A", "B"]
    assert fit_table("ABC", [row], 12, rules)[0] == ["A"]


@pytest.mark.parametrize(
    ("states", "branches"),
    [
        (["failed"], ["two"]),
        (["running", "deployed"], ["one", "three"]),
        (["deleted"], ["gone"]),
        (["asleep"], []),
    ],
)
def test_only_environments_in_a_state(world: World, states: list[str], branches: list[str]) -> None:
    for branch, state in (("one", "deployed"), ("two", "failed"), ("three", "running"), ("gone", "deleted")):
        world.know(record(branch, state))
    options = [each for state in states for each in ("--state", state)]
    found = world.json("status", *options)
    assert sorted(each["ref"] for each in found) == sorted(f"refs/heads/{branch}" for branch in branches)
    if not branches:
        assert world.run("status", *options).stdout == "no environments in state asleep\n"


def test_a_state_that_there_is_not_is_wrong_usage(world: World) -> None:
    result = world.run("status", "--state", "broken")
    assert result.exit_code == 2
    assert "'failed'" in result.stderr


def test_every_state_of_a_record_can_be_chosen() -> None:
    description = EnvironmentRecord.__doc__ or ""
    named = description.partition("state: in one word for people: ")[2].partition(" until its hours")[0]
    states = {word.strip("`,") for word in named.split() if word.startswith("`")}
    assert states <= {*derived_values.MOVING_STATES, *derived_values.RESTING_STATES}


def test_status_is_watched_until_people_interrupt(
    world: World, terminal: Callable[[int], io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    pages, looks = world.lanes.environment_page, iter(["failed", "away", "deployed"])

    def look(*given: Any, **options: Any) -> Page[EnvironmentRecord]:
        match next(looks):
            case "away":
                raise UnavailableError("Redis does not answer")
            case state:
                world.know(record("x", state))
        return pages(*given, **options)

    def pauses() -> Iterator[None]:
        yield None
        yield None
        raise KeyboardInterrupt

    pause = pauses()
    monkeypatch.setattr(world.lanes, "environment_page", look)
    monkeypatch.setattr("deployer.cli.commands.status.time.sleep", lambda _seconds: next(pause))
    screen = terminal(80)
    result = world.run("status", "--watch")
    assert result.exit_code == 0, result.output
    assert [word in screen.getvalue() for word in ("failed", "deployed")] == [True, True]
    assert "Redis does not answer; trying again" in result.stderr


def test_a_watched_status_has_no_more_rows_than_the_terminal(
    world: World, terminal: Callable[[int], io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    for number in range(40):
        world.know(record(f"b{number}"))
    monkeypatch.setattr("deployer.cli.commands.status.time.sleep", interrupt)
    screen = terminal(80)
    result = world.run("status", "--watch")
    assert len(screen.getvalue().splitlines()) <= 22
    assert "and 20 more; --state or a repository shows fewer" in result.stderr


@pytest.mark.parametrize("options", [["--watch"], ["--watch", "--json"]])
def test_a_pipe_is_not_watched(world: World, options: list[str]) -> None:
    assert world.run("status", *options).exit_code == 2
