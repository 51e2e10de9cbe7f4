"""Sets of the texts that one value may have, limited in number and length."""

from collections.abc import Iterable
from itertools import product

from deployer.templates.evaluation.budget import EvaluationBudget, TooComplexError

UNKNOWN = "\ufffc"
"""Stands in a text for a part that only AWS knows."""
_TEXTS_LIMIT = 256  # texts that one value may have
_LENGTH_LIMIT = 100_000  # characters


class TooManyTextsError(TooComplexError):
    """A value has too many possible texts, or too long ones, to check them all."""

    def __init__(self) -> None:
        super().__init__("a value here has hundreds of possible texts, or a very long one; simplify it")


def concatenations(parts: list[tuple[str, ...]], budget: EvaluationBudget) -> tuple[str, ...]:
    """Every text that consists of one text of each part. An empty part contributes nothing.

    Raises:
        TooManyTextsError: there would be too many texts, or too long ones.
        TooComplexError: the budget is not sufficient.
    """
    number = 1
    for each in parts:
        number *= max(len(each), 1)
        if number > _TEXTS_LIMIT:
            raise TooManyTextsError
    lengths = [sum(map(len, each)) for each in parts]
    if sum(max(map(len, each), default=0) for each in parts) > _LENGTH_LIMIT:
        raise TooManyTextsError
    made = sum(length * number // max(len(each), 1) for length, each in zip(lengths, parts, strict=True))
    budget.spend(len(parts) + number * (1 + len(parts) // 16), made)
    return distinct_texts(("".join(each) for each in product(*(each or ("",) for each in parts))), budget)


def distinct_texts(texts: Iterable[str], budget: EvaluationBudget) -> tuple[str, ...]:
    """The distinct texts, in the order of their first occurrence.

    Raises:
        TooManyTextsError: there are too many.
        TooComplexError: the budget is not sufficient.
    """
    found: dict[str, None] = {}
    number = 0
    for text in texts:
        found[text] = None
        number += 1
        if len(found) > _TEXTS_LIMIT:
            raise TooManyTextsError
    budget.spend(1 + number // 4)
    return tuple(found)
