"""How much work the check of one `deploy/` folder may take: counted, never timed, so that every machine agrees.

Anybody who can push a branch writes these files, and a few lines of CloudFormation's functions can describe texts of
any size. Everything that reads or evaluates the files takes what it does from one `EvaluationBudget`. A clock never
decides a finding; it only ends the process that checks (`deployer.adapters.folder_process`).
"""

from collections.abc import Iterator
from contextlib import contextmanager

STEPS = 1_000_000
"""Of one check. A step is about a microsecond of work; a dense template of 1 MB takes nine tenths."""
CHARACTERS = 20_000_000
"""Of texts that are read, made or searched in one check."""
NESTING = 100
"""Levels of mappings and lists in a file. CloudFormation's own templates seldom have 20."""
EVALUATION_NESTING = 64
"""Levels of functions, names and conditions that one expression may lead through."""


class TooComplexError(ValueError):
    """A check would take more work than its budget allows.

    Args:
        text: what is too much, and the remedy; in one line.
        expression: the mapping or list of the template that was evaluated; None if it is not known.

    Attributes:
        expressions: what was evaluated, from the innermost outwards; some were made on the way, and are in no file.
        path: keys and positions of the expression from the top of its file, where whoever was at work knows them.
    """

    def __init__(self, text: str, expression: object = None) -> None:
        super().__init__(text)
        self.text = text
        self.expressions = [] if expression is None else [expression]
        self.path: tuple[str | int, ...] = ()


class EvaluationBudget:
    """What is left of the work that one check may take.

    Args:
        steps: at most.
        characters: at most.
    """

    def __init__(self, steps: int = STEPS, characters: int = CHARACTERS) -> None:
        self._steps_limit = self.steps_left = steps
        self._characters_limit = self.characters_left = characters
        self._nesting = 0

    @property
    def exhausted(self) -> bool:
        """Whether something was asked for that is not left."""
        return self.steps_left < 0 or self.characters_left < 0

    @property
    def steps_spent(self) -> int:
        """Those that were taken."""
        return self._steps_limit - self.steps_left

    @property
    def characters_spent(self) -> int:
        """Those that were taken."""
        return self._characters_limit - self.characters_left

    def spend(self, steps: int = 1, characters: int = 0, expression: object = None) -> None:
        """Take work from the budget, before it is done.

        Args:
            steps: how many.
            characters: how many.
            expression: the mapping or list that is worked on, for the error.

        Raises:
            TooComplexError: there is not so much left.
        """
        self.steps_left -= steps
        self.characters_left -= characters
        if self.steps_left < 0:
            raise TooComplexError(_limit_text(f"{self._steps_limit:,} steps"), expression)
        if self.characters_left < 0:
            raise TooComplexError(_limit_text(f"{self._characters_limit:,} characters"), expression)

    @contextmanager
    def evaluating(self, expression: object) -> Iterator[None]:
        """Name an expression in the error, after those within it, if its evaluation is too much.

        Raises:
            TooComplexError: it is one of too many within one another, or not enough is left.
        """
        self._nesting += 1
        try:
            if self._nesting > EVALUATION_NESTING:
                text = f"it leads through more than {EVALUATION_NESTING} functions or names; write it plainly"
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
        f"deploy/ is too complex to check: up to here it takes more than {limit};"
        " write long or repeated texts plainly"
    )
