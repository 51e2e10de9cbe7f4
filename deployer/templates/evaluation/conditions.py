"""Values of a template's conditions, as far as they are known before a deployment."""

from collections.abc import Callable, Mapping
from typing import Any

from deployer.templates.evaluation.budget import EvaluationBudget
from deployer.templates.evaluation.text_sets import UNKNOWN


class Conditions:
    """The section `Conditions` of one template.

    Args:
        definitions: the content of that section.
        exact_texts: returns every text that a value may have, each exactly as AWS writes it.
        budget: all work is spent from this budget.

    Raises:
        TooComplexError: from every method: the budget is not sufficient, or an expression is nested too deeply.
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
        """Whether a condition is true; None if only AWS can tell."""
        if not isinstance(name, str) or name not in self._definitions:
            return None
        if name not in self._known_truths:
            self._known_truths[name] = None  # also the result for a condition that refers to itself
            self._known_truths[name] = self._evaluate_expression(self._definitions[name])
        return self._known_truths[name]

    def known_truths(self) -> dict[str, bool]:
        """Name to value of each condition that is known before the deployment."""
        truths = {name: self.truth_of(name) for name in self._definitions}
        return {name: truth for name, truth in truths.items() if truth is not None}

    def is_created(self, resource: Mapping[str, Any]) -> bool:
        """Whether a resource certainly exists: it has no condition, or one that is known to be true."""
        return "Condition" not in resource or self.truth_of(resource["Condition"]) is True

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
        """Whether two values are the same text; None if AWS may have another text for one of them.

        A wrong result would hide a resource from every check, so only texts that are certain are compared.
        """
        sides = self._exact_texts(left), self._exact_texts(right)
        if any(len(texts) != 1 or UNKNOWN in texts[0] or "{{resolve:" in texts[0] for texts in sides):
            return None
        return sides[0] == sides[1]
