"""What evaluates the files of a `deploy/` folder: everything that a branch's own text can steer.

The product runs these functions in a process with limits (`deployer.adapters.folder_process`), through the port
`FolderEvaluator`. What identifies an environment is added afterwards, outside that process (`deployer.release`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from deployer.environments import Environment, Kind
from deployer.errors import one_line
from deployer.evaluation_budget import EvaluationBudget, TooComplexError
from deployer.findings import Finding, first_of_each_level
from deployer.folder_files import FOLDER, UnreadableError, pick
from deployer.parameters import (
    RepositoryParameters,
    parameter_findings,
    pseudo_parameters,
    repository_parameters,
)
from deployer.preferences import TEARDOWN_TAG, Preferences, read_preferences
from deployer.refs import Ref
from deployer.resolving import SECRET_PARAMETER, Resolver
from deployer.rights import rights_findings
from deployer.targets import Target
from deployer.template import Document, read
from deployer.template_values import mapping, path_to
from deployer.validation import structure, template_findings

_T = TypeVar("_T")


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
    theirs = _reading(
        findings, lambda: repository_parameters(files, environment, budget)
    ) or RepositoryParameters(readable=False)
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
        pseudo = pseudo_parameters(question.name, target, question.region)
        resolver = Resolver(template.fields, values, pseudo, budget)
        found = [
            parameter_findings(
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
            findings += first_of_each_level(each)
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
