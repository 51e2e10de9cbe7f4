"""The transforms of templates: AWS::LanguageExtensions with its loops, AWS::Serverless."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sandbox.aws.protocol import AwsError
from sandbox.aws.serverless import expand_serverless

LANGUAGE_EXTENSIONS = "AWS::LanguageExtensions"
SERVERLESS = "AWS::Serverless-2016-10-31"
_LOOP = "Fn::ForEach::"
_SYMBOLS = re.compile(r"[^A-Za-z0-9]")

Document = dict[str, Any]


def declared_transforms(document: Mapping[str, Any]) -> list[str]:
    """The names of a template's transforms, in the order in which they are applied."""
    declared = document.get("Transform") or []
    names = [t if isinstance(t, str) else str(t.get("Name")) for t in _as_list(declared)]
    # CloudFormation resolves the loops before other transforms see the template.
    return sorted(names, key=lambda name: name != LANGUAGE_EXTENSIONS)


def apply_transforms(document: Document, given: Mapping[str, str]) -> Document:
    """A template after its transforms.

    Raises:
        AwsError: ValidationError, because a transform fails or is not simulated.
    """
    values = {k: v["Default"] for k, v in (document.get("Parameters") or {}).items() if "Default" in v}
    for name in declared_transforms(document):
        if name not in SIMULATED:
            raise AwsError("ValidationError", f"Not simulated: the transform {name}")
        document = SIMULATED[name](document, {**values, **given})
    return document


# ---- AWS::LanguageExtensions


def _expand_loops(document: Document, values: Mapping[str, Any]) -> Document:
    expanded = {k: _expand_node(v, document, values) for k, v in document.items()}
    for resource in (expanded.get("Resources") or {}).values():
        if isinstance(resource, dict):
            for policy in ("DeletionPolicy", "UpdateReplacePolicy"):
                if isinstance(resource.get(policy), dict):
                    resource[policy] = _evaluate_item(resource[policy], document, values)
    return expanded


def _expand_node(node: Any, document: Document, values: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_expand_node(item, document, values) for item in node]
    if not isinstance(node, dict):
        return node
    result: dict[str, Any] = {}
    for key, value in node.items():
        if not str(key).startswith(_LOOP):
            result[key] = _expand_node(value, document, values)
            continue
        for name, item in _run_loop(value, document, values).items():
            if name in result:
                raise _loop_error(f"Duplicate key {name} in {key}")
            result[name] = item
    return result


def _run_loop(loop: Any, document: Document, values: Mapping[str, Any]) -> dict[str, Any]:
    if (
        not isinstance(loop, list)
        or len(loop) != 3
        or not isinstance(loop[0], str)
        or not isinstance(loop[2], dict)
    ):
        raise _loop_error("Fn::ForEach layout is incorrect")
    identifier, collection, body = loop
    if identifier in (document.get("Parameters") or {}):
        raise _loop_error(f"Fn::ForEach identifier {identifier} conflicts with a parameter of the template")
    result: dict[str, Any] = {}
    for item in _evaluate_collection(collection, document, values):
        once = _expand_node(_substitute(body, identifier, item), document, values)
        if double := result.keys() & once.keys():
            raise _loop_error(f"Fn::ForEach produces the key {min(double)} more than once")
        result |= once
    return result


def _evaluate_collection(node: Any, document: Document, values: Mapping[str, Any]) -> list[str]:
    if not isinstance(node, list):
        return [str(v) for v in _as_list(_evaluate_item(node, document, values))]
    found: list[str] = []
    for item in node:
        found.extend(str(v) for v in _as_list(_evaluate_item(item, document, values)))
    return found


def _evaluate_item(node: Any, document: Document, values: Mapping[str, Any]) -> Any:
    """The value of an item that is known when the template is processed."""
    if not isinstance(node, dict):
        return node
    (function, argument), *_ = node.items()
    if function == "Ref" and argument in (document.get("Parameters") or {}):
        # A parameter without a value is refused later, when all parameters are checked.
        value, kind = values.get(argument, []), str(document["Parameters"][argument].get("Type", ""))
        listed = isinstance(value, str) and (kind == "CommaDelimitedList" or kind.startswith("List<"))
        return [v.strip() for v in value.split(",")] if listed else value
    if function == "Fn::FindInMap":
        found: Any = document.get("Mappings") or {}
        for step in argument[:3]:
            found = found.get(str(_evaluate_item(step, document, values)), {})
        if found != {}:
            return found
    if function == "Fn::Split":
        return str(_evaluate_item(argument[1], document, values)).split(argument[0])
    raise _loop_error(f"Fn::ForEach could not resolve {function}")


def _substitute(node: Any, identifier: str, item: str) -> Any:
    """A loop's body in which the identifier is replaced, `&{...}` without the characters that names cannot have."""
    if isinstance(node, str):
        plain = _SYMBOLS.sub("", item)
        return node.replace(f"${{{identifier}}}", item).replace(f"&{{{identifier}}}", plain)
    if isinstance(node, list):
        return [_substitute(each, identifier, item) for each in node]
    if isinstance(node, dict):
        if node == {"Ref": identifier}:
            return item
        return {
            str(_substitute(k, identifier, item)): _substitute(v, identifier, item) for k, v in node.items()
        }
    return node


def _loop_error(message: str) -> AwsError:
    return AwsError("ValidationError", f"Transform {LANGUAGE_EXTENSIONS} failed with: {message}.")


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _expand_serverless(document: Document, _values: Mapping[str, Any]) -> Document:
    return expand_serverless(document)


SIMULATED: dict[str, Callable[[Document, Mapping[str, Any]], Document]] = {
    LANGUAGE_EXTENSIONS: _expand_loops,
    SERVERLESS: _expand_serverless,
}
"""The transforms that the simulator applies, by name."""
