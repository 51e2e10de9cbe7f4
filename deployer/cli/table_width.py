"""Fits a table into the width of a terminal."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP = 2  # columns between two cells
_ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Shrink:
    """How a column shrinks if the terminal is too narrow.

    Args:
        least: the minimum width in terminal columns; 0 for a column that never shrinks.
        middle: whether to cut the middle of a cell instead of its end, for names whose end matters as much as the
            beginning.
        leave_out: if shrinking is not enough, columns are left out in the order of this number; 0 for never.
    """

    least: int = 0
    middle: bool = False
    leave_out: int = 0


def display_width(text: str) -> int:
    """Return how many terminal columns a text takes: two for a wide character, none for a combining one.

    See https://www.unicode.org/reports/tr11/
    """
    return sum(_character_width(each) for each in text)


def cut_text(text: str, width: int, *, middle: bool = False) -> str:
    """Return the text, cut to a width in terminal columns with an ellipsis."""
    if display_width(text) <= width:
        return text
    if width <= 1:
        return _ELLIPSIS[:width]
    left = width - 1
    if not middle:
        return _prefix_of_width(text, left) + _ELLIPSIS
    end = _prefix_of_width(text[::-1], left // 2)[::-1]
    return _prefix_of_width(text, left - display_width(end)) + _ELLIPSIS + end


def fit_table(
    headings: Sequence[str], cells: Sequence[Sequence[str]], width: int, rules: Mapping[str, Shrink]
) -> tuple[list[str], list[list[str]]]:
    """Fit a table into the width of a terminal.

    Cells are cut first; if that is not enough, whole columns are left out.

    Args:
        headings: the headings of the columns.
        cells: the rows, with one text per column.
        width: the width of the terminal in columns.
        rules: how columns shrink, by heading; other columns never shrink.

    Returns:
        Headings and rows. They are wider than the terminal only if the columns that never shrink are.
    """
    shown = list(range(len(headings)))
    plain = Shrink()
    columns = [rules.get(heading, plain) for heading in headings]
    while True:
        widths = [_widest_cell(headings, cells, column) for column in shown]
        _narrow_columns(widths, [columns[column].least for column in shown], width)
        removable = [(columns[column].leave_out, column) for column in shown if columns[column].leave_out]
        if _total_width(widths) <= width or not removable:
            break
        shown.remove(min(removable)[1])
    rows = [
        [
            cut_text(row[column], room, middle=columns[column].middle)
            for column, room in zip(shown, widths, strict=True)
        ]
        for row in cells
    ]
    return [headings[column] for column in shown], rows


def _narrow_columns(widths: list[int], least: Sequence[int], width: int) -> None:
    """Narrow the widest columns first, each to its minimum, until the table fits."""
    while _total_width(widths) > width:
        wider = [
            (widths[position], position)
            for position, minimum in enumerate(least)
            if minimum and widths[position] > minimum
        ]
        if not wider:
            return
        widths[max(wider)[1]] -= 1


def _total_width(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _widest_cell(headings: Sequence[str], cells: Sequence[Sequence[str]], column: int) -> int:
    return max(display_width(headings[column]), *(display_width(row[column]) for row in cells))


def _character_width(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _prefix_of_width(text: str, width: int) -> str:
    taken = 0
    for position, character in enumerate(text):
        taken += _character_width(character)
        if taken > width:
            return text[:position]
    return text
