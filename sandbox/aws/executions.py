"""The pipelines of a region, with the processes that run their executions."""

from __future__ import annotations

import itertools
import logging
import re
import shutil
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sandbox.aws.clock import Future, Process, Scheduler
from sandbox.aws.events import Events
from sandbox.aws.executionevents import STATES, ExecutionEvents
from sandbox.aws.faults import Faults
from sandbox.aws.pipelines import RUNNING, ActionRun, Execution, Pipeline, StageRun, check_definition
from sandbox.aws.places import Place
from sandbox.aws.protocol import AwsError

log = logging.getLogger(__name__)

ACTION_SECONDS = 0.5
_REMEMBERED = 20_000  # executions in the history, including those of deleted pipelines
_VARIABLE = re.compile(r"#\{([^}.]+)\.([^}]+)\}")
_GO, _SUPERSEDED, _STOPPED = "go", "superseded", "stopped"


class ActionError(Exception):
    """An action failed; `code` is the code of its error details."""

    def __init__(self, message: str, code: str = "JobFailed") -> None:
        super().__init__(message)
        self.code = code


Perform = Callable[[Pipeline, Execution, ActionRun], Process]
RollBack = Callable[[Pipeline, str, Execution], None]


class Pipelines:
    """All pipelines of a region; callers hold the simulator's lock."""

    limit = 1000
    """How many pipelines the region allows."""

    def __init__(
        self, scheduler: Scheduler, faults: Faults, events: Events, directory: Path, place: Place
    ) -> None:
        self._scheduler = scheduler
        self._faults = faults
        self._events = ExecutionEvents(scheduler, events, place)
        self._directory = directory
        self.place = place
        self._number = itertools.count(1)
        self.perform_action: Perform | None = None
        self.roll_back_failed: RollBack | None = None
        self.starts = True
        """Whether a new pipeline starts its first execution, as in AWS."""
        self.watch: Callable[[], None] = lambda: None
        """Called after every change of a definition or a webhook, because there may be a source to watch now."""
        self.webhooks: dict[str, dict[str, Any]] = {}
        self.callers: dict[str, str] = {}
        """Who called CloudFormation last for a stack: an ARN by the name of the stack."""
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

    def create(self, definition: dict[str, Any], tags: dict[str, str], caller: str) -> int:
        """Create a pipeline, which starts its first execution; return the version of the definition.

        `caller` is the ARN of who orders it.
        """
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
            self.start(pipeline, trigger="CreatePipeline", detail=caller)
        self.watch()
        return 1

    def update(self, definition: dict[str, Any], restart_by: str = "") -> int:
        """Replace a pipeline's definition, which cancels running executions; return the new version.

        `restart_by` is the ARN of CloudFormation's caller if the property RestartExecutionOnUpdate is set.
        """
        pipeline = self.get(definition["name"])
        check_definition(definition, self.place.region)
        for execution in pipeline.running_executions():
            self._end_immediately(pipeline, execution, "Cancelled")
        pipeline.definition = {**definition, "version": pipeline.version + 1}
        pipeline.updated = self._scheduler.now()
        if restart_by:
            self.start(pipeline, trigger="StartPipelineExecution", detail=restart_by)
        self.watch()
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
        rolled_back: tuple[str, str] = ("", ""),
    ) -> Execution:
        """Start an execution; a token that was used before returns the execution that it started.

        Of a rollback, `rolled_back` is the only stage that runs, and the execution to which it is rolled back.
        """
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
            rollback_target=rolled_back[1],
        )
        execution.directory = self._directory / execution.id
        pipeline.executions[execution.id] = execution
        self.history.append((pipeline, execution))
        if token is not None:
            pipeline.tokens[token] = execution.id
        stages = [s for s in execution.definition["stages"] if rolled_back[0] in ("", s["name"])]
        execution.task = self._scheduler.spawn(self._run_stages(pipeline, execution, stages, "STARTED"))
        return execution

    def resume(
        self, pipeline: Pipeline, execution: Execution, stage: str, done: Mapping[str, ActionRun]
    ) -> None:
        """Continue an execution that has ended at one of its stages, without the actions that are done."""
        names = [s["name"] for s in execution.definition["stages"]]
        stages = execution.definition["stages"][names.index(stage) :]
        execution.status, execution.updated = "InProgress", self._scheduler.now()
        process = self._run_stages(pipeline, execution, stages, "RESUMED", done)
        execution.task = self._scheduler.spawn(process)

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
        self._events.send(pipeline, execution, "Pipeline", "STOPPING")
        if execution.turn is not None:
            execution.turn.set(_STOPPED)

    # ---- the processes

    def _run_stages(
        self,
        pipeline: Pipeline,
        execution: Execution,
        stages: Sequence[dict[str, Any]],
        state: str,
        done: Mapping[str, ActionRun] | None = None,
    ) -> Process:
        self._events.send(pipeline, execution, "Pipeline", state)
        try:
            for stage in stages:
                turn = yield from self._enter_stage(pipeline, execution, stage["name"])
                if turn == _SUPERSEDED:
                    return self._end_execution(pipeline, execution, "Superseded")
                if execution.status == "Stopping":
                    return self._end_execution(pipeline, execution, "Stopped")
                status = yield from self._run_stage(pipeline, execution, stage, done or {})
                done = None
                if status != "Succeeded":
                    return self._end_unsuccessful(pipeline, execution, stage, status)
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

    def _end_unsuccessful(
        self, pipeline: Pipeline, execution: Execution, stage: dict[str, Any], status: str
    ) -> None:
        """End an execution in a stage that did not succeed; roll the stage back if its definition says so."""
        self._leave_stage(pipeline, execution)
        self._end_execution(pipeline, execution, status)
        rolls_back = (stage.get("onFailure") or {}).get("result") == "ROLLBACK"
        if rolls_back and status == "Failed" and self.roll_back_failed and not execution.rollback_target:
            self.roll_back_failed(pipeline, stage["name"], execution)

    def _run_stage(
        self,
        pipeline: Pipeline,
        execution: Execution,
        stage: dict[str, Any],
        done: Mapping[str, ActionRun],
    ) -> Process:
        """Run a stage's actions in their run order, without those that are done; return the status of the stage."""
        run = StageRun(stage["name"], execution.id, actions=dict(done))
        execution.stages[run.name] = pipeline.latest[run.name] = run
        self._events.send(pipeline, execution, "Stage", "STARTED", stage=run.name)
        orders = sorted({int(a.get("runOrder", 1)) for a in stage["actions"]})
        for order in orders:
            tasks = [
                self._scheduler.spawn(self._run_action(pipeline, execution, run, action))
                for action in stage["actions"]
                if int(action.get("runOrder", 1)) == order and action["name"] not in done
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
        self._events.send(pipeline, execution, "Stage", STATES[run.status], stage=run.name)
        return run.status

    def _run_action(
        self, pipeline: Pipeline, execution: Execution, stage: StageRun, declared: dict[str, Any]
    ) -> Process:
        now = self._scheduler.now()
        run = ActionRun(stage.name, declared["name"], declared, now, now)
        stage.actions[run.name] = pipeline.latest_actions[stage.name, run.name] = run
        self._events.send_action(pipeline, execution, run, "STARTED")
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
        self._events.send_action(pipeline, execution, run, STATES[run.status])

    # ---- ends and events

    def _end_execution(self, pipeline: Pipeline, execution: Execution, status: str) -> None:
        # A stop request during the last action of the last stage still stops the execution.
        execution.status = "Stopped" if execution.status == "Stopping" and status == "Succeeded" else status
        execution.updated = self._scheduler.now()
        state = STATES.get(execution.status, execution.status.upper())
        self._events.send(pipeline, execution, "Pipeline", state)

    def _end_immediately(self, pipeline: Pipeline, execution: Execution, status: str) -> None:
        """End an execution in its present stage without waiting for its running actions."""
        for stage in execution.stages.values():
            for action in stage.actions.values():
                if action.status == "InProgress":
                    action.status, action.updated = "Abandoned", self._scheduler.now()
                    self._events.send_action(pipeline, execution, action, STATES["Cancelled"])
            if stage.status == "InProgress":
                stage.status = status
                self._events.send(pipeline, execution, "Stage", STATES[status], stage=stage.name)
        if execution.task is not None:
            self._scheduler.cancel(execution.task)
        self._leave_stage(pipeline, execution)
        execution.status = status
        self._end_execution(pipeline, execution, status)


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
