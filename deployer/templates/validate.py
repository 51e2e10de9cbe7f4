"""Checks of a template that need no call to AWS.

What only AWS knows is not judged. The limits come from
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deployer.model.environments import Kind
from deployer.templates.document import Document, duplicate_key_text
from deployer.templates.evaluation.budget import EvaluationBudget
from deployer.templates.evaluation.evaluator import TemplateEvaluator
from deployer.templates.evaluation.resource_names import NAME_PROPERTIES
from deployer.templates.evaluation.text_sets import UNKNOWN
from deployer.templates.evaluation.values import KeyPath, as_mapping
from deployer.templates.findings import Finding

PIPELINE_TYPE = "AWS::CodePipeline::Pipeline"
GIT_PROVIDERS = ("CodeStarSourceConnection", "GitHub", "CodeCommit")
_SECTION_LIMITS = {"Parameters": 200, "Resources": 500, "Outputs": 200, "Mappings": 200}
_BRANCH_MARK = "\ufff9"  # replaces every value that differs between branches
_STACK_SPECIFIC = ("PipelineName", "AWS::StackName", "AWS::StackId")  # different for every environment
_BRANCH_SPECIFIC = (*_STACK_SPECIFIC, "RepoBranch", "RefName", "StackConfiguration")
# Their names are unique in an account or in all of AWS, so the stack of a second branch could never be created.
_UNIQUE_IN_ACCOUNT = {
    "AWS::IAM::Role",
    "AWS::IAM::User",
    "AWS::IAM::ManagedPolicy",
    "AWS::S3::Bucket",
    PIPELINE_TYPE,
}


def structure_findings(document: Document) -> list[Finding]:
    """Errors in the structure of a template that prevent any further check."""
    found = [
        Finding("error", document.file, line, duplicate_key_text(key))
        for key, line in document.repeated[:100]
    ]
    for section in ("Resources", "Parameters", "Conditions", "Mappings", "Outputs"):
        value = document.fields.get(section)
        if value is not None and not isinstance(value, dict):
            line = document.line_of(section)
            found.append(Finding("error", document.file, line, f"{section} is not a mapping"))
        elif isinstance(value, dict) and len(value) > _SECTION_LIMITS.get(section, len(value)):
            text = f"{len(value)} {section}; CloudFormation accepts at most {_SECTION_LIMITS[section]}"
            found.append(Finding("error", document.file, document.line_of(section), text))
    resources = document.fields.get("Resources")
    if resources is None or (
        isinstance(resources, dict) and not any(map(_is_pipeline, _resources_with_loops(resources)))
    ):
        line = document.line_of("Resources") or 1
        text = f"no resource of type {PIPELINE_TYPE}: each environment needs its pipeline"
        found.append(Finding("error", document.file, line, text))
    return found


def _resources_with_loops(resources: Any) -> Iterator[Any]:
    for name, resource in resources.items():
        yield resource
        if name.startswith("Fn::ForEach::") and isinstance(resource, list):
            for part in resource:
                yield from as_mapping(part).values()


def _is_pipeline(resource: Any) -> bool:
    return isinstance(resource, dict) and resource.get("Type") == PIPELINE_TYPE


def template_findings(
    document: Document, kind: Kind, stack_name: str, values: Mapping[str, str], evaluator: TemplateEvaluator
) -> Iterator[Finding]:
    """Errors in the pipeline and in the resource names of a template whose structure is valid.

    Args:
        document: the template.
        kind: the kind of the environment.
        stack_name: the name of the stack and of the pipeline.
        values: the value of each parameter.
        evaluator: evaluates this template with these values.

    Raises:
        TooComplexError: a value has too many possible texts, or the evaluator's budget is not sufficient.
    """
    misnamed = list(_pipeline_name_findings(document, stack_name, evaluator))
    yield from misnamed
    yield from _source_findings(document, stack_name, evaluator)
    yield from _duplicate_name_findings(document, evaluator)

    def evaluator_with_mark(own: Sequence[str]) -> TemplateEvaluator:
        """An evaluator in which these parameters have the value `_BRANCH_MARK`, so that it shows in each text."""
        known = {name: _BRANCH_MARK if name in own else value for name, value in values.items()}
        pseudo = {name: _BRANCH_MARK for name in own if name.startswith("AWS::")}
        return TemplateEvaluator(document.fields, known, pseudo, evaluator.budget)

    if kind is Kind.DEVELOPMENT:
        for shared, finding in _shared_name_findings(document, evaluator_with_mark(_BRANCH_SPECIFIC)):
            if not (misnamed and shared == PIPELINE_TYPE):  # its name was already reported
                yield finding
        yield from _shared_stack_findings(document, evaluator_with_mark(_STACK_SPECIFIC))


def _pipeline_name_findings(
    document: Document, stack_name: str, evaluator: TemplateEvaluator
) -> Iterator[Finding]:
    """A pipeline that deployer could not find by its name."""
    pipelines = [(path, each) for path, each in evaluator.possible_resources() if _is_pipeline(each)]
    names = [(path, evaluator.resource_names(each)) for path, each in pipelines]
    ours = [path for path, texts in names if stack_name in texts]
    if pipelines and not ours and not any(UNKNOWN in text for _, texts in names for text in texts):
        path, texts = names[0]
        shown = f"{texts[0]!r}" if texts else "chosen by AWS"
        yield Finding(
            "error",
            document.file,
            document.nearest_line(*path, "Properties", "Name"),
            f"the pipeline's Name is {shown}; it must be !Ref PipelineName (or !Ref AWS::StackName), because"
            " deployer finds the pipeline by that name",
        )


def _source_findings(document: Document, stack_name: str, evaluator: TemplateEvaluator) -> Iterator[Finding]:
    """A pipeline that deployer could not start with a commit, because it has no git source."""
    pipelines = [(path, each) for path, each in evaluator.possible_resources() if _is_pipeline(each)]
    ours = [each for each in pipelines if stack_name in evaluator.resource_names(each[1])]
    for path, resource in ours or pipelines:  # deployer does not start other pipelines
        actions = _unconditional_actions(resource)
        if actions is not None and not _may_read_git(actions, evaluator):
            yield Finding(
                "error",
                document.file,
                document.nearest_line(*path, "Properties", "Stages", 0, "Actions"),
                "the pipeline's first stage has no source action that reads a git repository; add one with"
                " Provider CodeStarSourceConnection",
            )


def _unconditional_actions(pipeline: dict[str, Any]) -> list[Any] | None:
    """The actions of a pipeline's first stage; None if they are no list or if one depends on a condition."""
    stages = as_mapping(pipeline.get("Properties")).get("Stages")
    first = stages[0] if isinstance(stages, list) and stages else None
    actions = as_mapping(first).get("Actions")
    if not isinstance(actions, list) or any("Fn::If" in as_mapping(each) for each in actions):
        return None
    return actions


