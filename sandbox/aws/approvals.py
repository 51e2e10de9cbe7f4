"""CodePipeline's manual approvals, which wait for PutApprovalResult at most seven days."""

from __future__ import annotations

import uuid

from sandbox.aws.clock import Future, Process, Scheduler
from sandbox.aws.executions import ActionError
from sandbox.aws.pipelines import ActionRun, Execution, Pipeline

LONGEST_SECONDS = 7 * 24 * 3600.0


class Approvals:
    """Performs Approval actions of the provider Manual."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def await_approval(self, _pipeline: Pipeline, _execution: Execution, run: ActionRun) -> Process:
        """Wait for the result, or until the time of the action is over.

        Raises:
            ActionError: the approval was rejected, or nobody answered.
        """
        run.approval_token, run.approval = str(uuid.uuid4()), Future()
        run.external_url = run.configuration.get("ExternalEntityLink")
        minutes = run.declared.get("timeoutInMinutes")
        seconds = 60.0 * float(minutes) if minutes else LONGEST_SECONDS
        timer = self._scheduler.spawn(_expire(run.approval, seconds))
        try:
            verdict = yield run.approval
        finally:
            self._scheduler.cancel(timer)
        if verdict is None:
            raise ActionError("The approval action timed out", "TimedOut")
        run.summary = verdict["summary"]
        if verdict["status"] != "Approved":
            raise ActionError(verdict["summary"] or "The approval was rejected", "ApprovalRejected")


def _expire(approval: Future, seconds: float) -> Process:
    yield seconds
    approval.set(None)
