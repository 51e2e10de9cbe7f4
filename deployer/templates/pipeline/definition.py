"""The pipelines in a template, with the values that their lists and settings may have."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deployer.templates.evaluation.evaluator import TemplateEvaluator
from deployer.templates.evaluation.text_sets import UNKNOWN
from deployer.templates.evaluation.values import KeyPath, as_mapping, as_text

PIPELINE_TYPE = "AWS::CodePipeline::Pipeline"


@dataclass(frozen=True, slots=True)
class PossibleValue:
    """One of the values that a place in a template may have.

    Attributes:
        path: the keys and positions that lead to it.
        value: the value.
        certain: whether AWS certainly uses this value.
    """

    path: KeyPath
    value: Any
    certain: bool = True


def possible_values(evaluator: TemplateEvaluator, found: PossibleValue) -> Iterator[PossibleValue]:
    """Every value that a place may have after its conditions; none for `AWS::NoValue`."""
    evaluator.budget.spend()
    value = found.value
    if isinstance(value, dict) and len(value) == 1:
        ((name, given),) = value.items()
        if name == "Fn::If" and isinstance(given, list) and len(given) == 3:
            positions = evaluator.possible_branch_positions(given)
            for position in positions:
                path, certain = (*found.path, name, position), found.certain and len(positions) == 1
                yield from possible_values(evaluator, PossibleValue(path, given[position], certain))
            return
        if evaluator.may_be_omitted(value):
            return
    if value is not None:
        yield found


def list_items(evaluator: TemplateEvaluator, found: PossibleValue) -> Iterator[PossibleValue]:
    """Every item that a list may have. What is no list, and what a loop generates, is one item that is not certain."""
    for each in possible_values(evaluator, found):
        if not isinstance(each.value, list):
            yield PossibleValue(each.path, each.value, certain=False)
            continue
        for position, item in enumerate(each.value):
            inner = PossibleValue((*each.path, position), item, each.certain)
            yield from possible_values(evaluator, inner)


def setting_texts(evaluator: TemplateEvaluator, settings: PossibleValue, key: str) -> tuple[str, ...]:
    """Every text that a setting may have; an empty text if the setting may be absent."""
    if not isinstance(settings.value, dict) or any(str(name).startswith("Fn::") for name in settings.value):
        return (UNKNOWN,)
    value = settings.value.get(key)
    absent = evaluator.may_be_omitted(value)
    texts = evaluator.possible_texts(value) if value is not None else ()
    return (*texts, *([""] if absent else []))


def is_unknown(text: str) -> bool:
    """Whether only AWS knows a text: a part of it, or a variable of the pipeline in it."""
    return UNKNOWN in text or "#{" in text


@dataclass(frozen=True, slots=True)
class Action:
    """An action that a pipeline may have.

    Attributes:
        path: the keys and positions that lead to it.
        name: its name as text; empty if it is unknown.
        stage: the name of its stage as text; empty if it is unknown.
        category, provider: the texts of its type that are possible.
        configuration: the settings that are possible; one empty mapping if it has no settings.
        certain: whether the pipeline certainly has the action.
    """

    path: KeyPath
    name: str
    stage: str
    category: tuple[str, ...]
    provider: tuple[str, ...]
    configuration: Sequence[PossibleValue]
    certain: bool


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A pipeline that a template may create.

    Attributes:
        path: the keys and positions that lead to it.
        properties: its properties.
        names: the names that it may have; empty if AWS chooses its name.
        certain: whether the template certainly creates it.
        actions: its actions in their order.
        complete: whether `actions` contains every action, because no list of them is generated.
    """

    path: KeyPath
    properties: Mapping[str, Any]
    names: tuple[str, ...]
    certain: bool
    actions: Sequence[Action]
    complete: bool

    @property
    def logical_id(self) -> str:
        """The pipeline's key in the template."""
        return str(self.path[-1])


def pipelines_of(evaluator: TemplateEvaluator) -> list[Pipeline]:
    """Every pipeline that a template may create."""
    return [
        _read_pipeline(evaluator, path, resource)
        for path, resource in evaluator.possible_resources()
        if resource.get("Type") == PIPELINE_TYPE
    ]


def own_pipelines(pipelines: Sequence[Pipeline], stack_name: str) -> Sequence[Pipeline]:
    """The pipelines that have the environment's name; all of them if none has it."""
    return [each for each in pipelines if stack_name in each.names] or pipelines


def _read_pipeline(evaluator: TemplateEvaluator, path: KeyPath, resource: Mapping[str, Any]) -> Pipeline:
    certain = evaluator.conditions.is_created(resource)
    properties = as_mapping(resource.get("Properties"))
    stages = list(
        list_items(evaluator, PossibleValue((*path, "Properties", "Stages"), properties.get("Stages")))
    )
    actions: list[Action] = []
    complete = bool(stages) and all("Actions" in as_mapping(each.value) for each in stages)
    for stage in stages:
        fields = as_mapping(stage.value)
        listed = PossibleValue((*stage.path, "Actions"), fields.get("Actions"), stage.certain)
        for item in list_items(evaluator, listed):
            if isinstance(item.value, dict) and "ActionTypeId" in item.value:
                actions.append(_read_action(evaluator, item, _only_text(evaluator, fields.get("Name"))))
            else:
                complete = False
    return Pipeline(path, properties, evaluator.resource_names(resource), certain, actions, complete)


def _read_action(evaluator: TemplateEvaluator, found: PossibleValue, stage: str) -> Action:
    fields = as_mapping(found.value)
    kind = PossibleValue((*found.path, "ActionTypeId"), fields["ActionTypeId"])
    given = PossibleValue((*found.path, "Configuration"), fields.get("Configuration"))
    return Action(
        found.path,
        _only_text(evaluator, fields.get("Name")),
        stage,
        setting_texts(evaluator, kind, "Category"),
        setting_texts(evaluator, kind, "Provider"),
        tuple(possible_values(evaluator, given)) or (PossibleValue(found.path, {}),),
        found.certain,
    )


def _only_text(evaluator: TemplateEvaluator, value: Any) -> str:
    texts = evaluator.possible_texts(value) if value is not None else ()
    return (as_text(texts[0]) or "") if len(texts) == 1 and not is_unknown(texts[0]) else ""
