"""The events that CodePipeline sends about executions, stages and actions."""

from __future__ import annotations

from typing import Any

from sandbox.aws.clock import Scheduler
from sandbox.aws.events import Events
from sandbox.aws.pipelines import ActionRun, Execution, Pipeline
from sandbox.aws.places import Place

STATES = {"Succeeded": "SUCCEEDED", "Failed": "FAILED", "Stopped": "STOPPED", "Cancelled": "CANCELED"}


class ExecutionEvents:
    """Sends the events of one region's pipelines."""

    def __init__(self, scheduler: Scheduler, events: Events, place: Place) -> None:
        self._scheduler = scheduler
        self._events = events
        self._place = place

    def send_action(self, pipeline: Pipeline, execution: Execution, run: ActionRun, state: str) -> None:
        """Send the event of an action's change of state."""
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
            "region": run.declared.get("region") or self._place.region,
            "type": kind,
            **result,
        }
        self.send(pipeline, execution, "Action", state, stage=run.stage, action=run.name, **more)

    def send(self, pipeline: Pipeline, execution: Execution, kind: str, state: str, **more: Any) -> None:
        """Send the event of a change of state of a `Pipeline`, `Stage` or `Action`."""
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
            self._place,
        )
