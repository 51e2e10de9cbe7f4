"""The check of a `deploy/` folder, which contains all code that a branch's own text can influence.

The product runs these functions through the port `FolderEvaluator` in a process with limits
(`deployer.templates.isolation.process`). Values that identify an environment are added afterwards, outside that process
(`deployer.templates.release`).
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from deployer.model.environments import Environment, Kind
from deployer.model.errors import one_line
from deployer.model.refs import Ref
from deployer.model.source_actions import SourceLocation
from deployer.model.targets import Target
from deployer.templates.document import Document, read_document
from deployer.templates.evaluation.budget import EvaluationBudget, TooComplexError
from deployer.templates.evaluation.evaluator import SECRET_PARAMETER, TemplateEvaluator
from deployer.templates.evaluation.values import as_mapping, path_of_object
from deployer.templates.findings import Finding, limit_each_level
from deployer.templates.folder_files import FOLDER, UnreadableError, file_with_stem
from deployer.templates.parameters import (
    RepositoryParameters,
    known_pseudo_parameters,
    parameter_findings,
    read_repository_parameters,
)
from deployer.templates.permissions import permission_findings
from deployer.templates.pipeline.rules import pipeline_findings
from deployer.templates.repository_config import TEARDOWN_TAG, RepositoryConfig, read_repository_config
from deployer.templates.stack_tags import stack_tag_findings
from deployer.templates.validate import structure_findings, template_findings

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FolderQuestion:
    """The input for the check of a `deploy/` folder.

    Attributes:
        environment: the environment to which the stack belongs.
        ref: the branch or tag that is deployed.
        branch: the branch in the pipeline's source: the branch of the ref, or the default branch for a tag.
        sha: the commit.
        files: name to content of the recognized files in `deploy/` at that commit.
        given: the parameters that the installation supplies to every template: `ArtifactStore`, `ConnectionArn`.
        target: the target of the environment, without its `external_id`; None to skip the check of permissions.
        region: the region of the stack; empty if it is unknown.
        stack_name: the name of the stack and of the pipeline; empty for the name of a new stack.
        repository_config: the settings in `deploy/deployer.yml`, if they were parsed already; None to parse them.
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
    repository_config: RepositoryConfig | None = None

    def __post_init__(self) -> None:
        """Remove the secret, because the question goes to the process that reads a branch's files."""
        if self.target and self.target.external_id:
            object.__setattr__(self, "target", replace(self.target, external_id=""))

    @property
    def effective_stack_name(self) -> str:
        """The name of the stack and of the pipeline, also for a new stack."""
        return self.stack_name or self.environment.stack_name

    def supplied_parameters(self, repository_config: RepositoryConfig) -> dict[str, str]:
        """The parameters that deployer supplies. No repository can change them, so no branch can pose as production."""
        environment = self.environment
        # The stacks that the pipeline deploys get the same teardown policy, even if the pipeline's own stack is lost.
        teardown = (
            {TEARDOWN_TAG: repository_config.custom_teardown_text}
            if repository_config.custom_teardown_text
            else {}
        )
        return {
            **self.given,
            "RepoOwner": environment.repository.owner,
            "RepoName": environment.repository.name,
            "RepoBranch": self.branch,
            "Stage": str(environment.kind),
            "PipelineName": self.effective_stack_name,
            "CommitId": self.sha,
            "RefName": self.ref.name,
            "StackConfiguration": json.dumps(
                {"Tags": {**environment.tags, **teardown}}, separators=(",", ":"), sort_keys=True
            ),
        }


