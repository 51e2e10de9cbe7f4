"""The program that lets cfn-lint check one template, with limits of time and memory.

It reads a request from standard input and prints the findings as JSON, or the reason why cfn-lint failed. cfn-lint
ignores the template's metadata, except the list of checks to leave out.
"""

import json
import resource
import sys
from copy import deepcopy
from typing import Any

from deployer.aws.lint_conditions import apply_conditions
from deployer.aws.lint_verdicts import has_macro, is_rejected, weight_of

_MAX_MEMORY = 2_000_000_000  # bytes of address space
_MAX_FINDINGS = 100  # findings of one template
_ALLOWED_CONFIG = {"ignore_checks"}  # the keys of a template's metadata that cfn-lint may read


def main() -> None:
    """Check the template on standard input."""
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY, _MAX_MEMORY))
    request = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_seconds"], request["cpu_seconds"] + 1))
    try:
        answer: Any = _find_problems(request)
    except Exception as error:  # noqa: BLE001  any exception here is a bug in cfn-lint
        answer = f"{type(error).__name__} {error}"[:300]
    print(json.dumps(answer))


def _find_problems(request: dict[str, Any]) -> list[dict[str, Any]]:
    template, matches = _read_template(request["template"])
    if matches:
        return _select_problems(matches, template)
    runner = _create_runner(request["regions"])
    matches = list(runner.validate_template(template))
    applied, _ = _read_template(request["template"])
    changed = apply_conditions(applied, request["conditions"])
    # A second run costs time, and cannot find a wrong value if there is none for any combination of conditions.
    if changed and any(map(_concerns_values, matches)):
        matches = [each for each in matches if not _concerns_values(each)]
        # cfn-lint changes the template, because it applies transforms.
        again = runner.validate_template(deepcopy(applied))
        matches += [each for each in again if _concerns_values(each)]
    return _select_problems(matches, applied)


def _read_template(text: str) -> tuple[Any, list[Any]]:
    """The template without settings of cfn-lint that it may not have, or the reasons why it cannot be read."""
    # Not imported at the top: cfn-lint is large, and errors of its import must be reported too.
    from cfnlint.decode.decode import decode_str  # noqa: PLC0415

    template, unreadable = decode_str(text)
    if not unreadable:
        _drop_template_config(template)
    return template, unreadable


def _create_runner(regions: list[str]) -> Any:
    """What runs every rule, except hints. It can be used for several templates; its creation takes most of the time."""
    from cfnlint.config import ConfigMixIn  # noqa: PLC0415
    from cfnlint.runner import Runner  # noqa: PLC0415

    runner = Runner(ConfigMixIn([], **({"regions": regions} if regions else {})))
    # Some rules report what others found as their own findings, so a hint must not even run.
    kept = {rule: each for rule, each in runner.rules.items() if weight_of(rule, "") != "hint"}
    runner.rules = type(runner.rules)(kept)
    return runner


def _concerns_values(match: Any) -> bool:
    return weight_of(match.rule.id, match.message) in {"key", "value"}


def _select_problems(matches: list[Any], template: Any) -> list[dict[str, Any]]:
    """Return what is rejected first, then by line; only the first rule that reports a place counts."""
    changeable = has_macro(template)
    problems = []
    for match in matches:
        weight = weight_of(match.rule.id, match.message)
        path = list(getattr(match, "path", None) or [])
        problem = {
            "rejected": not changeable and is_rejected(weight, path, template),
            "line": match.linenumber,
            "rule": match.rule.id,
            "message": match.message,
            "path": path,
        }
        if weight != "hint":
            problems.append(problem)
    problems.sort(key=lambda each: (not each["rejected"], each["line"], each["rule"], each["message"]))
    rules: dict[str, str] = {}
    return [
        each
        for each in problems
        if rules.setdefault(str(each["path"] or (each["line"], each["message"])), each["rule"])
        == each["rule"]
    ][:_MAX_FINDINGS]


def _drop_template_config(template: Any) -> None:
    """Remove cfn-lint's settings from a template, except the checks to leave out: they may name files to read."""
    metadata = template.get("Metadata") if isinstance(template, dict) else None
    cfn_lint = metadata.get("cfn-lint") if isinstance(metadata, dict) else None
    config = cfn_lint.get("config") if isinstance(cfn_lint, dict) else None
    if isinstance(config, dict):
        for key in set(config) - _ALLOWED_CONFIG:
            del config[key]


if __name__ == "__main__":
    main()
