"""The values of a template's parameters."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import re2

from deployer.model.environments import Environment, Kind
from deployer.model.targets import Target
from deployer.templates.branch_patterns import PATTERNS_LIMIT, pattern_problem, patterns_by_precedence
from deployer.templates.document import Document, duplicate_key_text, read_document
from deployer.templates.evaluation.budget import EvaluationBudget, TooComplexError
from deployer.templates.evaluation.evaluator import SECRET_PARAMETER
from deployer.templates.evaluation.values import KeyPath, as_mapping, as_text
from deployer.templates.findings import MOST_FINDINGS, Finding
from deployer.templates.folder_files import FOLDER, file_with_stem

SOURCE_REMEDY = (
    "use ConnectionArn in the pipeline's source action; or run deployer as a GitHub App, or with"
    " DEPLOYER_GIVE_TOKEN=yes, which gives its GitHub token to every branch"
)
VALUE_LIMIT = 4096  # bytes
_BRANCHES = "branches"
_PATTERN_LIMIT = 1000  # characters
_PATTERN_OPTIONS = re2.Options()
_PATTERN_OPTIONS.log_errors = False
_PATTERN_OPTIONS.max_mem = 1 << 20  # bytes; a pattern that needs more memory is not checked
# CloudFormation answers in XML: https://www.w3.org/TR/xml/#charsets
_NOT_ALLOWED_IN_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class RepositoryParameters:
    """Parameter values from a repository for one environment, their locations, and the errors in them.

    Attributes:
        document: the file; None if there is none.
        values: name to value of each parameter.
        paths: where in the file each value is.
        findings: the errors in the file.
        readable: whether the file could be read.
        branch_patterns: the patterns under `branches`, which choose values for development environments.
    """

    document: Document | None = None
    values: dict[str, str] = field(default_factory=dict)
    paths: dict[str, KeyPath] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    readable: bool = True
    branch_patterns: tuple[str, ...] = ()

    def location_of(self, name: str) -> tuple[str, int | None]:
        """File and line of a parameter's value."""
        file = self.document.file if self.document else FOLDER
        return file, self.document.nearest_line(*self.paths[name]) if self.document else None


def read_repository_parameters(
    files: Mapping[str, bytes], environment: Environment, budget: EvaluationBudget
) -> RepositoryParameters:
    """Read the parameter values for one environment from `deploy/pipeline.parameters.json` (or .yml, .yaml).

    The values are those of the environment's kind. For a development environment, a value under `branches` counts more
    if its pattern matches the branch (`patterns_by_precedence`).

    Args:
        files: name to content of the recognized files in `deploy/`.
        environment: the environment whose kind and branch select the values.
        budget: the work is spent from this budget.

    Raises:
        UnreadableError: the file cannot be read or is too complex.
    """
    name = file_with_stem(files, "pipeline.parameters")
    if name is None:
        return RepositoryParameters()
    document = read_document(name, files[name], budget)
    findings: list[Finding] = []

    def add_error(path: KeyPath, text: str) -> None:
        if len(findings) < MOST_FINDINGS:
            findings.append(Finding("error", document.file, document.nearest_line(*path), text))

    for key, line in document.repeated[:MOST_FINDINGS]:
        findings.append(Finding("error", document.file, line, duplicate_key_text(key)))
    allowed = (*Kind, _BRANCHES)
    for key in document.fields:
        if key not in allowed:
            text = f"{str(key)[:80]!r} is not a kind of environment; use {', '.join(allowed[:-1])} or {allowed[-1]}"
            add_error((key,), text)
    patterns = _read_branch_patterns(document, add_error)
    found = RepositoryParameters(document, findings=findings, branch_patterns=patterns)
    sections: list[KeyPath] = [(str(environment.kind),)]
    if environment.branch:
        matching = patterns_by_precedence(patterns, environment.branch.short)
        sections += [(_BRANCHES, pattern) for pattern in reversed(matching)]
    for section in sections:
        seen: set[str] = set()
        for path, key, value in _parameter_entries(document, section, add_error):
            problem, text = _value_text(key, value)
            if problem or key in seen:
                add_error(path, problem or f"{key[:100]} is given twice; keep one of them")
            seen.add(key)
            found.values[key], found.paths[key] = text, path
    return found


