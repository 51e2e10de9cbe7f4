"""The rule that nothing but deployer starts a pipeline of the template."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from deployer.model.source_actions import SOURCE_PROVIDERS
from deployer.templates.document import Document
from deployer.templates.evaluation.evaluator import TemplateEvaluator
from deployer.templates.evaluation.values import KeyPath, as_mapping, as_text
from deployer.templates.findings import Finding
from deployer.templates.pipeline.definition import (
    Action,
    Pipeline,
    PossibleValue,
    is_unknown,
    list_items,
    possible_values,
    setting_texts,
)
from deployer.templates.pipeline.remedies import is_synthesized_by_cdk, remedy_text
from deployer.templates.pipeline.sources import is_source

_WEBHOOK = "AWS::CodePipeline::Webhook"
_RULE = "AWS::Events::Rule"
_SCHEDULE = "AWS::Scheduler::Schedule"
_START_OPERATION = ":aws-sdk:codepipeline:startPipelineExecution"
_INPUT_LIMIT = 10_000  # characters of a schedule's input that are parsed
# what the CDK calls the automatic start of a source action, by its provider
_CDK_SWITCHES = {
    "CodeStarSourceConnection": "triggerOnPush: false",
    "CodeCommit": "trigger: CodeCommitTrigger.NONE",
    "GitHub": "trigger: GitHubTrigger.NONE",
    "S3": "trigger: S3Trigger.NONE",
}
_REDEPLOY = "for runs by the clock, let a scheduler call deployer redeploy"


def start_findings(
    document: Document, evaluator: TemplateEvaluator, pipelines: Sequence[Pipeline], stack_name: str
) -> Iterator[Finding]:
    """Everything in a template that would start one of its pipelines.

    Args:
        document: the template.
        evaluator: evaluates it.
        pipelines: the pipelines of the template.
        stack_name: the name of the stack and of the pipeline that deployer starts.
    """
    for pipeline in pipelines:
        if not pipeline.certain:
            continue  # the definition of the pipeline decides before each start
        for action in pipeline.actions:
            if is_source(action) and action.certain:
                yield from _automatic_start(document, evaluator, action)
            elif action.stage == "UpdatePipeline" and action.name == "SelfMutate":
                yield from _self_mutation(document, action)
        yield from _trigger_findings(document, evaluator, pipeline)
        yield from _restart_on_update(document, evaluator, pipeline)
    yield from _further_pipelines(document, pipelines, stack_name)
    yield from _starting_resources(document, evaluator, pipelines)


def _finding(document: Document, path: KeyPath, text: str) -> Finding:
    return Finding("error", document.file, document.nearest_line(*path), text)


def _automatic_start(document: Document, evaluator: TemplateEvaluator, action: Action) -> Iterator[Finding]:
    """A source action at whose changes AWS starts the pipeline, whatever it reads."""
    if len(action.provider) != 1 or (provider := SOURCE_PROVIDERS.get(action.provider[0])) is None:
        return
    key, name = provider.start_key, action.provider[0]
    for settings in action.configuration:
        texts = setting_texts(evaluator, settings, key)
        if any(is_unknown(text) or text.lower() == "false" for text in texts):
            return  # the definition of the pipeline decides before each start
    path = (*action.configuration[0].path, key)
    reason = f"{key} is on" if any(texts) else f"{key} is missing, and AWS's default is on"
    remedy = remedy_text(document, key, False, _CDK_SWITCHES[name])
    text = f"AWS starts the pipeline when the source of {action.name or 'this action'} changes, because {reason};"
    yield _finding(document, path, f"{text} only deployer may start it: write {remedy}")


def _self_mutation(document: Document, action: Action) -> Iterator[Finding]:
    """The action by which a pipeline of the CDK deploys its own stack under a name that all branches share."""
    if is_synthesized_by_cdk(document):
        text = (
            "the action SelfMutate deploys the pipeline's stack by its name in the CDK, which is the same for all"
            " branches; deployer updates the pipeline at each push: write selfMutation: false in CDK"
        )
        yield _finding(document, action.path, text)


def _trigger_findings(
    document: Document, evaluator: TemplateEvaluator, pipeline: Pipeline
) -> Iterator[Finding]:
    path = (*pipeline.path, "Properties", "Triggers")
    value = pipeline.properties.get("Triggers")
    given = list(possible_values(evaluator, PossibleValue(path, value)))
    if not evaluator.may_be_omitted(value) and all(
        isinstance(each.value, list) and each.value for each in given
    ):
        text = "AWS starts the pipeline by its Triggers; only deployer may start it: remove Triggers"
        yield _finding(document, path, text)


def _restart_on_update(
    document: Document, evaluator: TemplateEvaluator, pipeline: Pipeline
) -> Iterator[Finding]:
    key = "RestartExecutionOnUpdate"
    properties = PossibleValue((*pipeline.path, "Properties"), dict(pipeline.properties))
    texts = setting_texts(evaluator, properties, key)
    if all(text.lower() == "true" for text in texts):
        remedy = remedy_text(
            document, key, False, "restartExecutionOnUpdate: false on the Pipeline given as codePipeline"
        )
        text = f"AWS starts the pipeline at the head of its branch after each update, because {key} is on;"
        yield _finding(
            document, (*properties.path, key), f"{text} only deployer may start it: write {remedy}"
        )


def _further_pipelines(
    document: Document, pipelines: Sequence[Pipeline], stack_name: str
) -> Iterator[Finding]:
    """Pipelines beside the one that deployer starts. AWS starts each new pipeline, at the head of its branch."""
    own = [each for each in pipelines if stack_name in each.names]
    for each in pipelines:
        if not own or not each.certain or stack_name in each.names or any(map(is_unknown, each.names)):
            continue
        text = (
            f"{each.logical_id} is a second pipeline, and deployer starts only {own[0].logical_id}: AWS would run"
            f" {each.logical_id} once, when it is created, at a commit that nobody chose; move its stages into"
            f" {own[0].logical_id}"
        )
        yield _finding(document, each.path, text)


def _starting_resources(
    document: Document, evaluator: TemplateEvaluator, pipelines: Sequence[Pipeline]
) -> Iterator[Finding]:
    """Webhooks, event rules and schedules whose target is a pipeline of the template."""
    names = {name for each in pipelines for name in each.names if not is_unknown(name)}
    for path, resource in evaluator.possible_resources():
        kind, properties = as_text(resource.get("Type")), as_mapping(resource.get("Properties"))
        if kind not in {_WEBHOOK, _RULE, _SCHEDULE} or not evaluator.conditions.is_created(resource):
            continue
        settings = PossibleValue((*path, "Properties"), properties)
        if kind == _WEBHOOK:
            texts = setting_texts(evaluator, settings, "TargetPipeline")
            if texts and names.issuperset(texts):
                text = f"{path[-1]} starts the pipeline at each push; only deployer may start it: remove {path[-1]}"
                yield _finding(document, path, text)
        elif setting_texts(evaluator, settings, "State") != ("DISABLED",):
            for target in _targets(evaluator, settings, kind):
                if target.certain and _target_names(evaluator, target) & names:
                    text = f"{path[-1]} starts the pipeline; only deployer may start it: remove this target"
                    yield _finding(document, target.path, f"{text} ({_REDEPLOY})")


def _targets(evaluator: TemplateEvaluator, settings: PossibleValue, kind: str) -> Iterator[PossibleValue]:
    if kind == _RULE:
        listed = PossibleValue((*settings.path, "Targets"), settings.value.get("Targets"))
        yield from list_items(evaluator, listed)
    else:
        single = PossibleValue((*settings.path, "Target"), settings.value.get("Target"))
        yield from possible_values(evaluator, single)


def _target_names(evaluator: TemplateEvaluator, target: PossibleValue) -> set[str]:
    """The names of the pipelines that a target of a rule or of a schedule certainly starts."""
    texts = setting_texts(evaluator, target, "Arn") if isinstance(target.value, dict) else ()
    found: list[set[str]] = []
    for text in texts:
        if text.endswith(_START_OPERATION):
            found.append(_names_in_input(setting_texts(evaluator, target, "Input")))
        elif text.startswith("arn:") and ":codepipeline:" in text:
            found.append({text.rpartition(":")[2]})
        else:
            found.append(set())
    return set.intersection(*found) if found else set()


def _names_in_input(texts: Sequence[str]) -> set[str]:
    """The name of the pipeline in the input of a call of StartPipelineExecution."""
    found: set[str] = set()
    for text in texts:
        given: Any = None
        with suppress(ValueError, RecursionError):
            given = json.loads(text[:_INPUT_LIMIT])
        found |= {str(value) for key, value in as_mapping(given).items() if key.lower() == "name"}
    return found
