"""What evaluates the files of a `deploy/` folder: everything that a branch's own text can steer.

The product runs these functions in a process with limits (`deployer.adapters.folder_process`), through the port
`FolderEvaluator`. What identifies an environment is added afterwards, outside that process (`deployer.release`).
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from deployer.environments import Environment, Kind
from deployer.errors import one_line
from deployer.evaluation_budget import EvaluationBudget, TooComplexError
from deployer.folder_files import FOLDER, UnreadableError, pick
from deployer.preferences import TEARDOWN_TAG, Preferences, read_preferences
from deployer.refs import Ref
from deployer.resolving import SECRET_PARAMETER, Path, Resolver, mapping, path_to, plain
from deployer.rights import rights_findings
from deployer.targets import Target
from deployer.template import Document, read, twice
from deployer.validation import (
    SOURCE_REMEDY,
    VALUE_LIMIT,
    Finding,
    structure,
    template_findings,
    value_problem,
)

_T = TypeVar("_T")
# CloudFormation answers in XML: https://www.w3.org/TR/xml/#charsets
_NOT_XML = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_MOST_FINDINGS = 100  # errors, and as many warnings: nobody reads more


@dataclass(frozen=True, slots=True)
class FolderQuestion:
    """What is asked of a `deploy/` folder.

    Attributes:
        environment: whose stack it is.
        ref: the branch or tag that is deployed.
        branch: the branch that the pipeline's source names: the ref's own, or the default one for a tag.
        sha: the commit.
        files: name to content of the usable files in `deploy/` at that commit.
        given: what the installation gives to every template: `ArtifactStore`, `ConnectionArn`.
        target: where the environment is to live, without its `external_id`; None if rights are not to be looked at.
        region: where the stack is to be; empty if that is not known.
        stack_name: the name of the stack and pipeline; empty for that of a new stack.
    """

    environment: Environment
    ref: Ref
    branch: str
    sha: str
    files: Mapping[str, bytes]
    given: Mapping[str, str]
    target: Target | None = None
    region: str = ""
    stack_name: str = ""

    def __post_init__(self) -> None:
        """Leave out what is secret: the question goes to the process that reads a branch's files."""
        if self.target and self.target.external_id:
            object.__setattr__(self, "target", replace(self.target, external_id=""))

    @property
    def name(self) -> str:
        """The name of the stack and pipeline."""
        return self.stack_name or self.environment.stack_name

    def supplied(self, preferences: Preferences) -> dict[str, str]:
        """The parameters that deployer gives, whatever the repository says: a branch must not pose as production."""
        environment = self.environment
        # what the pipeline deploys is to be taken down likewise, though the pipeline's own stack be lost
        teardown = {TEARDOWN_TAG: preferences.own_teardown} if preferences.own_teardown else {}
        return {
            **self.given,
            "RepoOwner": environment.repository.owner,
            "RepoName": environment.repository.name,
            "RepoBranch": self.branch,
            "Stage": str(environment.kind),
            "PipelineName": self.name,
            "CommitId": self.sha,
            "RefName": self.ref.name,
            "StackConfiguration": json.dumps(
                {"Tags": {**environment.tags, **teardown}}, separators=(",", ":"), sort_keys=True
            ),
        }


@dataclass(frozen=True, slots=True)
class FolderAnswer:
    """What was found in a `deploy/` folder.

    Attributes:
        findings: everything there is to be said, errors first.
        preferences: what the repository decides of its environments.
        template: name of the template in `deploy/`; empty if there is none.
        sound: whether the template can be looked at further, by a linter.
        parameters: each declared parameter that has a value, without the secret one.
        needs_token: whether the template declares the secret one.
    """

    findings: tuple[Finding, ...]
    preferences: Preferences = field(default_factory=Preferences)
    template: str = ""
    sound: bool = False
    parameters: dict[str, str] = field(default_factory=dict)
    needs_token: bool = False


class EvaluationFaultError(RuntimeError):
    """A fault of deployer's own was met while a folder was evaluated. It holds the traceback from that process."""


class FolderEvaluator(Protocol):
    """Evaluates the files of a branch. Every method may raise EvaluationFaultError."""

    def examine(self, question: FolderQuestion) -> FolderAnswer:
        """See `examine`.

        Raises:
            TransientError: the machine could not do it now.
        """
        ...

    def preferences(self, files: Mapping[str, bytes]) -> Preferences:
        """See `read_preferences`.

        Raises:
            UnreadableError: they are malformed, or too complex to be read.
            TransientError: the machine could not do it now.
        """
        ...

    def resource_line(self, files: Mapping[str, bytes], resource: str) -> tuple[str, int] | None:
        """See `resource_line`.

        Raises:
            UnreadableError: the template cannot be read, or is too complex to be read.
            TransientError: the machine could not do it now.
        """
        ...


