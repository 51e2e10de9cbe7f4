"""CodePipeline's API, which maps calls to operations on pipelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sandbox.aws.actiontypes import revision_type
from sandbox.aws.executions import Pipelines
from sandbox.aws.jobs import Jobs
from sandbox.aws.pipelines import ActionRun, Execution, Pipeline
from sandbox.aws.protocol import AwsError
from sandbox.aws.stagerestarts import StageRestarts

_PAGE = 100

Parameters = Mapping[str, Any]


class CodePipeline:
    """Answers CodePipeline's calls; the caller holds the simulator's lock."""

    def __init__(self, pipelines: Pipelines, now: Callable[[], Any], jobs: Jobs) -> None:
        self._pipelines = pipelines
        self._restarts = StageRestarts(pipelines)
        self._caller = ""
        self._now = now
        self._operations: dict[str, Callable[[Parameters], dict[str, Any]]] = {
            "CreatePipeline": self._create_pipeline,
            "DeletePipeline": self._delete_pipeline,
            "GetPipeline": self._get_pipeline,
            "GetPipelineExecution": self._get_pipeline_execution,
            "GetPipelineState": self._get_pipeline_state,
            "ListActionExecutions": self._list_action_executions,
            "ListPipelineExecutions": self._list_pipeline_executions,
            "ListPipelines": self._list_pipelines,
            "ListTagsForResource": self._list_tags,
            "PutApprovalResult": self._put_approval_result,
            "RetryStageExecution": self._retry_stage,
            "RollbackStage": self._roll_back_stage,
            "StartPipelineExecution": self._start_pipeline_execution,
            "StopPipelineExecution": self._stop_pipeline_execution,
            "UpdatePipeline": self._update_pipeline,
            **jobs.operations,
        }

    def call(self, operation: str, given: Parameters, caller: str) -> dict[str, Any]:
        """The result of a call.

        Args:
            operation: its name.
            given: its parameters.
            caller: the ARN of the role's session or of the user who calls.

        Raises:
            AwsError: the call is refused.
        """
        if operation not in self._operations:
            raise AwsError("InvalidAction", f"The simulator does not know CodePipeline's {operation}", 501)
        self._caller = caller
        try:
            return self._operations[operation](given)
        except KeyError as error:
            raise AwsError("ValidationException", f"The parameter {error.args[0]} is required") from error

    # ---- changes

    def _create_pipeline(self, given: Parameters) -> dict[str, Any]:
        tags = {t["key"]: t["value"] for t in given.get("tags", [])}
        self._pipelines.create(_with_defaults(given["pipeline"]), tags, self._caller)
        definition = self._pipelines.get(given["pipeline"]["name"]).definition
        return {"pipeline": definition, "tags": given.get("tags", [])}

    def _update_pipeline(self, given: Parameters) -> dict[str, Any]:
        self._pipelines.update(_with_defaults(given["pipeline"]))
        return {"pipeline": self._pipelines.get(given["pipeline"]["name"]).definition}

    def _delete_pipeline(self, given: Parameters) -> dict[str, Any]:
        self._pipelines.delete(given["name"])
        return {}

    def _start_pipeline_execution(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["name"])
        sources = {
            a["name"]: revision_type(a["actionTypeId"]) for a in pipeline.definition["stages"][0]["actions"]
        }
        pins = {}
        for revision in given.get("sourceRevisions") or []:
            if revision["actionName"] not in sources:
                raise _invalid_request(
                    f"Pipeline {pipeline.name} has no source action {revision['actionName']}"
                )
            if revision["revisionType"] != sources[revision["actionName"]]:
                raise _invalid_request(
                    f"Revision type {revision['revisionType']} is not valid for action {revision['actionName']}"
                )
            pins[revision["actionName"]] = revision["revisionValue"]
        known = {v["name"] for v in pipeline.definition.get("variables") or []}
        variables = {v["name"]: v["value"] for v in given.get("variables") or []}
        if unknown := sorted(set(variables) - known):
            raise _invalid_request(f"Pipeline {pipeline.name} has no variable {unknown[0]}")
        execution = self._pipelines.start(
            pipeline,
            trigger="StartPipelineExecution",
            detail=self._caller,
            token=given.get("clientRequestToken"),
            pins=pins,
            variables=variables,
        )
        return {"pipelineExecutionId": execution.id}

    def _stop_pipeline_execution(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["pipelineName"])
        execution = _find_execution(pipeline, given["pipelineExecutionId"])
        abandon, reason = bool(given.get("abandon")), given.get("reason")
        self._pipelines.stop(pipeline, execution, abandon=abandon, reason=reason)
        return {"pipelineExecutionId": execution.id}

    def _retry_stage(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["pipelineName"])
        execution = _find_execution(pipeline, given["pipelineExecutionId"])
        self._restarts.retry(pipeline, given["stageName"], execution, given["retryMode"])
        return {"pipelineExecutionId": execution.id}

    def _roll_back_stage(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["pipelineName"])
        target = _find_execution(pipeline, given["targetPipelineExecutionId"])
        execution = self._restarts.roll_back(
            pipeline, given["stageName"], target, trigger="ManualRollback", detail=self._caller
        )
        return {"pipelineExecutionId": execution.id}

    def _put_approval_result(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["pipelineName"])
        stage, action = given["stageName"], given["actionName"]
        if stage not in {s["name"] for s in pipeline.definition["stages"]}:
            raise AwsError("StageNotFoundException", f"Stage '{stage}' could not be found in the pipeline")
        run = pipeline.latest_actions.get((stage, action))
        if run is None:
            raise AwsError(
                "ActionNotFoundException", f"Action '{action}' could not be found in stage '{stage}'"
            )
        if run.approval is None or run.approval_token != given["token"]:
            raise AwsError("InvalidApprovalTokenException", "The approval token is not valid")
        if run.approval.done or run.status != "InProgress":
            raise AwsError("ApprovalAlreadyCompletedException", "The approval has already been completed")
        run.approval.set({"summary": given["result"].get("summary", ""), "status": given["result"]["status"]})
        return {"approvedAt": self._now()}

    # ---- reading

    def _list_pipelines(self, given: Parameters) -> dict[str, Any]:
        listed = [
            {
                "name": p.name,
                "version": p.version,
                "pipelineType": p.definition.get("pipelineType", "V1"),
                "executionMode": p.mode,
                "created": p.created,
                "updated": p.updated,
            }
            for _, p in sorted(self._pipelines.all.items())
        ]
        page, token = _page_of(listed, given)
        return {"pipelines": page, "nextToken": token}

    def _get_pipeline(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["name"])
        dates = {"created": pipeline.created, "updated": pipeline.updated}
        return {"pipeline": pipeline.definition, "metadata": {"pipelineArn": pipeline.arn, **dates}}

    def _list_tags(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["resourceArn"].rpartition(":")[2])
        return {"tags": [{"key": k, "value": v} for k, v in pipeline.tags.items()]}

    def _get_pipeline_execution(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["pipelineName"])
        execution = _find_execution(pipeline, given["pipelineExecutionId"])
        revisions = [
            {
                "name": r.artifact,
                "revisionId": r.sha,
                "revisionSummary": r.summary,
                "revisionUrl": r.url,
                "created": r.created,
            }
            for r in execution.revisions
        ]
        shown = {
            "pipelineName": pipeline.name,
            "pipelineVersion": execution.definition["version"],
            "pipelineExecutionId": execution.id,
            "status": execution.status,
            "statusSummary": execution.summary,
            "artifactRevisions": revisions,
            "variables": [{"name": k, "resolvedValue": v} for k, v in execution.variables.items()] or None,
            "trigger": {"triggerType": execution.trigger, "triggerDetail": execution.trigger_detail},
            "executionMode": pipeline.mode,
            **_execution_type(execution),
        }
        return {"pipelineExecution": shown}

    def _list_pipeline_executions(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["pipelineName"])
        stage = ((given.get("filter") or {}).get("succeededInStage") or {}).get("stageName")
        listed = [
            _execution_summary(pipeline, e)
            for e in reversed(pipeline.executions.values())
            if stage is None or (stage in e.stages and e.stages[stage].status == "Succeeded")
        ]
        page, token = _page_of(listed, given)
        return {"pipelineExecutionSummaries": page, "nextToken": token}

    def _list_action_executions(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["pipelineName"])
        wanted = given.get("filter") or {}
        chosen = wanted.get("pipelineExecutionId")
        chosen = chosen or (wanted.get("latestInPipelineExecution") or {}).get("pipelineExecutionId")
        executions = [_find_execution(pipeline, chosen)] if chosen else pipeline.executions.values()
        listed = [_action_detail(e, a) for e in executions for a in e.actions()]
        page, token = _page_of(listed[::-1], given)
        return {"actionExecutionDetails": page, "nextToken": token}

    def _get_pipeline_state(self, given: Parameters) -> dict[str, Any]:
        pipeline = self._pipelines.get(given["name"])
        return {
            "pipelineName": pipeline.name,
            "pipelineVersion": pipeline.version,
            "stageStates": [_stage_state(pipeline, stage) for stage in pipeline.definition["stages"]],
            "created": pipeline.created,
            "updated": pipeline.updated,
        }


def _invalid_request(message: str) -> AwsError:
    return AwsError("ValidationException", message)


def _with_defaults(definition: dict[str, Any]) -> dict[str, Any]:
    """A definition in the form that GetPipeline returns, with defaults for the optional fields."""
    stages = [
        {
            **stage,
            "actions": [
                {"runOrder": 1, "configuration": {}, "inputArtifacts": [], "outputArtifacts": [], **action}
                for action in stage.get("actions", [])
            ],
        }
        for stage in definition.get("stages", [])
    ]
    return {**definition, "stages": stages}


def _find_execution(pipeline: Pipeline, execution_id: str) -> Execution:
    if execution_id not in pipeline.executions:
        raise AwsError(
            "PipelineExecutionNotFoundException",
            f"The pipeline execution {execution_id} could not be found in pipeline {pipeline.name}",
        )
    return pipeline.executions[execution_id]


def _page_of(listed: list[dict[str, Any]], given: Parameters) -> tuple[list[dict[str, Any]], str | None]:
    start = given.get("nextToken") or "0"
    if not start.isdigit():
        raise AwsError("InvalidNextTokenException", "The next token is not valid")
    size = int(given.get("maxResults") or _PAGE)
    end = int(start) + size
    return listed[int(start) : end], str(end) if end < len(listed) else None


def _execution_summary(pipeline: Pipeline, execution: Execution) -> dict[str, Any]:
    return {
        "pipelineExecutionId": execution.id,
        "status": execution.status,
        "statusSummary": execution.summary,
        "startTime": execution.started,
        "lastUpdateTime": execution.updated,
        "sourceRevisions": [
            {"actionName": r.action, "revisionId": r.sha, "revisionSummary": r.summary, "revisionUrl": r.url}
            for r in execution.revisions
        ],
        "trigger": {"triggerType": execution.trigger, "triggerDetail": execution.trigger_detail},
        "stopTrigger": {"reason": execution.stop_reason} if execution.stop_reason else None,
        "executionMode": pipeline.mode,
        **_execution_type(execution),
    }


def _execution_type(execution: Execution) -> dict[str, Any]:
    if not execution.rollback_target:
        return {"executionType": "STANDARD"}
    target = {"rollbackTargetPipelineExecutionId": execution.rollback_target}
    return {"executionType": "ROLLBACK", "rollbackMetadata": target}


def _action_detail(execution: Execution, run: ActionRun) -> dict[str, Any]:
    outputs = run.declared.get("outputArtifacts", [])
    return {
        "pipelineExecutionId": execution.id,
        "actionExecutionId": run.id,
        "pipelineVersion": execution.definition["version"],
        "stageName": run.stage,
        "actionName": run.name,
        "startTime": run.started,
        "lastUpdateTime": run.updated,
        "status": run.status,
        "input": {
            "actionTypeId": run.declared["actionTypeId"],
            "configuration": run.declared.get("configuration", {}),
            "resolvedConfiguration": run.configuration,
            "region": run.declared.get("region"),
            "roleArn": run.declared.get("roleArn"),
            "inputArtifacts": _with_artifact_location(execution, run.declared.get("inputArtifacts", [])),
            "namespace": run.declared.get("namespace"),
        },
        "output": {
            "outputArtifacts": _with_artifact_location(execution, outputs)
            if run.status == "Succeeded"
            else [],
            "executionResult": {
                "externalExecutionId": run.external_id,
                "externalExecutionSummary": run.summary,
                "externalExecutionUrl": run.external_url,
                "errorDetails": run.error,
            },
            "outputVariables": run.variables,
        },
    }


def _with_artifact_location(execution: Execution, artifacts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    held = ((a["name"], execution.artifacts.get(a["name"])) for a in artifacts)
    return [{"name": n, "s3location": {"bucket": a.bucket, "key": a.key}} for n, a in held if a]


def _stage_state(pipeline: Pipeline, stage: dict[str, Any]) -> dict[str, Any]:
    name = stage["name"]
    inbound = [
        {"pipelineExecutionId": e.id, "status": e.status, "type": "STANDARD"}
        for e in pipeline.waiting.get(name, [])
    ]
    state: dict[str, Any] = {
        "stageName": name,
        "inboundExecution": inbound[-1] if inbound else None,
        "inboundExecutions": inbound,
        "inboundTransitionState": {"enabled": True},
        "actionStates": [_action_state(pipeline, name, action) for action in stage["actions"]],
    }
    if latest := pipeline.latest.get(name):
        execution = pipeline.executions[latest.execution_id]
        running = latest.status == "InProgress" and execution.status == "Stopping"
        status = "Stopping" if running else latest.status
        state["latestExecution"] = {
            "pipelineExecutionId": latest.execution_id,
            "status": status,
            "type": "STANDARD",
        }
    return state


def _action_state(pipeline: Pipeline, stage: str, action: dict[str, Any]) -> dict[str, Any]:
    state: dict[str, Any] = {"actionName": action["name"]}
    run = pipeline.latest_actions.get((stage, action["name"]))
    if run is None:
        return state
    if run.revision:
        state["currentRevision"] = {"revisionId": run.revision, "created": run.updated}
        state["revisionUrl"] = run.revision_url
    waits = run.approval is not None and not run.approval.done and run.status == "InProgress"
    state["latestExecution"] = {
        "actionExecutionId": run.id,
        "status": run.status,
        "summary": run.summary,
        "lastStatusChange": run.updated,
        "token": run.approval_token if waits else None,
        "externalExecutionId": run.external_id,
        "externalExecutionUrl": run.external_url,
        "errorDetails": run.error,
    }
    return state
