"""CloudFormation actions of a pipeline that create stacks without deployer's tags.

An action sets tags only by its TemplateConfiguration. The permissions boundary of infra/target.yml refuses the creation
of a stack without the tags. Without a boundary, deployer deletes such a stack by its ARN, as long as the environment's
record or the history of its pipeline names it.
"""

from collections.abc import Iterator
from typing import Any

from deployer.model.environments import Kind
from deployer.model.targets import Target
from deployer.templates.document import Document
from deployer.templates.evaluation.evaluator import TemplateEvaluator
from deployer.templates.evaluation.text_sets import UNKNOWN
from deployer.templates.evaluation.values import KeyPath, as_mapping, as_text
from deployer.templates.findings import Finding
from deployer.templates.pipeline.definition import PIPELINE_TYPE

_CREATING_MODES = frozenset({"CREATE_UPDATE", "REPLACE_ON_FAILURE", "CHANGE_SET_REPLACE"})
_NO_VALUE = {"Ref": "AWS::NoValue"}
_UNDECIDED = object()  # a value that depends on a condition that only AWS knows


def stack_tag_findings(
    document: Document, kind: Kind, stack_name: str, evaluator: TemplateEvaluator, target: Target
) -> Iterator[Finding]:
    """An error for each action whose stack AWS will refuse to create, and otherwise a warning.

    An action that updates the pipeline's own stack keeps the tags that this stack has.

    Args:
        document: the template.
        kind: the kind of the environment.
        stack_name: the name of the stack and of the pipeline.
        evaluator: evaluates this template.
        target: the target of the kind.

    Raises:
        TooComplexError: the evaluator's budget is not sufficient.
    """
    for path, resource in evaluator.possible_resources():
        if resource.get("Type") != PIPELINE_TYPE:
            continue
        properties = as_mapping(resource.get("Properties"))
        role = properties.get("RoleArn")
        for inner, action in _actions(properties.get("Stages"), (*path, "Properties", "Stages"), evaluator):
            if not _creates_without_tags(action, stack_name, evaluator):
                continue
            refused = _is_bounded(action.get("RoleArn", role), evaluator, target)
            yield Finding(
                "error" if refused else "warning",
                document.file,
                document.nearest_line(*inner, "Configuration"),
                _finding_text(action, kind, evaluator, refused=refused),
            )


def _actions(
    value: Any, path: KeyPath, evaluator: TemplateEvaluator
) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """Path and content of each action, except those that a condition excludes or that only AWS knows."""
    if isinstance(value, (dict, list)):
        evaluator.budget.spend(1 + len(value), 0, value)
    if isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _actions(inner, (*path, position), evaluator)
    elif isinstance(value, dict):
        if "Fn::If" in value:
            chosen, position = _branch(value, evaluator)
            if chosen is not _UNDECIDED:
                yield from _actions(chosen, (*path, "Fn::If", position), evaluator)
            return
        if "ActionTypeId" in value:
            yield path, value
        for key, inner in value.items():
            yield from _actions(inner, (*path, key), evaluator)


def _branch(value: dict[str, Any], evaluator: TemplateEvaluator) -> tuple[Any, int]:
    """The branch of an Fn::If that is taken, and its position; `_UNDECIDED` if that is not known."""
    given = value["Fn::If"]
    if not isinstance(given, list) or len(given) != 3:
        return _UNDECIDED, 0
    truth = evaluator.conditions.truth_of(given[0])
    if truth is None:
        return _UNDECIDED, 0
    return (given[1], 1) if truth else (given[2], 2)


def _decided(value: Any, evaluator: TemplateEvaluator) -> Any:
    """A value without the conditions around it; None for no value, `_UNDECIDED` if it depends on AWS."""
    while isinstance(value, dict) and "Fn::If" in value:
        evaluator.budget.spend()
        value, _ = _branch(value, evaluator)
    return None if value == _NO_VALUE else value


def _creates_without_tags(action: dict[str, Any], stack_name: str, evaluator: TemplateEvaluator) -> bool:
    kind = as_mapping(action.get("ActionTypeId"))
    if evaluator.possible_texts(kind.get("Provider")) != ("CloudFormation",):
        return False
    configuration = _decided(action.get("Configuration"), evaluator)
    if not isinstance(configuration, dict):
        return False
    modes = evaluator.possible_texts(configuration.get("ActionMode"))
    names = evaluator.possible_texts(configuration.get("StackName"))
    if not modes or not _CREATING_MODES.issuperset(modes):
        return False
    if any(name == stack_name or UNKNOWN in name for name in names):
        return False
    return _decided(configuration.get("TemplateConfiguration"), evaluator) is None


def _is_bounded(role: Any, evaluator: TemplateEvaluator, target: Target) -> bool:
    """Whether the role of an action has the target's boundary: it is not one that the installation allows besides."""
    roles = evaluator.possible_texts(role)
    allowed = bool(roles) and all(target.allows(each) for each in roles)
    return bool(target.permissions_boundary) and not allowed


def _finding_text(action: dict[str, Any], kind: Kind, evaluator: TemplateEvaluator, *, refused: bool) -> str:
    name = as_text(action.get("Name")) or "?"
    inputs = action.get("InputArtifacts")
    first = inputs[0] if isinstance(inputs, list) and inputs else None
    artifacts = evaluator.possible_texts(as_mapping(first).get("Name"))
    artifact = artifacts[0] if len(artifacts) == 1 and UNKNOWN not in artifacts[0] else "ARTIFACT"
    why = (
        f"which the permissions boundary of {kind} does not allow"
        if refused
        else "so deployer finds it only by its own record"
    )
    return (
        f"action {name} creates a stack without deployer's tags, {why};"
        f" write TemplateConfiguration: {artifact}::stack.json, and have a build write the value of the parameter"
        " StackConfiguration to that file"
    )
