"""Evaluation of CloudFormation's functions before a deployment.

The evaluator uses the parameter values that the stack will receive. What only AWS knows (an attribute of a resource, an
import, a value in AWS's parameter store) appears in a text as `UNKNOWN`. All work is spent from an `EvaluationBudget`
before it is done.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deployer.templates.evaluation.budget import EvaluationBudget, TooComplexError
from deployer.templates.evaluation.conditions import Conditions
from deployer.templates.evaluation.resource_names import NAME_PROPERTIES
from deployer.templates.evaluation.text_sets import UNKNOWN, concatenations, distinct_texts
from deployer.templates.evaluation.values import KeyPath, as_mapping, as_text

SECRET_PARAMETER = "RepoToken"  # noqa: S105  the parameter's name
_VARIABLE = re.compile(r"\$\{(!?)([^{}]*)\}")
# inside a loop its variable may appear in any text, also without Fn::Sub
_LOOP_VARIABLE = re.compile(r"[$&]\{([^{}]*)\}")
# functions that produce one text; their arguments alone are not texts of the template
_TEXT_FUNCTIONS = {"Ref", "Fn::GetAtt", "Fn::Sub", "Fn::Join", "Fn::FindInMap", "Fn::Select", "Fn::Split"}
# types and attributes whose value is the property of the same name; any other attribute may have any value
_ATTRIBUTES_THAT_ARE_PROPERTIES = {
    ("AWS::SNS::Topic", "TopicName"),
    ("AWS::SQS::Queue", "QueueName"),
    ("AWS::SSM::Parameter", "Value"),
}
_DYNAMIC_REFERENCE = re.compile(r"\{\{resolve:[^{}]*\}\}")


class TemplateEvaluator:
    """Evaluates the values of one template.

    Args:
        fields: the template.
        values: the value of each parameter; a parameter without a value has its default.
        pseudo: the known values of AWS's pseudo parameters, such as `AWS::AccountId`.
        budget: all work is spent from this budget; by default a new one.

    Raises:
        TooComplexError: also from every method: the budget is not sufficient, or an expression is nested too deeply.
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        values: Mapping[str, str],
        pseudo: Mapping[str, str],
        budget: EvaluationBudget | None = None,
    ) -> None:
        self.budget = budget or EvaluationBudget()
        self._resources = as_mapping(fields.get("Resources"))
        self.conditions = Conditions(as_mapping(fields.get("Conditions")), self._exact_texts, self.budget)
        self._mappings = as_mapping(fields.get("Mappings"))
        self._variable_texts: dict[str, tuple[str, ...]] = {name: (value,) for name, value in pseudo.items()}
        self._variable_texts["AWS::NoValue"] = ()
        self._list_parameters: set[str] = set()
        self._loop_variables: set[str] = set()
        self._known_references: dict[str, tuple[str, ...]] = {}
        # true while two texts are compared, so that each must be exactly what AWS has
        self._comparing = False
        self._inexact_parameters: set[str] = set()  # parameters whose text AWS may write differently
        for name, rules in as_mapping(fields.get("Parameters")).items():
            kind = str(as_mapping(rules).get("Type", ""))
            value = values.get(name, as_text(as_mapping(rules).get("Default")))
            # the value may be a name in AWS's parameter store, which contains the real value
            hidden = value is None or kind.startswith("AWS::SSM::Parameter::Value")
            # deployer gives AWS the token, whatever the default is
            hidden = hidden or name == SECRET_PARAMETER
            self._variable_texts[name] = (UNKNOWN if hidden or value is None else value,)
            if name not in values and type(as_mapping(rules).get("Default")) is not str:
                self._inexact_parameters.add(name)
            if kind.startswith("List<") or kind == "CommaDelimitedList":
                self._list_parameters.add(name)
                self.budget.spend(
                    self._variable_texts[name][0].count(",") + 1, len(self._variable_texts[name][0]), rules
                )
                self._variable_texts[name] = tuple(
                    each.strip() for each in self._variable_texts[name][0].split(",")
                )
        self._record_loop_variables(dict(fields))

    def possible_texts(self, value: Any) -> tuple[str, ...]:
        """Every text that a value may have; an empty tuple for a value that is not a text.

        Raises:
            TooManyTextsError: there are hundreds of texts, or one is very long.
        """
        if isinstance(value, (dict, list)):
            with self.budget.evaluating(value):
                if isinstance(value, dict):
                    return self._evaluate_function(value)
                return self._texts_of_each(value)
        text = as_text(value)
        if text is None:
            return ()
        self.budget.spend(1, len(text))
        if self._may_be_spelled_otherwise(value):
            return (UNKNOWN,)  # a number, or `yes`: only AWS knows how it writes this value
        return self._fill_loop_variables(_DYNAMIC_REFERENCE.sub(UNKNOWN, text) if "{{" in text else text)

    def may_be_omitted(self, value: Any) -> bool:
        """Whether a property with this value may be absent: the value is missing, or may be `AWS::NoValue`."""
        self.budget.spend()
        if isinstance(value, dict) and len(value) == 1:
            ((name, given),) = value.items()
            if name == "Ref":
                return "AWS::NoValue" in self._fill_loop_variables(as_text(given) or "")
            if name == "Fn::If" and isinstance(given, list) and len(given) == 3:
                return any(map(self.may_be_omitted, self._possible_branches(given)))
        return value is None

    def possible_resources(self) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
        """Path and content of each resource, except those whose condition is known to be false; includes loops."""
        for name, resource in self._resources.items():
            yield from self._resources_within(("Resources", name), resource)

    def resource_names(self, resource: Mapping[str, Any]) -> tuple[str, ...]:
        """The names that the template may give to a resource; empty if AWS chooses the name."""
        key = NAME_PROPERTIES.get(as_text(resource.get("Type")) or "")
        return self.possible_texts(as_mapping(resource.get("Properties")).get(key)) if key else ()

    def text_leaves(self, value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
        """Path and value of each text within a value, and of each function that produces a text."""
        left = [(path, value)]
        while left:
            path, value = left.pop()
            try:
                self.budget.spend(2 + len(path) // 8)
            except TooComplexError as error:
                error.path = path
                raise
            if isinstance(value, list):
                inner: list[tuple[KeyPath, Any]] = [((*path, at), each) for at, each in enumerate(value)]
            elif isinstance(value, dict):
                name = next(iter(value)) if len(value) == 1 else ""
                if name == "Fn::If" and isinstance(value[name], list) and len(value[name]) == 3:
                    branches = self.possible_branch_positions(value[name])
                    inner = [((*path, name, at), value[name][at]) for at in branches]
                elif name in _TEXT_FUNCTIONS:
                    yield path, value
                    continue
                else:
                    inner = [((*path, key), each) for key, each in value.items()]
            else:
                if value is not None:
                    yield path, value
                continue
            left += reversed(inner)

    def _resources_within(self, path: KeyPath, resource: Any) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
        self.budget.spend(1, 0, resource)
        if isinstance(resource, list):  # Fn::ForEach: a variable, its values, and the resources
            for position, part in enumerate(resource):
                for name, inner in as_mapping(part).items():
                    yield from self._resources_within((*path, position, name), inner)
        elif isinstance(resource, dict) and self.conditions.truth_of(resource.get("Condition")) is not False:
            yield path, resource

    def _record_loop_variables(self, value: dict[str, Any] | list[Any]) -> None:
        self.budget.spend(1 + len(value), 0, value)
        if isinstance(value, list):
            for item in value:
                if isinstance(item, (dict, list)):
                    self._record_loop_variables(item)
        else:
            for key, inner in value.items():
                if str(key).startswith("Fn::ForEach::") and isinstance(inner, list) and len(inner) == 3:
                    items = [each for listed in self._possible_lists(inner[1]) for each in listed]
                    known = tuple(text for item in items for text in self.possible_texts(item)) or (UNKNOWN,)
                    # Several loops may share a variable, and a key that only looks like a loop may use a
                    # parameter's name.
                    name = as_text(inner[0]) or ""
                    before = self._variable_texts.get(name, ())
                    self.budget.spend(len(before) + len(known), 0, inner)
                    self._variable_texts[name] = tuple(dict.fromkeys((*before, *known)))
                    self._loop_variables.add(name)
                if isinstance(inner, (dict, list)):
                    self._record_loop_variables(inner)

    def _evaluate_function(self, value: dict[str, Any]) -> tuple[str, ...]:
        if len(value) != 1:
            return ()
        ((name, given),) = value.items()
        match name, given:
            case "Ref", _:
                return self._evaluate_reference(given)
            case "Fn::GetAtt", _:
                return self._evaluate_attribute(given)
            case "Fn::Sub", _:
                return self._evaluate_sub(given)
            case "Fn::Join", [separator, items]:
                return self._evaluate_join(separator, items)
            case "Fn::Select", [index, items]:
                return self._evaluate_select(index, items)
            case "Fn::Split", [_, _]:
                return self._texts_of_each(self._possible_lists(value))
            case "Fn::If", [_, _, _]:
                return self._texts_of_each(self._possible_branches(given))
            case "Fn::FindInMap", [_, _, _, *_]:
                return self._texts_of_each(self._mapping_values(given)) or (UNKNOWN,)
        return (UNKNOWN,) if name.startswith("Fn::") else ()

    def _texts_of_each(self, values: list[Any]) -> tuple[str, ...]:
        """Every text that any of the values may have."""
        return distinct_texts((text for each in values for text in self.possible_texts(each)), self.budget)

    def _evaluate_reference(self, given: Any) -> tuple[str, ...]:
        names = self._fill_loop_variables(as_text(given) or "")
        return distinct_texts((text for each in names for text in self._referenced_texts(each)), self.budget)

    def _evaluate_attribute(self, given: Any) -> tuple[str, ...]:
        if isinstance(given, str) and "." in given:
            return self._attribute_texts(*given.split(".", 1))
        if not isinstance(given, list) or len(given) != 2:
            return (UNKNOWN,)
        names, attribute = self._fill_loop_variables(as_text(given[0]) or ""), as_text(given[1]) or ""
        return distinct_texts(
            (text for each in names for text in self._attribute_texts(each, attribute)), self.budget
        )

    def _fill_loop_variables(self, text: str) -> tuple[str, ...]:
        """Every text that results when the loop variables in a text have each of their values."""
        if not self._loop_variables or not ("${" in text or "&{" in text):
            return (text,)
        self.budget.spend(text.count("{"), len(text))
        parts: list[tuple[str, ...]] = []
        end = 0
        for found in _LOOP_VARIABLE.finditer(text):
            if found.group(1) in self._loop_variables:
                if self._comparing:
                    # a condition is never inside a loop, whatever the rest of the template contains
                    return (UNKNOWN,)
                parts += [(text[end : found.start()],), self._variable_texts[found.group(1)]]
                end = found.end()
        return concatenations([*parts, (text[end:],)], self.budget) if parts else (text,)

    def _referenced_texts(self, name: str) -> tuple[str, ...]:
        if self._comparing and (
            name not in self._variable_texts
            or name in self._inexact_parameters
            or name in self._loop_variables
        ):
            return (UNKNOWN,)
        if name in self._variable_texts:
            return self._variable_texts[name]
        if name not in self._known_references:
            self._known_references[name] = (UNKNOWN,)  # also the result for a name that refers to itself
            resource = as_mapping(self._resources.get(name))
            self._known_references[name] = self.resource_names(resource) or (UNKNOWN,)
        return self._known_references[name]

    def _attribute_texts(self, name: str, attribute: str) -> tuple[str, ...]:
        """Texts of a resource's attribute, known only if the attribute is a property that the template sets."""
        if self._comparing:
            return (UNKNOWN,)
        key = f"{name}.{attribute}"
        if key not in self._known_references:
            self._known_references[key] = (UNKNOWN,)
            resource = as_mapping(self._resources.get(name))
            if (as_text(resource.get("Type")), attribute) in _ATTRIBUTES_THAT_ARE_PROPERTIES:
                properties = as_mapping(resource.get("Properties"))
                self._known_references[key] = self.possible_texts(properties.get(attribute)) or (UNKNOWN,)
        return self._known_references[key]

    def _evaluate_sub(self, given: Any) -> tuple[str, ...]:
        text, own = given, dict[str, Any]()
        if isinstance(given, list) and len(given) == 2:
            text, own = given[0], as_mapping(given[1])
        if not isinstance(text, str) or self._may_be_spelled_otherwise(text):
            return (UNKNOWN,)
        return distinct_texts(
            (made for each in self._fill_loop_variables(text) for made in self._fill_variables(each, own)),
            self.budget,
        )

    def _fill_variables(self, text: str, own: Mapping[str, Any]) -> tuple[str, ...]:
        """Every text that results when the variables of an Fn::Sub text are replaced."""
        parts: list[tuple[str, ...]] = []
        end = 0
        self.budget.spend(text.count("{"), len(text))
        for found in _VARIABLE.finditer(text):
            parts.append(self.possible_texts(text[end : found.start()]))
            end = found.end()
            literal, name = found.group(1), found.group(2).strip()
            if literal:
                parts.append((f"${{{name}}}",))
            elif name in own:
                parts.append(self.possible_texts(own[name]))
            else:
                resource, dot, attribute = name.partition(".")
                parts.append(
                    self._attribute_texts(resource, attribute) if dot else self._referenced_texts(name)
                )
        parts.append(self.possible_texts(text[end:]))
        return concatenations(parts, self.budget)

    def _evaluate_join(self, separator: Any, items: Any) -> tuple[str, ...]:
        between = UNKNOWN if self._may_be_spelled_otherwise(separator) else as_text(separator) or ""
        found: list[str] = []
        for each in self._possible_lists(items):
            parts: list[tuple[str, ...]] = []
            for item in each:
                if texts := self.possible_texts(item):  # AWS::NoValue is not an item
                    parts += [(between,), texts] if parts else [texts]
            found += concatenations(parts, self.budget)
        return distinct_texts(found, self.budget)

    def _evaluate_select(self, index: Any, items: Any) -> tuple[str, ...]:
        texts = (str(index),) if type(index) is int else self.possible_texts(index)
        numbers = [int(each) for each in texts if each.isdecimal() and len(each) < 6]
        lists = self._possible_lists(items)
        self.budget.spend(len(numbers) * len(lists))
        chosen = [each[n] for each in lists for n in numbers if n < len(each)]
        return self._texts_of_each(chosen) or (UNKNOWN,)

    def _mapping_values(self, given: list[Any]) -> list[Any]:
        """Every value that Fn::FindInMap may find."""
        level: list[Any] = [self._mappings]
        for step, key in enumerate(given[:3]):
            names = self.possible_texts(key)
            if any(UNKNOWN in name for name in names):
                self.budget.spend(sum(map(len, level)))
                level = [inner for each in level for inner in each.values()]
            else:
                self.budget.spend(len(level) * len(names))
                level = [each[name] for each in level for name in names if name in each]
            if step < 2:
                level = [each for each in level if isinstance(each, dict)]
        default = [
            as_mapping(each)["DefaultValue"] for each in given[3:] if "DefaultValue" in as_mapping(each)
        ]
        return [*level, *default]

    def _possible_lists(self, value: Any) -> list[list[Any]]:
        """Every list that a value may be."""
        self.budget.spend()
        if isinstance(value, list):
            return [value]
        if not isinstance(value, dict) or len(value) != 1:
            return [[UNKNOWN]]
        ((name, given),) = value.items()
        match name, given:
            case "Ref", str() if given in self._list_parameters:
                return [self._items_of_parameter(given)]
            case "Fn::If", [_, _, _]:
                return [
                    each for branch in self._possible_branches(given) for each in self._possible_lists(branch)
                ]
            case "Fn::Split", [separator, text]:
                return self._split_lists(separator, text)
            case "Fn::FindInMap", [_, _, _, *_]:
                return [each if isinstance(each, list) else [each] for each in self._mapping_values(given)]
        return [[UNKNOWN]]

    def _items_of_parameter(self, name: str) -> list[str]:
        """The items of a parameter whose value is a list."""
        if self._comparing and (name in self._inexact_parameters or name in self._loop_variables):
            return [UNKNOWN]
        self.budget.spend(len(self._variable_texts[name]))
        return list(self._variable_texts[name])

    def _split_lists(self, separator: Any, text: Any) -> list[list[str]]:
        """Every list that Fn::Split may return."""
        between, texts = as_text(separator), self.possible_texts(text)
        unknown = self._comparing and any(UNKNOWN in each for each in texts)
        if unknown or self._may_be_spelled_otherwise(separator):
            return [[UNKNOWN]]  # an unknown part may contain the separator
        if not between:
            return [[each] for each in texts]
        self.budget.spend(sum(each.count(between) + 1 for each in texts), sum(map(len, texts)))
        return [each.split(between) for each in texts]

    def _possible_branches(self, given: list[Any]) -> list[Any]:
        return [given[position] for position in self.possible_branch_positions(given)]

    def possible_branch_positions(self, given: list[Any]) -> tuple[int, ...]:
        """The positions of the values that an Fn::If with these arguments may return."""
        held = self.conditions.truth_of(given[0])
        return (1, 2) if held is None else (1,) if held else (2,)

    def _exact_texts(self, value: Any) -> tuple[str, ...]:
        """Like `possible_texts`, but each text is exactly what AWS has, so that two texts can be compared."""
        before, self._comparing = self._comparing, True
        try:
            return self.possible_texts(value)
        finally:
            self._comparing = before

    def _may_be_spelled_otherwise(self, value: Any) -> bool:
        """Whether AWS may write a literal differently, which matters only in a comparison."""
        return self._comparing and type(value) is not str
