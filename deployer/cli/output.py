"""Prints tables, facts or JSON.

At a terminal, tables are printed by rich. In a pipe they are plain columns without colours: one line per row, and no
cell is cut.
"""

import json
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import click

from deployer.cli.table_width import Shrink, fit_table
from deployer.model.durations import span
from deployer.model.environment_status import StageState
from deployer.model.visible import visible, visible_json

_T = TypeVar("_T")
_REPORT_SECONDS = 3.0
_NARROW = 12  # columns up to this width are never wrapped
_SPACES = re.compile(r"[ \t\n\r]+")
_COLOURS = {
    "deployed": "green",
    "succeeded": "green",
    "ok": "green",
    "warn": "yellow",
    "FAIL": "red",
    "failed": "red",
    "dead-lettered": "red",
    "delete": "red",
    "running": "cyan",
    "pending": "cyan",
    "waiting": "cyan",
    "provisioning": "cyan",
    "updating": "cyan",
    "deleting": "yellow",
    "queued": "yellow",
    "superseded": "dim",
    "skipped": "dim",
    "deleted": "dim",
    "asleep": "dim",
}


def print_json(value: object) -> None:
    """Print JSON and nothing else."""
    click.echo(visible_json(json.dumps(value, indent=2, ensure_ascii=False)))


def escape_line(text: object) -> str:
    """Return the text as one line in which invisible characters are shown as escapes.

    Branches, builds and templates supply these texts, so they must not move the cursor, colour the terminal or look
    like another name.
    """
    return visible(_SPACES.sub(" ", str(text)).strip(" "))


def escape_lines(text: str) -> str:
    """Return the text with its line breaks, in which other invisible characters are shown as escapes."""
    return visible(text.replace("\r\n", "\n").replace("\t", "    ").rstrip("\n"), keep="\n")


def print_table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    empty: str,
    shrinking: Mapping[str, Shrink] | None = None,
) -> None:
    """Print a table.

    Args:
        headings: the headings of the columns.
        rows: the cells; an empty one is shown as `-`.
        empty: the text that is printed if there are no rows.
        shrinking: how each column shrinks at a narrow terminal, so that each row is one line. Without it, long cells
            are wrapped. In a pipe nothing is cut or wrapped.
    """
    cells = [[escape_line(cell) or "-" for cell in row] for row in rows]
    if not cells:
        click.echo(empty)
    elif not sys.stdout.isatty():
        _plain_table(headings, cells)
    elif shrinking is None:
        _rich_table(headings, cells)
    else:
        fitted, shortened = fit_table(headings, cells, terminal_width(), shrinking)
        _rich_table(fitted, shortened, one_line=True)


def _plain_table(headings: Sequence[str], cells: list[list[str]]) -> None:
    lines = [[heading.upper() for heading in headings], *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def terminal_width() -> int:
    """Return the width of the terminal in columns."""
    return shutil.get_terminal_size().columns


def _rich_table(headings: Sequence[str], cells: list[list[str]], *, one_line: bool = False) -> None:
    # imported here, because `deployer --help` and pipes do not need it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    narrow = max(_NARROW, shutil.get_terminal_size().columns // 6)
    for position, heading in enumerate(headings):
        # only long columns are wrapped, because a wrapped short column is hard to read
        longest = max(len(line[position]) for line in cells)
        made.add_column(heading, overflow="fold", no_wrap=one_line or longest <= narrow)
    for line in cells:
        made.add_row(*(Text(cell, style=_cell_style(cell)) for cell in line))
    Console(highlight=False).print(made)


def _cell_style(cell: str) -> str:
    """Return the colour of a state or outcome, also with marks as in `deployed (drift)`."""
    return _COLOURS.get(cell) or _COLOURS.get(cell.partition(" (")[0], "")


def print_facts(pairs: Mapping[str, object], indent: int = 2) -> None:
    """Print a line for each name and value; empty values are left out.

    Further lines of a value are indented like its first line.
    """
    shown = {name: str(value) for name, value in pairs.items() if str(value)}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        first = " " * indent + name.ljust(width) + "  "
        for print_line in value.split("\n"):
            click.echo(_wrap_value(escape_line(print_line), first))
            first = " " * len(first)


def print_heading(text: str) -> None:
    """Print the title of a section."""
    click.secho(escape_line(text), bold=True)


def print_line(text: str) -> None:
    """Print a sentence."""
    click.echo(escape_line(text))


def print_note(text: str) -> None:
    """Print a remark to stderr, because it is not part of the result."""
    click.echo(escape_line(text), err=True)


def report_progress(items: Sequence[_T], what: str) -> Iterator[_T]:
    """Yield the items, and print the progress every few seconds."""
    reported_at = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - reported_at >= _REPORT_SECONDS:
            reported_at = time.monotonic()
            print_note(f"{number} of {len(items)} {what} …")
        yield item


def _wrap_value(text: str, first: str) -> str:
    if not sys.stdout.isatty():
        return (first + text).rstrip()
    return textwrap.fill(
        text,
        max(40, shutil.get_terminal_size().columns),
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,  # people copy addresses and ids
        break_on_hyphens=False,
    ).rstrip()


def format_age(at: float) -> str:
    """Return how long ago an epoch time was, such as `5 min ago`."""
    if not at:
        return ""
    return f"{span(time.time() - at)} ago"


def summarize_stages(stages: Iterable[StageState]) -> str:
    """Summarize stages, such as `2 ok, Test failed, 1 not reached`: only unusual statuses are listed by name."""
    words, counts = [], dict.fromkeys(("succeeded", "pending", "not-reached"), 0)
    for stage in stages:
        if stage.status in counts:
            counts[stage.status] += 1
        else:
            words.append(f"{stage.name} {stage.status}")
    passed = [f"{counts['succeeded']} ok"] if counts["succeeded"] else []
    left = [f"{counts[name]} {name.replace('-', ' ')}" for name in ("pending", "not-reached") if counts[name]]
    return ", ".join(passed + words + left)
