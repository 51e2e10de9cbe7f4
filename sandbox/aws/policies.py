"""An evaluator of IAM policies, of the features that `infra/` uses; an unknown feature is an error.

The rules: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html, those of
conditions: .../reference_policies_elements_condition_operators.html and
.../reference_policies_condition-single-vs-multi-valued-context-keys.html.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

Document = Mapping[str, Any]
Context = Mapping[str, str | Sequence[str]]

_STATEMENT = {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition", "Principal"}
_WITHOUT_TYPES = {"codepipeline", "s3", "sns", "sqs"}  # their ARNs end in a name alone


class UnknownError(Exception):
    """The policy says something that this evaluator does not understand."""


@dataclass(frozen=True)
class Request:
    """A request: an action on a resource with condition keys, which are compared without case."""

    action: str
    resource: str = "*"
    context: Context = field(default_factory=dict)


@dataclass(frozen=True)
class Principal:
    """A role: what its policies allow, within its boundary if it has one."""

    identity: Sequence[Document]
    boundary: Document | None = None

    def may(self, request: Request) -> bool:
        """Whether the request is allowed: by a policy, by the boundary too, and denied by neither."""
        if not _decide(self.identity, request):
            return False
        return self.boundary is None or _decide([self.boundary], request)


def trusts(trust: Document, request: Request, principal: Mapping[str, str]) -> bool:
    """Whether a role's trust policy lets a principal, such as `{"AWS": arn}`, assume it."""
    wanted = next(iter(principal.items()))
    chosen = []
    for statement in _statements(trust):
        given = statement.get("Principal")
        if not isinstance(given, dict):
            raise UnknownError(f"Principal {given!r}")
        if any(wanted == (kind, each) for kind, value in given.items() for each in listed(value)):
            # a trust policy has no Resource: it is the role itself
            chosen.append({**statement, "Resource": "*"})
    return _decide([{"Version": "2012-10-17", "Statement": chosen}], request)


def denied_by(document: Document, request: Request) -> bool:
    """Whether a resource's own policy denies the request to everybody."""
    statements = [s for s in _statements(document) if s["Effect"] == "Deny" and s["Principal"] == "*"]
    return any(_applies(statement, request) for statement in statements)


def _decide(documents: Sequence[Document], request: Request) -> bool:
    effects = {s["Effect"] for d in documents for s in _statements(d) if _applies(s, request)}
    return effects == {"Allow"}


def _statements(document: Document) -> list[dict[str, Any]]:
    if document.get("Version") != "2012-10-17" or set(document) - {"Version", "Statement"}:
        raise UnknownError(f"a policy of version {document.get('Version')!r} with {sorted(document)}")
    statements: list[dict[str, Any]] = listed(document["Statement"])
    for statement in statements:
        if set(statement) - _STATEMENT or statement.get("Effect") not in {"Allow", "Deny"}:
            raise UnknownError(f"a statement with {sorted(statement)}, effect {statement.get('Effect')!r}")
        if ("Action" in statement) == ("NotAction" in statement):
            raise UnknownError("a statement needs either Action or NotAction")
    return statements


def _applies(statement: Mapping[str, Any], request: Request) -> bool:
    return (
        _matches(statement, "Action", request.action)
        and _matches(statement, "Resource", request.resource)
        and all(
            _holds(operator, key.lower(), listed(values), request)
            for operator, keys in statement.get("Condition", {}).items()
            for key, values in keys.items()
        )
    )


def _matches(statement: Mapping[str, Any], element: str, value: str) -> bool:
    negated = f"Not{element}" in statement
    if not negated and element not in statement:
        raise UnknownError(f"a statement without {element}")
    patterns = listed(statement[f"Not{element}" if negated else element])
    if element == "Resource":
        return any(_covers(pattern, value) for pattern in patterns) != negated
    return any(like(pattern, value, ignore_case=True) for pattern in patterns) != negated


def _covers(pattern: str, resource: str) -> bool:
    """Whether a Resource means the resource. AWS takes no pattern for the type of a resource."""
    if pattern == "*":
        return True
    service, resource_type = pattern.split(":", 5)[2::3]
    if service not in _WITHOUT_TYPES and re.match(r"[^/:]*[*?][^/:]*[/:]", resource_type):
        raise UnknownError(f"a pattern for the resource's type: {pattern}")
    return _arn_like(pattern, resource)


def _holds(operator: str, key: str, wanted: Sequence[str], request: Request) -> bool:
    present = {name.lower(): value for name, value in request.context.items()}
    if operator == "Null":
        return any((key not in present) == _truth(each) for each in wanted)
    quantifier, _, name = operator.rpartition(":")
    if_exists = name.endswith("IfExists")
    test, negated = _OPERATORS.get(name.removesuffix("IfExists"), (None, False))
    if test is None or quantifier not in {"", "ForAnyValue", "ForAllValues"}:
        raise UnknownError(f"the condition operator {operator}")
    if key not in present:
        # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html:
        # a key that is not there fulfils ...IfExists, a negated operator, and ForAllValues
        return if_exists or (negated and quantifier != "ForAnyValue") or quantifier == "ForAllValues"
    values = listed(present[key])
    if not quantifier and len(values) != 1:
        raise UnknownError(f"{key} has {len(values)} values, {operator} is for one")
    results = [any(test(pattern, value) for pattern in wanted) != negated for value in values]
    return any(results) if quantifier == "ForAnyValue" else all(results)


def like(pattern: str, value: str, *, ignore_case: bool = False) -> bool:
    """Whether a text is as the pattern says: `*` for any text, `?` for one character."""
    if "${" in pattern:
        raise UnknownError(f"the policy variable in {pattern}")
    return _expression(pattern, ignore_case=ignore_case).fullmatch(value) is not None


@cache
def _expression(pattern: str, *, ignore_case: bool) -> re.Pattern[str]:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(expression, re.DOTALL | (re.IGNORECASE if ignore_case else 0))


def _arn_like(pattern: str, value: str) -> bool:
    """Each of an ARN's six parts by itself: a `*` does not reach over a colon."""
    parts, given = pattern.split(":", 5), value.split(":", 5)
    return len(parts) == len(given) == 6 and all(like(p, v) for p, v in zip(parts, given, strict=True))


def _same_truth(pattern: str, value: str) -> bool:
    return _truth(pattern) == _truth(value)


def _truth(text: str) -> bool:
    if text.lower() not in {"true", "false"}:
        raise UnknownError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _equal(pattern: str, value: str) -> bool:
    if "${" in pattern:
        raise UnknownError(f"the policy variable in {pattern}")
    return pattern == value


def _equal_ignoring_case(pattern: str, value: str) -> bool:
    return _equal(pattern.lower(), value.lower())


_OPERATORS: dict[str, tuple[Callable[[str, str], bool], bool]] = {
    "StringEquals": (_equal, False),
    "StringNotEquals": (_equal, True),
    "StringEqualsIgnoreCase": (_equal_ignoring_case, False),
    "StringNotEqualsIgnoreCase": (_equal_ignoring_case, True),
    "StringLike": (like, False),
    "StringNotLike": (like, True),
    "ArnEquals": (_arn_like, False),
    "ArnLike": (_arn_like, False),
    "ArnNotEquals": (_arn_like, True),
    "ArnNotLike": (_arn_like, True),
    "Bool": (_same_truth, False),
}


def listed(value: Any) -> list[Any]:
    """The values of an element, which may be one or several."""
    return list(value) if isinstance(value, list | tuple) else [value]