def _read_branch_patterns(document: Document, add_error: Callable[[KeyPath, str], None]) -> tuple[str, ...]:
    """The patterns under `branches` that can match a branch."""
    given = document.fields.get(_BRANCHES)
    if not isinstance(given, dict):
        if given is not None:
            add_error(
                (_BRANCHES,), f"{_BRANCHES} is not a mapping, such as {{feature/*: {{Greeting: Hello}}}}"
            )
        return ()
    if len(given) > PATTERNS_LIMIT:
        add_error((_BRANCHES,), f"{_BRANCHES} has more than {PATTERNS_LIMIT} patterns")
        return ()
    patterns = []
    for pattern in given:
        if problem := pattern_problem(pattern):
            add_error((_BRANCHES, pattern), problem)
        else:
            patterns.append(pattern)
    return tuple(patterns)


def _parameter_entries(
    document: Document, section: KeyPath, add_error: Callable[[KeyPath, str], None]
) -> Iterator[tuple[KeyPath, str, Any]]:
    """Path, name and value of each parameter in one section of the file, from either form of the section."""
    listed: Any = document.fields
    for step in section:
        listed = listed.get(step)
    name = section[-1]
    if isinstance(listed, dict):
        yield from (((*section, key), str(key), value) for key, value in listed.items())
    elif isinstance(listed, list):
        for position, entry in enumerate(listed):
            if not isinstance(entry, dict) or not {"ParameterKey", "ParameterValue"} <= entry.keys():
                text = f"entry {position + 1} of {name} lacks ParameterKey or ParameterValue"
                add_error((*section, position), text)
            else:
                path = (*section, position, "ParameterValue")
                yield path, str(entry["ParameterKey"]), entry["ParameterValue"]
    elif listed is not None:
        add_error(section, f"{name} is neither a list nor a mapping")


def _value_text(key: str, value: Any) -> tuple[str, str]:
    """Return a problem with a value and an empty text, or no problem and the value's text."""
    if isinstance(value, list) and all(isinstance(item, (str, int)) for item in value):
        text = ",".join(str(item) for item in value)
    elif isinstance(value, (str, int, float)):
        text = as_text(value) or ""
    else:
        return f"the value of {key} is neither text, number nor list", ""
    if isinstance(value, float) and not math.isfinite(value):
        return f"the value of {key} is not a finite number; put it in quotes", ""
    if found := _NOT_ALLOWED_IN_XML.search(text):
        shown = f"U+{ord(found.group()):04X}"
        return (
            f"the value of {key} has the control character {shown}, which CloudFormation cannot return; remove it",
            "",
        )
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # JSON can express half of a surrogate pair, which UTF-8 cannot
        return f"the value of {key} is not valid Unicode", ""
    if size > VALUE_LIMIT:
        return f"the value of {key} is longer than {VALUE_LIMIT:,} bytes, which CloudFormation refuses", ""
    return "", text


def parameter_findings(
    template: Document,
    values: Mapping[str, str],
    supplied: Mapping[str, str],
    from_repository: RepositoryParameters,
    budget: EvaluationBudget,
    *,
    gives_token: bool,
) -> Iterator[Finding]:
    """Parameters with a declaration but no value, or a value but no declaration; values that are not allowed."""
    declared = as_mapping(template.fields.get("Parameters"))
    for name, rules in declared.items():
        here = (template.file, template.line_of("Parameters", name))
        known = as_mapping(rules)
        value = values.get(name, as_text(known.get("Default")))
        if name == SECRET_PARAMETER:
            if str(known.get("NoEcho")).lower() != "true":
                yield Finding("error", *here, f"parameter {name} must have NoEcho: true")
            elif not gives_token:
                yield Finding(
                    "error", *here, f"parameter {name} has no value in this installation: {SOURCE_REMEDY}"
                )
        elif value is None and from_repository.readable:
            text = f"parameter {name} has no default and no value in {FOLDER}/pipeline.parameters.json"
            yield Finding("error", *here, text)
        elif value is not None and (problem := _declared_value_problem(name, known, value, budget)):
            # a value from the repository is reported at its own line, any other at the parameter's declaration
            where = (
                from_repository.location_of(name)
                if name in from_repository.paths and name not in supplied
                else here
            )
            yield Finding("error", *where, f"{name} {problem}")
    for name in from_repository.values:
        if name not in declared and name not in supplied:
            text = f"{name[:100]} has a value here, but {template.file} does not declare it"
            yield Finding("error", *from_repository.location_of(name), text)


def _declared_value_problem(name: str, rules: Mapping[str, Any], value: str, budget: EvaluationBudget) -> str:
    try:
        return value_problem(rules, value, budget)
    except TooComplexError as error:
        error.path = ("Parameters", name)
        raise


