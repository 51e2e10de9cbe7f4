"""Applies the known conditions to a template, so that cfn-lint sees only what CloudFormation uses.

cfn-lint reports a finding if one combination of conditions has it. A push concerns one environment, whose parameters
decide most conditions.
"""

from collections.abc import Mapping
from typing import Any

from deployer.templates.evaluation.values import as_mapping

_ABSENT = object()  # what `AWS::NoValue` leaves of a property or of a list's item


def apply_conditions(template: Any, conditions: Mapping[str, bool]) -> bool:
    """Replace each `Fn::If` by its branch, and remove what has a false condition. Only known conditions are applied.

    Args:
        template: the template, which is changed. Its values keep their lines.
        conditions: name to value of each known condition.

    Returns:
        Whether anything was changed.
    """
    change = _Change(conditions)
    for section in ("Resources", "Outputs"):
        parts = as_mapping(as_mapping(template).get(section))
        for name, part in list(parts.items()):
            condition = as_mapping(part).get("Condition")
            truth = conditions.get(condition) if isinstance(condition, str) else None
            if truth is False:
                del parts[name]
            elif truth:
                del part["Condition"]
            change.made |= truth is not None
        change.apply_within(parts)
    return change.made


class _Change:
    def __init__(self, conditions: Mapping[str, bool]) -> None:
        self._conditions = conditions
        self.made = False

    def apply_within(self, value: Any) -> None:
        """Replace every `Fn::If` with a known condition within a mapping or list."""
        if isinstance(value, dict):
            for key, inner in list(value.items()):
                value[key] = chosen = self._choose_value(inner)
                if chosen is _ABSENT:
                    del value[key]
        elif isinstance(value, list):
            value[:] = [chosen for inner in value if (chosen := self._choose_value(inner)) is not _ABSENT]

    def _choose_value(self, value: Any) -> Any:
        given = value.get("Fn::If") if isinstance(value, dict) and len(value) == 1 else None
        if isinstance(given, list) and len(given) == 3 and isinstance(given[0], str):
            truth = self._conditions.get(given[0])
            if truth is not None:
                self.made = True
                chosen = self._choose_value(given[1] if truth else given[2])
                return _ABSENT if chosen == {"Ref": "AWS::NoValue"} else chosen
        self.apply_within(value)
        return value
