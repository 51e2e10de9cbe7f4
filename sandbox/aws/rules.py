"""The Rules section of templates, which checks values of parameters against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sandbox.aws.protocol import AwsError


def check_rules(rules: Mapping[str, Any], parameters: Mapping[str, Any], values: Mapping[str, str]) -> None:
    """Check the assertions of every rule whose condition is true.

    Raises:
        AwsError: ValidationError with the descriptions of the assertions that failed.
    """
    evaluator = _Evaluator(parameters, values)
    failed = [
        str(assertion.get("AssertDescription") or f"{name}: the assertion is false")
        for name, rule in rules.items()
        if evaluator.is_true(rule.get("RuleCondition", True))
        for assertion in rule.get("Assertions") or []
        if not evaluator.is_true(assertion["Assert"])
    ]
    if failed:
        raise AwsError("ValidationError", f"Template error: Rules validation failed: {'; '.join(failed)}")


class _Evaluator:
    """Evaluates the functions that rules can use."""

    def __init__(self, parameters: Mapping[str, Any], values: Mapping[str, str]) -> None:
        self._parameters = parameters
        self._values = values
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Fn::And": lambda argument: all(self.is_true(a) for a in argument),
            "Fn::Contains": lambda argument: self._text(argument[1]) in self._texts(argument[0]),
            "Fn::EachMemberEquals": lambda a: all(v == self._text(a[1]) for v in self._texts(a[0])),
            "Fn::EachMemberIn": lambda a: set(self._texts(a[0])) <= set(self._texts(a[1])),
            "Fn::Equals": lambda argument: self._text(argument[0]) == self._text(argument[1]),
            "Fn::Not": lambda argument: not self.is_true(argument[0]),
            "Fn::Or": lambda argument: any(self.is_true(a) for a in argument),
            "Fn::RefAll": self._all_values,
            "Ref": self._reference,
        }

    def is_true(self, node: Any) -> bool:
        """The truth value of a condition."""
        return self._text(node) == "true"

    def _evaluate(self, node: Any) -> Any:
        if not isinstance(node, dict) or len(node) != 1:
            return node
        (function, argument), *_ = node.items()
        if function not in self._functions:
            raise AwsError("ValidationError", f"Not simulated: the function {function} in the Rules section")
        return self._functions[function](argument)

    def _reference(self, name: str) -> Any:
        if name not in self._parameters:
            raise AwsError(
                "ValidationError",
                f"Template format error: Unresolved dependencies [{name}] in the Rules block",
            )
        kind, value = str(self._parameters[name].get("Type", "")), self._values[name]
        is_list = kind == "CommaDelimitedList" or kind.startswith("List<")
        return [v.strip() for v in value.split(",")] if is_list else value

    def _all_values(self, kind: str) -> list[str]:
        """The values of all parameters of a type."""
        return [
            value
            for name, slot in self._parameters.items()
            if slot.get("Type") == kind
            for value in self._texts({"Ref": name})
        ]

    def _text(self, node: Any) -> str:
        value = self._evaluate(node)
        return ("true" if value else "false") if isinstance(value, bool) else str(value)

    def _texts(self, node: Any) -> list[str]:
        value = self._evaluate(node)
        return [self._text(v) for v in (value if isinstance(value, list) else [value])]
