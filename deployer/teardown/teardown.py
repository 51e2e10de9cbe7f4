"""The teardown of an environment, stack by stack.

The stacks that the pipeline deployed are deleted first, while the roles that created them still exist, and the
pipeline's own stack last. Each stack is identified by its ARN, because a deleted stack is not found by its name. The
report is stored in the environment's record while it grows, so that neither a lost worker nor another goal in between
loses a part of it.
"""

from collections.abc import Callable, Container, Iterable, Iterator, Sequence

from deployer.environment.cloud_region import LISTING_PATIENCE, Clouds, Inventory, StackAction
from deployer.environment.context import ReconcileContext, Stop, report_on_context
from deployer.environment.deployed_stacks import is_elsewhere, record_deployed_stacks
from deployer.environment.statuses import StatusReporter
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environment_status import AppliedStack, StackFailure
from deployer.model.environments import Environment, Kind
from deployer.model.outcomes import Outcome
from deployer.model.stacks import Phase, Stack, Step
from deployer.model.teardown_report import RetainedItem, TeardownPlan, TeardownReport
from deployer.queue.items import Cause, Task
from deployer.queue.step_results import StepResult
from deployer.queue.store import QueueStore
from deployer.teardown.leftovers import known_stack_sets, stack_sets_left
from deployer.teardown.report import (
    add_deleted_stack,
    change_report,
    close_report,
    plan_deletions,
)
from deployer.teardown.stack_deletion import FOREIGN, StackDeletion, names_deployed_stacks
from deployer.templates.repository_config import TEARDOWN_TAG

GONE = "its pipeline and all that it deployed are gone"
_LISTING_AGE = 60.0  # seconds: teardowns that begin at about the same time share a listing
_REPEAT_LIMIT = 3  # how often a teardown deletes stacks that were created while it ran


