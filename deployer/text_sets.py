"""The texts that one value may come to be, within limits."""

from collections.abc import Iterable
from itertools import product

from deployer.evaluation_budget import EvaluationBudget, TooComplexError

UNKNOWN = "\ufffc"
_TEXTS_LIMIT = 256  # texts that one value may come to be
_LENGTH_LIMIT = 100_000  # characters


class TooManyTextsError(TooComplexError):
    """A value may come to be more texts, or longer ones, than anybody would want to look at."""

    def __init__(self) -> None:
        super().__init__("a text here may come to be hundreds of texts, or a very long one; write it plainly")


def concatenations(parts: list[tuple[str, ...]], budget: EvaluationBudget) -> tuple[str, ...]:
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
    found: dict[str, None] = {}
    number = 0
    for text in texts:
        found[text] = None
        number += 1
        if len(found) > _TEXTS_LIMIT:
            raise TooManyTextsError
    budget.spend(1 + number // 4)
    return tuple(found)