def _may_read_git(actions: list[Any], evaluator: TemplateEvaluator) -> bool:
    """Whether an action's provider is a git repository, or may be one that only AWS knows."""
    kinds = [as_mapping(as_mapping(each).get("ActionTypeId")) for each in actions]
    providers = [text for kind in kinds for text in evaluator.possible_texts(kind.get("Provider"))]
    return any(text in GIT_PROVIDERS or UNKNOWN in text for text in providers)


def _duplicate_name_findings(document: Document, evaluator: TemplateEvaluator) -> Iterator[Finding]:
    """Two resources with the same type and name in one template."""
    seen: dict[tuple[str, str], str] = {}
    for path, resource in evaluator.possible_resources():
        kind = str(resource.get("Type"))
        texts = evaluator.resource_names(resource)
        perhaps = "Condition" in resource and evaluator.conditions.truth_of(resource["Condition"]) is None
        if perhaps or len(texts) != 1 or UNKNOWN in texts[0]:
            continue
        other = seen.setdefault((kind, texts[0]), str(path[-1]))
        if other != str(path[-1]):
            line = document.nearest_line(*path, "Properties", NAME_PROPERTIES[kind])
            text = f"{path[-1]} has the name {texts[0]!r}, which {other} already has; give one of them another name"
            yield Finding("error", document.file, line, text)


def _shared_name_findings(document: Document, evaluator: TemplateEvaluator) -> Iterator[tuple[str, Finding]]:
    """Resource types and names that the stack of every branch would use.

    AWS refuses the second resource with such a name, so this check protects nothing. It reports the problem early,
    because the error would otherwise appear on another branch than the one that caused it. If the name is unique in an
    account or in all of AWS, two branches could never exist side by side, which is the purpose of a pipeline for every
    branch: this is an error. If the name is unique in a region or in a service, it is a warning, because a template may
    be meant for a single branch.
    """
    for path, resource in evaluator.possible_resources():
        kind = str(resource.get("Type"))
        for text in evaluator.resource_names(resource):
            if _BRANCH_MARK in text or UNKNOWN in text:
                continue
            finding = Finding(
                "error" if kind in _UNIQUE_IN_ACCOUNT else "warning",
                document.file,
                document.nearest_line(*path, "Properties", NAME_PROPERTIES[kind]),
                f"{path[-1]} is named {text!r} on every branch, but AWS allows a name only once; write"
                f" !Sub ${{PipelineName}}-{_suggested_suffix(text)}, or leave {NAME_PROPERTIES[kind]} out",
            )
            yield kind, finding
            break


def _suggested_suffix(text: str) -> str:
    return text.rpartition("/")[2][:40] or "name"


def _shared_stack_findings(document: Document, evaluator: TemplateEvaluator) -> Iterator[Finding]:
    """Stacks to which the pipeline of every branch would deploy."""
    for path, resource in evaluator.possible_resources():
        if not _is_pipeline(resource):
            continue
        stages = as_mapping(resource.get("Properties")).get("Stages")
        for inner, action in _pipeline_actions(stages, (*path, "Properties", "Stages"), evaluator.budget):
            configuration = as_mapping(action.get("Configuration"))
            kind = as_mapping(action.get("ActionTypeId"))
            if "CloudFormation" not in evaluator.possible_texts(kind.get("Provider")):
                continue
            for text in evaluator.possible_texts(configuration.get("StackName")):
                if _BRANCH_MARK in text or UNKNOWN in text or "#{" in text:
                    continue
                yield Finding(
                    "error",
                    document.file,
                    document.nearest_line(*inner, "Configuration", "StackName"),
                    f"every branch would deploy to the same stack, {text!r};"
                    f" write !Sub ${{PipelineName}}-{_suggested_suffix(text)}",
                )
                break


def _pipeline_actions(
    value: Any, path: KeyPath, budget: EvaluationBudget
) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    if isinstance(value, (dict, list)):
        budget.spend(1 + len(value), 0, value)
    if isinstance(value, dict):
        if "ActionTypeId" in value:
            yield path, value
        for key, inner in value.items():
            yield from _pipeline_actions(inner, (*path, key), budget)
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _pipeline_actions(inner, (*path, position), budget)
