"""What commands print: tables and facts for people, JSON for scripts.

On a terminal tables are rich's; in a pipe they are plain columns without colour, one row a line, nothing cut.
"""

import json
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import click

from deployer.cli.table_width import Shrink, fit
from deployer.model.durations import span
from deployer.model.visible import visible, visible_json

_T = TypeVar("_T")
_TELL_SECONDS = 3.0
_NARROW = 12  # columns that are no wider are never broken
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


def as_json(value: object) -> None:
    """Print JSON and nothing else."""
    click.echo(visible_json(json.dumps(value, indent=2, ensure_ascii=False)))


def clean(text: object) -> str:
    """Text in one line, in which characters that cannot be seen are shown.

    Names come from branches, reasons from builds and templates: none of them may move the cursor, colour the terminal
    or pose as another.
    """
    return visible(_SPACES.sub(" ", str(text)).strip(" "))


def clean_lines(text: str) -> str:
    """Text with its lines kept, in which other characters that cannot be seen are shown."""
    return visible(text.replace("\r\n", "\n").replace("\t", "    ").rstrip("\n"), keep="\n")


def table(
    headings: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    empty: str,
    fitting: Mapping[str, Shrink] | None = None,
) -> None:
    """Print a table.

    Args:
        headings: of the columns.
        rows: the cells; an empty one is shown as `-`.
        empty: said where there is no row.
        fitting: how columns give way at a narrow terminal, so that each row is one line there; without it long cells
            are broken into several lines. In a pipe nothing is cut in either case.
    """
    cells = [[clean(cell) or "-" for cell in row] for row in rows]
    if not cells:
        click.echo(empty)
    elif not sys.stdout.isatty():
        _plain_table(headings, cells)
    elif fitting is None:
        _rich_table(headings, cells)
    else:
        fitted, shortened = fit(headings, cells, terminal_width(), fitting)
        _rich_table(fitted, shortened, one_line=True)


def _plain_table(headings: Sequence[str], cells: list[list[str]]) -> None:
    lines = [[heading.upper() for heading in headings], *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def terminal_width() -> int:
    """How many columns the terminal has."""
    return shutil.get_terminal_size().columns


def _rich_table(headings: Sequence[str], cells: list[list[str]], *, one_line: bool = False) -> None:
    # not at the top: `deployer --help` and pipes need none of it
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    narrow = max(_NARROW, shutil.get_terminal_size().columns // 6)
    for position, heading in enumerate(headings):
        # a short column that is folded cannot be read; the long ones give way
        longest = max(len(line[position]) for line in cells)
        made.add_column(heading, overflow="fold", no_wrap=one_line or longest <= narrow)
    for line in cells:
        made.add_row(*(Text(cell, style=_style(cell)) for cell in line))
    Console(highlight=False).print(made)


def _style(cell: str) -> str:
    """The colour of a state or outcome, also of one with marks, as in `deployed (drift)`."""
    return _COLOURS.get(cell) or _COLOURS.get(cell.partition(" (")[0], "")


def facts(pairs: Mapping[str, object], indent: int = 2) -> None:
    """Print names and values below each other; those without a value are left out.

    A value of several lines, or one longer than the terminal, goes on below its first line.
    """
    shown = {name: str(value) for name, value in pairs.items() if str(value)}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        first = " " * indent + name.ljust(width) + "  "
        for line in value.split("\n"):
            click.echo(_wrapped(clean(line), first))
            first = " " * len(first)


def heading(text: str) -> None:
    """Print the title of a section."""
    click.secho(clean(text), bold=True)


def line(text: str) -> None:
    """Print a sentence."""
    click.echo(clean(text))


def note(text: str) -> None:
    """Tell people something that is no part of the result."""
    click.echo(clean(text), err=True)


def progress(items: Sequence[_T], what: str) -> Iterator[_T]:
    """Go through items, and tell people every few seconds how far it is."""
    told = time.monotonic()
    for number, item in enumerate(items):
        if time.monotonic() - told >= _TELL_SECONDS:
            told = time.monotonic()
            note(f"{number} of {len(items)} {what} …")
        yield item


def _wrapped(text: str, first: str) -> str:
    if not sys.stdout.isatty():
        return (first + text).rstrip()
    return textwrap.fill(
        text,
        max(40, shutil.get_terminal_size().columns),
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,  # addresses and ids stay whole, to be copied
        break_on_hyphens=False,
    ).rstrip()


def ago(at: float) -> str:
    """How long ago an epoch time was, in words."""
    if not at:
        return ""
    return f"{span(time.time() - at)} ago"


def compact(stages: Iterable[Mapping[str, Any]]) -> str:
    """Stages in a few words, such as `2 ok, Test failed, 1 not reached`: only what is not as usual is named."""
    words, counts = [], dict.fromkeys(("succeeded", "pending", "not-reached"), 0)
    for stage in stages:
        if stage["status"] in counts:
            counts[stage["status"]] += 1
        else:
            words.append(f"{stage['name']} {stage['status']}")
    passed = [f"{counts['succeeded']} ok"] if counts["succeeded"] else []
    left = [f"{counts[name]} {name.replace('-', ' ')}" for name in ("pending", "not-reached") if counts[name]]
    return ", ".join(passed + words + left)