class Teardown:
    """Carries out the step that deletes.

    Args:
        clouds: AWS.
        inventory: lists the stacks with the environment's tags.
        lanes: has the records of other environments, whose pipelines may deploy the same stacks.
        reporter: posts the report.
        clock: epoch seconds.
    """

    def __init__(
        self,
        clouds: Clouds,
        inventory: Inventory,
        lanes: QueueStore,
        reporter: StatusReporter,
        clock: Callable[[], float],
    ) -> None:
        self._clouds = clouds
        self._inventory = inventory
        self._lanes = lanes
        self._reporter = reporter
        self._clock = clock
        self._stacks = StackDeletion(lanes, reporter, clock)

    def carry_out(self, context: ReconcileContext) -> StepResult:
        """Continue with the teardown until there is something to wait for.

        Raises:
            TransientError: AWS is unavailable.
            LaneLostError: the lease is lost.
        """
        if context.work.progress.replacing:
            return self._delete_for_replacement(context)
        if context.environment.kind is not Kind.DEVELOPMENT and context.work.cause != Cause.TEARDOWN:
            reason = f"only a person can delete {context.environment.kind}"
            return context.done(Outcome.SKIPPED, reason)
        if not context.record.status.receipt.is_running:
            # the plan is stored before anything is deleted
            return self._plan_teardown(context).again(Task.DELETE)
        while todo := context.record.status.receipt.plan.todo:
            advanced = self._stacks.advance_deletion(context, todo[0])
            if isinstance(advanced, Stop):
                return advanced.result
            context = plan_deletions(advanced, *todo[1:]).with_work(deletions=0)
        verified = self._delete_late_stacks(context)
        return verified.result if isinstance(verified, Stop) else self._end_teardown(verified)

    def cancel_teardown(self, context: ReconcileContext) -> ReconcileContext | Stop:
        """End a teardown because the environment is wanted again. Call it if `is_unfinished` says so.

        A deletion that has begun goes to its end, also one that failed: CloudFormation lets nobody update a stack whose
        deletion failed, so the pipeline could not deploy it.

        Returns:
            A stop while a stack is being deleted, or if the policy leaves a stack whose deletion failed to people.
        """
        before = context.record.status.receipt
        retained = (each.id for each in before.retained if each.is_stack and _is_in_reach(context, each.id))
        for arn in filter(None, dict.fromkeys([before.plan.arn, *retained])):
            advanced = self._end_begun_deletion(context, arn)
            if isinstance(advanced, Stop):
                return advanced
            context = advanced
        if before.is_running or context.record.status.receipt != before:
            context = close_report(context, "cancelled", self._clock())
        return context

    @report_on_context
    def _end_begun_deletion(self, context: ReconcileContext, arn: str) -> ReconcileContext | Stop:
        """Take the next step in the deletion of a stack, if its deletion has begun."""
        stack = context.cloud.stack(arn)
        if stack is None or stack.phase not in {Phase.DELETING, Phase.UNDELETED, Phase.GONE}:
            return context
        if stack.phase is Phase.GONE:
            return self._stacks.record_deleted(context, stack)
        if stack.name == context.name:  # a step of its own replaces a stack whose deletion failed
            return Stop(context.snooze(event_follows=False)) if stack.phase is Phase.DELETING else context
        is_ordered = arn == context.record.status.receipt.plan.arn
        if not is_ordered and not context.owns_stack(stack):
            return context
        return self._stacks.advance_deletion(change_report(context, arn=arn), stack.name)

    # --- the plan ---

    def _plan_teardown(self, context: ReconcileContext) -> ReconcileContext:
        """Find out what to delete, and stop the executions that would create more.

        The environment no longer has an execution, and the newest one counts as reported: a later goal starts a new
        one, because what the former one deployed may be gone.
        """
        environment, record = context.environment, context.record
        stack = context.cloud.stack(context.name)
        own_stack = stack if stack and context.owns_stack(stack) else None
        newest = self._stop_executions(context, own_stack) if own_stack else ""
        # the whole history of the pipeline tells which stacks it created, also after Redis was lost
        actions = context.cloud.stack_actions(context.name) if own_stack else []
        context = record_deployed_stacks(context, actions, again=True)
        foreign = stack is not None and own_stack is None
        applications = [] if foreign else context.cloud.deployed_stacks(context.name)
        # the listing also has what an earlier definition deployed, and what the record does not know
        since = max(context.work.accepted_at, context.now - _LISTING_AGE)
        listed = self._inventory.stacks(context.repository, since, LISTING_PATIENCE, environment.kind).stacks
        every = _root_stacks(context, listed)
        others = self._stop_other_pipelines(context, every)
        names = [each.name for each in others]
        applications = list(dict.fromkeys([*applications, *record.status.stack.applications, *names]))
        policies = [each.tags.get(TEARDOWN_TAG, "") for each in ([own_stack] if own_stack else []) + others]
        teardown = record.spec.teardown or next(filter(None, policies), "")
        stack_sets = record.status.stack.stack_sets if foreign else known_stack_sets(context)
        context = context.with_record(
            applications=applications,
            stack_sets=stack_sets,
            teardown=teardown,
            region=context.cloud.region,
        )
        elsewhere = [*_stacks_in_other_regions(context, every), *self._deployed_elsewhere(context, actions)]
        return self._start_report(context, listed, elsewhere, newest)

    def _stop_other_pipelines(self, context: ReconcileContext, every: Iterable[Stack]) -> list[Stack]:
        """Stop the executions of the environment's pipelines under former names.

        Returns:
            The environment's other stacks in its region, those of pipelines last.
        """
        others = [each for each in every if each.region == context.cloud.region and each.name != context.name]
        pipelines = [each for each in others if each.name in context.environment.stack_names]
        for pipeline in pipelines:
            self._stop_executions(context, pipeline)
        return [each for each in others if each not in pipelines] + pipelines

    def _start_report(
        self,
        context: ReconcileContext,
        listed: Sequence[Stack],
        elsewhere: Sequence[RetainedItem],
        newest: str,
    ) -> ReconcileContext:
        """Begin the report, with the stacks to delete and those that are left.

        Args:
            context: the task.
            listed: the stacks of the repository.
            elsewhere: the stacks that this teardown does not reach.
            newest: the id of the newest execution; empty if there is none.
        """
        status = context.record.status
        named = [*status.stack.applications, *reversed(status.stack.earlier)]
        created = [each.name for each in reversed(status.stack.deployed)]
        # a pipeline may deploy its own stack, whose roles the other stacks need
        planned = [each for each in dict.fromkeys([*named, *created]) if each != context.name]
        planned.sort(key=lambda each: each in context.environment.stack_names)
        retained = [*self._stack_in_former_account(context), *elsewhere, *stack_sets_left(context)]
        report = TeardownReport(
            began_at=self._clock(),
            retained=list({each.id: each for each in retained}.values()),
            repository_state=context.work.spec.word,
            plan=TeardownPlan(shared=self._unrecorded_users(context, listed, planned) if planned else {}),
        )
        context = context.enter_state(
            "deleting",
            receipt=report,
            environment_url="",
            execution="",
            reported=newest or status.pipeline.execution or status.pipeline.reported,
        )
        return plan_deletions(context, *planned, context.name)

    def _unrecorded_users(
        self, context: ReconcileContext, listed: Iterable[Stack], names: Container[str]
    ) -> dict[str, str]:
        """Which of the stacks other pipelines deploy too, asked of AWS if no record tells because Redis was lost.

        Returns:
            A stack's name to the key of the other environment.
        """
        records = {each.environment: each for each in self._lanes.environments(context.repository)}
        found: dict[str, str] = {}
        for stack in listed:
            other = Environment.of_tags(context.repository, stack.tags)
            if other is None or other == context.environment or stack.name not in other.stack_names:
                continue
            # a stack whose status this version does not know counts as one whose pipeline runs
            never_created = stack.is_gone or (stack.is_known and stack.phase is Phase.WEDGED)
            if never_created or names_deployed_stacks(records.get(other.key)):
                continue
            cloud = self._clouds.at(other.kind, stack.region)
            found |= {name: other.key for name in cloud.deployed_stacks(stack.name) if name in names}
        return found

    def _stack_in_former_account(self, context: ReconcileContext) -> Iterator[RetainedItem]:
        """The pipeline's stack, if it is in an account that the settings no longer name: it is out of reach."""
        arn, kind = context.record.status.stack.stack_arn, context.environment.kind
        account, here = Stack(arn, "", "").account, self._clouds.target(kind).account
        if account and here and account != here:
            why = (
                f"it is in account {account}, which is no longer the target of {kind}, "
                "with all that its pipeline deployed"
            )
            yield RetainedItem(f"stack {context.name}", arn, why)

    def _deployed_elsewhere(
        self, context: ReconcileContext, actions: Iterable[StackAction]
    ) -> Iterator[RetainedItem]:
        """The stacks of actions that work in another region or account, which only a person deletes."""
        for each in {each.stack: each for each in actions if is_elsewhere(context, each)}.values():
            if each.region in {"", context.cloud.region}:
                where = f"account {each.account}"
                found: Stack | None = Stack(each.stack, each.stack_name, "")
            else:
                where = each.region
                found = self._clouds.at(context.environment.kind, each.region).stack(each.stack)
            if found and not found.is_gone:
                why = f"an action of its pipeline deploys it in {where}, which a teardown does not reach"
                yield RetainedItem(f"stack {each.stack_name}", found.arn, why)

    @staticmethod
    def _stop_executions(context: ReconcileContext, stack: Stack) -> str:
        """Stop the executions of the pipeline in a stack; returns the id of the newest one, if there is one."""
        if stack.phase in {Phase.GONE, Phase.DELETING}:
            return ""
        executions = context.cloud.executions(stack.name)
        for execution in executions:
            if not execution.ended:
                context.assert_lease()
                context.cloud.stop(stack.name, execution.id, "the environment is being deleted")
        return executions[0].id if executions else ""

    @report_on_context
    def _delete_late_stacks(self, context: ReconcileContext) -> ReconcileContext | Stop:
        """Delete stacks that were created since: an execution may have ordered one before it was stopped."""
        report = context.record.status.receipt
        late = _late_stacks(context)
        if not late:
            return context
        if report.plan.again < _REPEAT_LIMIT:
            context = plan_deletions(context, *(each.name for each in late))
            return Stop(change_report(context, again=report.plan.again + 1).again(Task.DELETE))
        for stack in late:
            left = self._stacks.leave_stack(
                context, stack, "something creates it again each time it is deleted"
            )
            if isinstance(left, Stop):
                return left
            context = left
        return context

    # --- the end ---

    def _end_teardown(self, context: ReconcileContext) -> StepResult:
        environment = context.environment
        retained = context.record.status.receipt.retained
        context = close_report(context, "partly" if retained else "removed", self._clock())
        record = self._reporter.end_prepare(environment, context.record, "its environment was deleted")
        record = self._reporter.stop_following(
            environment, record, "ended because its environment was deleted"
        )
        ids = {each.id for each in retained}
        left_of_pipeline = [each for each in record.status.stack.deployed if each.arn in ids]
        record = record.but(
            deployed=left_of_pipeline, own_tags={},
            generation=record.history.generation + 1, stages=[], execution="", applications=[], earlier=[],
            stack_sets=[], stack_arn="", region="", failure=StackFailure(), refused="", refusals=0,
            applied=AppliedStack(), drift="",
        )  # fmt: skip
        # a person deleted it, so the person's wish to stay at its commit ends too
        if not (record.spec.expiry.aged or context.work.spec.word):
            record = record.but(held_at="")
        record = self._reporter.post_teardown_report(environment, record)
        left = any(each.what == f"stack {context.name}" for each in retained)
        # an environment that is created again has the present name
        context = context.replace_record(record.but(stack_name=environment.stack_name))
        reason = f"{GONE}{_deletion_text(context)}"
        if retained:
            text = "; ".join(f"{each.what}: {each.why}" for each in retained)
            reason = f"left are {text}" if left else f"its pipeline is gone; left are {text}"
            reason += _deletion_text(context)
        return context.done(Outcome.DELETED, reason)

    def _delete_for_replacement(self, context: ReconcileContext) -> StepResult:
        """Delete a pipeline's stack whose creation failed, to create it again. The stacks it deployed stay."""
        stack = context.cloud.stack(context.work.progress.stack_arn or context.name)
        if stack is None or stack.phase is Phase.GONE:
            return self._replace_deleted(context, stack)
        if not context.owns_stack(stack):
            return self._reporter.fail_goal(context, f"stack {stack.name} is left: {FOREIGN}")
        if stack.phase is not Phase.DELETING and stack.row.deploy is not Step.REPLACE:
            # the stack has been created since its replacement was decided
            return context.with_work(replacing=False, stack_arn="").again(Task.SYNC)
        context, why = self._stacks.order_deletion(context.with_work(stack_arn=stack.arn), stack)
        if why:
            return self._reporter.fail_goal(context, f"its stack could not be deleted: {why}")
        return context.snooze(event_follows=False)

    def _replace_deleted(self, context: ReconcileContext, stack: Stack | None) -> StepResult:
        """Continue with the creation once the former stack is deleted."""
        if stack and context.work.progress.deletions > 1:  # some of its resources may have been left
            report = TeardownReport(began_at=self._clock())
            resources = context.cloud.resources(stack.arn)
            context = add_deleted_stack(context.with_record(receipt=report), stack, resources)
            context = close_report(context, "replaced", self._clock())
        context = context.with_work(replacing=False, stack_arn="", deletions=0)
        context = context.with_record(generation=context.record.history.generation + 1)
        if context.name != context.environment.stack_name:
            # that step finds out whether anybody has the present name already
            return context.again(Task.SYNC)
        return context.again(Task.PROVISION, created=True)


