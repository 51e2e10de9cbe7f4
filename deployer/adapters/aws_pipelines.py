"""CodePipeline's answers as the core's values."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from deployer.ledger import StageState
from deployer.ports import Execution

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
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# what CodeBuild puts before the words that tell something; GitHub shows 140 characters in all
_BUILD_ENDED = re.compile(r"^Build terminated with state: \w+\. Phase: \w+, Code: \w+, Message: (?=\S)")
_GIT_PROVIDERS = ("CodeStarSourceConnection", "GitHub", "CodeCommit")


def summary(listed: Any, definition: Callable[[], Any | None]) -> Execution:
    """An execution from one entry of ListPipelineExecutions; `definition` as for `sha`."""
    return _execution(listed, sha(listed.get("sourceRevisions", []), definition), ())


def whole(found: Any, details: Iterable[Any], definition: Callable[[], Any | None]) -> Execution:
    """An execution from GetPipelineExecution or ListPipelineExecutions and its actions.

    Args:
        found: the answer's `pipelineExecution`, or the execution's summary.
        details: what ListActionExecutions says of it.
        definition: reads the pipeline's definition; asked only where a stage may be between two actions, and
            where there are several sources.
    """
    attempts: dict[tuple[str, str], Any] = {}
    for detail in details:
        key = (detail["stageName"], detail["actionName"])
        if key not in attempts or attempts[key]["startTime"] < detail["startTime"]:
            attempts[key] = detail  # a stage can be tried again: its newest attempt counts
    stages: dict[str, list[Any]] = {}
    for detail in sorted(attempts.values(), key=lambda detail: detail["startTime"]):
        stages.setdefault(detail["stageName"], []).append(detail)
    states = [_stage(name, actions) for name, actions in stages.items()]
    running = _EXECUTION_STATUS.get(found["status"], "running") == "running"
    if running and states and states[-1].status == "succeeded":
        last = states[-1]
        if not _complete(definition(), last.name, len(stages[last.name])):
            states[-1] = StageState(last.name, "running", url=last.url)
    revisions = found.get("artifactRevisions") or found.get("sourceRevisions") or []
    return _execution(found, sha(revisions, definition), states)


def sha(revisions: Iterable[Any], definition: Callable[[], Any | None]) -> str:
    """The commit among an execution's revisions; empty if there is none yet.

    Args:
        revisions: `sourceRevisions`, which bear their action's name, or `artifactRevisions`, which bear their
            artifact's.
        definition: reads the pipeline's definition; asked only where there are several commits.
    """
    commits = [r for r in revisions if _SHA.fullmatch(r.get("revisionId", ""))]
    if len(commits) > 1 and (source := _source(definition() or {})):
        artifacts = {artifact["name"] for artifact in source.get("outputArtifacts", [])}
        ours = [r for r in commits if r.get("actionName") == source["name"] or r.get("name") in artifacts]
        commits = ours or commits
    return str(commits[0]["revisionId"]) if commits else ""


def source_action(definition: Any) -> str | None:
    """The name of the action that reads the repository: the first source of a git provider."""
    source = _source(definition)
    return str(source["name"]) if source else None


def stage_names(definition: Any) -> list[str]:
    """The names of the definition's stages, in their order."""
    return [str(stage["name"]) for stage in definition["stages"]]


def deployed_stacks(definition: Any) -> list[str]:
    """Names of the stacks that the definition's CloudFormation actions make, last deployed first."""
    found: dict[str, None] = {}
    for stage in definition["stages"]:
        for action in sorted(stage["actions"], key=lambda action: action.get("runOrder", 1)):
            kind, configuration = action["actionTypeId"], action.get("configuration", {})
            name = configuration.get("StackName", "")
            if (kind["category"], kind["provider"]) != ("Deploy", "CloudFormation"):
                continue
            if name and "#{" not in name and configuration.get("ActionMode") != "DELETE_ONLY":
                found.setdefault(name)
    return list(reversed(found))


def _source(definition: Any) -> Any | None:
    for stage in definition.get("stages", [])[:1]:
        for action in stage["actions"]:
            kind = action["actionTypeId"]
            if kind["category"] == "Source" and kind["provider"] in _GIT_PROVIDERS:
                return action
    return None


def _execution(found: Any, commit: str, stages: Sequence[StageState]) -> Execution:
    return Execution(
        id=str(found["pipelineExecutionId"]),
        # a status that AWS adds some day has not ended as far as we know
        status=_EXECUTION_STATUS.get(found["status"], "running"),
        sha=commit,
        automatic=found.get("trigger", {}).get("triggerType") == "CreatePipeline",
        stages=stages,
    )


def _stage(name: str, actions: Sequence[Any]) -> StageState:
    failed = [action for action in actions if action["status"] == "Failed"]
    statuses = {action["status"] for action in actions}
    url = _result(failed[0] if failed else actions[-1]).get("externalExecutionUrl") or ""
    if "InProgress" in statuses:
        return StageState(name, "running", url=url)
    if failed:
        return StageState(name, "failed", _reason(failed[0]), url)
    return StageState(name, "stopped" if "Abandoned" in statuses else "succeeded", url=url)


def _complete(definition: Any | None, stage: str, actions: int) -> bool:
    declared = {s["name"]: s["actions"] for s in definition["stages"]} if definition else {}
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
