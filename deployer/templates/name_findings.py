"""Checks of the names that a template gives to resources and to the stacks of its pipeline."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from deployer.model.environments import NAME_LIMIT, Kind
from deployer.templates.document import Document
from deployer.templates.evaluation.budget import EvaluationBudget
from deployer.templates.evaluation.evaluator import TemplateEvaluator
from deployer.templates.evaluation.resource_names import (
    NAME_LIMITS,
    NAME_PROPERTIES,
    NAMES_REQUIRED,
    STACK_NAME_LIMIT,
)
from deployer.templates.evaluation.text_sets import UNKNOWN
from deployer.templates.evaluation.values import KeyPath, as_mapping
from deployer.templates.findings import Finding
from deployer.templates.remedies import Remedies

_BRANCH_MARK = "\ufff9"  # replaces every value that differs between branches
_STACK_SPECIFIC = ("PipelineName", "AWS::StackName", "AWS::StackId")  # different for every environment
_BRANCH_SPECIFIC = (*_STACK_SPECIFIC, "RepoBranch", "RefName", "StackConfiguration")
# Their names are unique in an account or in all of AWS, so the stack of a second branch could never be created.
_UNIQUE_IN_ACCOUNT = {
    "AWS::IAM::Role",
    "AWS::IAM::User",
    "AWS::IAM::ManagedPolicy",
    "AWS::S3::Bucket",
    "AWS::CodePipeline::Pipeline",
}
_LONGEST_SUFFIX = 40  # characters of an old name that a new name repeats


def name_findings(
    document: Document,
    kind: Kind,
    values: Mapping[str, str],
    evaluator: TemplateEvaluator,
    reported: Collection[str],
) -> Iterator[Finding]:
    """Names that AWS refuses, or that two resources or two branches would share.

    Args:
        document: the template.
        kind: the kind of the environment.
        values: the value of each parameter.
        evaluator: evaluates this template with these values.
        reported: resource types whose shared names were reported already.

    Raises:
        TooComplexError: a value has too many possible texts, or the evaluator's budget is not sufficient.
    """
    check = _NameCheck(document, evaluator, Remedies.of(document))
    yield from check.duplicate_names()

    def evaluator_with_mark(own: Sequence[str]) -> TemplateEvaluator:
        """An evaluator in which these parameters have the value `_BRANCH_MARK`, so that it shows in each text."""
        known = {name: _BRANCH_MARK if name in own else value for name, value in values.items()}
        pseudo = {name: _BRANCH_MARK for name in own if name.startswith("AWS::")}
        return TemplateEvaluator(document.fields, known, pseudo, evaluator.budget)

    if kind is not Kind.DEVELOPMENT:
        yield from check.long_names(None)
        return
    stack_marked = evaluator_with_mark(_STACK_SPECIFIC)
    yield from check.long_names(stack_marked)
    yield from check.shared_names(evaluator_with_mark(_BRANCH_SPECIFIC), reported)
    yield from check.shared_stacks(stack_marked)


class _NameCheck:
    def __init__(self, document: Document, evaluator: TemplateEvaluator, remedies: Remedies) -> None:
        self._document, self._evaluator, self._remedies = document, evaluator, remedies

    def duplicate_names(self) -> Iterator[Finding]:
        """Two resources with the same type and name in one template."""
        seen: dict[tuple[str, str], str] = {}
        for path, resource in self._evaluator.possible_resources():
            kind = str(resource.get("Type"))
            texts = self._evaluator.resource_names(resource)
            perhaps = (
                "Condition" in resource and self._evaluator.conditions.truth_of(resource["Condition"]) is None
            )
            if perhaps or len(texts) != 1 or UNKNOWN in texts[0]:
                continue
            other = seen.setdefault((kind, texts[0]), str(path[-1]))
            if other != str(path[-1]):
                yield self._finding(
                    "error",
                    (*path, "Properties", NAME_PROPERTIES[kind]),
                    f"{path[-1]} has the name {texts[0]!r}, which {other} already has; give one of them another name",
                )

    def long_names(self, marked: TemplateEvaluator | None) -> Iterator[Finding]:
        """Names that are longer than AWS allows: an error, or a warning if only another branch has such a name.

        Args:
            marked: an evaluator in which the name of the stack is `_BRANCH_MARK`; None if there is one environment.
        """
        long = set()
        for path, limit, texts, certain in self._limited_names(self._evaluator):
            if texts and all(_known_length(each) > limit for each in texts):
                long.add(path)
                shown = texts[0].replace(UNKNOWN, "?")[:120]
                reason = (
                    f"named {shown!r}, which has {_known_length(texts[0])} characters; AWS allows {limit}"
                )
                text = f"{_owner(path)} is {reason}: {self._shorter(path)}"
                yield self._finding("error" if certain else "warning", path, text)
        for path, limit, texts, _ in self._limited_names(marked) if marked else ():
            longest = max((_known_length(each) for each in texts if _BRANCH_MARK in each), default=0)
            if path not in long and longest > limit:
                reason = f"has up to {longest} characters with a long branch name; AWS allows {limit}"
                text = f"the name of {_owner(path)} {reason}: {self._shorter(path)}"
                yield self._finding("warning", path, text)

    def _limited_names(
        self, evaluator: TemplateEvaluator
    ) -> Iterator[tuple[KeyPath, int, tuple[str, ...], bool]]:
        """Path, limit and possible texts of each name, and whether the template certainly gives the name."""
        for path, resource in evaluator.possible_resources():
            kind = str(resource.get("Type"))
            if kind in NAME_LIMITS:
                value = as_mapping(resource.get("Properties")).get(NAME_PROPERTIES[kind])
                certain = not (self._is_conditional(resource) or evaluator.may_be_omitted(value))
                inside = (*path, "Properties", NAME_PROPERTIES[kind])
                yield inside, NAME_LIMITS[kind], evaluator.resource_names(resource), certain
        for path, value in _stack_names(evaluator):
            texts = tuple(each for each in evaluator.possible_texts(value) if "#{" not in each)
            yield path, STACK_NAME_LIMIT, texts, "Fn::If" not in path

    def _is_conditional(self, resource: Mapping[str, Any]) -> bool:
        """Whether only AWS knows if the resource is created."""
        return "Condition" in resource and self._evaluator.conditions.truth_of(resource["Condition"]) is None

    def _shorter(self, path: KeyPath) -> str:
        key = str(path[-1])
        if key == "StackName":
            return f"write {self._remedies.pipeline_property(path, '${PipelineName}-app')}"
        kind = str(as_mapping(_value_at(path[:-2], self._document.fields)).get("Type"))
        if kind in NAMES_REQUIRED:
            return "shorten it"
        return f"leave {self._remedies.property_name(key)} out, and AWS chooses a name that fits"

    def shared_names(self, evaluator: TemplateEvaluator, reported: Collection[str]) -> Iterator[Finding]:
        """Names that the stack of every branch would use.

        AWS refuses the second resource with such a name, so this check protects nothing. It reports the problem early,
        because the error would otherwise appear on another branch than the one that caused it. If the name is unique in
        an account or in all of AWS, two branches could never exist side by side, which is the purpose of a pipeline for
        every branch: this is an error. If the name is unique in a region or in a service, it is a warning, because a
        template may be meant for a single branch.
        """
        for path, resource in evaluator.possible_resources():
            kind = str(resource.get("Type"))
            if kind in reported:
                continue
            for text in evaluator.resource_names(resource):
                if _BRANCH_MARK in text or UNKNOWN in text:
                    continue
                yield self._finding(
                    "error" if kind in _UNIQUE_IN_ACCOUNT else "warning",
                    (*path, "Properties", NAME_PROPERTIES[kind]),
                    f"{path[-1]} is named {text!r} on every branch, but AWS allows a name only once;"
                    f" {self._name_remedy(kind, text)}",
                )
                break

    def _name_remedy(self, kind: str, text: str) -> str:
        """How the name can differ between branches, with a name that AWS accepts for every branch."""
        if kind == "AWS::CodePipeline::Pipeline":
            return f"write {self._remedies.pipeline_name}"
        key = NAME_PROPERTIES[kind]
        omission = f"leave {self._remedies.property_name(key)} out"
        name = branch_name_for(text, NAME_LIMITS.get(kind, len(text) + NAME_LIMIT + 1))
        if not name:
            return f"{omission}, and AWS chooses a name that fits"
        words = f"write {self._remedies.name(key, name)}"
        return words if kind in NAMES_REQUIRED else f"{words}, or {omission}"

    def shared_stacks(self, evaluator: TemplateEvaluator) -> Iterator[Finding]:
        """Stacks to which the pipeline of every branch would deploy."""
        for path, value in _stack_names(evaluator):
            for text in evaluator.possible_texts(value):
                if _BRANCH_MARK in text or UNKNOWN in text or "#{" in text:
                    continue
                name = branch_name_for(text, STACK_NAME_LIMIT)
                yield self._finding(
                    "error",
                    path,
                    f"every branch would deploy to the same stack, {text!r};"
                    f" write {self._remedies.pipeline_property(path, name)}",
                )
                break

    def _finding(self, level: str, path: KeyPath, text: str) -> Finding:
        return Finding(level, self._document.file, self._document.nearest_line(*path), text)


def branch_name_for(text: str, limit: int) -> str:
    """A name like this one that begins with the pipeline's name and fits on every branch; empty if there is none.

    Args:
        text: a name that is the same on every branch.
        limit: the most characters that AWS allows.
    """
    front, slash, last = text.rpartition("/")  # `alias/` and the paths of log groups must stay
    room = min(limit - len(front + slash) - NAME_LIMIT - 1, _LONGEST_SUFFIX)
    suffix = last[: max(room, 0)].rstrip("-._") or ("name" if room >= len("name") else "")
    return f"{front}{slash}${{PipelineName}}-{suffix}" if suffix else ""


def _known_length(text: str) -> int:
    """The number of characters that a name has at least, if the longest stack name replaces the mark."""
    marks = text.count(_BRANCH_MARK)
    return len(text) - text.count(UNKNOWN) + marks * (NAME_LIMIT - 1)


def _owner(path: KeyPath) -> str:
    """What has the name at a path: a resource, or an action's stack."""
    return f"the stack of {path[1]}" if path[-1] == "StackName" else str(path[-3])


def _stack_names(evaluator: TemplateEvaluator) -> Iterator[tuple[KeyPath, Any]]:
    """Path and value of the stack's name in each CloudFormation action of a pipeline."""
    for path, resource in evaluator.possible_resources():
        if resource.get("Type") != "AWS::CodePipeline::Pipeline":
            continue
        stages = as_mapping(resource.get("Properties")).get("Stages")
        for inner, action in _pipeline_actions(stages, (*path, "Properties", "Stages"), evaluator.budget):
            configuration = as_mapping(action.get("Configuration"))
            provider = as_mapping(action.get("ActionTypeId")).get("Provider")
            if "CloudFormation" in evaluator.possible_texts(provider):
                yield (*inner, "Configuration", "StackName"), configuration.get("StackName")


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


def _value_at(path: KeyPath, value: Any) -> Any:
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value
