"""Translates CodePipeline's answers about executions."""

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from deployer.aws.errors import required_member
from deployer.aws.pipeline_definition import has_all_actions, source_actions
from deployer.aws.stack_actions import stack_actions
from deployer.environment.cloud_region import Execution
from deployer.model.environment_status import StageState
from deployer.model.environments import Repository
from deployer.model.errors import UnknownStatusError
from deployer.model.execution_trigger import Trigger
from deployer.model.source_actions import SourceLocation, pinned_actions

_log = logging.getLogger(__name__)

# https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_PipelineExecution.html
_EXECUTION_STATUS = {
    "Cancelled": "cancelled",
    "Failed": "failed",
    "InProgress": "running",
    "Stopped": "stopped",
    "Stopping": "running",
    "Succeeded": "succeeded",
    "Superseded": "superseded",
}
# https://docs.aws.amazon.com/codepipeline/latest/APIReference/API_ActionExecutionDetail.html
_ACTION_STATUS = frozenset({"Abandoned", "Failed", "InProgress", "Succeeded"})
_EPOCH = datetime.fromtimestamp(0, UTC)
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# CodeBuild puts this before the actual reason. It is removed, because GitHub shows only 140 characters of a status.
_BUILD_ENDED = re.compile(r"^Build terminated with state: \w+\. Phase: \w+, Code: \w+, Message: (?=\S)")


def execution_from_summary(
    listed: Any, read_definition: Callable[[], Any | None], repository: Repository | None = None
) -> Execution:
    """Return an execution from one entry of ListPipelineExecutions.

    An unknown status counts as running, because a single old execution must not fail every task of its pipeline. A task
    that follows this execution reads it with `execution_with_stages`, which reports the unknown status.

    Args:
        listed: the entry.
        read_definition, repository: see `commit_of_revisions`.
    """
    identity, status = required_member(listed, "pipelineExecutionId"), required_member(listed, "status")
    if status not in _EXECUTION_STATUS:
        _log.warning(
            "execution %s has the status %s, which is unknown to this version of deployer", identity, status
        )
    commit = commit_of_revisions(listed.get("sourceRevisions", []), read_definition, repository)
    execution = _build_execution(listed, _EXECUTION_STATUS.get(status, "running"), commit, ())
    return replace(execution, started_at=_action_start_time(listed).timestamp())


def execution_with_stages(
    found: Any,
    details: Iterable[Any],
    read_definition: Callable[[], Any | None],
    repository: Repository | None = None,
) -> Execution:
    """Return an execution with its stages.

    Args:
        found: `pipelineExecution` of GetPipelineExecution, or an entry of ListPipelineExecutions.
        details: all entries of ListActionExecutions for this execution.
        read_definition: reads the pipeline's definition. It is called only if a stage may be between two actions, or if
            the pipeline has several sources.
        repository: see `commit_of_revisions`.

    Raises:
        UnknownStatusError: the execution's status is unknown to this version of deployer.
    """
    if (reported := required_member(found, "status")) not in _EXECUTION_STATUS:
        raise UnknownStatusError(f"execution {required_member(found, 'pipelineExecutionId')}", str(reported))
    status = _EXECUTION_STATUS[reported]
    details = list(details)
    runs = stack_actions(details)  # also of earlier attempts, which may have created a stack
    attempts: dict[tuple[str, str], Any] = {}
    for detail in details:
        key = (required_member(detail, "stageName"), required_member(detail, "actionName"))
        if key not in attempts or _action_start_time(attempts[key]) < _action_start_time(detail):
            attempts[key] = detail  # a stage can be retried, so only the newest attempt counts
    stages: dict[str, list[Any]] = {}
    for detail in sorted(attempts.values(), key=_action_start_time):
        stages.setdefault(required_member(detail, "stageName"), []).append(detail)
    states = [_stage_state(name, actions, status) for name, actions in stages.items()]
    if status == "running" and states and states[-1].status == "succeeded":
        last = states[-1]
        if not has_all_actions(read_definition(), last.name, len(stages[last.name])):
            states[-1] = StageState(last.name, "running", url=last.url)
    revisions = found.get("artifactRevisions") or found.get("sourceRevisions") or []
    commit = commit_of_revisions(revisions, read_definition, repository)
    return replace(_build_execution(found, status, commit, states), stack_actions=runs)


