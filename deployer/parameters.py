"""The values of a template's parameters: where a repository gives them, whether CloudFormation would take them."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import re2

from deployer.environments import Environment, Kind
from deployer.evaluation_budget import EvaluationBudget, TooComplexError
from deployer.findings import MOST_FINDINGS, Finding
from deployer.folder_files import FOLDER, pick
from deployer.resolving import SECRET_PARAMETER
from deployer.targets import Target
from deployer.template import Document, read, twice
from deployer.template_values import Path, mapping, plain

SOURCE_REMEDY = (
    "use ConnectionArn in the pipeline's source action; or deployer must be a GitHub App, or run with"
    " DEPLOYER_GIVE_TOKEN=yes, by which each branch gets its GitHub token"
)
VALUE_LIMIT = 4096  # bytes
_PATTERN_LIMIT = 1000  # characters
_PATTERN_OPTIONS = re2.Options()
_PATTERN_OPTIONS.log_errors = False
_PATTERN_OPTIONS.max_mem = 1 << 20  # bytes; a pattern that needs more is not judged
# CloudFormation answers in XML: https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class RepositoryParameters:
    """Parameters that the repository gives, where each of them stands, and what is wrong with them."""

    document: Document | None = None
    values: dict[str, str] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    readable: bool = True

    def place(self, name: str) -> tuple[str, int | None]:
        """File and line of a parameter's value."""
        file = self.document.file if self.document else FOLDER
        return file, self.document.nearest_line(*self.paths[name]) if self.document else None


def repository_parameters(
    files: Mapping[str, bytes], environment: Environment, budget: EvaluationBudget
) -> RepositoryParameters:
    name = pick(files, "pipeline.parameters")
    if name is None:
        return RepositoryParameters()
    document = read(name, files[name], budget)
    theirs = RepositoryParameters(document)

    def refuse(path: Path, text: str) -> None:
        if len(theirs.findings) < MOST_FINDINGS:
            line = document.nearest_line(*path)
            theirs.findings.append(Finding("error", document.file, line, text))

    for key, line in document.repeated[:MOST_FINDINGS]:
        theirs.findings.append(Finding("error", document.file, line, twice(key)))
    kinds = set(Kind)
    for key in document.fields:
        if key not in kinds:
            refuse((key,), f"{str(key)[:80]!r} is no kind of environment: {', '.join(Kind)}")
    for path, key, value in _entries(document, str(environment.kind), refuse):
        problem, text = _text(key, value)
        if problem or key in theirs.values:
            refuse(path, problem or f"{key[:100]} is given twice; keep one of them")
        theirs.values[key], theirs.paths[key] = text, path
    return theirs


def _entries(
    document: Document, kind: str, refuse: Callable[[Path, str], None]
) -> Iterator[tuple[Path, str, Any]]:
    """Path, name and value of each parameter of a kind of environment; either form of the file."""
    listed = document.fields.get(kind)
    if isinstance(listed, dict):
        yield from (((kind, key), str(key), value) for key, value in listed.items())
    elif isinstance(listed, list):
        for position, entry in enumerate(listed):
            if not isinstance(entry, dict) or not {"ParameterKey", "ParameterValue"} <= entry.keys():
                text = f"entry {position + 1} of {kind} lacks ParameterKey or ParameterValue"
                refuse((kind, position), text)
            else:
                path = (kind, position, "ParameterValue")
                yield path, str(entry["ParameterKey"]), entry["ParameterValue"]
    elif listed is not None:
        refuse((kind,), f"{kind} is neither a list nor a mapping")


def _text(key: str, value: Any) -> tuple[str, str]:
    """What is wrong with a value, or else its text."""
    if isinstance(value, list) and all(isinstance(item, (str, int)) for item in value):
        text = ",".join(str(item) for item in value)
    elif isinstance(value, (str, int, float)):
        text = plain(value) or ""
    else:
        return f"the value of {key} is neither text, number nor list", ""
    if isinstance(value, float) and not math.isfinite(value):
        return f"the value of {key} is no finite number; put it in quotes", ""
    if found := _NOT_XML.search(text):
        shown = f"U+{ord(found.group()):04X}"
        return f"the value of {key} has the control character {shown}, which AWS's answers cannot hold", ""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # JSON can spell half of a surrogate pair, which no UTF-8 holds
        return f"the value of {key} is not valid Unicode", ""
    if size > VALUE_LIMIT:
        return f"the value of {key} is longer than {VALUE_LIMIT:,} bytes, which CloudFormation refuses", ""
    return "", text


