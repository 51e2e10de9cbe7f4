"""The limit on the work that the check of one `deploy/` folder may do.

Anybody who can push a branch writes these files, and a few lines of CloudFormation's functions can describe texts of
any size. All code that parses or evaluates the files spends its work from one `EvaluationBudget`. The work is counted,
not timed, so that every machine reports the same findings. A timeout never decides a finding; it only ends the process
that checks (`deployer.templates.isolation.process`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

STEPS = 1_000_000
"""Steps for one check. A step is about a microsecond of work; a dense template of 1 MB needs nine tenths of them."""
CHARACTERS = 20_000_000
"""Characters of the texts that are read, built or searched in one check."""
NESTING = 100
"""Levels of mappings and lists in a file. CloudFormation templates rarely have 20."""
EVALUATION_NESTING = 64
"""Levels of functions, references and conditions that one expression may pass through."""


class TooComplexError(ValueError):
    """A check needs more work than its budget allows.

    Args:
        text: what is too complex, then the remedy, in one line.
        expression: the mapping or list of the template that was evaluated; None if it is unknown.

    Attributes:
        expressions: the expressions that were evaluated, innermost first. Some were created during the evaluation and
            do not appear in the file.
        path: keys and list positions that lead from the top of the file to the expression; empty if unknown.
    """

    def __init__(self, text: str, expression: object = None) -> None:
        super().__init__(text)
        self.text = text
        self.expressions = [] if expression is None else [expression]
        self.path: tuple[str | int, ...] = ()


class EvaluationBudget:
    """The work that one check may still do.

    Args:
        steps: the maximum number of steps.
        characters: the maximum number of characters.
    """

    def __init__(self, steps: int = STEPS, characters: int = CHARACTERS) -> None:
        self._steps_limit = self.steps_left = steps
        self._characters_limit = self.characters_left = characters
        self._nesting = 0

    @property
    def exhausted(self) -> bool:
        """Whether a request exceeded the budget."""
        return self.steps_left < 0 or self.characters_left < 0

    @property
    def steps_spent(self) -> int:
        """Steps spent so far."""
        return self._steps_limit - self.steps_left

    @property
    def characters_spent(self) -> int:
        """Characters spent so far."""
        return self._characters_limit - self.characters_left

    def spend(self, steps: int = 1, characters: int = 0, expression: object = None) -> None:
        """Spend the budget for some work, before doing the work.

        Args:
            steps: number of steps.
            characters: number of characters.
            expression: the mapping or list that is being evaluated; the error names it.

        Raises:
            TooComplexError: the budget is not sufficient.
        """
        self.steps_left -= steps
        self.characters_left -= characters
        if self.steps_left < 0:
            raise TooComplexError(_limit_text(f"{self._steps_limit:,} steps"), expression)
        if self.characters_left < 0:
            raise TooComplexError(_limit_text(f"{self._characters_limit:,} characters"), expression)

    @contextmanager
    def evaluating(self, expression: object) -> Iterator[None]:
        """Evaluate an expression inside this context, so that a TooComplexError names it after the inner expressions.

        Raises:
            TooComplexError: the expressions are nested too deeply, or the budget is not sufficient.
        """
        self._nesting += 1
        try:
            if self._nesting > EVALUATION_NESTING:
                text = (
                    f"it passes through more than {EVALUATION_NESTING} functions or references; simplify it"
                )
                raise TooComplexError(text, expression)
            self.spend(1, 0, expression)
            yield
        except TooComplexError as error:
            error.expressions.append(expression)
            raise
        finally:
            self._nesting -= 1


def _limit_text(limit: str) -> str:
    return (
        f"deploy/ is too complex to check: the check up to this point takes more than {limit};"
        " simplify long or repeated texts"
    )
