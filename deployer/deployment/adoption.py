"""The adoption of a branch's stack whose record is lost."""

from contextlib import suppress
from dataclasses import replace

from deployer.deployment.deploy_folder import DeployFolderReader
from deployer.deployment.executions import Executions
from deployer.deployment.foreign_executions import ForeignExecutions
from deployer.deployment.observation import StackRead, read_stack
from deployer.environment.context import ReconcileContext, Stop, report_on_context
from deployer.environment.drift import adopt_unrecorded_stack
from deployer.model.errors import PermanentError
from deployer.model.stacks import Phase
from deployer.queue.step_results import Finished, StepResult


class StackAdoption:
    """Adopts stacks.

    Args:
        folders: reads the repository's settings for expiry.
        executions: follows deployer's newest execution of the stack's pipeline.
        foreign: handles the executions that deployer did not start.
    """

    def __init__(
        self, folders: DeployFolderReader, executions: Executions, foreign: ForeignExecutions
    ) -> None:
        self._folders = folders
        self._executions = executions
        self._foreign = foreign

    @report_on_context
    def adopt_stack(self, context: ReconcileContext, read: StackRead | None, result: Finished) -> StepResult:
        """Record a branch's stack that stays as it is, if Redis was lost, and follow what its pipeline ran last.

        Args:
            context: the task.
            read: the stack, if it was read already.
            result: how the goal ends without an execution to follow.
        """
        if read is None:
            read = read_stack(context)
            context = read.context
        stack = read.stack
        if stack is None or not context.environment.owns(stack.tags) or stack.phase is Phase.BUSY:
            return result
        context = adopt_unrecorded_stack(context, stack)
        return self._adopt_execution(context, result, has_pipeline=stack.phase is Phase.READY)

    @report_on_context
    def _adopt_execution(
        self, context: ReconcileContext, result: Finished, *, has_pipeline: bool
    ) -> StepResult:
        # the stack of another phase is not reported as deployed: only a move of its ref corrects it
        if not has_pipeline or not context.record.status.stack.stack_arn:
            return replace(result, record=context.record)
        context, own = self._foreign.set_apart(
            context, context.cloud.executions(context.name, context.repository)
        )
        newest = own[0] if own else None
        if newest is None or not newest.sha:
            return replace(result, record=context.record)
        context = context.with_work(sha=newest.sha)
        with suppress(PermanentError):
            adopted = self._folders.read_wanted_folder(context)  # the settings for expiry
            context = context if isinstance(adopted, Stop) else adopted[0]
        record = context.record
        context = context.with_record(
            ref=record.spec.ref or context.work.spec.ref, used_at=record.history.used_at or context.now
        )
        return self._executions.follow_new(context, newest.id)