def parameter_findings(
    template: Document,
    values: Mapping[str, str],
    ours: Mapping[str, str],
    theirs: RepositoryParameters,
    budget: EvaluationBudget,
    *,
    gives_token: bool,
) -> Iterator[Finding]:
    """What is declared and not given, given and not declared, and what CloudFormation would not take."""
    declared = mapping(template.fields.get("Parameters"))
    for name, rules in declared.items():
        here = (template.file, template.line_of("Parameters", name))
        known = mapping(rules)
        value = values.get(name, plain(known.get("Default")))
        if name == SECRET_PARAMETER:
            if str(known.get("NoEcho")).lower() != "true":
                yield Finding("error", *here, f"parameter {name} must say NoEcho: true")
            elif not gives_token:
                yield Finding("error", *here, f"parameter {name} is not given here: {SOURCE_REMEDY}")
        elif value is None and theirs.readable:
            text = f"parameter {name} has no default and no value in {FOLDER}/pipeline.parameters.json"
            yield Finding("error", *here, text)
        elif value is not None and (problem := _problem(name, known, value, budget)):
            # what a branch may choose is told where it stands; all else where it is declared
            where = theirs.place(name) if name in theirs.paths and name not in ours else here
            yield Finding("error", *where, f"{name} {problem}")
    for name in theirs.values:
        if name not in declared and name not in ours:
            text = f"{name[:100]} is given here, and {template.file} does not declare it"
            yield Finding("error", *theirs.place(name), text)


def _problem(name: str, rules: Mapping[str, Any], value: str, budget: EvaluationBudget) -> str:
    try:
        return value_problem(rules, value, budget)
    except TooComplexError as error:
        error.path = ("Parameters", name)
        raise


def pseudo_parameters(stack_name: str, target: Target | None, region: str) -> dict[str, str]:
    """Those that AWS gives, as far as they are known."""
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
    """Why CloudFormation would refuse a value of a parameter; empty if it would not.

    Args:
        rules: the parameter as its template declares it.
        value: what it is given.
        budget: what the work is taken from; by default one of its own.

    Raises:
        TooComplexError: the budget has not enough left.
    """
    budget = budget or EvaluationBudget()
    kind = str(rules.get("Type", "String"))
    if kind.startswith("AWS::SSM::Parameter::"):
        return ""  # it is but the name of the value
    if len(value.encode(errors="replace")) > VALUE_LIMIT:
        return f"is longer than {VALUE_LIMIT:,} bytes"
    listed = kind.startswith("List<") or kind == "CommaDelimitedList"
    items = [each.strip() for each in value.split(",")] if listed else [value]
    if kind in {"Number", "List<Number>"} and (wrong := [each for each in items if _number(each) is None]):
        return f"is {_shown(wrong[0])}, which is no number"
    allowed = rules.get("AllowedValues")
    if isinstance(allowed, list):
        budget.spend(len(items) * len(allowed) + len(allowed))
        wrong = [each for each in items if not any(_same(one, each) for one in allowed)]
        if wrong:
            return f"is {_shown(wrong[0])}, which is none of {_listed(allowed)}"
    if kind == "Number":
        return _out_of_range(_number(value) or 0, rules, "MinValue", "MaxValue", f"is {_shown(value)}")
    if kind == "String":
        length = f"is {_shown(value)} of {len(value)} characters"
        return _out_of_range(len(value), rules, "MinLength", "MaxLength", length) or _unlike(
            rules, value, budget
        )
    return ""


def _out_of_range(number: float, rules: Mapping[str, Any], low: str, high: str, told: str) -> str:
    least, most = _number(plain(rules.get(low))), _number(plain(rules.get(high)))
    if least is not None and number < least:
        return f"{told}; {low} is {least:g}"
    if most is not None and number > most:
        return f"{told}; {high} is {most:g}"
    return ""


def _unlike(rules: Mapping[str, Any], value: str, budget: EvaluationBudget) -> str:
    """Whether a value matches a pattern, by RE2, whose time is linear in pattern and value.

    A pattern that RE2 does not take (lookahead, what only Java knows, one that is too large) is not judged here, on any
    machine; CloudFormation judges it.
    """
    pattern = plain(rules.get("AllowedPattern"))
    if (
        not pattern or len(pattern) > _PATTERN_LIMIT or "&&" in pattern
    ):  # `&&` intersects classes in Java only
        return ""
    budget.spend(10 * len(pattern), len(value))
    try:
        compiled = re2.compile(pattern, _PATTERN_OPTIONS)
        budget.spend(compiled.programsize * (100 + len(value)) // 100)
        if compiled.fullmatch(value):
            return ""
    except (re2.error, UnicodeError):
        return ""
    told = plain(rules.get("ConstraintDescription"))
    return f"is {_shown(value)}, which does not match {pattern}" + (f": {told}" if told else "")


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None


def _same(allowed: Any, value: str) -> bool:
    if isinstance(
        allowed, bool
    ):  # YAML has many words for it, and only CloudFormation knows which was written
        return value.lower() in ({"true", "yes", "on"} if allowed else {"false", "no", "off"})
    text = plain(allowed)
    return text == value or (not isinstance(allowed, str) and _number(text) == _number(value) is not None)


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:57]}...")


def _listed(allowed: Sequence[Any]) -> str:
    words = [plain(each) or "?" for each in allowed]
    return ", ".join(words[:8]) + (f" and {len(words) - 8} more" if len(words) > 8 else "")
