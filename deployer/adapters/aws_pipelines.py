"""CodePipeline's answers as the core's values."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from deployer.adapters.aws_answers import needed
from deployer.errors import UnknownStatusError
from deployer.ledger import StageState
from deployer.ports import Execution

_log = logging.getLogger(__name__)

# https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_PipelineExecution.html
_EXECUTION_STATUS = {
    "Cancelled": "stopped",
    "Failed": "failed",
    "InProgress": "running",
    "Stopped": "stopped",
    "Stopping": "running",
    "Succeeded": "succeeded",
    "Superseded": "superseded",
}
# https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_ActionExecutionDetail.html
_ACTION_STATUS = frozenset({"Abandoned", "Failed", "InProgress", "Succeeded"})
_LONG_AGO = datetime.fromtimestamp(0, UTC)
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# what CodeBuild puts before the words that tell something; GitHub shows 140 characters in all
_BUILD_ENDED = re.compile(r"^Build terminated with state: \w+\. Phase: \w+, Code: \w+, Message: (?=\S)")
_GIT_PROVIDERS = ("CodeStarSourceConnection", "GitHub", "CodeCommit")


def summary(listed: Any, definition: Callable[[], Any | None]) -> Execution:
    """An execution from one entry of ListPipelineExecutions; `definition` as for `sha`.

    A status that this version does not know counts as running, because one old execution must not end every task of its
    pipeline. Whoever follows that execution reads all of it, see `whole`.
    """
    identity, status = needed(listed, "pipelineExecutionId"), needed(listed, "status")
    if status not in _EXECUTION_STATUS:
        _log.warning("execution %s has the status %s, which this version does not know", identity, status)
    commit = sha(listed.get("sourceRevisions", []), definition)
    return _execution(listed, _EXECUTION_STATUS.get(status, "running"), commit, ())


def whole(found: Any, details: Iterable[Any], definition: Callable[[], Any | None]) -> Execution:
    """An execution from GetPipelineExecution or ListPipelineExecutions and its actions.

    Args:
        found: the answer's `pipelineExecution`, or the execution's summary.
        details: what ListActionExecutions says of it.
        definition: reads the pipeline's definition; asked only where a stage may be between two actions, and
            where there are several sources.

    Raises:
        UnknownStatusError: the execution has a status that this version does not know.
    """
    if (reported := needed(found, "status")) not in _EXECUTION_STATUS:
        raise UnknownStatusError(f"execution {needed(found, 'pipelineExecutionId')}", str(reported))
    status = _EXECUTION_STATUS[reported]
    attempts: dict[tuple[str, str], Any] = {}
    for detail in details:
        key = (needed(detail, "stageName"), needed(detail, "actionName"))
        if key not in attempts or _started(attempts[key]) < _started(detail):
            attempts[key] = detail  # a stage can be tried again: its newest attempt counts
    stages: dict[str, list[Any]] = {}
    for detail in sorted(attempts.values(), key=_started):
        stages.setdefault(needed(detail, "stageName"), []).append(detail)
    states = [_stage(name, actions, status) for name, actions in stages.items()]
    if status == "running" and states and states[-1].status == "succeeded":
        last = states[-1]
        if not _complete(definition(), last.name, len(stages[last.name])):
            states[-1] = StageState(last.name, "running", url=last.url)
    revisions = found.get("artifactRevisions") or found.get("sourceRevisions") or []
    return _execution(found, status, sha(revisions, definition), states)


def _started(detail: Any) -> datetime:
    """When AWS began an action; the model lets AWS leave that out, and such an action sorts first."""
    started: datetime = detail.get("startTime") or _LONG_AGO
    return started


def sha(revisions: Iterable[Any], definition: Callable[[], Any | None]) -> str:
    """The commit among an execution's revisions; empty if there is none yet.

    Args:
        revisions: `sourceRevisions`, which bear their action's name, or `artifactRevisions`, which bear their
            artifact's.
        definition: reads the pipeline's definition; asked only where there are several commits.
    """
    commits = [r for r in revisions if _SHA.fullmatch(r.get("revisionId", ""))]
    if len(commits) > 1 and (source := _source(definition() or {})):
        artifacts = {needed(each, "name") for each in source.get("outputArtifacts", [])}
        name = needed(source, "name")
        ours = [r for r in commits if r.get("actionName") == name or r.get("name") in artifacts]
        commits = ours or commits
    return str(commits[0]["revisionId"]) if commits else ""


def source_action(definition: Any) -> str | None:
    """The name of the action that reads the repository: the first source of a git provider."""
    source = _source(definition)
    return str(needed(source, "name")) if source else None


def stage_names(definition: Any) -> list[str]:
    """The names of the definition's stages, in their order."""
    return [str(needed(stage, "name")) for stage in needed(definition, "stages")]


