"""The pipelines of one account's region through CodePipeline."""

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from botocore.exceptions import ClientError

from deployer.aws.clients import AwsClients, call_with_retries, read_pages
from deployer.aws.errors import is_execution_ended, is_not_found, required_member, translate_errors
from deployer.aws.pipeline_definition import has_all_actions, source_actions, stage_names
from deployer.aws.stack_actions import deployed_stacks, stack_actions
from deployer.aws.stack_sets import deployed_stack_sets
from deployer.environment.cloud_region import Execution, StackAction
from deployer.model.environment_status import StageState
from deployer.model.environments import Repository
from deployer.model.errors import PermanentError, UnknownStatusError
from deployer.model.execution_trigger import Trigger
from deployer.model.source_actions import SourceLocation, pinned_actions, start_problem

if TYPE_CHECKING:
    from mypy_boto3_codepipeline.type_defs import SourceRevisionOverrideTypeDef

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
_EPOCH = datetime.fromtimestamp(0, UTC)
_SHA = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
# CodeBuild puts this before the actual reason. It is removed, because GitHub shows only 140 characters of a status.
_BUILD_ENDED = re.compile(r"^Build terminated with state: \w+\. Phase: \w+, Code: \w+, Message: (?=\S)")
_EXECUTIONS_LISTED = 20  # the newest ones of a pipeline
_ACTION_PAGES = 10  # of a hundred action runs each
_REASON_LIMIT = 200  # characters, a limit of StopPipelineExecution
# A task that needs a pipeline's definition or an execution's summary twice reads it from AWS once: seconds that either
# may be reused. A new task needs the current state, so both are short.
_JUST_READ_SECONDS = 10.0
_JUST_LISTED_SECONDS = 2.0


