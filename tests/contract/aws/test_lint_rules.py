"""What a finding of each cfn-lint rule counts as: the table, and what decides whether a finding is certain."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from deployer.aws.lint_conditions import apply_conditions
from deployer.aws.lint_verdicts import has_macro, is_rejected, read_rule_groups, weight_of
from tools.lint_rules import page_of_rules

PAGE = Path(__file__).parents[3] / "docs" / "cfn-lint-rules.md"


def test_every_rule_of_the_installed_cfn_lint_is_in_the_table() -> None:
    from cfnlint.config import ConfigMixIn  # cfn-lint takes seconds to import
    from cfnlint.runner import Runner

    listed = Counter(rule for group in read_rule_groups() for rule in group.rules if ": " not in rule)
    assert [rule for rule, number in listed.items() if number > 1] == []
    assert sorted(set(Runner(ConfigMixIn([])).rules) - set(listed)) == [], "review these new rules"


def test_every_group_has_a_reason_and_a_known_weight() -> None:
    assert {group.counts for group in read_rule_groups()} == {"text", "key", "value", "warning", "hint"}
    assert [group for group in read_rule_groups() if not group.reason.endswith(".")] == []


def test_the_page_is_generated_from_the_table() -> None:
    assert PAGE.read_text() == page_of_rules()


@pytest.mark.parametrize(
    ("rule", "message", "weight"),
    [
        ("E3002", "Additional properties are not allowed ('X' was unexpected)", "key"),
        ("E1020", "'Nothing' is not one of ['A']", "text"),
        ("E1020", "{'Ref': 'Stage'} is not of type 'array'", "value"),
        ("E3703", "'Src' is not one of ['Out']", "value"),
        ("E3703", "Prefer using Fn::Sub over Fn::Join with an empty delimiter", "warning"),
        ("E3703", "'x' is not a 'AWS::IAM::Role.Arn' when 'Ref' is resolved", "warning"),
        ("E3005", "'A' is not one of ['B']", "text"),
        ("E3005", "'A' will not exist when condition 'P' is False", "warning"),
        ("E3006", "Resource type 'MyOrg::A::B' does not exist in 'us-east-1'", "warning"),
        ("W2001", "Parameter A not used.", "warning"),
        ("I1022", "Prefer using Fn::Sub over Fn::Join with an empty delimiter", "hint"),
        ("E9999", "a rule of a newer cfn-lint", "warning"),
    ],
)
def test_what_a_finding_counts_as(rule: str, message: str, weight: str) -> None:
    assert weight_of(rule, message) == weight


TEMPLATE: dict[str, Any] = {
    "Resources": {
        "Plain": {
            "Properties": {"A": 1, "B": {"Ref": "P"}, "C": [{"Fn::If": ["X", 1, 2]}], "D": {"E": "text"}}
        },
        "Perhaps": {"Condition": "X", "Properties": {"A": 1}},
        "Included": {"Properties": {"A": {"Fn::Transform": {"Name": "AWS::Include"}}}},
    },
    "Outputs": {"O": {"Condition": "X", "Value": 1}},
}


@pytest.mark.parametrize(
    ("path", "text", "key", "value"),
    [
        ("Resources Plain Properties A", True, True, True),
        ("Resources Plain Properties D E", True, True, True),
        ("Resources Plain Properties B", True, True, False),  # only AWS knows the value
        ("Resources Plain Properties B Ref", True, False, False),
        ("Resources Plain Properties C", True, True, False),  # nobody knows how many items it has
        ("Resources Plain Properties C 0 Fn::If 1", True, False, False),
        ("Resources Plain Properties", True, True, False),
        ("Resources Perhaps Properties A", True, False, False),
        ("Resources Included Properties", True, True, False),
        ("Resources FromALoop Properties A", True, False, False),
        ("Outputs O Value", True, False, False),
        ("Resources Plain Missing", True, True, False),
        ("Parameters", True, True, False),
        ("", True, True, False),
    ],
)
def test_a_finding_rejects_only_where_it_is_certain(path: str, text: bool, key: bool, value: bool) -> None:
    steps = [int(step) if step.isdecimal() else step for step in path.split()]
    told = [is_rejected(weight, steps, TEMPLATE) for weight in ("text", "key", "value", "warning", "hint")]
    assert told == [text, key, value, False, False]


@pytest.mark.parametrize(
    ("template", "macro"),
    [
        ({}, False),
        ({"Transform": "AWS::LanguageExtensions"}, False),
        ({"Transform": ["AWS::Serverless-2016-10-31", "Mine"]}, True),
        ({"Transform": {"Name": "AWS::Include", "Parameters": {}}}, True),
        ({"Resources": {"Fn::Transform": {"Name": "AWS::Include"}}}, True),
    ],
)
def test_a_macro_makes_every_finding_uncertain(template: dict[str, Any], macro: bool) -> None:
    assert has_macro(template) is macro


def _if(condition: str, yes: Any, no: Any) -> dict[str, Any]:
    return {"Fn::If": [condition, yes, no]}


NOTHING = {"Ref": "AWS::NoValue"}


@pytest.mark.parametrize(
    ("value", "applied"),
    [
        (_if("Yes", 1, 2), 1),
        (_if("No", 1, 2), 2),
        (_if("Unknown", 1, 2), _if("Unknown", 1, 2)),
        (_if("Unknown", _if("No", 1, 2), 3), _if("Unknown", 2, 3)),
        (_if("Yes", _if("No", 1, 2), 3), 2),
        ([1, _if("No", 2, NOTHING), 3], [1, 3]),
        ({"A": _if("Yes", NOTHING, 1), "B": 2}, {"B": 2}),
        ([NOTHING], [NOTHING]),
        ({"Fn::If": "Yes"}, {"Fn::If": "Yes"}),
    ],
)
def test_known_conditions_are_applied(value: Any, applied: Any) -> None:
    template = {"Resources": {"R": {"Properties": {"P": value, "Q": 0}}}}
    before = repr(template)
    changed = apply_conditions(template, {"Yes": True, "No": False})
    assert template["Resources"]["R"]["Properties"].get("P") == applied
    assert changed == (repr(template) != before)


def test_what_has_a_false_condition_is_not_there() -> None:
    parts = {name: {"Condition": name, "Value": 1} for name in ("Yes", "No", "Unknown")}
    template = {"Resources": dict(parts), "Outputs": {"No": dict(parts["No"])}, "Conditions": {"No": {}}}
    assert apply_conditions(template, {"Yes": True, "No": False})
    assert template == {
        "Resources": {"Yes": {"Value": 1}, "Unknown": parts["Unknown"]},
        "Outputs": {},
        "Conditions": {"No": {}},
    }
