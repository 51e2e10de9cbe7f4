"""Whether the conditions of a template hold, as far as that can be told before AWS is asked."""

from collections.abc import Callable, Mapping
from typing import Any

from deployer.evaluation_budget import EvaluationBudget
from deployer.text_sets import UNKNOWN


class Conditions:
    """The section `Conditions` of one template.

    Args:
        definitions: that section.
        exact_texts: every text that a value may come to be, each exactly as AWS has it.
        budget: what all of its work is taken from.

    Raises:
        TooComplexError: by every method: the budget has not enough left, or an expression leads too deep.
    """

    def __init__(
        self,
        definitions: Mapping[str, Any],
        exact_texts: Callable[[Any], tuple[str, ...]],
        budget: EvaluationBudget,
    ) -> None:
        self._definitions, self._exact_texts, self._budget = definitions, exact_texts, budget
        self._known_truths: dict[str, bool | None] = {}

    def truth_of(self, name: Any) -> bool | None:
        """Whether a condition holds; None where that cannot be told."""
        if not isinstance(name, str) or name not in self._definitions:
            return None
        if name not in self._known_truths:
            self._known_truths[name] = None  # also what one that names itself comes to
            self._known_truths[name] = self._evaluate_expression(self._definitions[name])
        return self._known_truths[name]

    def _evaluate_expression(self, value: Any) -> bool | None:
        if not isinstance(value, dict) or len(value) != 1:
            return None
        with self._budget.evaluating(value):
            return self._evaluate_function(value)

    def _evaluate_function(self, value: dict[str, Any]) -> bool | None:
        ((name, given),) = value.items()
        if name == "Condition":
            return self.truth_of(given)
        if not isinstance(given, list):
            return None
        if name == "Fn::Equals" and len(given) == 2:
            return self._texts_are_equal(*given)
        truths = [self._evaluate_expression(each) for each in given]
        match name:
            case "Fn::Not" if len(truths) == 1:
                return None if truths[0] is None else not truths[0]
            case "Fn::And":
                return False if False in truths else None if None in truths else True
            case "Fn::Or":
                return True if True in truths else None if None in truths else False
        return None

    def _texts_are_equal(self, left: Any, right: Any) -> bool | None:
        """Whether two values are the same text; None where AWS may have another text for one of them.

        A wrong answer would hide a resource from every check, so only what is surely known is compared.
        """
        sides = self._exact_texts(left), self._exact_texts(right)
        if any(len(texts) != 1 or UNKNOWN in texts[0] or "{{resolve:" in texts[0] for texts in sides):
            return None
        return sides[0] == sides[1]