@dataclass(frozen=True, slots=True)
class FolderAnswer:
    """The result of the check of a `deploy/` folder.

    Attributes:
        findings: all findings, errors first.
        repository_config: the repository's settings.
        template: name of the template in `deploy/`; empty if there is none.
        lintable: whether the template is valid enough for a linter.
        parameters: each declared parameter that has a value, except the secret one.
        needs_token: whether the template declares the secret parameter.
        conditions: name to value of each condition of the template that is known before the deployment.
        repository_parameters: names of those whose value comes from the repository.
        branch_patterns: the branch patterns that choose values of parameters.
    """

    findings: tuple[Finding, ...]
    repository_config: RepositoryConfig = field(default_factory=RepositoryConfig)
    template: str = ""
    lintable: bool = False
    parameters: dict[str, str] = field(default_factory=dict)
    needs_token: bool = False
    conditions: dict[str, bool] = field(default_factory=dict)
    repository_parameters: tuple[str, ...] = ()
    branch_patterns: tuple[str, ...] = ()


class EvaluationFaultError(RuntimeError):
    """A bug of deployer occurred while a folder was evaluated. The text contains the traceback from that process."""


class FolderEvaluator(Protocol):
    """Evaluates the files of a branch. Every method may raise `EvaluationFaultError`."""

    def examine_folder(self, question: FolderQuestion) -> FolderAnswer:
        """See `examine_folder`.

        Raises:
            TransientError: the machine has no capacity for the evaluation now.
        """
        ...

    def read_repository_config(self, files: Mapping[str, bytes]) -> RepositoryConfig:
        """See `read_repository_config`.

        Raises:
            UnreadableError: the file is malformed or too complex.
            TransientError: the machine has no capacity for the evaluation now.
        """
        ...

    def line_of_resource(self, files: Mapping[str, bytes], resource: str) -> tuple[str, int] | None:
        """See `line_of_resource`.

        Raises:
            UnreadableError: the template cannot be read or is too complex.
            TransientError: the machine has no capacity for the evaluation now.
        """
        ...


def examine_folder(question: FolderQuestion, budget: EvaluationBudget | None = None) -> FolderAnswer:
    """Check the files of one commit. The check never exceeds the budget, whatever the files contain.

    Args:
        question: the files and their environment.
        budget: the budget of the whole check; by default a new one.
    """
    budget = budget or EvaluationBudget()
    files, environment, target = question.files, question.environment, question.target
    findings: list[Finding] = []

    def build_answer(**more: object) -> FolderAnswer:
        findings.sort(key=lambda each: each.level != "error")
        # a text may quote a value of a megabyte
        shortened = tuple(replace(each, text=one_line(each.text)) for each in findings)
        return FolderAnswer(shortened, repository_config, name, **more)  # type: ignore[arg-type]

    repository_config, name = RepositoryConfig(), ""
    template = _read_or_report(findings, lambda: _read_template(files, budget))
    if budget.exhausted:  # otherwise every other file would be reported as too complex too
        return build_answer()
    repository_config = (
        question.repository_config
        or _read_or_report(findings, lambda: read_repository_config(files, budget))
        or RepositoryConfig()
    )
    if target and environment.kind is Kind.DEVELOPMENT:
        _read_or_report(findings, lambda: repository_config.allowed_regions(target.regions))
    from_repository = _read_or_report(
        findings, lambda: read_repository_parameters(files, environment, budget)
    ) or RepositoryParameters(readable=False)
    findings += from_repository.findings
    if template is None or budget.exhausted:
        return build_answer()
    name = template.file.removeprefix(f"{FOLDER}/")
    findings += structure_findings(template)
    # a file that is not a template cannot be checked further
    if any(each.file == template.file for each in findings):
        return build_answer()
    supplied = question.supplied_parameters(repository_config)
    declared = as_mapping(template.fields.get("Parameters"))
    values = _parameter_values(declared, supplied, from_repository)
    conditions: dict[str, bool] = {}
    try:
        evaluator = _create_evaluator(question, template, values, budget)
        findings += _content_findings(question, template, values, supplied, from_repository, evaluator)
        conditions = evaluator.conditions.known_truths()
    except TooComplexError as error:
        findings.append(_complexity_finding(template, error))
    return build_answer(
        lintable=True,
        parameters=values,
        needs_token=SECRET_PARAMETER in declared,
        conditions=conditions,
        repository_parameters=_names_from_repository(values, supplied, from_repository),
        branch_patterns=from_repository.branch_patterns,
    )