class AwsPipelines:
    """Implements the part of the port `CloudRegion` that concerns pipelines.

    Args:
        clients: clients of the target's account in this region.
    """

    def __init__(self, clients: AwsClients) -> None:
        self._aws = clients
        # what the same task may reuse, with the time of the response (monotonic clock)
        self._definitions: dict[str, tuple[float, Any]] = {}  # pipeline -> definition
        self._stage_names: dict[str, tuple[float, list[str]]] = {}  # pipeline -> names of its stages
        self._last_read: dict[str, tuple[float, Any]] = {}  # likewise, for `stack_sets`
        self._summaries: dict[tuple[str, str], tuple[float, Any]] = {}  # (pipeline, execution) -> summary

    def deployed_stacks(self, pipeline: str) -> list[str]:
        """See `CloudRegion.deployed_stacks`. One call."""
        with translate_errors(f"reading pipeline {pipeline}"):
            definition = self._read_definition(pipeline)
            return deployed_stacks(definition) if definition else []

    def stack_actions(self, pipeline: str) -> list[StackAction]:
        """See `CloudRegion.stack_actions`. One call for each hundred actions, for the newest thousand at most."""
        with translate_errors(f"listing the actions of pipeline {pipeline}"):
            try:
                return stack_actions(self._list_actions(pipeline))
            except ClientError as error:
                if is_not_found(error):
                    return []
                raise

    def stage_names(self, pipeline: str) -> list[str]:
        """See `CloudRegion.stage_names`. One call; none if the definition was read in the last ten seconds."""
        at, read = self._stage_names.get(pipeline, (0.0, []))
        if time.monotonic() - at < _JUST_READ_SECONDS:
            return read
        with translate_errors(f"reading pipeline {pipeline}"):
            definition = self._read_definition(pipeline)
            return stage_names(definition) if definition else []

    def stack_sets(self, pipeline: str) -> list[str]:
        """See `CloudRegion.stack_sets`. One call; none if the definition was read in the last ten seconds."""
        at, definition = self._last_read.get(pipeline, (0.0, None))
        with translate_errors(f"reading pipeline {pipeline}"):
            if time.monotonic() - at >= _JUST_READ_SECONDS:
                definition = self._read_definition(pipeline)
            return deployed_stack_sets(definition) if definition else []

    def executions(self, pipeline: str, repository: Repository | None = None) -> list[Execution]:
        """See `CloudRegion.executions`. One call; one more if an execution has several sources."""

        @cache
        def read_definition() -> Any | None:
            return self._read_definition(pipeline)

        with translate_errors(f"listing the executions of pipeline {pipeline}"):
            try:
                answer = call_with_retries(
                    lambda: self._aws.codepipeline.list_pipeline_executions(
                        pipelineName=pipeline, maxResults=_EXECUTIONS_LISTED
                    )
                )
            except ClientError as error:
                if is_not_found(error):
                    return []
                raise
            listed = required_member(answer, "pipelineExecutionSummaries")
            now = time.monotonic()
            self._summaries = {
                (pipeline, required_member(one, "pipelineExecutionId")): (now, one) for one in listed
            }
            return [execution_from_summary(one, read_definition, repository) for one in listed]

    def execution(
        self, pipeline: str, execution: str, repository: Repository | None = None
    ) -> Execution | None:
        """See `CloudRegion.execution`. Two calls; one if `executions` returned the execution in the last two seconds.

        One more if the execution may be between two actions or has several sources.
        """
        with translate_errors(f"reading execution {execution} of pipeline {pipeline}"):
            found = self._recent_summary(pipeline, execution) or self._read_execution(pipeline, execution)
            if found is None:
                return None
            try:
                details = list(self._list_actions(pipeline, filter={"pipelineExecutionId": execution}))
            except ClientError as error:
                if is_not_found(error):  # not listed yet, or deleted with its pipeline in the meantime
                    return None
                raise
            return execution_with_stages(found, details, lambda: self._read_definition(pipeline), repository)

    def start_problem(self, pipeline: str, location: SourceLocation) -> str:
        """See `CloudRegion.start_problem`. One call; none if the definition was read in the last ten seconds."""
        with translate_errors(f"reading pipeline {pipeline}"):
            at, read = self._definitions.get(pipeline, (0.0, None))
            if time.monotonic() - at >= _JUST_READ_SECONDS:
                read = self._read_definition(pipeline)
            return _start_problem(read, location) if read else ""

    def start(self, pipeline: str, sha: str, token: str, location: SourceLocation) -> str:
        """See `CloudRegion.start`: start an execution pinned to a commit and return its id.

        Two calls; one if the definition was read in the last ten seconds.

        Raises:
            PermanentError: the pipeline does not exist, reads something else, or is started by AWS too.
        """
        with translate_errors(f"starting pipeline {pipeline}"):
            definition = self._recent_definition(pipeline) or self._read_definition(pipeline)
            if definition is None:
                raise PermanentError(
                    f"there is no pipeline {pipeline} though its stack exists: somebody deleted it, or the template"
                    " does not name it by the parameter PipelineName; deployer delete and a push create it again"
                )
            if problem := _start_problem(definition, location):
                raise PermanentError(f"pipeline {pipeline} is not started: {problem}")
            revisions: list[SourceRevisionOverrideTypeDef] = [
                {"actionName": each.name, "revisionType": "COMMIT_ID", "revisionValue": sha}
                for each in pinned_actions(source_actions(definition), location)
            ]
            answer = call_with_retries(
                lambda: self._aws.codepipeline.start_pipeline_execution(
                    name=pipeline,
                    clientRequestToken=token,
                    sourceRevisions=revisions,
                )
            )
            return str(required_member(answer, "pipelineExecutionId"))

    def stop(self, pipeline: str, execution: str, reason: str) -> None:
        """See `CloudRegion.stop`: abandon an execution, unless it already ended or does not exist. One call."""
        self._summaries = {}
        with translate_errors(f"stopping execution {execution} of pipeline {pipeline}"):
            try:
                call_with_retries(
                    lambda: self._aws.codepipeline.stop_pipeline_execution(
                        pipelineName=pipeline,
                        pipelineExecutionId=execution,
                        abandon=True,
                        reason=reason[:_REASON_LIMIT],
                    )
                )
            except ClientError as error:
                if not (is_execution_ended(error) or is_not_found(error)):
                    raise
                _log.info("execution %s of %s already ended", execution, pipeline)

    def execution_url(self, pipeline: str, execution: str) -> str:
        """Return the URL of the execution in AWS's console. No call."""
        region = self._aws.region
        return (
            f"https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}"
            f"/executions/{execution}/timeline?region={region}"
        )

    def _list_actions(self, pipeline: str, **chosen: Any) -> Iterator[Any]:
        listed = read_pages(
            self._aws.codepipeline.list_action_executions,
            cursor="nextToken",
            pipelineName=pipeline,
            maxResults=100,
            **chosen,
        )
        for page in islice(listed, _ACTION_PAGES):
            yield from required_member(page, "actionExecutionDetails")

    def _read_definition(self, pipeline: str) -> Any | None:
        try:
            answer = call_with_retries(lambda: self._aws.codepipeline.get_pipeline(name=pipeline))
        except ClientError as error:
            if is_not_found(error):
                return None
            raise
        read = required_member(answer, "pipeline")
        self._definitions = {pipeline: (time.monotonic(), read)}
        self._stage_names = {pipeline: (time.monotonic(), stage_names(read))}
        self._last_read = dict(self._definitions)
        return read

    def _recent_definition(self, pipeline: str) -> Any | None:
        """Return the definition if it was read in the last ten seconds; only once, so that a repeat reads it anew."""
        at, read = self._definitions.pop(pipeline, (0.0, None))
        return read if time.monotonic() - at < _JUST_READ_SECONDS else None

    def _recent_summary(self, pipeline: str, execution: str) -> Any | None:
        """Return an execution's summary if it was listed in the last two seconds; only once."""
        at, listed = self._summaries.pop((pipeline, execution), (0.0, None))
        return listed if time.monotonic() - at < _JUST_LISTED_SECONDS else None

    def _read_execution(self, pipeline: str, execution: str) -> Any | None:
        try:
            answer = call_with_retries(
                lambda: self._aws.codepipeline.get_pipeline_execution(
                    pipelineName=pipeline, pipelineExecutionId=execution
                )
            )
        except ClientError as error:
            if is_not_found(error):
                return None
            raise
        return required_member(answer, "pipelineExecution")


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


def _start_problem(definition: Any, location: SourceLocation) -> str:
    return start_problem(source_actions(definition), location, has_triggers=bool(definition.get("triggers")))


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