def _is_in_reach(context: ReconcileContext, arn: str) -> bool:
    """Whether a stack is in the region and the account in which this task works."""
    stack, cloud = Stack(arn, "", ""), context.cloud
    return stack.region == cloud.region and cloud.account in {"own", stack.account}


def _deletion_text(context: ReconcileContext) -> str:
    """What creates an environment again that a person deleted although its branch exists, for the end of a reason."""
    if not context.record.spec.deletion:
        return ""
    return "; it stays deleted until a push, a redeploy, or a resync with --recreate"


def is_unfinished(record: EnvironmentRecord) -> bool:
    """Whether a teardown runs, or the last one left stacks and the pipeline has not run since."""
    report = record.status.receipt
    left_stacks = any(each.is_stack for each in report.retained) and not record.status.pipeline.execution
    return report.is_running or left_stacks


def _root_stacks(context: ReconcileContext, listed: Sequence[Stack]) -> list[Stack]:
    """The environment's existing stacks in a listing, without nested stacks, which are deleted with their parents."""
    every = [each for each in listed if context.environment.owns(each.tags) and not each.is_gone]
    arns = {each.arn for each in every}
    return [each for each in every if each.parent not in arns]


def _stacks_in_other_regions(context: ReconcileContext, stacks: Iterable[Stack]) -> Iterator[RetainedItem]:
    """The stacks in other regions than the environment's, which only a person deletes."""
    for each in stacks:
        if each.region != context.cloud.region:
            why = f"it is in {each.region}, and a teardown deletes only what is in {context.cloud.region}"
            yield RetainedItem(f"stack {each.name}", each.arn, why)


def _late_stacks(context: ReconcileContext) -> list[Stack]:
    """The environment's stacks that exist at the end of a teardown and are not in its report, the pipeline's last."""
    status, report = context.record.status.stack, context.record.status.receipt
    gone = [each.what.removeprefix("stack ") for each in report.removed if each.is_stack]
    deployed = [each.name for each in status.deployed]
    others = dict.fromkeys([*status.applications, *status.earlier, *deployed, *gone])
    others.pop(context.name, None)
    retained = {each.id for each in report.retained}
    found = filter(None, map(context.cloud.stack, [*others, context.name]))
    return [
        each for each in found if not each.is_gone and each.arn not in retained and context.owns_stack(each)
    ]