def known_pseudo_parameters(stack_name: str, target: Target | None, region: str) -> dict[str, str]:
    """The known values of AWS's pseudo parameters."""
    account = target.account if target else ""
    if target and not region and len(target.regions) == 1:
        region = target.regions[0]
    partition = {"cn": "aws-cn", "us-gov": "aws-us-gov"}.get(
        region.rpartition("-")[0].rpartition("-")[0], "aws"
    )
    known = {
        "AWS::AccountId": account,
        "AWS::Region": region,
        "AWS::Partition": partition if region else "",
        "AWS::StackName": stack_name,
    }
    return {name: value for name, value in known.items() if value}


def value_problem(rules: Mapping[str, Any], value: str, budget: EvaluationBudget | None = None) -> str:
    """Why CloudFormation would reject a parameter's value; empty if it would accept the value.

    Args:
        rules: the parameter's declaration in the template.
        value: the value.
        budget: the work is spent from this budget; by default a new one.

    Raises:
        TooComplexError: the budget is not sufficient.
    """
    budget = budget or EvaluationBudget()
    kind = str(rules.get("Type", "String"))
    if kind.startswith("AWS::SSM::Parameter::"):
        return ""  # the text is only the name of the value in AWS's parameter store
    if len(value.encode(errors="replace")) > VALUE_LIMIT:
        return f"is longer than {VALUE_LIMIT:,} bytes"
    listed = kind.startswith("List<") or kind == "CommaDelimitedList"
    items = [each.strip() for each in value.split(",")] if listed else [value]
    problem = _items_problem(kind, items, rules.get("AllowedValues"), budget)
    if problem:
        return problem
    if kind == "Number":
        return _range_problem(
            _as_number(value) or 0, rules, "MinValue", "MaxValue", f"is {_quoted_briefly(value)}"
        )
    if kind == "String":
        length = f"is {_quoted_briefly(value)} of {len(value)} characters"
        return _range_problem(len(value), rules, "MinLength", "MaxLength", length) or _pattern_problem(
            rules, value, budget
        )
    return ""


def _items_problem(kind: str, items: Sequence[str], allowed: Any, budget: EvaluationBudget) -> str:
    """Why an item of a parameter's value is not a number or not an allowed value; empty if every item is accepted."""
    for item in items if kind in {"Number", "List<Number>"} else ():
        if _as_number(item) is None:
            return f"is {_quoted_briefly(item)}, which is not a number"
    if not isinstance(allowed, list):
        return ""
    budget.spend(len(items) * len(allowed) + len(allowed))
    for item in items:
        if not any(_equals_allowed_value(each, item) for each in allowed):
            return f"is {_quoted_briefly(item)}, which is not one of {_allowed_values_text(allowed)}"
    return ""


def _range_problem(number: float, rules: Mapping[str, Any], low: str, high: str, description: str) -> str:
    least, most = _as_number(as_text(rules.get(low))), _as_number(as_text(rules.get(high)))
    if least is not None and number < least:
        return f"{description}; {low} is {least:g}"
    if most is not None and number > most:
        return f"{description}; {high} is {most:g}"
    return ""


def _pattern_problem(rules: Mapping[str, Any], value: str, budget: EvaluationBudget) -> str:
    """Why a value does not match its pattern; empty if it matches. RE2 needs time linear in the pattern and the value.

    A pattern that RE2 does not support (a lookahead, syntax that only Java has, a pattern that is too large) is not
    checked here, on any machine; CloudFormation checks it.
    """
    pattern = as_text(rules.get("AllowedPattern"))
    if (
        not pattern or len(pattern) > _PATTERN_LIMIT or "&&" in pattern
    ):  # only in Java does `&&` intersect character classes
        return ""
    budget.spend(10 * len(pattern), len(value))
    try:
        compiled = re2.compile(pattern, _PATTERN_OPTIONS)
        budget.spend(compiled.programsize * (100 + len(value)) // 100)
        if compiled.fullmatch(value):
            return ""
    except (re2.error, UnicodeError):
        return ""
    description = as_text(rules.get("ConstraintDescription"))
    return f"is {_quoted_briefly(value)}, which does not match {pattern}" + (
        f": {description}" if description else ""
    )


def _as_number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _equals_allowed_value(allowed: Any, value: str) -> bool:
    if isinstance(
        allowed, bool
    ):  # YAML has many words for a boolean, and only CloudFormation sees which one was written
        return value.lower() in ({"true", "yes", "on"} if allowed else {"false", "no", "off"})
    text = as_text(allowed)
    return text == value or (
        not isinstance(allowed, str) and _as_number(text) == _as_number(value) is not None
    )


def _quoted_briefly(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:57]}...")


def _allowed_values_text(allowed: Sequence[Any]) -> str:
    words = [as_text(each) or "?" for each in allowed]
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")
