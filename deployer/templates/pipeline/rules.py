"""All rules for the pipeline of a template."""

from collections.abc import Iterator

from deployer.model.source_actions import SourceLocation
from deployer.templates.document import Document
from deployer.templates.evaluation.evaluator import TemplateEvaluator
from deployer.templates.findings import Finding
from deployer.templates.pipeline.definition import own_pipelines, pipelines_of
from deployer.templates.pipeline.sources import source_findings
from deployer.templates.pipeline.starts import start_findings


def pipeline_findings(
    document: Document, evaluator: TemplateEvaluator, stack_name: str, location: SourceLocation
) -> Iterator[Finding]:
    """Errors in what the pipeline reads, and in what starts it.

    Args:
        document: the template.
        evaluator: evaluates it with the values of its parameters.
        stack_name: the name of the stack and of the pipeline.
        location: what a source action of the pipeline must read.

    Raises:
        TooComplexError: a value has too many possible texts, or the evaluator's budget is not sufficient.
    """
    pipelines = pipelines_of(evaluator)
    yield from source_findings(document, evaluator, own_pipelines(pipelines, stack_name), location)
    yield from start_findings(document, evaluator, pipelines, stack_name)
