"""CloudFormation templates: reading, checking, ordering, and the intrinsic functions."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import yaml

from sandbox.aws import storage
from sandbox.aws.places import Place
from sandbox.aws.protocol import AwsError

PSEUDO_PARAMETERS = {
    "AWS::AccountId",
    "AWS::NoValue",
    "AWS::NotificationARNs",
    "AWS::Partition",
    "AWS::Region",
    "AWS::StackId",
    "AWS::StackName",
    "AWS::URLSuffix",
}
_DYNAMIC = re.compile(r"\{\{resolve:(ssm|ssm-secure|secretsmanager):([^}]+)\}\}")
_SUB = re.compile(r"\$\{(!?)([^}]*)\}")


def invalid(message: str) -> AwsError:
    """CloudFormation's ValidationError."""
    return AwsError("ValidationError", message)


class _Loader(yaml.SafeLoader):
    """YAML as CloudFormation reads it: short function names, and dates stay text ("2012-10-17")."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _construct_short_form(loader: _Loader, suffix: str, node: yaml.Node) -> Any:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _construct_short_form)


class Template:
    """A template that has been read and found well formed.

    Raises:
        AwsError: ValidationError in the service's words.
    """

    def __init__(self, body: str, known_type: Callable[[str], bool]) -> None:
        self.body = body
        try:
            document = yaml.load(body, _Loader)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as error:
            why = str(getattr(error, "problem", "") or error).splitlines()[-1].strip()
            mark = getattr(error, "problem_mark", None)
            where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
            raise invalid(f"Template format error: YAML not well-formed.{where} {why}".rstrip()) from None
        if not isinstance(document, dict):
            raise invalid("Template format error: unsupported structure.")
        if not isinstance(document.get("Resources"), dict) or not document["Resources"]:
            raise invalid("Template format error: At least one Resources member must be defined.")
        # What a change of makes an update one; a description alone does not.
        self.content = {k: v for k, v in document.items() if k not in ("Description", "Metadata")}
        self.description = str(document.get("Description", ""))
        self.parameters: dict[str, dict[str, Any]] = document.get("Parameters") or {}
        self.conditions: dict[str, Any] = document.get("Conditions") or {}
        self.mappings: dict[str, Any] = document.get("Mappings") or {}
        self.resources: dict[str, dict[str, Any]] = document["Resources"]
        self.outputs: dict[str, dict[str, Any]] = document.get("Outputs") or {}
        self._check_resources(known_type)
        self.order = self._creation_order()

    def _check_resources(self, known_type: Callable[[str], bool]) -> None:
        for name, resource in self.resources.items():
            if not isinstance(resource, dict) or "Type" not in resource:
                raise invalid(
                    f"Template format error: [/Resources/{name}] "
                    "Every Resources object must contain a Type member."
                )
        unknown = sorted({r["Type"] for r in self.resources.values() if not known_type(r["Type"])})
        if unknown:
            raise invalid(f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]")
        for block, content in (("Resources", self.resources), ("Outputs", self.outputs)):
            known = PSEUDO_PARAMETERS | set(self.parameters) | set(self.resources)
            missing = sorted(set(references(content)) - known)
            if missing:
                raise invalid(
                    f"Template format error: Unresolved resource dependencies [{', '.join(missing)}] "
                    f"in the {block} block of the template"
                )

    def _creation_order(self) -> list[str]:
        done: list[str] = []
        visiting: list[str] = []

        def visit(name: str) -> None:
            if name in done:
                return
            if name in visiting:
                circle = ", ".join(visiting[visiting.index(name) :])
                raise invalid(f"Circular dependency between resources: [{circle}]")
            visiting.append(name)
            depends = self.resources[name].get("DependsOn", [])
            for other in [
                *references(self.resources[name]),
                *([depends] if isinstance(depends, str) else depends),
            ]:
                if other in self.resources:
                    visit(other)
            visiting.pop()
            done.append(name)

        for name in self.resources:
            visit(name)
        return done

    def capabilities(self) -> list[str]:
        """What the template requires to be acknowledged."""
        iam = [r for r in self.resources.values() if r["Type"].startswith("AWS::IAM::")]
        names = ("RoleName", "UserName", "GroupName", "ManagedPolicyName", "InstanceProfileName")
        if any(n in (r.get("Properties") or {}) for r in iam for n in names):
            return ["CAPABILITY_NAMED_IAM"]
        return ["CAPABILITY_IAM"] if iam else []

    def check_capabilities(self, given: Collection[str]) -> None:
        """Raise InsufficientCapabilitiesException unless the required ones are given."""
        needed = self.capabilities()
        if needed and not {needed[0], "CAPABILITY_NAMED_IAM"} & set(given):
            raise AwsError("InsufficientCapabilitiesException", f"Requires capabilities : [{needed[0]}]")

    def check_parameters(self, given: Mapping[str, str]) -> dict[str, str]:
        """The full set of parameter values, defaults included; ValidationError when they do not fit."""
        if extra := [p for p in given if p not in self.parameters]:
            raise invalid(f"Parameters: [{', '.join(extra)}] do not exist in the template")
        if lacking := [p for p, s in self.parameters.items() if p not in given and "Default" not in s]:
            raise invalid(f"Parameters: [{', '.join(lacking)}] must have values")
        values = {}
        for name, slot in self.parameters.items():
            value = values[name] = _as_text(given.get(name, slot.get("Default")))
            allowed = slot.get("AllowedValues")
            if allowed and value not in [_as_text(a) for a in allowed]:
                choices = ", ".join(_as_text(a) for a in allowed)
                raise invalid(f"Parameter '{name}' must be one of AllowedValues: [{choices}]")
            # of a list, each value must match
            each = value.split(",") if slot.get("Type") == "CommaDelimitedList" else [value]
            pattern = slot.get("AllowedPattern")
            if pattern and not all(re.fullmatch(pattern, one.strip()) for one in each):
                reason = slot.get("ConstraintDescription") or f"must match pattern {pattern}"
                raise invalid(f"Parameter '{name}' {reason}")
            if "MinLength" in slot and len(value) < int(slot["MinLength"]):
                raise invalid(f"Parameter '{name}' must contain at least {slot['MinLength']} characters")
            if "MaxLength" in slot and len(value) > int(slot["MaxLength"]):
                raise invalid(f"Parameter '{name}' must contain at most {slot['MaxLength']} characters")
        return values

    def defaults(self) -> dict[str, str]:
        """The parameters that have a value of their own."""
        return {k: _as_text(s["Default"]) for k, s in self.parameters.items() if "Default" in s}

    def secret(self, parameter: str) -> bool:
        """Whether the parameter's value must never be shown."""
        return _as_text(self.parameters.get(parameter, {}).get("NoEcho", False)) == "true"


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def references(node: Any) -> Iterator[str]:
    """Every parameter, resource or pseudo parameter that a part of a template mentions."""
    if isinstance(node, list):
        for item in node:
            yield from references(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "Ref":
                yield str(value)
            elif key == "Fn::GetAtt":
                yield value[0] if isinstance(value, list) else str(value).split(".")[0]
            elif key == "Fn::Sub":
                text, own = (value[0], value[1]) if isinstance(value, list) else (value, {})
                for literal, name in _SUB.findall(text):
                    if not literal and name.split(".")[0] not in own:
                        yield name.strip().split(".")[0]
                yield from references(own)
            else:
                yield from references(value)


def stored(place: Place, service: str, reference: str) -> str:
    """What a dynamic reference stands for; ValidationError when there is nothing of that name."""
    try:
        if service != "secretsmanager":
            return storage.parameter(place, reference)
        name, _, key = reference.partition(":SecretString")
        key = key.strip(":").partition(":")[0]
        return storage.secret(place, f"{name}:{key}" if key else name)
    except storage.NoSuchObjectError as error:
        raise invalid(f"Parameters: {error}") from error


class Resolver:
    """Evaluates the intrinsic functions of one stack; `values` are its parameters and the pseudo parameters.

    `reference` gives what `Ref` of a resource gives, `attribute` what `Fn::GetAtt` gives, `export` what
    `Fn::ImportValue` gives.
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
                self._values[name] = stored(self._place, "ssm", str(self._values[name]))
            if name in self._values and (kind == "CommaDelimitedList" or kind.startswith("List<")):
                self._values[name] = [v.strip() for v in str(self._values[name]).split(",")]
        self._reference = reference
        self._attribute = attribute
        self._export = export

    def active(self, item: Mapping[str, Any]) -> bool:
        """Whether a resource's or an output's condition holds."""
        return "Condition" not in item or self.condition({"Condition": item["Condition"]})

    def condition(self, node: Any) -> bool:
        """The truth of a condition."""
        if not isinstance(node, dict) or len(node) != 1:
            return _as_text(self.value(node)) == "true"
        (function, argument), *_ = node.items()
        if function == "Condition":
            if argument not in self._template.conditions:
                raise invalid(f"Template format error: Unresolved condition dependency {argument}")
            return self.condition(self._template.conditions[argument])
        if function == "Fn::Equals":
            return _as_text(self.value(argument[0])) == _as_text(self.value(argument[1]))
        if function == "Fn::Not":
            return not self.condition(argument[0])
        if function == "Fn::And":
            return all(self.condition(a) for a in argument)
        if function == "Fn::Or":
            return any(self.condition(a) for a in argument)
        return _as_text(self.value(node)) == "true"

    def value(self, node: Any) -> Any:
        """A part of the template with every function replaced by its result; AWS::NoValue removes."""
        result = self._condition_value(node)
        if isinstance(result, str) and "{{resolve:" in result:
            return _DYNAMIC.sub(lambda match: stored(self._place, match.group(1), match.group(2)), result)
        return result

    def _condition_value(self, node: Any) -> Any:
        if isinstance(node, list):
            return [v for v in map(self.value, node) if v is not None]
        if not isinstance(node, dict):
            return node
        if len(node) == 1:
            (function, argument), *_ = node.items()
            if function == "Ref":
                return self._evaluate_ref(argument)
            if function.startswith("Fn::"):
                return self._evaluate_function(function, argument)
        resolved = {k: self.value(v) for k, v in node.items()}
        return {k: v for k, v in resolved.items() if v is not None}

    def _evaluate_ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return None
        return self._values[name] if name in self._values else self._reference(name)

    def _evaluate_function(self, function: str, argument: Any) -> Any:
        if function == "Fn::GetAtt":
            name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
            return self._attribute(name, self.value(attribute))
        if function == "Fn::Sub":
            return self._evaluate_sub(argument)
        if function == "Fn::If":
            return self.value(argument[1] if self.condition({"Condition": argument[0]}) else argument[2])
        if function == "Fn::Join":
            return _as_text(argument[0]).join(_as_text(v) for v in self.value(argument[1]))
        if function == "Fn::Split":
            return _as_text(self.value(argument[1])).split(argument[0])
        if function == "Fn::Select":
            return self.value(argument[1])[int(self.value(argument[0]))]
        if function == "Fn::FindInMap":
            name, first, second = (self.value(a) for a in argument[:3])
            try:
                return self._template.mappings[name][first][second]
            except KeyError:
                raise invalid(
                    f"Template error: Unable to get mapping for {name}::{first}::{second}"
                ) from None
        if function == "Fn::ImportValue":
            return self._export(self.value(argument))
        if function == "Fn::Base64":
            return base64.b64encode(_as_text(self.value(argument)).encode()).decode()
        if function == "Fn::GetAZs":
            return [f"{self._place.region}{zone}" for zone in "abc"]
        if function == "Fn::ToJsonString":
            return json.dumps(self.value(argument), separators=(",", ":"))
        raise invalid(f"Template error: the function {function} is not known to the simulator")

    def _evaluate_sub(self, argument: Any) -> str:
        text, own = (argument[0], argument[1]) if isinstance(argument, list) else (argument, {})

        def replace(match: re.Match[str]) -> str:
            literal, name = match.group(1), match.group(2).strip()
            if literal:
                return f"${{{name}}}"
            if name in own:
                return _as_text(self.value(own[name]))
            if "." in name and name.split(".")[0] in self._template.resources:
                return _as_text(self._attribute(*name.split(".", 1)))
            return _as_text(self._evaluate_ref(name))

        return _SUB.sub(replace, text)
