"""Decides whether a finding of cfn-lint rejects a push.

cfn-lint finds more than CloudFormation rejects: style, advice, and values that only AWS can judge. The table
`lint_rules.toml` says for each rule what its findings count as, with the reason.
"""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from deployer.templates.evaluation.values import as_mapping
from deployer.templates.permissions import KNOWN_TRANSFORMS

UNKNOWN_RULE = "warning"
"""What a rule counts as that the table does not have: a newer cfn-lint must not reject what was accepted before."""
_EVERY_RULE = "*"
_UNDECIDED_KEYS = {"Fn::If", "Fn::Transform"}  # after the known conditions were applied


@dataclass(frozen=True, slots=True)
class RuleGroup:
    """Rules of cfn-lint that count alike, for one reason.

    Attributes:
        counts: `text`, `key`, `value`, `warning` or `hint`; see `lint_rules.toml`.
        reason: why, in one line.
        rules: the ids, each possibly with a part of the messages that are meant.
    """

    counts: str
    reason: str
    rules: tuple[str, ...]


@cache
def read_rule_groups() -> tuple[RuleGroup, ...]:
    """The table of all rules, in the order of the file."""
    content = tomllib.loads(Path(__file__).with_name("lint_rules.toml").read_text("utf-8"))
    return tuple(RuleGroup(each["counts"], each["reason"], tuple(each["rules"])) for each in content["group"])


@cache
def _rules_by_message() -> tuple[dict[str, str], tuple[tuple[str, str, str], ...]]:
    """What each rule counts as, and the exceptions: rule, part of the message, what it counts as."""
    rules: dict[str, str] = {}
    exceptions: list[tuple[str, str, str]] = []
    for group in read_rule_groups():
        for each in group.rules:
            rule, colon, part = each.partition(": ")
            if colon:
                exceptions.append((rule, part, group.counts))
            else:
                rules[rule] = group.counts
    return rules, tuple(exceptions)


def weight_of(rule: str, message: str) -> str:
    """What a finding counts as: `text`, `key`, `value`, `warning` or `hint`.

    Args:
        rule: the id of the rule.
        message: the message of cfn-lint.
    """
    rules, exceptions = _rules_by_message()
    weight = rules.get(rule, UNKNOWN_RULE)
    if weight in {"warning", "hint"}:
        return weight
    for other, part, counts in exceptions:
        if other in {rule, _EVERY_RULE} and part in message:
            return counts
    return weight


def is_rejected(weight: str, path: Sequence[str | int], template: Any) -> bool:
    """Whether CloudFormation certainly rejects the template because of a finding.

    Args:
        weight: what the finding counts as.
        path: keys and list positions from the top of the template.
        template: the template, in which the known conditions were applied.
    """
    if weight == "text":
        return True
    return weight in {"key", "value"} and _is_certain(path, template, with_value=weight == "value")


def _is_certain(path: Sequence[str | int], template: Any, *, with_value: bool) -> bool:
    """Whether AWS certainly uses the place at a path, and its value if that counts too.

    A place in a function's arguments is not certain, because cfn-lint only guesses the function's result.
    """
    if any(_is_function(step) for step in path):
        return False
    if path and path[0] in {"Resources", "Outputs"} and len(path) > 1:
        owner = _value_at(path[:2], template)
        # a loop generates what is not in the template
        if owner is _value_at(path[:1], template) or "Condition" in as_mapping(owner):
            return False
    if not with_value:
        return True
    value = _value_at(path, template)
    keys = list(value) if isinstance(value, dict) else []
    return not (len(keys) == 1 and _is_function(keys[0])) and not _has_undecided_part(value)


def _is_function(step: object) -> bool:
    return isinstance(step, str) and (step.startswith("Fn::") or step == "Ref")


def _value_at(path: Sequence[str | int], template: Any) -> Any:
    """The value at a path, or the innermost value that exists on the way."""
    value = template
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return value
    return value


def _has_undecided_part(value: Any) -> bool:
    return any(key in _UNDECIDED_KEYS for each in _mappings_within(value) for key in each)


def _mappings_within(value: Any) -> Iterator[dict[str, Any]]:
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            yield each
            left += each.values()
        elif isinstance(each, list):
            left += each


def has_macro(template: Any) -> bool:
    """Whether the template uses a macro, which may change anything before CloudFormation checks the result."""
    listed = as_mapping(template).get("Transform", [])
    names = [
        as_mapping(each).get("Name") if isinstance(each, dict) else each
        for each in (listed if isinstance(listed, list) else [listed])
    ]
    return any(name not in KNOWN_TRANSFORMS for name in names) or any(
        "Fn::Transform" in each for each in _mappings_within(template)
    )
