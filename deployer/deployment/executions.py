"""The executions of an environment's pipeline: the one of the wanted commit is found or started, and followed."""

from collections.abc import Mapping, Sequence

from deployer.deployment.foreign_executions import ForeignExecutions
from deployer.deployment.self_update import deployer_tags, end_self_update, updates_own_stack
from deployer.environment.cloud_region import Execution
from deployer.environment.context import ReconcileContext, Stop, report_on_context
from deployer.environment.deployed_stacks import find_environment_url, record_deployed_stacks
from deployer.environment.drift import state_to_compare
from deployer.environment.execution_origin import (
    foreign_executions,
    is_retried_deployment,
    own_executions,
    with_started,
)
from deployer.environment.statuses import StatusReporter, all_stages, failure_text
from deployer.model.environment_status import StackFailure
from deployer.model.environments import Kind
from deployer.model.outcomes import Outcome
from deployer.model.stacks import Phase, Stack
from deployer.queue.items import Cause, Task, Work
from deployer.queue.step_results import Finished, StepResult
from deployer.teardown.leftovers import known_stack_sets

# stacks that the pipeline no longer names and the record still does; each costs the teardown two calls
_EARLIER_STACKS = 20
_SOURCE_POLLS = 20  # how often to wait until an execution reports its commit, if Redis was lost