def _action_start_time(detail: Any) -> datetime:
    """Return the start time of an action. AWS may omit it; such an action sorts first."""
    started: datetime = detail.get("startTime") or _EPOCH
    return started


def commit_of_revisions(
    revisions: Iterable[Any],
    read_definition: Callable[[], Any | None],
    repository: Repository | None = None,
) -> str:
    """Return the repository's commit among an execution's revisions; empty if it is not reported yet.

    Args:
        revisions: `sourceRevisions`, which have the name of their action, or `artifactRevisions`, which have the name
            of their artifact.
        read_definition: reads the pipeline's definition. It is called only if the address of no revision contains the
            repository's name.
        repository: the repository; None if only one source can have reported a commit.
    """
    commits = [r for r in revisions if _SHA.fullmatch(r.get("revisionId", ""))]
    if repository is None:
        return str(commits[0]["revisionId"]) if len(commits) == 1 else ""
    ours = [r for r in commits if _is_address_of(repository, r.get("revisionUrl") or "")]
    if commits and not ours:
        names = _source_names(read_definition(), repository)
        ours = [r for r in commits if names & {r.get("actionName"), r.get("name")}]
    return str(ours[0]["revisionId"]) if ours else ""


def _source_names(definition: Any | None, repository: Repository) -> set[str]:
    """Return the names of the source actions that read the repository, and of their artifacts."""
    if not definition:
        return set()
    reading = pinned_actions(source_actions(definition), SourceLocation(repository))
    return {name for each in reading for name in (each.name, *each.artifacts)}


def _is_address_of(repository: Repository, url: str) -> bool:
    """Return whether the address of a commit is one of the repository, at GitHub or through a connection."""
    return bool(re.search(rf"[/=]{re.escape(repository.key)}(?:[/&]|$)", unquote(url).lower()))


def _build_execution(found: Any, status: str, commit: str, stages: Sequence[StageState]) -> Execution:
    return Execution(
        id=str(required_member(found, "pipelineExecutionId")),
        status=status,
        sha=commit,
        trigger=_read_trigger(found.get("trigger") or {}),
        stages=stages,
    )


def _read_trigger(found: Any) -> Trigger:
    return Trigger(type=str(found.get("triggerType") or ""), detail=str(found.get("triggerDetail") or ""))


def _stage_state(name: str, actions: Sequence[Any], execution: str) -> StageState:
    statuses = {required_member(action, "status") for action in actions}
    failed = [action for action in actions if action["status"] == "Failed"]
    url = _execution_result(failed[0] if failed else actions[-1]).get("externalExecutionUrl") or ""
    if "InProgress" in statuses:
        return StageState(name, "running", url=url)
    if failed:
        return StageState(name, "failed", _failure_reason(failed[0]), url)
    if unknown := statuses - _ACTION_STATUS:
        _log.warning(
            "stage %s has an action with the status %s, which is unknown to this version of deployer",
            name,
            min(unknown),
        )
        # The status of the execution is known; a guess at the action's status could be wrong.
        return StageState(name, execution if execution in {"running", "succeeded"} else "stopped", url=url)
    return StageState(name, "stopped" if "Abandoned" in statuses else "succeeded", url=url)


def _failure_reason(action: Any) -> str:
    result = _execution_result(action)
    summary = _strip_build_prefix(result.get("externalExecutionSummary"))
    error = _strip_build_prefix((result.get("errorDetails") or {}).get("message"))
    if summary in error or error in summary:
        return max(summary, error, key=len) or "failed"
    return f"{error} ({summary})"


def _execution_result(action: Any) -> Any:
    return action.get("output", {}).get("executionResult") or {}


def _strip_build_prefix(text: object) -> str:
    return _BUILD_ENDED.sub("", " ".join(str(text or "").split()))