def deployed_stacks(definition: Any) -> list[str]:
    """Names of the stacks that the definition's CloudFormation actions make, last deployed first."""
    found: dict[str, None] = {}
    for stage in needed(definition, "stages"):
        for action in sorted(needed(stage, "actions"), key=lambda action: action.get("runOrder", 1)):
            configuration = action.get("configuration", {})
            name = configuration.get("StackName", "")
            if _type(action) != ("Deploy", "CloudFormation"):
                continue
            if name and "#{" not in name and configuration.get("ActionMode") != "DELETE_ONLY":
                found.setdefault(name)
    return list(reversed(found))


def _source(definition: Any) -> Any | None:
    for stage in definition.get("stages", [])[:1]:
        for action in needed(stage, "actions"):
            category, provider = _type(action)
            if category == "Source" and provider in _GIT_PROVIDERS:
                return action
    return None


def _type(action: Any) -> tuple[str, str]:
    kind = needed(action, "actionTypeId")
    return str(needed(kind, "category")), str(needed(kind, "provider"))


def _execution(found: Any, status: str, commit: str, stages: Sequence[StageState]) -> Execution:
    return Execution(
        id=str(needed(found, "pipelineExecutionId")),
        status=status,
        sha=commit,
        automatic=found.get("trigger", {}).get("triggerType") == "CreatePipeline",
        started_at=_started(found).timestamp(),
        stages=stages,
    )


def _stage(name: str, actions: Sequence[Any], execution: str) -> StageState:
    statuses = {needed(action, "status") for action in actions}
    failed = [action for action in actions if action["status"] == "Failed"]
    url = _result(failed[0] if failed else actions[-1]).get("externalExecutionUrl") or ""
    if "InProgress" in statuses:
        return StageState(name, "running", url=url)
    if failed:
        return StageState(name, "failed", _reason(failed[0]), url)
    if unknown := statuses - _ACTION_STATUS:
        _log.warning(
            "stage %s has an action with the status %s, which this version does not know", name, min(unknown)
        )
        # the execution's own status tells more than a guess at the action's
        return StageState(name, execution if execution in {"running", "succeeded"} else "stopped", url=url)
    return StageState(name, "stopped" if "Abandoned" in statuses else "succeeded", url=url)


def _complete(definition: Any | None, stage: str, actions: int) -> bool:
    stages = needed(definition, "stages") if definition else []
    declared = {needed(each, "name"): needed(each, "actions") for each in stages}
    return actions >= len(declared.get(stage, ()))


def _reason(action: Any) -> str:
    result = _result(action)
    told = _line(result.get("externalExecutionSummary"))
    error = _line((result.get("errorDetails") or {}).get("message"))
    if told in error or error in told:
        return max(told, error, key=len) or "failed"
    return f"{error} ({told})"


def _result(action: Any) -> Any:
    return action.get("output", {}).get("executionResult") or {}


def _line(text: object) -> str:
    return _BUILD_ENDED.sub("", " ".join(str(text or "").split()))
