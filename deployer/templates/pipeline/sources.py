"""The rule that a source action of the pipeline reads this repository at the environment's branch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deployer.model.source_actions import SOURCE_PROVIDERS, SourceLocation, SourceProvider
from deployer.templates.document import Document
from deployer.templates.evaluation.evaluator import TemplateEvaluator
from deployer.templates.evaluation.values import KeyPath
from deployer.templates.findings import Finding
from deployer.templates.pipeline.definition import (
    Action,
    Pipeline,
    PossibleValue,
    is_unknown,
    setting_texts,
)
from deployer.templates.pipeline.remedies import (
    declaration_remedy,
    line_to_write,
    override_in_cdk,
    remedy_text,
)

_REPOSITORY = {"Fn::Sub": "${RepoOwner}/${RepoName}"}
_VALUES: dict[str, Any] = {
    "FullRepositoryId": _REPOSITORY,
    "Owner": {"Ref": "RepoOwner"},
    "Repo": {"Ref": "RepoName"},
    "BranchName": {"Ref": "RepoBranch"},
    "Branch": {"Ref": "RepoBranch"},
}


@dataclass(frozen=True, slots=True)
class _Mismatch:
    """A setting of a source action for which none of the possible texts is the expected one."""

    key: str
    path: KeyPath
    texts: tuple[str, ...]


def is_source(action: Action) -> bool:
    """Whether an action is certainly a source action."""
    return action.category == ("Source",)


def source_findings(
    document: Document,
    evaluator: TemplateEvaluator,
    pipelines: Sequence[Pipeline],
    location: SourceLocation,
) -> Iterator[Finding]:
    """A pipeline in which no source action reads the repository at the branch.

    A value that only AWS knows never leads to a finding: the definition of the pipeline decides before each start.

    Args:
        document: the template.
        evaluator: evaluates it.
        pipelines: the pipelines that deployer may start.
        location: what a source action must read.
    """
    for pipeline in pipelines:
        if not (pipeline.certain and pipeline.complete):
            continue
        if any(is_unknown(text) for each in pipeline.actions for text in each.category):
            continue
        sources = [each for each in pipeline.actions if "Source" in each.category]
        nearest = _nearest_source(evaluator, sources, location)
        if nearest:
            yield from _describe(document, pipeline, *nearest)


def _nearest_source(
    evaluator: TemplateEvaluator, sources: Sequence[Action], location: SourceLocation
) -> tuple[Action | None, Sequence[_Mismatch]] | None:
    """The action with the fewest settings to correct; None if an action may read the repository at the branch."""
    best: tuple[Action | None, Sequence[_Mismatch]] = (None, ())
    for action in sources:
        if any(map(is_unknown, action.provider)):
            return None
        for name in action.provider:
            provider = SOURCE_PROVIDERS.get(name)
            if provider is None or not provider.repository_keys:
                continue
            for settings in action.configuration:
                wrong = _mismatches(evaluator, provider, settings, location)
                if not wrong:
                    return None
                if best[0] is None or len(wrong) < len(best[1]):
                    best = (action, wrong)
    return (best[0] or (sources[0] if sources else None), best[1])


def _mismatches(
    evaluator: TemplateEvaluator, provider: SourceProvider, settings: PossibleValue, location: SourceLocation
) -> list[_Mismatch]:
    expected = {key: value.lower() for key, value in location.expected_values(provider).items()}
    found = []
    for key in (*expected, provider.branch_key):
        texts = setting_texts(evaluator, settings, key)
        if any(map(is_unknown, texts)):
            continue
        if key in expected:
            matches = expected[key] in {text.lower() for text in texts}
        else:
            matches = not location.branch or location.branch in texts
        if not matches:
            found.append(_Mismatch(key, settings.path, texts))
    return found


def _describe(
    document: Document, pipeline: Pipeline, action: Action | None, wrong: Sequence[_Mismatch]
) -> Iterator[Finding]:
    """The findings about the action that is the nearest to what the pipeline needs."""
    parameters = declaration_remedy(document)
    for each in wrong:
        is_branch = each.key in {"BranchName", "Branch"}
        which = "this repository at the environment's branch" if is_branch else "this repository"
        shown = " or ".join(repr(text[:80]) for text in each.texts) if any(each.texts) else "missing"
        path = (*each.path, each.key)
        override = override_in_cdk(path, _VALUES[each.key])
        remedy = remedy_text(document, each.key, _VALUES[each.key], override)
        other = "" if is_branch else ", or add a source action that reads this repository"
        text = f"no source action reads {which}: {each.key} is {shown}; write {remedy}{other}{parameters}"
        yield Finding("error", document.file, document.nearest_line(*path), text)
    if wrong:
        return
    what = f"{action.name or 'the source action'} reads {action.provider[0]}" if action else "it has none"
    where = action.path if action else (*pipeline.path, "Properties", "Stages")
    text = (
        f"no source action reads this repository at GitHub ({what}); add one with"
        " Provider: CodeStarSourceConnection and"
        f" {_lines(document)}{parameters}"
    )
    yield Finding("error", document.file, document.nearest_line(*where), text)


def _lines(document: Document) -> str:
    values: dict[str, Any] = {
        "FullRepositoryId": _REPOSITORY,
        "BranchName": _VALUES["BranchName"],
        "DetectChanges": False,
    }
    return ", ".join(line_to_write(document, key, value) for key, value in values.items())
