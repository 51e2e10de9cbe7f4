"""What is wrong with a template and its parameters, told before AWS is asked: all of it, each with file and line.

Nothing here knows AWS; what only AWS knows is not judged. The limits are those of
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from deployer.environments import Kind
from deployer.evaluation_budget import EvaluationBudget
from deployer.findings import Finding
from deployer.resolving import TemplateEvaluator
from deployer.resource_names import NAME_PROPERTIES
from deployer.template import Document, duplicate_key_text
from deployer.template_values import KeyPath, as_mapping
from deployer.text_sets import UNKNOWN

PIPELINE_TYPE = "AWS::CodePipeline::Pipeline"
GIT_PROVIDERS = ("CodeStarSourceConnection", "GitHub", "CodeCommit")
_SECTION_LIMITS = {"Parameters": 200, "Resources": 500, "Outputs": 200, "Mappings": 200}
_BRANCH_MARK = "\ufff9"  # stands for what no two branches share
_STACK_SPECIFIC = ("PipelineName", "AWS::StackName", "AWS::StackId")  # no two environments share these
_BRANCH_SPECIFIC = (*_STACK_SPECIFIC, "RepoBranch", "RefName", "StackConfiguration")
# names that a whole account, or all of AWS, has but once: the second branch could never be made
_UNIQUE_IN_ACCOUNT = {
    "AWS::IAM::Role",
    "AWS::IAM::User",
    "AWS::IAM::ManagedPolicy",
    "AWS::S3::Bucket",
    PIPELINE_TYPE,
}


def structure_findings(document: Document) -> list[Finding]:
    """What keeps a template from being looked at any further."""
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
            text = f"{len(value)} {section}; CloudFormation takes at most {_SECTION_LIMITS[section]}"
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
    """What is wrong with the pipeline and the names in a template of sound structure.

    Args:
        document: the template.
        kind: the kind of environment that it is for.
        stack_name: the name of the stack and pipeline.
        values: what each of its parameters is given.
        evaluator: of this template with these values.

    Raises:
        TooComplexError: a text in it may come to be hundreds, or the evaluator's budget has not enough left.
    """
    misnamed = list(_pipeline_name_findings(document, stack_name, evaluator))
    yield from misnamed
    yield from _source_findings(document, stack_name, evaluator)
    yield from _duplicate_name_findings(document, evaluator)

    def evaluator_with_mark(own: Sequence[str]) -> TemplateEvaluator:
        """Works texts out so that what no two branches share shows in them."""
        known = {name: _BRANCH_MARK if name in own else value for name, value in values.items()}
        pseudo = {name: _BRANCH_MARK for name in own if name.startswith("AWS::")}
        return TemplateEvaluator(document.fields, known, pseudo, evaluator.budget)

    if kind is Kind.DEVELOPMENT:
        for shared, finding in _shared_name_findings(document, evaluator_with_mark(_BRANCH_SPECIFIC)):
            if not (misnamed and shared == PIPELINE_TYPE):  # one word on its name is enough
                yield finding
        yield from _shared_stack_findings(document, evaluator_with_mark(_STACK_SPECIFIC))


def _pipeline_name_findings(
    document: Document, stack_name: str, evaluator: TemplateEvaluator
) -> Iterator[Finding]:
    """A pipeline that deployer would not find."""
    made = [(path, each) for path, each in evaluator.possible_resources() if _is_pipeline(each)]
    names = [(path, evaluator.resource_names(each)) for path, each in made]
    ours = [path for path, texts in names if stack_name in texts]
    if made and not ours and not any(UNKNOWN in text for _, texts in names for text in texts):
        path, texts = names[0]
        shown = f"{texts[0]!r}" if texts else "chosen by AWS"
        yield Finding(
            "error",
            document.file,
            document.nearest_line(*path, "Properties", "Name"),
            f"the pipeline's Name is {shown}; it must be !Ref PipelineName (or !Ref AWS::StackName), by which"
            " deployer finds it",
        )


def _source_findings(document: Document, stack_name: str, evaluator: TemplateEvaluator) -> Iterator[Finding]:
    """A pipeline that deployer could not start with a commit."""
    made = [(path, each) for path, each in evaluator.possible_resources() if _is_pipeline(each)]
    ours = [each for each in made if stack_name in evaluator.resource_names(each[1])]
    for path, resource in ours or made:  # others are not started by deployer
        stages = as_mapping(resource.get("Properties")).get("Stages")
        first = stages[0] if isinstance(stages, list) and stages else None
        actions = as_mapping(first).get("Actions")
        if not isinstance(actions, list) or any("Fn::If" in as_mapping(each) for each in actions):
            continue
        kinds = [as_mapping(as_mapping(each).get("ActionTypeId")) for each in actions]
        providers = [text for kind in kinds for text in evaluator.possible_texts(kind.get("Provider"))]
        if not any(text in GIT_PROVIDERS or UNKNOWN in text for text in providers):
            yield Finding(
                "error",
                document.file,
                document.nearest_line(*path, "Properties", "Stages", 0, "Actions"),
                "the pipeline's first stage has no source action that reads a git repository; its Provider is"
                " CodeStarSourceConnection",
            )


def _duplicate_name_findings(document: Document, evaluator: TemplateEvaluator) -> Iterator[Finding]:
    """Two resources of one type and name in one template."""
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
            text = f"{path[-1]} has the name {texts[0]!r} that {other} has already; {kind} needs names that differ"
            yield Finding("error", document.file, line, text)


def _shared_name_findings(document: Document, evaluator: TemplateEvaluator) -> Iterator[tuple[str, Finding]]:
    """Types and names that every branch's stack would give to a resource of its own.

    AWS refuses the second of them whatever we say, so this widens nobody's rights; it is told early because the branch
    that meets it is not the one that wrote it. Where a whole account or all of AWS has one name but once, two branches
    can never stand side by side, which is what a pipeline per branch is for: an error. Names of a region or of a
    service's own scope are a warning: a template may mean to have one branch only.
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
                f"{path[-1]} is named {text!r} on every branch, and AWS takes a name but once; write"
                f" !Sub ${{PipelineName}}-{_name_suffix(text)}, or leave {NAME_PROPERTIES[kind]} out",
            )
            yield kind, finding
            break


def _name_suffix(text: str) -> str:
    return text.rpartition("/")[2][:40] or "name"


def _shared_stack_findings(document: Document, evaluator: TemplateEvaluator) -> Iterator[Finding]:
    """Stacks that every branch's pipeline would deploy to."""
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
                    f"every branch would deploy to one stack, {text!r};"
                    f" write !Sub ${{PipelineName}}-{_name_suffix(text)}",
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