class Executions:
    """Carries out the steps that start and follow executions.

    Args:
        reporter: posts the statuses of the stages.
        foreign: handles the executions that deployer did not start.
    """

    def __init__(self, reporter: StatusReporter, foreign: ForeignExecutions) -> None:
        self._reporter = reporter
        self._foreign = foreign

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
            stack_sets=known_stack_sets(context),
            region=context.cloud.region,
            stack_arn=stack.arn,
            own_tags=deployer_tags(stack.tags),
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
        listed = context.cloud.executions(context.name, context.repository)
        pipeline = context.record.status.pipeline
        recorded, followed = pipeline.execution, pipeline.open
        is_unlisted = recorded in followed and all(each.id != recorded for each in listed)
        context, own = self._foreign.set_apart(context, listed)
        if is_unlisted and followed[recorded].sha == context.work.spec.sha:
            return self.follow_new(
                context, recorded
            )  # another goal has just started it; AWS does not list it yet
        if not own or (pipeline.reported and not recorded):
            # nothing was started yet, or what the last execution deployed was deleted since
            return context.again(Task.TRIGGER)
        newest = own[0]
        if _lacks_commit(context, newest):
            return context.snooze()  # Redis was lost, and the source stage has not reported the commit yet
        if needs_start(newest, context.work, pipeline.reported) or _may_be_undone(context, newest):
            return context.again(Task.TRIGGER)
        return self.follow_new(context, newest.id)

    def start_wanted(self, context: ReconcileContext) -> StepResult:
        """Start an execution of the wanted commit, and stop the one that the creation of the pipeline started.

        Nothing pins that one to a commit, and it is never reported as a deployment.
        """
        sha = context.work.spec.sha
        if stop := context.stop_if_not_admitted(sha):
            return stop.result
        problem = context.cloud.start_problem(context.name, context.source_location)
        listed = context.cloud.executions(context.name, context.repository)
        for execution in listed:
            if execution.automatic and not execution.ended:
                context.assert_lease()
                context.cloud.stop(
                    context.name, execution.id, problem or f"deployer starts {sha[:12]} instead"
                )
                # what deployer stops itself is no result of the commit that it builds
                followed = context.record.status.pipeline.open
                context = context.with_record(
                    open={key: each for key, each in followed.items() if key != execution.id}
                )
        if listed and not own_executions(context, listed):
            recorded = _record_first_execution(context)
            if isinstance(recorded, Stop):
                return recorded.result
            context = recorded
        started = context.start_execution()
        if isinstance(started, Stop):
            return started.result
        record = with_started(context.record, {started: sha})
        running = [each for each in record.status.pipeline.foreign if each.status == "running"]
        record = self._reporter.post_foreign(context.environment, record, running)
        return self.follow_new(context.replace_record(record), started)

    @report_on_context
    def follow_new(self, context: ReconcileContext, execution: str) -> StepResult:
        """Follow an execution of the goal's commit that this goal has not followed before."""
        context = self._follow_with_commit(context, execution)
        context = context.enter_state("running", execution=execution, commit=context.work.spec.sha)
        context = context.with_work(execution=execution, task=Task.SYNC, polls=0)
        return self._post_and_continue(self._reporter.post_prepared(context))

    @report_on_context
    def follow(self, context: ReconcileContext) -> StepResult:
        """Show the progress of the executions, and end the goal if its own execution has ended."""
        context = self._follow_with_commit(context, context.work.progress.execution)
        context, _ = self._foreign.set_apart(
            context, context.cloud.executions(context.name, context.repository)
        )
        return self._post_and_continue(context)

    def _follow_with_commit(self, context: ReconcileContext, execution: str) -> ReconcileContext:
        return context.replace_record(
            self._reporter.follow_execution(
                context.environment, context.record, execution, context.work.spec.sha, context.cloud
            )
        )

    @report_on_context
    def _post_and_continue(self, context: ReconcileContext) -> StepResult:
        identity = context.work.progress.execution
        commit_unknown = not context.record.status.pipeline.open[identity].sha
        context, found = self._post_changes(context)
        execution = found.get(identity)
        if execution is None:
            if context.work.cause == Cause.EVENT:
                return Finished(str(Outcome.SKIPPED), "its execution is gone", context.record)
            # its pipeline was replaced or deleted
            return context.with_work(execution="", task=Task.SYNC).snooze()
        if commit_unknown and execution.sha != context.work.spec.sha:
            # an earlier version followed what AWS had started
            return context.with_work(execution="").again(Task.TRIGGER)
        return self._end_if_ended(context, execution)

    def _post_changes(self, context: ReconcileContext) -> tuple[ReconcileContext, Mapping[str, Execution]]:
        record, found = self._reporter.post_stage_changes(context.environment, context.record, context.cloud)
        actions = [action for each in found.values() for action in each.stack_actions]
        return record_deployed_stacks(context.replace_record(record), actions), found

    @staticmethod
    def _end_if_ended(context: ReconcileContext, execution: Execution) -> StepResult:
        identity, pipeline = context.work.progress.execution, context.record.status.pipeline
        if not execution.ended:
            return context.snooze()
        if _was_cancelled_by_another(context, execution):
            return _correct_pipeline(context)
        updated = end_self_update(context, execution)
        if isinstance(updated, Stop):
            return updated.result
        context, remark = updated
        ended = {
            "reported": identity,
            "execution": identity,
            "commit": context.work.spec.sha,
            "stages": all_stages(execution, context.record),
        }
        match execution.status:
            case "succeeded":
                reason = (
                    f"{context.work.spec.sha[:12]} went through every stage{_approver_text(context)}{remark}"
                )
                url = find_environment_url(context, identity)
                return context.done(Outcome.DEPLOYED, reason, environment_url=url, **ended)
            case "superseded" if pipeline.foreign and pipeline.execution == identity:
                foreign = pipeline.foreign[-1].words
                reason = f"an execution that deployer did not start superseded it: {foreign}; redeploy it"
                return context.done(Outcome.FAILED, reason, **ended)
            case "superseded":
                return context.done(
                    Outcome.SUPERSEDED, "a newer execution of the pipeline superseded it", **ended
                )
            case _:
                return context.done(Outcome.FAILED, f"{failure_text(execution)}{remark}", **ended)

    def report_event(self, context: ReconcileContext) -> StepResult:
        """Show the newest execution, and those of others, after an event that no goal waits for.

        It never starts anything.
        """
        if context.work.progress.execution:
            return self.follow(context)
        if not context.record.status.stack.stack_arn:  # the pipeline of this name may belong to somebody else
            return Finished(str(Outcome.SKIPPED), "its stack is not on record", context.record)
        listed = context.cloud.executions(context.name, context.repository)
        own = own_executions(context, listed)
        newest = own[0] if own else None
        pipeline = context.record.status.pipeline
        if newest and newest.id == pipeline.reported and not is_retried_deployment(context.record, newest):
            newest = None  # its end was reported
        if newest and _lacks_commit(context, newest):
            return context.snooze()
        if not newest and foreign_executions(context.record, listed, own) == pipeline.foreign:
            context, _ = self._post_changes(context)
            return Finished(str(Outcome.SKIPPED), "nothing waits for this event", context.record)
        # the stack is read only if the event reports something new, since AWS allows few such calls
        stack = context.cloud.stack(context.name)
        if stack is None or not context.owns_stack(stack):
            reason = f"stack {context.name} is gone or lacks deployer's tags for this environment"
            return Finished(str(Outcome.SKIPPED), reason, context.record)
        if newest:
            commit = newest.sha or context.record.spec.commit
            return self.follow(context.with_work(sha=commit, execution=newest.id))
        return self._report_foreign(context, listed)

    def _report_foreign(self, context: ReconcileContext, listed: Sequence[Execution]) -> StepResult:
        context, _ = self._foreign.set_apart(context, listed)
        context, _ = self._post_changes(context)
        found = context.record.status.pipeline.foreign
        reason = f"not deployer's deployment: {found[-1].words}" if found else "deployer has deployed since"
        return Finished(str(Outcome.SKIPPED), reason, context.record)


