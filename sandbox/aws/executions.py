"""The pipelines of a region, with the processes that run their executions."""

from __future__ import annotations

import itertools
import logging
import re
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox.aws.clock import Future, Process, Scheduler
from sandbox.aws.events import Events
from sandbox.aws.faults import Faults
from sandbox.aws.pipelines import RUNNING, ActionRun, Execution, Pipeline, StageRun, check_definition
from sandbox.aws.places import Place
from sandbox.aws.protocol import AwsError

log = logging.getLogger(__name__)

ACTION_SECONDS = 0.5
_REMEMBERED = 20_000  # executions in the history, including those of deleted pipelines
_VARIABLE = re.compile(r"#\{([^}.]+)\.([^}]+)\}")
_STATES = {"Succeeded": "SUCCEEDED", "Failed": "FAILED", "Stopped": "STOPPED", "Cancelled": "CANCELED"}
_GO, _SUPERSEDED, _STOPPED = "go", "superseded", "stopped"


class ActionError(Exception):
    """An action failed; `code` is the code of its error details."""

    def __init__(self, message: str, code: str = "JobFailed") -> None:
        super().__init__(message)
        self.code = code


Perform = Callable[[Pipeline, Execution, ActionRun], Process]


class Pipelines:
    """All pipelines of a region; callers hold the simulator's lock."""

    limit = 1000
    """How many pipelines the region allows."""

    def __init__(
        self, scheduler: Scheduler, faults: Faults, events: Events, directory: Path, place: Place
    ) -> None:
        self._scheduler = scheduler
        self._faults = faults
        self._events = events
        self._directory = directory
        self.place = place
        self._number = itertools.count(1)
        self.perform_action: Perform | None = None
        self.starts = True
        """Whether a new pipeline starts its first execution, as in AWS."""
        self.all: dict[str, Pipeline] = {}
        self.history: deque[tuple[Pipeline, Execution]] = deque(maxlen=_REMEMBERED)

    def get(self, name: str) -> Pipeline:
        """The pipeline of this name.

        Raises:
            AwsError: PipelineNotFoundException.
        """
        if name not in self.all:
            raise AwsError(
                "PipelineNotFoundException",
                f"Account '{self.place.account}' does not have a pipeline with name '{name}'",
            )
        return self.all[name]

    def create(self, definition: dict[str, Any], tags: dict[str, str]) -> int:
        """Create a pipeline, which starts its first execution; return the version of the definition."""
        check_definition(definition, self.place.region)
        name = definition["name"]
        if name in self.all:
            raise AwsError(
                "PipelineNameInUseException",
                f"A pipeline with the name '{name}' already exists in account '{self.place.account}'",
            )
        if len(self.all) >= self.limit:
            raise AwsError(
                "LimitExceededException",
                f"The account {self.place.account} already has the maximum number of pipelines allowed in "
                f"{self.place.region}: {self.limit}",
            )
        now = self._scheduler.now()
        pipeline = Pipeline({**definition, "version": 1}, tags, now, now, self.place)
        self.all[name] = pipeline
        if self.starts:
            self.start(
                pipeline, trigger="CreatePipeline", detail=f"arn:aws:iam::{self.place.account}:user/sandbox"
            )
        return 1

    def update(self, definition: dict[str, Any], restart: bool = False) -> int:
        """Replace a pipeline's definition, which cancels running executions; return the new version."""
        pipeline = self.get(definition["name"])
        check_definition(definition, self.place.region)
        for execution in pipeline.running_executions():
            self._end_immediately(pipeline, execution, "Cancelled")
        pipeline.definition = {**definition, "version": pipeline.version + 1}
        pipeline.updated = self._scheduler.now()
        if restart:
            self.start(pipeline, trigger="StartPipelineExecution", detail="UpdatePipeline")
        return pipeline.version

    def delete(self, name: str) -> None:
        """Delete a pipeline with its executions; as in AWS, deleting a missing pipeline is no error."""
        pipeline = self.all.pop(name, None)
        if pipeline is None:
            return
        for execution in pipeline.running_executions():
            self._end_immediately(pipeline, execution, "Cancelled")

    def start(
        self,
        pipeline: Pipeline,
        *,
        trigger: str,
        detail: str,
        token: str | None = None,
        pins: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> Execution:
        """Start an execution; a token that was used before returns the execution that it started."""
        if token is not None and token in pipeline.tokens:
            return pipeline.executions[pipeline.tokens[token]]
        declared = pipeline.definition.get("variables") or []
        now = self._scheduler.now()
        execution = Execution(
            id=str(uuid.uuid4()),
            number=next(self._number),
            definition=pipeline.definition,
            trigger=trigger,
            trigger_detail=detail,
            pins=dict(pins or {}),
            variables={**{v["name"]: v.get("defaultValue", "") for v in declared}, **(variables or {})},
            started=now,
            updated=now,
            directory=self._directory,
        )
        execution.directory = self._directory / execution.id
        pipeline.executions[execution.id] = execution
        self.history.append((pipeline, execution))
        if token is not None:
            pipeline.tokens[token] = execution.id
        execution.task = self._scheduler.spawn(self._run_stages(pipeline, execution))
        return execution

    def stop(self, pipeline: Pipeline, execution: Execution, *, abandon: bool, reason: str | None) -> None:
        """Stop an execution after its running actions, or immediately if these are abandoned."""
        if execution.status not in RUNNING:
            raise AwsError(
                "PipelineExecutionNotStoppableException",
                f"Pipeline execution {execution.id} is in the status {execution.status} and cannot be stopped",
            )
        if execution.status == "Stopping" and not abandon:
            raise AwsError(
                "DuplicatedStopRequestException",
                f"Pipeline execution {execution.id} is already being stopped",
            )
        execution.stop_reason = reason
        if abandon:
            self._end_immediately(pipeline, execution, "Stopped")
            return
        execution.status, execution.updated = "Stopping", self._scheduler.now()
        self._send_event(pipeline, execution, "Pipeline", "STOPPING")
        if execution.turn is not None:
            execution.turn.set(_STOPPED)

    # ---- the processes

    def _run_stages(self, pipeline: Pipeline, execution: Execution) -> Process:
        self._send_event(pipeline, execution, "Pipeline", "STARTED")
        try:
            for stage in execution.definition["stages"]:
                turn = yield from self._enter_stage(pipeline, execution, stage["name"])
                if turn == _SUPERSEDED:
                    return self._end_execution(pipeline, execution, "Superseded")
                if execution.status == "Stopping":
                    return self._end_execution(pipeline, execution, "Stopped")
                status = yield from self._run_stage(pipeline, execution, stage)
                if status != "Succeeded":
                    return self._end_execution(pipeline, execution, status)
            return self._end_execution(pipeline, execution, "Succeeded")
        finally:
            self._leave_stage(pipeline, execution)
            shutil.rmtree(execution.directory, ignore_errors=True)

    def _enter_stage(self, pipeline: Pipeline, execution: Execution, stage: str) -> Process:
        """Wait until the stage is free; a newer waiting execution supersedes an older one."""
        self._leave_stage(pipeline, execution)
        if pipeline.mode == "PARALLEL":
            return _GO
        if stage not in pipeline.occupants:
            pipeline.occupants[stage] = execution
            return _GO
        queue = pipeline.waiting.setdefault(stage, [])
        if pipeline.mode == "SUPERSEDED":
            for older in queue:
                if older.turn is not None:
                    older.turn.set(_SUPERSEDED)
            queue.clear()
        queue.append(execution)
        execution.turn = Future()
        turn = yield execution.turn
        execution.turn = None
        return turn

    def _leave_stage(self, pipeline: Pipeline, execution: Execution) -> None:
        """Leave the stage that an execution occupies; the execution that waits longest enters it."""
        for queue in pipeline.waiting.values():
            if execution in queue:
                queue.remove(execution)
        for stage in [s for s, e in pipeline.occupants.items() if e is execution]:
            del pipeline.occupants[stage]
            queue = pipeline.waiting.get(stage, [])
            if queue:
                following = queue.pop(0)
                pipeline.occupants[stage] = following
                if following.turn is not None:
                    following.turn.set(_GO)

    def _run_stage(self, pipeline: Pipeline, execution: Execution, stage: dict[str, Any]) -> Process:
        """Run a stage's actions in their run order; return the status of the stage."""
        run = StageRun(stage["name"], execution.id)
        execution.stages[run.name] = pipeline.latest[run.name] = run
        self._send_event(pipeline, execution, "Stage", "STARTED", stage=run.name)
        orders = sorted({int(a.get("runOrder", 1)) for a in stage["actions"]})
        for order in orders:
            tasks = [
                self._scheduler.spawn(self._run_action(pipeline, execution, run, action))
                for action in stage["actions"]
                if int(action.get("runOrder", 1)) == order
            ]
            try:
                for task in tasks:
                    yield task
            finally:
                for task in tasks:
                    self._scheduler.cancel(task)
            failed = any(a.status != "Succeeded" for a in run.actions.values())
            unfinished = order != orders[-1]
            if failed or (execution.status == "Stopping" and unfinished):
                run.status = "Failed" if failed else "Stopped"
                break
        else:
            run.status = "Succeeded"
        execution.updated = self._scheduler.now()
        self._send_event(pipeline, execution, "Stage", _STATES[run.status], stage=run.name)
        return run.status

    def _run_action(
        self, pipeline: Pipeline, execution: Execution, stage: StageRun, declared: dict[str, Any]
    ) -> Process:
        now = self._scheduler.now()
        run = ActionRun(stage.name, declared["name"], declared, now, now)
        stage.actions[run.name] = pipeline.latest_actions[stage.name, run.name] = run
        self._send_action_event(pipeline, execution, run, "STARTED")
        yield ACTION_SECONDS
        try:
            if why := self._faults.action_failure(self.place, pipeline.name, stage.name, run.name):
                raise ActionError(why)
            run.configuration = {
                k: resolve_variables(v, pipeline, execution)
                for k, v in declared.get("configuration", {}).items()
            }
            if self.perform_action is None:
                raise ActionError("The simulator has no performer of actions", "InternalError")
            yield from self.perform_action(pipeline, execution, run)
        except ActionError as error:
            run.status, run.error = "Failed", {"code": error.code, "message": str(error)}
        except Exception as error:
            log.exception("an action failed because of an error in the simulator")
            run.status = "Failed"
            run.error = {"code": "InternalError", "message": f"The simulator failed: {error!r}"}
        else:
            run.status = "Succeeded"
            if declared.get("namespace"):
                execution.namespaces[declared["namespace"]] = dict(run.variables)
        run.updated = execution.updated = self._scheduler.now()
        self._send_action_event(pipeline, execution, run, _STATES[run.status])

    # ---- ends and events

    def _end_execution(self, pipeline: Pipeline, execution: Execution, status: str) -> None:
        # A stop request during the last action of the last stage still stops the execution.
        execution.status = "Stopped" if execution.status == "Stopping" and status == "Succeeded" else status
        execution.updated = self._scheduler.now()
        state = _STATES.get(execution.status, execution.status.upper())
        self._send_event(pipeline, execution, "Pipeline", state)

    def _end_immediately(self, pipeline: Pipeline, execution: Execution, status: str) -> None:
        """End an execution in its present stage without waiting for its running actions."""
        for stage in execution.stages.values():
            for action in stage.actions.values():
                if action.status == "InProgress":
                    action.status, action.updated = "Abandoned", self._scheduler.now()
                    self._send_action_event(pipeline, execution, action, _STATES["Cancelled"])
            if stage.status == "InProgress":
                stage.status = status
                self._send_event(pipeline, execution, "Stage", _STATES[status], stage=stage.name)
        if execution.task is not None:
            self._scheduler.cancel(execution.task)
        self._leave_stage(pipeline, execution)
        execution.status = status
        self._end_execution(pipeline, execution, status)

    def _send_action_event(
        self, pipeline: Pipeline, execution: Execution, run: ActionRun, state: str
    ) -> None:
        result: dict[str, Any] = {}
        if run.external_url or run.external_id or run.error:
            result["execution-result"] = {
                "external-execution-url": run.external_url or "",
                "external-execution-id": run.external_id or "",
                "external-execution-summary": run.error["message"] if run.error else run.summary or "",
                **({"error-code": run.error["code"]} if run.error else {}),
            }
        kind = run.declared["actionTypeId"]
        more = {
            "action-execution-id": run.id,
            "region": run.declared.get("region") or self.place.region,
            "type": kind,
            **result,
        }
        self._send_event(pipeline, execution, "Action", state, stage=run.stage, action=run.name, **more)

    def _send_event(
        self, pipeline: Pipeline, execution: Execution, kind: str, state: str, **more: Any
    ) -> None:
        detail = {
            "pipeline": pipeline.name,
            "execution-id": execution.id,
            "start-time": execution.started.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **more,
            "state": state,
            "version": float(execution.definition["version"]),
        }
        self._events.queue_event(
            "aws.codepipeline",
            f"CodePipeline {kind} Execution State Change",
            [pipeline.arn],
            detail,
            self._scheduler.now(),
            self.place,
        )


def resolve_variables(text: str, pipeline: Pipeline, execution: Execution) -> str:
    """A configuration value in which variables are replaced by their values.

    Raises:
        ActionError: a variable has no value.
    """

    def replace(match: re.Match[str]) -> str:
        namespace, name = match.groups()
        if namespace == "codepipeline" and name == "PipelineExecutionId":
            return execution.id
        values = execution.variables if namespace == "variables" else execution.namespaces.get(namespace)
        if values is None or name not in values:
            raise ActionError(
                f"The variable {match.group(0)} in the action's configuration of pipeline {pipeline.name} "
                "could not be resolved: no earlier action gave it",
                "InvalidVariable",
            )
        return values[name]

    return _VARIABLE.sub(replace, text)
