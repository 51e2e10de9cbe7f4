"""The executions of an environment's pipeline: the one of the wanted commit is found or started, and followed."""

from collections.abc import Mapping
from dataclasses import replace

from deployer.environment.cloud_region import Execution
from deployer.environment.context import ReconcileContext, Stop, report_on_context
from deployer.environment.drift import state_to_compare
from deployer.environment.statuses import StatusReporter, all_stages, failure_text
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import StackFailure
from deployer.model.environments import Kind
from deployer.model.outcomes import Outcome
from deployer.model.stacks import Stack
from deployer.queue.items import Cause, Task, Work
from deployer.queue.step_results import Finished, StepResult

# stacks that the pipeline no longer names and the record still does; each costs the teardown two calls
_EARLIER_STACKS = 20
_SOURCE_POLLS = 20  # how often to wait until an execution reports its commit


class Executions:
    """Carries out the steps that start and follow executions.

    Args:
        reporter: posts the statuses of the stages.
    """

    def __init__(self, reporter: StatusReporter) -> None:
        self._reporter = reporter

    def find_or_start(self, context: ReconcileContext, stack: Stack) -> StepResult:
        """Find the execution of the wanted commit, or have one started. The stack is already as desired."""
        if context.environment.kind is not Kind.DEVELOPMENT and not stack.protected:
            context.assert_lease()
            context.cloud.protect(stack.arn, on=True)
        record = context.record
        applications = context.cloud.deployed_stacks(context.name) or record.status.stack.applications
        known = dict.fromkeys([*record.status.stack.earlier, *reversed(record.status.stack.applications)])
        context = context.with_record(
            applications=applications,
            earlier=[each for each in known if each not in applications][-_EARLIER_STACKS:],
            region=context.cloud.region,
            stack_arn=stack.arn,
            failure=StackFailure(),
            refused="",
            refusals=0,
        )
        work = context.work
        if (
            work.progress.created
            or work.progress.updated
            or work.progress.recovered
            or not record.status.stack.applied
        ):
            context = context.with_record(applied=state_to_compare(stack), drift="")
        return self._choose_execution(context)

    @report_on_context
    def _choose_execution(self, context: ReconcileContext) -> StepResult:
        work, record = context.work, context.record
        executions = context.cloud.executions(context.name, context.repository)
        recorded, listed = record.status.pipeline.execution, {each.id for each in executions}
        followed = record.status.pipeline.open
        if recorded not in listed and recorded in followed and followed[recorded].sha == work.spec.sha:
            return self.follow_new(
                context, recorded
            )  # another goal has just started it; AWS does not list it yet
        if not executions:
            return context.again(Task.TRIGGER)
        newest = executions[0]
        if newest.id == record.status.pipeline.reported and not recorded:
            # an earlier goal reported it, or what it deployed was deleted since
            return context.again(Task.TRIGGER)
        if _is_of_rejected_pipeline(context, newest):
            return context.again(Task.TRIGGER)  # it stops the execution, and reports the problem
        if (
            not newest.sha and newest.id in followed
        ):  # deployer knows the commit of an execution that it started
            newest = replace(newest, sha=followed[newest.id].sha)
        if not newest.sha and not newest.ended and work.log.polls < _SOURCE_POLLS:
            # its source stage has not reported the commit yet; most likely it is the wanted one
            return self.follow_new(context, newest.id, sha="")
        if needs_start(newest, work, record.status.pipeline.reported):
            return context.again(Task.TRIGGER)
        return self.follow_new(context, newest.id)

    def start_wanted(self, context: ReconcileContext) -> StepResult:
        """Start an execution of the wanted commit, and stop the one that AWS started by itself."""
        sha = context.work.spec.sha
        if stop := context.stop_if_not_admitted(sha):
            return stop.result
        problem = context.cloud.start_problem(context.name, context.source_location)
        for execution in context.cloud.executions(context.name, context.repository):
            if execution.automatic and not execution.ended and (problem or execution.sha != sha):
                context.assert_lease()
                context.cloud.stop(
                    context.name, execution.id, problem or f"deployer starts {sha[:12]} instead"
                )
                # what deployer stops itself is no result of the commit that it builds
                followed = context.record.status.pipeline.open
                context = context.with_record(
                    open={key: each for key, each in followed.items() if key != execution.id}
                )
        started = context.start_execution()
        if isinstance(started, Stop):
            return started.result
        return self.follow_new(context, started)

    @report_on_context
    def follow_new(self, context: ReconcileContext, execution: str, sha: str | None = None) -> StepResult:
        """Follow an execution that this goal has not followed before.

        Args:
            context: the task.
            execution: the id of the execution.
            sha: its commit, by default that of the goal; empty if the execution has not reported one. Such an
                execution may turn out to be of another commit.
        """
        commit = context.work.spec.sha if sha is None else sha
        record = self._reporter.follow_execution(
            context.environment, context.record, execution, commit, context.cloud
        )
        context = context.replace_record(record)
        context = context.enter_state("running", execution=execution, commit=context.work.spec.sha)
        context = context.with_work(execution=execution, task=Task.SYNC, polls=0)
        return self.follow(self._reporter.post_progress(context, "success", "the pipeline is ready"))

    @report_on_context
    def follow(self, context: ReconcileContext) -> StepResult:
        """Show the progress of the executions, and end the goal if its own execution has ended."""
        context = self._follow_own_execution(context)
        return self._post_and_continue(context)

    def _follow_own_execution(self, context: ReconcileContext) -> ReconcileContext:
        """Follow the goal's execution with its commit."""
        work = context.work
        return context.replace_record(
            self._reporter.follow_execution(
                context.environment, context.record, work.progress.execution, work.spec.sha, context.cloud
            )
        )

    @report_on_context
    def _post_and_continue(self, context: ReconcileContext) -> StepResult:
        identity = context.work.progress.execution
        commit_unreported = not context.record.status.pipeline.open[identity].sha
        context, found = self._post_changes(context)
        execution = found.get(identity)
        if execution is None:
            if context.work.cause == Cause.EVENT:
                return Finished(str(Outcome.SKIPPED), "its execution is gone", context.record)
            # its pipeline was replaced or deleted
            return context.with_work(execution="", task=Task.SYNC).snooze()
        if commit_unreported and execution.sha != context.work.spec.sha:
            return self._handle_unconfirmed_commit(context, execution)
        return self._end_if_ended(context, execution)

    @report_on_context
    def _handle_unconfirmed_commit(self, context: ReconcileContext, execution: Execution) -> StepResult:
        """Continue with an execution whose commit was unknown and is not known to be the wanted one."""
        if not execution.sha and not execution.ended and context.work.log.polls < _SOURCE_POLLS:
            return context.snooze()
        if execution.sha or not execution.ended:
            # it builds another commit, or never reports one
            return context.with_work(execution="").again(Task.TRIGGER)
        # it failed before it read a commit; the wanted commit gets the status
        context = self._follow_own_execution(context)
        return self._post_failed_start(context, execution)

    @report_on_context
    def _post_failed_start(self, context: ReconcileContext, execution: Execution) -> StepResult:
        context, found = self._post_changes(context)
        return self._end_if_ended(context, found.get(execution.id, execution))

    def _post_changes(self, context: ReconcileContext) -> tuple[ReconcileContext, Mapping[str, Execution]]:
        record, found = self._reporter.post_stage_changes(context.environment, context.record, context.cloud)
        return context.replace_record(record), found

    @staticmethod
    def _end_if_ended(context: ReconcileContext, execution: Execution) -> StepResult:
        identity = context.work.progress.execution
        if not execution.ended:
            return context.snooze()
        ended = {
            "reported": identity,
            "execution": identity,
            "commit": context.work.spec.sha,
            "stages": all_stages(execution, context.record),
        }
        match execution.status:
            case "succeeded":
                reason = f"{context.work.spec.sha[:12]} went through every stage{_approver_text(context)}"
                return context.done(Outcome.DEPLOYED, reason, **ended)
            case "superseded":
                return context.done(
                    Outcome.SUPERSEDED, "a newer execution of the pipeline superseded it", **ended
                )
            case _:
                return context.done(Outcome.FAILED, failure_text(execution), **ended)

    def report_event(self, context: ReconcileContext) -> StepResult:
        """Show the progress of the newest execution after an event that no goal waits for. It never starts anything."""
        if context.work.progress.execution:
            return self.follow(context)
        if not context.record.status.stack.stack_arn:  # the pipeline of this name may belong to somebody else
            return Finished(str(Outcome.SKIPPED), "its stack is not on record", context.record)
        newest = next(iter(context.cloud.executions(context.name, context.repository)), None)
        if newest is None or (
            newest.id == context.record.status.pipeline.reported and not _was_retried(newest, context.record)
        ):
            context, _ = self._post_changes(context)
            return Finished(str(Outcome.SKIPPED), "nothing waits for this event", context.record)
        if not newest.sha and not newest.ended and context.work.log.polls < _SOURCE_POLLS:
            return context.snooze()
        # the stack is read only if the event reports something new, since AWS allows few such calls
        stack = context.cloud.stack(context.name)
        if stack is None or not context.environment.owns(stack.tags):
            reason = f"stack {context.name} is gone or lacks deployer's tags for this environment"
            return Finished(str(Outcome.SKIPPED), reason, context.record)
        return self.follow(
            context.with_work(sha=newest.sha or context.record.spec.commit, execution=newest.id)
        )


