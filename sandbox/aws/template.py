"""CloudFormation templates, checked by the service's rules for their structure."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import yaml

from sandbox.aws.protocol import AwsError
from sandbox.aws.rules import check_rules
from sandbox.aws.transforms import apply_transforms, declared_transforms

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
_AUTO_EXPAND = "CAPABILITY_AUTO_EXPAND"
SUBSTITUTION = re.compile(r"\$\{(!?)([^}]*)\}")


def validation_error(message: str) -> AwsError:
    """An AwsError with the code ValidationError."""
    return AwsError("ValidationError", message)


class _Loader(yaml.SafeLoader):
    """Reads YAML as CloudFormation does: with short forms of functions, and with dates as text ("2012-10-17")."""


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
    """A well-formed template.

    Args:
        body: its text, YAML or JSON.
        known_type: says whether a resource type is known.
        values: the values of parameters, by which transforms are applied; until they are known, a template with
            transforms is neither expanded nor checked.

    Raises:
        AwsError: ValidationError with the service's message.
    """

    def __init__(
        self, body: str, known_type: Callable[[str], bool], values: Mapping[str, str] | None = None
    ) -> None:
        self.body = body
        self._known_type = known_type
        try:
            document = yaml.load(body, _Loader)  # noqa: S506 - a SafeLoader
        except yaml.YAMLError as error:
            why = str(getattr(error, "problem", "") or error).splitlines()[-1].strip()
            mark = getattr(error, "problem_mark", None)
            where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
            raise validation_error(
                f"Template format error: YAML not well-formed.{where} {why}".rstrip()
            ) from None
        if not isinstance(document, dict):
            raise validation_error("Template format error: unsupported structure.")
        if not isinstance(document.get("Resources"), dict) or not document["Resources"]:
            raise validation_error("Template format error: At least one Resources member must be defined.")
        # A change of this content makes an update; a change of the description alone does not.
        self.content = {k: v for k, v in document.items() if k not in ("Description", "Metadata")}
        self.transforms = declared_transforms(document)
        if self.transforms and values is not None:
            document = apply_transforms(document, values)
        self.processed = document
        self.description = str(document.get("Description", ""))
        self.parameters: dict[str, dict[str, Any]] = document.get("Parameters") or {}
        self.conditions: dict[str, Any] = document.get("Conditions") or {}
        self.rules: dict[str, Any] = document.get("Rules") or {}
        self.mappings: dict[str, Any] = document.get("Mappings") or {}
        self.resources: dict[str, dict[str, Any]] = document["Resources"]
        self.outputs: dict[str, dict[str, Any]] = document.get("Outputs") or {}
        self.order: list[str] = []
        if values is not None or not self.transforms:
            self._check_resources(known_type)
            self.order = self._creation_order()

    def with_values(self, values: Mapping[str, str]) -> Template:
        """The template as its transforms make it with these values of parameters."""
        return Template(self.body, self._known_type, values) if self.transforms else self

    def _check_resources(self, known_type: Callable[[str], bool]) -> None:
        for name, resource in self.resources.items():
            if not isinstance(resource, dict) or "Type" not in resource:
                raise validation_error(
                    f"Template format error: [/Resources/{name}] "
                    "Every Resources object must contain a Type member."
                )
        unknown = sorted({r["Type"] for r in self.resources.values() if not known_type(r["Type"])})
        if unknown:
            raise validation_error(
                f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]"
            )
        for block, content in (("Resources", self.resources), ("Outputs", self.outputs)):
            known = PSEUDO_PARAMETERS | set(self.parameters) | set(self.resources)
            missing = sorted(set(references(content)) - known)
            if missing:
                raise validation_error(
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
                raise validation_error(f"Circular dependency between resources: [{circle}]")
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

    def required_capabilities(self) -> list[str]:
        """The capabilities that a request must acknowledge."""
        declared = [r for r in self.resources.values() if isinstance(r, dict)]
        iam = [r for r in declared if str(r.get("Type")).startswith("AWS::IAM::")]
        names = ("RoleName", "UserName", "GroupName", "ManagedPolicyName", "InstanceProfileName")
        if any(n in (r.get("Properties") or {}) for r in iam for n in names):
            return ["CAPABILITY_NAMED_IAM"]
        return ["CAPABILITY_IAM"] if iam else []

    def check_capabilities(self, given: Collection[str], *, expands: bool = True) -> None:
        """Check the acknowledged capabilities; `expands` is false for a change set, which shows what transforms do.

        Raises:
            AwsError: InsufficientCapabilitiesException.
        """
        needed = self.required_capabilities()
        if needed and not {needed[0], "CAPABILITY_NAMED_IAM"} & set(given):
            raise AwsError("InsufficientCapabilitiesException", f"Requires capabilities : [{needed[0]}]")
        if self.transforms and expands and _AUTO_EXPAND not in given:
            raise AwsError("InsufficientCapabilitiesException", f"Requires capabilities : [{_AUTO_EXPAND}]")

    def check_parameters(self, given: Mapping[str, str]) -> dict[str, str]:
        """The values of all parameters, including defaults.

        Raises:
            AwsError: ValidationError, because a value is missing, unknown or not allowed.
        """
        if extra := [p for p in given if p not in self.parameters]:
            raise validation_error(f"Parameters: [{', '.join(extra)}] do not exist in the template")
        if lacking := [p for p, s in self.parameters.items() if p not in given and "Default" not in s]:
            raise validation_error(f"Parameters: [{', '.join(lacking)}] must have values")
        values = {}
        for name, slot in self.parameters.items():
            values[name] = as_text(given.get(name, slot.get("Default")))
            _check_value(name, slot, values[name])
        check_rules(self.rules, self.parameters, values)
        return values

    def default_values(self) -> dict[str, str]:
        """The default values, by parameter."""
        return {k: as_text(s["Default"]) for k, s in self.parameters.items() if "Default" in s}

    def is_secret(self, parameter: str) -> bool:
        """Whether the parameter is declared NoEcho, so that its value is never shown."""
        return as_text(self.parameters.get(parameter, {}).get("NoEcho", False)) == "true"


def _check_value(name: str, slot: Mapping[str, Any], value: str) -> None:
    allowed = [as_text(each) for each in slot.get("AllowedValues") or []]
    if allowed and value not in allowed:
        raise validation_error(f"Parameter '{name}' must be one of AllowedValues: [{', '.join(allowed)}]")
    # Every item of a list must match the pattern.
    items = value.split(",") if slot.get("Type") == "CommaDelimitedList" else [value]
    pattern = slot.get("AllowedPattern")
    if pattern and not all(re.fullmatch(pattern, item.strip()) for item in items):
        reason = slot.get("ConstraintDescription") or f"must match pattern {pattern}"
        raise validation_error(f"Parameter '{name}' {reason}")
    if "MinLength" in slot and len(value) < int(slot["MinLength"]):
        raise validation_error(f"Parameter '{name}' must contain at least {slot['MinLength']} characters")
    if "MaxLength" in slot and len(value) > int(slot["MaxLength"]):
        raise validation_error(f"Parameter '{name}' must contain at most {slot['MaxLength']} characters")


def as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def references(node: Any) -> Iterator[str]:
    """The names of parameters, pseudo parameters and resources to which a part of a template refers."""
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
                for literal, name in SUBSTITUTION.findall(text):
                    if not literal and name.split(".")[0] not in own:
                        yield name.strip().split(".")[0]
                yield from references(own)
            else:
                yield from references(value)