def examine(question: FolderQuestion, budget: EvaluationBudget | None = None) -> FolderAnswer:
    """Look at the files of one commit. Whatever they hold, this takes no more than the budget.

    Args:
        question: the files, and what they are for.
        budget: of all of it; by default a new one.
    """
    budget = budget or EvaluationBudget()
    files, environment, target = question.files, question.environment, question.target
    findings: list[Finding] = []

    def answer(**more: object) -> FolderAnswer:
        findings.sort(key=lambda each: each.level != "error")
        # a text may quote what is a megabyte long
        told = tuple(replace(each, text=one_line(each.text)) for each in findings)
        return FolderAnswer(told, preferences, name, **more)  # type: ignore[arg-type]

    preferences, name = Preferences(), ""
    template = _reading(findings, lambda: _template(files, budget))
    if budget.exhausted:  # whatever else there is would be said to be too complex, too
        return answer()
    preferences = _reading(findings, lambda: read_preferences(files, budget)) or Preferences()
    if target and environment.kind is Kind.DEVELOPMENT:
        _reading(findings, lambda: preferences.narrowed(target.regions))
    theirs = _reading(findings, lambda: _their_parameters(files, environment, budget)) or _Theirs(
        readable=False
    )
    findings += theirs.findings
    if template is None or budget.exhausted:
        return answer()
    name = template.file.removeprefix(f"{FOLDER}/")
    findings += structure(template)
    if any(each.file == template.file for each in findings):  # what is no template has nothing to look at
        return answer()
    ours = question.supplied(preferences)
    declared = mapping(template.fields.get("Parameters"))
    values = {
        each: ours[each] if each in ours else theirs.values[each]
        for each in declared
        if each != SECRET_PARAMETER and (each in ours or each in theirs.values)
    }
    try:
        pseudo = _pseudo_parameters(question.name, target, question.region)
        resolver = Resolver(template.fields, values, pseudo, budget)
        found = [
            _parameter_findings(
                template, values, ours, theirs, budget, gives_token=not target or target.gives_token
            ),
            template_findings(template, environment.kind, question.name, values, resolver),
        ]
        if target:
            places = {each: theirs.place(each) for each in values if each not in ours}
            found.append(
                rights_findings(
                    template,
                    environment.kind,
                    question.name,
                    values,
                    places,
                    resolver,
                    target,
                    question.given,
                )
            )
        for each in found:
            findings += _first_of_each_level(each)
    except TooComplexError as error:
        findings.append(_too_complex(template, error))
    return answer(sound=True, parameters=values, needs_token=SECRET_PARAMETER in declared)


def resource_line(files: Mapping[str, bytes], resource: str) -> tuple[str, int] | None:
    """File and line where a template declares a resource; None if there is no such.

    Args:
        files: name to content of the usable files in `deploy/`.
        resource: its logical id.

    Raises:
        UnreadableError: the template cannot be read.
    """
    name = pick(files, "pipeline")
    if name is None:
        return None
    template = read(name, files[name])
    line = template.line_of("Resources", resource)
    return (template.file, line) if line else None


def _template(files: Mapping[str, bytes], budget: EvaluationBudget) -> Document:
    name = pick(files, "pipeline")
    if name is None:
        raise UnreadableError(f"{FOLDER}/pipeline.yml", None, "it is missing (.yaml or .json would do)")
    return read(name, files[name], budget)


def _reading(findings: list[Finding], look: Callable[[], _T]) -> _T | None:
    """What is read, or None and a finding why it cannot be."""
    try:
        return look()
    except UnreadableError as error:
        every = (error, *error.others)
        findings += [Finding("error", each.file, each.line, each.text) for each in every]
    return None


def _too_complex(template: Document, error: TooComplexError) -> Finding:
    """The finding that names the expression, by its line and its path."""
    paths = (path_to(each, template.fields) for each in error.expressions)
    path = next(filter(None, paths), error.path)
    where = ".".join(str(step) for step in path)
    return Finding(
        "error",
        template.file,
        template.nearest_line(*path),
        f"{where[:200]}: {error.text}" if where else error.text,
    )


@dataclass(frozen=True, slots=True)
class _Theirs:
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


def _first_of_each_level(found: Iterator[Finding]) -> Iterator[Finding]:
    """The first findings of each level. Only errors end the search: warnings must not hide an error after them."""
    seen = Counter[str]()
    for each in found:
        seen[each.level] += 1
        if seen[each.level] <= _MOST_FINDINGS:
            yield each
        if seen["error"] == _MOST_FINDINGS:
            return


def _their_parameters(
    files: Mapping[str, bytes], environment: Environment, budget: EvaluationBudget
) -> _Theirs:
    name = pick(files, "pipeline.parameters")
    if name is None:
        return _Theirs()
    document = read(name, files[name], budget)
    theirs = _Theirs(document)

    def refuse(path: Path, text: str) -> None:
        if len(theirs.findings) < _MOST_FINDINGS:
            line = document.nearest_line(*path)
            theirs.findings.append(Finding("error", document.file, line, text))

    for key, line in document.repeated[:_MOST_FINDINGS]:
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


def _parameter_findings(
    template: Document,
    values: Mapping[str, str],
    ours: Mapping[str, str],
    theirs: _Theirs,
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


def _pseudo_parameters(stack_name: str, target: Target | None, region: str) -> dict[str, str]:
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