def _is_of_rejected_pipeline(context: ReconcileContext, newest: Execution) -> bool:
    """Whether the creation of a pipeline started an execution, and deployer may not start that pipeline."""
    if not newest.automatic or newest.id == context.record.status.pipeline.reported:
        return False
    return bool(context.cloud.start_problem(context.name, context.source_location))


def _approver_text(context: ReconcileContext) -> str:
    """Who approved a commit that production's rules refuse; empty if no person had to."""
    admitted = context.record.spec.production.admitted
    return f"; {admitted.by}" if admitted.person and admitted.commit == context.work.spec.sha else ""


def _was_retried(execution: Execution, record: EnvironmentRecord) -> bool:
    """Whether a person retried a stage of the execution whose end was reported last."""
    if not execution.ended:
        return True
    failed = any(stage.status in {"failed", "stopped"} for stage in record.status.pipeline.stages)
    return execution.status == "succeeded" and failed and execution.id == record.status.pipeline.execution


def needs_start(newest: Execution, work: Work, reported: str) -> bool:
    """Whether an execution must be started, or the newest one is what this goal wants.

    Args:
        newest: the pipeline's newest execution.
        work: the queue item of the goal.
        reported: the execution whose end was reported already; a later push or redeploy wants a new one.
    """
    if newest.sha != work.spec.sha:
        return True
    if not newest.ended:
        return False
    if work.cause == Cause.REDEPLOY or work.progress.updated:
        return True
    if work.cause != Cause.PUSH:
        # only a push or a redeploy starts a new execution; stopped and failed ones were already reported
        return False
    return newest.status in {"stopped", "superseded"} or (newest.status == "failed" and newest.id == reported)
