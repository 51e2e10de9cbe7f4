"""Checks of a template that need no call to AWS.

What only AWS knows is not judged. The limits come from
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
"""

from collections.abc import Iterator, Mapping
from typing import Any

from deployer.model.environments import Kind
from deployer.templates.document import Document, duplicate_key_text
from deployer.templates.evaluation.evaluator import TemplateEvaluator
from deployer.templates.evaluation.text_sets import UNKNOWN
from deployer.templates.evaluation.values import as_mapping
from deployer.templates.findings import Finding
from deployer.templates.name_findings import name_findings
from deployer.templates.pipeline.definition import PIPELINE_TYPE
from deployer.templates.remedies import Remedies

_SECTION_LIMITS = {"Parameters": 200, "Resources": 500, "Outputs": 200, "Mappings": 200}


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
    reported = {PIPELINE_TYPE} if misnamed else set()
    yield from name_findings(document, kind, values, evaluator, reported)


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
            f"the pipeline's Name is {shown}; it must be {Remedies.of(document).pipeline_name}, because"
            " deployer finds the pipeline by that name",
        )
