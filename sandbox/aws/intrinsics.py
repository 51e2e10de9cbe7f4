"""The intrinsic functions of CloudFormation templates."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.aws import storage
from sandbox.aws.places import Place
from sandbox.aws.template import SUBSTITUTION, Template, as_text, validation_error

_DYNAMIC = re.compile(r"\{\{resolve:(ssm|ssm-secure|secretsmanager):([^}]+)\}\}")


def resolve_dynamic_reference(place: Place, service: str, reference: str) -> str:
    """The value of a dynamic reference.

    Raises:
        AwsError: ValidationError, because no parameter or secret has this name.
    """
    try:
        if service != "secretsmanager":
            return storage.parameter_value(place, reference)
        name, _, key = reference.partition(":SecretString")
        key = key.strip(":").partition(":")[0]
        return storage.secret_value(place, f"{name}:{key}" if key else name)
    except storage.NoSuchObjectError as error:
        raise validation_error(f"Parameters: {error}") from error


class Resolver:
    """Evaluates the intrinsic functions in the template of one stack.

    Args:
        template: the template.
        values: the values of parameters and pseudo parameters.
        reference: returns the value of `Ref` for a resource.
        attribute: returns the value of `Fn::GetAtt`.
        export: returns the value of `Fn::ImportValue`.
    """

    def __init__(
        self,
        template: Template,
        values: Mapping[str, Any],
        reference: Callable[[str], str],
        attribute: Callable[[str, str], Any],
        export: Callable[[str], str],
    ) -> None:
        self._template = template
        self._values = dict(values)
        self._place = Place(values["AWS::AccountId"], values["AWS::Region"])
        for name, slot in template.parameters.items():
            kind = str(slot.get("Type", "String"))
            if name in self._values and kind.startswith("AWS::SSM::Parameter::Value<"):
                self._values[name] = resolve_dynamic_reference(self._place, "ssm", str(self._values[name]))
            if name in self._values and (kind == "CommaDelimitedList" or kind.startswith("List<")):
                self._values[name] = [v.strip() for v in str(self._values[name]).split(",")]
        self._reference = reference
        self._attribute = attribute
        self._export = export
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Fn::Base64": self._evaluate_base64,
            "Fn::FindInMap": self._evaluate_find_in_map,
            "Fn::GetAZs": self._evaluate_get_azs,
            "Fn::GetAtt": self._evaluate_get_att,
            "Fn::If": self._evaluate_if,
            "Fn::ImportValue": self._evaluate_import_value,
            "Fn::Join": self._evaluate_join,
            "Fn::Length": lambda argument: len(self.evaluate(argument)),
            "Fn::Select": self._evaluate_select,
            "Fn::Split": self._evaluate_split,
            "Fn::Sub": self._evaluate_sub,
            "Fn::ToJsonString": self._evaluate_to_json_string,
        }

    def is_active(self, item: Mapping[str, Any]) -> bool:
        """Whether the condition of a resource or an output is true."""
        return "Condition" not in item or self.evaluate_condition({"Condition": item["Condition"]})

    def evaluate_condition(self, node: Any) -> bool:
        """The truth value of a condition."""
        if not isinstance(node, dict) or len(node) != 1:
            return as_text(self.evaluate(node)) == "true"
        (function, argument), *_ = node.items()
        if function == "Condition":
            if argument not in self._template.conditions:
                raise validation_error(f"Template format error: Unresolved condition dependency {argument}")
            return self.evaluate_condition(self._template.conditions[argument])
        if function == "Fn::Equals":
            return as_text(self.evaluate(argument[0])) == as_text(self.evaluate(argument[1]))
        if function == "Fn::Not":
            return not self.evaluate_condition(argument[0])
        if function == "Fn::And":
            return all(self.evaluate_condition(a) for a in argument)
        if function == "Fn::Or":
            return any(self.evaluate_condition(a) for a in argument)
        return as_text(self.evaluate(node)) == "true"

    def evaluate(self, node: Any) -> Any:
        """A part of the template in which every function is replaced by its result; AWS::NoValue removes its key."""
        result = self._condition_value(node)
        if isinstance(result, str) and "{{resolve:" in result:
            return _DYNAMIC.sub(
                lambda match: resolve_dynamic_reference(self._place, match.group(1), match.group(2)), result
            )
        return result

    def _condition_value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [v for v in map(self.evaluate, node) if v is not None]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (function, argument), *_ = node.items()
            if function == "Ref":
                return self._evaluate_ref(argument)
            if function.startswith("Fn::"):
                return self._evaluate_function(function, argument)
        resolved = {k: self.evaluate(v) for k, v in node.items()}
        return {k: v for k, v in resolved.items() if v is not None}

    def _evaluate_ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return None
        return self._values[name] if name in self._values else self._reference(name)

    def _evaluate_function(self, function: str, argument: Any) -> Any:
        if function not in self._functions:
            raise validation_error(f"Template error: the function {function} is not known to the simulator")
        return self._functions[function](argument)

    def _evaluate_get_att(self, argument: Any) -> Any:
        name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
        return self._attribute(name, self.evaluate(attribute))

    def _evaluate_if(self, argument: Any) -> Any:
        return self.evaluate(
            argument[1] if self.evaluate_condition({"Condition": argument[0]}) else argument[2]
        )

    def _evaluate_join(self, argument: Any) -> str:
        return as_text(argument[0]).join(as_text(v) for v in self.evaluate(argument[1]))

    def _evaluate_split(self, argument: Any) -> list[str]:
        return as_text(self.evaluate(argument[1])).split(argument[0])

    def _evaluate_select(self, argument: Any) -> Any:
        return self.evaluate(argument[1])[int(self.evaluate(argument[0]))]

    def _evaluate_find_in_map(self, argument: Any) -> Any:
        name, first, second = (self.evaluate(a) for a in argument[:3])
        try:
            return self._template.mappings[name][first][second]
        except KeyError:
            if len(argument) > 3 and "DefaultValue" in argument[3]:
                return self.evaluate(argument[3]["DefaultValue"])
            raise validation_error(
                f"Template error: Unable to get mapping for {name}::{first}::{second}"
            ) from None

    def _evaluate_import_value(self, argument: Any) -> str:
        return self._export(self.evaluate(argument))

    def _evaluate_base64(self, argument: Any) -> str:
        return base64.b64encode(as_text(self.evaluate(argument)).encode()).decode()

    def _evaluate_get_azs(self, _argument: Any) -> list[str]:
        return [f"{self._place.region}{zone}" for zone in "abc"]

    def _evaluate_to_json_string(self, argument: Any) -> str:
        return json.dumps(self.evaluate(argument), separators=(",", ":"))

    def _evaluate_sub(self, argument: Any) -> str:
        text, own = (argument[0], argument[1]) if isinstance(argument, list) else (argument, {})

        def replace(match: re.Match[str]) -> str:
            literal, name = match.group(1), match.group(2).strip()
            if literal:
                return f"${{{name}}}"
            if name in own:
                return as_text(self.evaluate(own[name]))
            if "." in name and name.split(".")[0] in self._template.resources:
                return as_text(self._attribute(*name.split(".", 1)))
            return as_text(self._evaluate_ref(name))

        return SUBSTITUTION.sub(replace, text)