def _record_first_execution(context: ReconcileContext) -> ReconcileContext | Stop:
    """Record what the execution has changed that the creation of the pipeline started, now that it is stopped.

    Returns:
        The context, or a stop: a stack is still being changed, or the pipeline's own stack has to be updated again.
    """
    if _changes_application(context):
        return Stop(context.snooze(event_follows=False))
    # the stacks that the stopped execution has created are the environment's as well
    actions = context.cloud.stack_actions(context.name)
    context = record_deployed_stacks(context, actions)
    if not context.work.progress.corrects and updates_own_stack(context, actions):
        return Stop(_correct_pipeline(context))
    return context


def _changes_application(context: ReconcileContext) -> bool:
    """Whether an operation runs on a stack that the pipeline deploys: it goes on after its execution was stopped."""
    stacks = map(context.cloud.stack, context.record.status.stack.applications)
    return any(each is not None and each.is_known and each.phase is Phase.BUSY for each in stacks)


def _was_cancelled_by_another(context: ReconcileContext, execution: Execution) -> bool:
    """Whether another execution cancelled the goal's own for the first time, by an update of their pipeline's stack."""
    work = context.work
    return (
        execution.status == "cancelled"
        and work.cause != Cause.EVENT  # an event starts nothing
        and not work.progress.corrects
        and not updates_own_stack(context, execution.stack_actions)
    )


def _correct_pipeline(context: ReconcileContext) -> StepResult:
    """Have the pipeline's stack updated to the wanted release, because an execution of another commit changed it."""
    orders = dict.fromkeys(["created", "updated", "recovered", "restored"], False)
    return context.again(Task.SYNC, corrects=True, execution="", **orders)


def _lacks_commit(context: ReconcileContext, newest: Execution) -> bool:
    """Whether to wait until an execution, of which Redis lost the record, reports its commit."""
    return not newest.sha and not newest.ended and context.work.log.polls < _SOURCE_POLLS


def _may_be_undone(context: ReconcileContext, newest: Execution) -> bool:
    """Whether a teardown may have begun to delete what an execution deployed.

    The record of the teardown is lost with Redis.
    """
    pipeline = context.record.status.pipeline
    if pipeline.execution or pipeline.reported or newest.status != "succeeded":
        return False
    stacks = map(context.cloud.stack, context.record.status.stack.applications)
    return any(each is None or each.phase in {Phase.DELETING, Phase.UNDELETED} for each in stacks)


def _approver_text(context: ReconcileContext) -> str:
    """Who approved a commit that production's rules refuse; empty if no person had to."""
    admitted = context.record.spec.production.admitted
    return f"; {admitted.by}" if admitted.person and admitted.commit == context.work.spec.sha else ""


def needs_start(newest: Execution, work: Work, reported: str) -> bool:
    """Whether an execution must be started, or the newest one is what this goal wants.

    Args:
        newest: the newest execution that deployer started.
        work: the queue item of the goal.
        reported: the execution whose end was reported already; a later push or redeploy wants a new one.
    """
    if newest.sha != work.spec.sha:
        return True
    if not newest.ended:
        return False
    if work.cause == Cause.REDEPLOY or work.progress.updated or work.progress.corrects:
        return True
    if work.cause != Cause.PUSH:
        # only a push or a redeploy starts a new execution; stopped and failed ones were already reported
        return False
    return newest.status in {"stopped", "cancelled", "superseded"} or (
        newest.status == "failed" and newest.id == reported
    )
