"""Tables of figures: as text, as JSON, and inside a page."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Value = str | float | None


@dataclass(frozen=True)
class Table:
    """The figures of one section.

    Attributes:
        name: of the section, also in the page.
        rows: every row has the same columns.
        notes: lines below the table.
    """

    name: str
    rows: Sequence[Mapping[str, Value]]
    notes: Sequence[str] = field(default=())

    def markdown(self) -> str:
        """The table in Markdown."""
        columns = list(self.rows[0])
        lines = [_line(columns), _line(["---"] * len(columns))]
        lines += [_line([_format(row[column]) for column in columns]) for row in self.rows]
        return "\n".join([*lines, *(f"\n{note}" for note in self.notes)])


def replace_tables(page: Path, tables: Sequence[Table]) -> None:
    """Replace the tables of a page. Each stands between the comments `figures: NAME` and `end of figures`.

    Raises:
        ValueError: the page has no place for one of the tables.
    """
    text = page.read_text(encoding="utf-8")
    for table in tables:
        begin, end = f"<!-- figures: {table.name} -->", "<!-- end of figures -->"
        place = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not place.search(text):
            raise ValueError(f"{page} has no line {begin}")
        whole = f"{begin}\n{table.markdown()}\n\n{end}"
        text = place.sub(lambda _, whole=whole: whole, text, count=1)  # type: ignore[misc]
    page.write_text(text, encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _format(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