def _create_evaluator(
    question: FolderQuestion, template: Document, values: Mapping[str, str], budget: EvaluationBudget
) -> TemplateEvaluator:
    """The evaluator of the template with the values of its parameters.

    Raises:
        TooComplexError: the budget is not sufficient.
    """
    pseudo = known_pseudo_parameters(question.effective_stack_name, question.target, question.region)
    return TemplateEvaluator(template.fields, values, pseudo, budget)


def _parameter_values(
    declared: Mapping[str, Any], supplied: Mapping[str, str], from_repository: RepositoryParameters
) -> dict[str, str]:
    """The value of each declared parameter that has one, except the secret; deployer's values take precedence."""
    available = {**from_repository.values, **supplied}
    return {each: available[each] for each in declared if each in available and each != SECRET_PARAMETER}


def _names_from_repository(
    values: Mapping[str, str], supplied: Mapping[str, str], from_repository: RepositoryParameters
) -> tuple[str, ...]:
    """The names of the parameters whose value comes from the repository."""
    return tuple(str(each) for each in values if each in from_repository.values and each not in supplied)


def _content_findings(
    question: FolderQuestion,
    template: Document,
    values: Mapping[str, str],
    supplied: Mapping[str, str],
    from_repository: RepositoryParameters,
    evaluator: TemplateEvaluator,
) -> Iterator[Finding]:
    """Errors and warnings in a template whose structure is valid, for the values of its parameters.

    Raises:
        TooComplexError: the budget is not sufficient.
    """
    kind, stack_name, target = question.environment.kind, question.effective_stack_name, question.target
    gives_token = not target or target.gives_token
    yield from limit_each_level(
        parameter_findings(
            template, values, supplied, from_repository, evaluator.budget, gives_token=gives_token
        )
    )
    yield from limit_each_level(template_findings(template, kind, stack_name, values, evaluator))
    location = SourceLocation(question.environment.repository, question.branch)
    yield from limit_each_level(pipeline_findings(template, evaluator, stack_name, location))
    if target:
        yield from limit_each_level(stack_tag_findings(template, kind, stack_name, evaluator, target))
        origins = {each: from_repository.location_of(each) for each in values if each not in supplied}
        yield from limit_each_level(
            permission_findings(
                template, kind, stack_name, values, origins, evaluator, target, question.given
            )
        )


def line_of_resource(files: Mapping[str, bytes], resource: str) -> tuple[str, int] | None:
    """File and line where a template declares a resource; None if it declares no such resource.

    Args:
        files: name to content of the recognized files in `deploy/`.
        resource: the logical ID of the resource.

    Raises:
        UnreadableError: the template cannot be read.
    """
    name = file_with_stem(files, "pipeline")
    if name is None:
        return None
    template = read_document(name, files[name])
    line = template.line_of("Resources", resource)
    return (template.file, line) if line else None


def _read_template(files: Mapping[str, bytes], budget: EvaluationBudget) -> Document:
    name = file_with_stem(files, "pipeline")
    if name is None:
        raise UnreadableError(
            f"{FOLDER}/pipeline.yml", None, "it is missing; create it (.yaml and .json work too)"
        )
    return read_document(name, files[name], budget)


def _read_or_report(findings: list[Finding], look: Callable[[], _T]) -> _T | None:
    """Return the result of a read. If the file is unreadable, add its errors to the findings and return None."""
    try:
        return look()
    except UnreadableError as error:
        every = (error, *error.others)
        findings += [Finding("error", each.file, each.line, each.text) for each in every]
    return None


def _complexity_finding(template: Document, error: TooComplexError) -> Finding:
    """The error finding with the line and the path of the expression that is too complex."""
    paths = (path_of_object(each, template.fields) for each in error.expressions)
    path = next(filter(None, paths), error.path)
    where = ".".join(str(step) for step in path)
    return Finding(
        "error",
        template.file,
        template.nearest_line(*path),
        f"{where[:200]}: {error.text}" if where else error.text,
    )
