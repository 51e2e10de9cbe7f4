"""Makes the columns of a table fit a terminal: cells are cut, and at last whole columns are left out."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

GAP = 2  # columns between two cells
_MORE = "…"


@dataclass(frozen=True, slots=True)
class Shrink:
    """How a column may give way where the terminal is too narrow.

    Args:
        least: the terminal columns that it keeps.
        middle: cut the middle out of a cell, as of a branch's name whose end tells as much as its beginning; by default
            the end.
        leave_out: where shrinking is not enough, the column with the lowest number goes first; 0 always stays.
    """

    least: int = 0
    middle: bool = False
    leave_out: int = 0


def display_width(text: str) -> int:
    """How many terminal columns a text takes: wide characters take two, combining ones none.

    See https://www.unicode.org/reports/tr11/
    """
    return sum(_columns(each) for each in text)


def cut(text: str, width: int, *, middle: bool = False) -> str:
    """The text, or as much of it as fits into so many terminal columns with an ellipsis."""
    if display_width(text) <= width:
        return text
    if width <= 1:
        return _MORE[:width]
    left = width - 1
    if not middle:
        return _beginning(text, left) + _MORE
    end = _beginning(text[::-1], left // 2)[::-1]
    return _beginning(text, left - display_width(end)) + _MORE + end


def fit(
    headings: Sequence[str], cells: Sequence[Sequence[str]], width: int, rules: Mapping[str, Shrink]
) -> tuple[list[str], list[list[str]]]:
    """Cut a table to a terminal's width.

    Args:
        headings: of the columns.
        cells: the rows, a text for each column.
        width: of the terminal, in columns.
        rules: by heading, for those columns that may give way.

    Returns:
        Headings and rows that fit, unless columns that may not give way are too wide together.
    """
    shown = list(range(len(headings)))
    while True:
        widths = [_widest(headings, cells, column) for column in shown]
        shrinkable = [
            (rules[headings[column]].least, position)
            for position, column in enumerate(shown)
            if headings[column] in rules and rules[headings[column]].least
        ]
        while sum(widths) + GAP * (len(widths) - 1) > width:
            wider = [
                (widths[position], position) for least, position in shrinkable if widths[position] > least
            ]
            if not wider:
                break
            widths[max(wider)[1]] -= 1
        leaving = [
            (rules[headings[column]].leave_out, column)
            for column in shown
            if headings[column] in rules and rules[headings[column]].leave_out
        ]
        if sum(widths) + GAP * (len(widths) - 1) <= width or not leaving:
            break
        shown.remove(min(leaving)[1])
    plain = Shrink()
    rows = [
        [
            cut(row[column], room, middle=rules.get(headings[column], plain).middle)
            for column, room in zip(shown, widths, strict=True)
        ]
        for row in cells
    ]
    return [headings[column] for column in shown], rows


def _widest(headings: Sequence[str], cells: Sequence[Sequence[str]], column: int) -> int:
    return max(display_width(headings[column]), *(display_width(row[column]) for row in cells))


def _columns(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1


def _beginning(text: str, width: int) -> str:
    taken = 0
    for position, character in enumerate(text):
        taken += _columns(character)
        if taken > width:
            return text[:position]
    return text
