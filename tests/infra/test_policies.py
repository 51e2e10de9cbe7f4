"""Tests of the policy evaluator, with AWS's documented examples and rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from sandbox.aws.policies import Principal, Request, UnknownError, like, trusts


def policy(*statements: Mapping[str, Any]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": list(statements)}


def allow(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def deny(action: Any, resource: Any = "*", **more: Any) -> dict[str, Any]:
    return {**allow(action, resource, **more), "Effect": "Deny"}


def may(document: Mapping[str, Any], action: str, resource: str = "*", **context: Any) -> bool:
    return Principal([document]).may(Request(action, resource, context))


def holds(operator: str, wanted: Any, given: Any = None) -> bool:
    """Whether a condition on the key `k` holds; None for a request that has no such key."""
    document = policy(allow("*", Condition={operator: {"k": wanted}}))
    return may(document, "a:B", **({} if given is None else {"k": given}))


def test_nothing_is_allowed_that_no_policy_allows_and_a_denial_wins() -> None:
    assert not may(policy(allow("s3:GetObject")), "s3:PutObject")
    assert may(policy(allow("s3:*")), "s3:PutObject")
    assert not may(policy(allow("s3:*"), deny("s3:PutObject")), "s3:PutObject")
    assert Principal([policy(allow("a:B")), policy(allow("c:D"))]).may(Request("c:D"))


def test_a_boundary_grants_nothing_and_limits_everything() -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html: ShirleyRodriguez may be given
    # S3, CloudWatch and EC2 at most; her policy gives iam:CreateUser, so she has no right at all
    boundary = policy(allow(["s3:*", "cloudwatch:*", "ec2:*"]))
    shirley = Principal([policy(allow("iam:CreateUser"))], boundary)
    assert not shirley.may(Request("iam:CreateUser"))
    assert not shirley.may(Request("s3:ListBucket"))
    assert Principal([policy(allow(["s3:*", "iam:*"]))], boundary).may(Request("s3:ListBucket"))
    assert not Principal([policy(allow("*"))], policy(allow("*"), deny("s3:*"))).may(Request("s3:ListBucket"))


def test_actions_are_compared_without_case_and_resources_with() -> None:
    assert may(policy(allow("IAM:createrole")), "iam:CreateRole")
    assert may(policy(allow("iam:*AccessKey*")), "iam:UpdateAccessKey")
    assert not may(policy(allow("*", "arn:aws:s3:::Bucket")), "s3:GetObject", "arn:aws:s3:::bucket")
    assert may(policy(allow("*", "arn:aws:s3:::b/*/test/?")), "s3:GetObject", "arn:aws:s3:::b/1/2/test/x")


def test_not_action_and_not_resource_mean_all_others() -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_notaction.html
    document = policy({"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"})
    assert may(document, "s3:GetObject")
    assert not may(document, "iam:CreateUser")
    # .../reference_policies_elements_notresource.html
    hr = ["arn:aws:s3:::HRBucket/Payroll", "arn:aws:s3:::HRBucket/Payroll/*"]
    document = policy(allow("s3:*"), {"Effect": "Deny", "Action": "s3:*", "NotResource": hr})
    assert may(document, "s3:GetObject", "arn:aws:s3:::HRBucket/Payroll/1")
    assert not may(document, "s3:GetObject", "arn:aws:s3:::HRBucket/Other")


@pytest.mark.parametrize(
    ("operator", "wanted", "given", "held"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", "a", "A", False),
        ("StringEquals", ["a", "b"], "b", True),  # the values of one key: any
        ("StringEquals", "a*", "ab", False),  # no patterns
        ("StringEquals", "a", None, False),
        ("StringNotEquals", ["a", "b"], "b", False),  # the values of a negated one: none
        ("StringNotEquals", "a", "b", True),
        ("StringNotEquals", "a", None, True),  # a key that is not there does not equal
        ("StringEqualsIgnoreCase", "a", "A", True),
        ("StringNotEqualsIgnoreCase", "a", "A", False),
        ("StringLike", "a*", "ab", True),
        ("StringLike", "a?", "abc", False),
        ("StringNotLike", "a*", "ab", False),
        ("StringNotLike", "a*", None, True),
        ("StringEqualsIfExists", "a", None, True),
        ("StringEqualsIfExists", "a", "b", False),
        ("StringNotEqualsIfExists", "a", "a", False),
        ("ArnLike", "arn:aws:iam::1:role/a/*", "arn:aws:iam::1:role/a/b/c", True),
        (
            "ArnLike",
            "arn:aws:iam:*:role/a",
            "arn:aws:iam::1:role/a",
            False,
        ),  # a * does not reach over a colon
        ("ArnEquals", "arn:aws:iam::*:role/a", "arn:aws:iam::1:role/a", True),  # the same as ArnLike
        ("ArnNotLike", "arn:aws:iam::1:role/*", "arn:aws:iam::2:role/a", True),
        ("Bool", "false", "false", True),
        ("Bool", "false", "true", False),
        ("Bool", "true", None, False),
        ("BoolIfExists", "true", None, True),
        ("Null", "true", None, True),
        ("Null", "true", "a", False),
        ("Null", "false", "a", True),
        ("Null", "false", None, False),
        ("ForAnyValue:StringEquals", ["a", "b"], ["b", "c"], True),
        ("ForAnyValue:StringEquals", ["a", "b"], ["c"], False),
        ("ForAnyValue:StringEquals", ["a"], None, False),
        ("ForAllValues:StringEquals", ["a", "b"], ["b", "a"], True),
        ("ForAllValues:StringEquals", ["a", "b"], ["b", "c"], False),
        ("ForAllValues:StringEquals", ["a"], None, True),  # AWS warns of this one
    ],
)
def test_a_condition(operator: str, wanted: Any, given: Any, *, held: bool) -> None:
    assert holds(operator, wanted, given) == held


def test_all_conditions_of_a_statement_must_hold_and_keys_have_no_case() -> None:
    document = policy(
        allow("*", Condition={"StringEquals": {"aws:A": "1", "aws:B": "2"}, "Null": {"c": "true"}})
    )
    request = {"AWS:a": "1", "aws:b": "2"}
    assert Principal([document]).may(Request("a:B", "*", request))
    assert not Principal([document]).may(Request("a:B", "*", {**request, "aws:b": "3"}))
    assert not Principal([document]).may(Request("a:B", "*", {**request, "c": "x"}))


def test_an_external_id_prevents_a_confused_deputy() -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html
    trust = policy(
        {
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::111122223333:role/ExampleCorp"},
            "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": "12345"}},
        }
    )
    corp = {"AWS": "arn:aws:iam::111122223333:role/ExampleCorp"}
    assert trusts(trust, Request("sts:AssumeRole", context={"sts:ExternalId": "12345"}), corp)
    assert not trusts(trust, Request("sts:AssumeRole", context={"sts:ExternalId": "1"}), corp)
    assert not trusts(trust, Request("sts:AssumeRole"), corp)
    other = {"AWS": "arn:aws:iam::111122223333:role/Other"}
    assert not trusts(trust, Request("sts:AssumeRole", context={"sts:ExternalId": "12345"}), other)


@pytest.mark.parametrize(
    "statement",
    [
        allow("*", Condition={"DateGreaterThan": {"aws:CurrentTime": "2026-01-01T00:00:00Z"}}),
        allow("*", Condition={"ForSomeValues:StringEquals": {"k": "a"}}),
        allow("*", Condition={"StringLike": {"k": "${aws:username}"}}),
        allow("*", Condition={"Null": {"k": "perhaps"}}),
        allow("*", "arn:aws:s3:::${aws:username}"),
        allow("*", "arn:aws:iam::1:*/own/*"),
        {"Effect": "allow", "Action": "*", "Resource": "*"},
        {"Effect": "Allow", "Action": "*"},
        {"Effect": "Allow", "Resource": "*"},
        {"Effect": "Allow", "Action": "*", "Resource": "*", "NotPrincipal": "*"},
    ],
)
def test_what_the_evaluator_does_not_know_is_an_error(statement: Mapping[str, Any]) -> None:
    with pytest.raises(UnknownError):
        may(policy(statement), "a:B", "arn:aws:s3:::bucket", k="a")
    with pytest.raises(UnknownError):
        may({"Version": "2008-10-17", "Statement": [allow("*")]}, "a:B")


def test_a_pattern() -> None:
    assert like("a*c", "a\nc")
    assert not like("a.c", "abc")
