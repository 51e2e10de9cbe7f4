"""Write the page about cfn-lint's rules: python -m tools.lint_rules > docs/cfn-lint-rules.md."""

import sys

from deployer.aws.lint_verdicts import RuleGroup, read_rule_groups

_HEAD = """\
# Which findings of cfn-lint reject a push

deployer lets cfn-lint check each template before AWS gets it. cfn-lint also reports style, and values that only AWS can
judge. Only what CloudFormation or the service certainly rejects may reject a push; everything else is a warning of
`deployer validate`.

Before values are judged, the conditions are applied that the environment's parameters decide. So a stage behind a
condition counts in the environments that have the stage. Four rules apply to every finding:

- A place that AWS uses only if an unknown condition is true is not certain: its finding is a warning.
- A value that a function computes is not certain, unless cfn-lint reports the function itself.
- A template that uses a macro of somebody else can become anything: every finding is a warning.
- A rule that is not on this page is a warning. A test fails until the rules of a new cfn-lint are reviewed.

To leave a rule out for a template, write `Metadata: {cfn-lint: {config: {ignore_checks: [E3002]}}}`.

This page is generated from `deployer/aws/lint_rules.toml` by `python -m tools.lint_rules`.
"""
_SECTIONS = {
    "text": "Errors: CloudFormation checks the text, also in a branch of a condition that it does not use",
    "key": "Errors, if AWS certainly uses the place",
    "value": "Errors, if AWS certainly uses the value and it is written out",
    "warning": "Warnings",
    "hint": "Not shown",
}


def page_of_rules() -> str:
    """The page in Markdown."""
    parts = [_HEAD]
    for counts, title in _SECTIONS.items():
        rows = [_row_of_group(each) for each in read_rule_groups() if each.counts == counts]
        parts.append("\n".join([f"## {title}", "", "| rules | reason |", "|---|---|", *rows, ""]))
    return "\n".join(parts)


def _row_of_group(group: RuleGroup) -> str:
    rules = []
    for each in group.rules:
        rule, colon, part = each.partition(": ")
        owner = "any rule" if rule == "*" else rule
        rules.append(f"{owner}, if the message has `{part}`" if colon else rule)
    return f"| {', '.join(rules)} | {group.reason} |"


if __name__ == "__main__":
    sys.stdout.write(page_of_rules())
