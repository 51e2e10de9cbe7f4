"""The stack of an environment's pipeline: how its creation, update, rollback and replacement are stored and ordered.

What is about to be ordered is stored with the result of one task, and ordered by the next one. So a task that is
repeated after a crash knows that the stack's state is its own doing, and AWS recognizes the order by its token.
"""

from deployer.deployment.deploy_folder import DeployFolder, DeployFolderReader
from deployer.deployment.observation import Observation
from deployer.deployment.placement import Placement
from deployer.deployment.self_update import deployer_tags, order_tags, pause_drift_check
from deployer.environment.cloud_region import Clouds
from deployer.environment.context import ReconcileContext, Stop, report_on_context
from deployer.environment.decision import Decision
from deployer.environment.drift import state_to_compare
from deployer.environment.statuses import IN_PROGRESS, StatusReporter
from deployer.model.durations import clock
from deployer.model.environment_status import StackFailure
from deployer.model.environments import Kind
from deployer.model.errors import QuotaError
from deployer.model.stacks import REFUSED, Failure, Phase, Stack
from deployer.queue.items import Task
from deployer.queue.step_results import StepResult
from deployer.templates.release import Release
from deployer.templates.repository_config import TEARDOWN_TAG


class Provisioning:
    """Carries out the steps on the pipeline's stack.

    Args:
        clouds: AWS.
        folders: reads the `deploy/` folder.
        placement: chooses the region.
        reporter: posts the state of the pipeline.
    """

    def __init__(
        self,
        clouds: Clouds,
        folders: DeployFolderReader,
        placement: Placement,
        reporter: StatusReporter,
    ) -> None:
        self._clouds = clouds
        self._folders = folders
        self._placement = placement
        self._reporter = reporter

    # --- the decisions, which are stored before anything is ordered ---

    def store_creation(self, observation: Observation, _decision: Decision) -> StepResult:
        """Choose the region of the new stack, and store that its creation will be ordered."""
        context = observation.context
        if elsewhere := self._placement.find_elsewhere(context):
            return elsewhere.again(Task.SYNC)
        regions = self._clouds.target(context.environment.kind).regions
        if (
            context.record.spec.region not in regions
        ):  # no region is chosen, or the settings no longer contain it
            chosen = self._placement.choose_region(context, regions)
            if isinstance(chosen, Stop):
                return chosen.result
            context = chosen
        return context.enter_state("provisioning").again(Task.PROVISION, created=True)

    def store_update(self, observation: Observation, _decision: Decision) -> StepResult:
        """Store that an update of the stack will be ordered."""
        context = observation.context.enter_state("updating")
        context = self._reporter.post_progress(context)
        return context.again(Task.UPDATE, updated=True)

    def prepare_rollback(self, observation: Observation, decision: Decision) -> StepResult:
        """Store that a rollback will be ordered, and why the update failed: AWS shows only the rollback afterwards."""
        context, stack = observation.context, observation.stack
        if stack and context.work.progress.updated and (failure := context.cloud.failure(stack.arn)):
            url = context.cloud.stack_url(stack.arn)
            context = context.with_record(
                failure=StackFailure(failure.resource, failure.type, failure.reason, url)
            )
        context = context.enter_state("updating")
        text = f"rolling back the pipeline's stack: {decision.reason}"
        return self._reporter.post_progress(context, text).again(Task.UPDATE, recovered=True)

    def store_restoration(self, observation: Observation, _decision: Decision) -> StepResult:
        """Store that an update of the stack will be ordered that changes only its tags."""
        context = observation.context.enter_state("updating")
        text = "restoring the tags of the pipeline's stack, which its own update has removed"
        return self._reporter.post_progress(context, text).again(Task.UPDATE, restored=True)

    def store_replacement(self, observation: Observation, decision: Decision) -> StepResult:
        """Store that the stack will be deleted and created again."""
        context = observation.context.enter_state("provisioning")
        text = f"replacing the pipeline: {decision.reason}"
        return self._reporter.post_progress(context, text).again(Task.DELETE, replacing=True)

    # --- the orders ---

    def create_stack(self, context: ReconcileContext) -> StepResult:
        """Order the creation of the stack."""
        read = self._folders.read_wanted_folder(context)
        if isinstance(read, Stop):
            return read.result
        return self._create_from(*read)

    @report_on_context
    def _create_from(self, context: ReconcileContext, folder: DeployFolder) -> StepResult:
        regions = self._clouds.target(context.environment.kind).regions
        if context.environment.kind is Kind.DEVELOPMENT and context.cloud.region in regions:
            allowed = folder.readable_config.allowed_regions(regions)
            if context.cloud.region not in allowed:
                chosen = self._placement.choose_region(context, allowed)
                return chosen.result if isinstance(chosen, Stop) else chosen.again(Task.PROVISION)
        release = self._folders.build_linted_release(context, folder)
        context = context.enter_state("provisioning")
        room = context.cloud.last_capacity()
        text = IN_PROGRESS
        if room and room.nearly_full:
            text += f"; {room.region} had room for {room.free} more at {clock(room.counted_at)}"
        context = self._reporter.post_progress(context, text)
        return self._order_creation(context, release)

    @report_on_context
    def _order_creation(self, context: ReconcileContext, release: Release) -> StepResult:
        try:
            created = context.create_stack(release)
        except QuotaError as error:
            return self._placement.wait_for_capacity(context.with_record(region=""), str(error))
        if isinstance(created, Stop):
            return created.result
        context = pause_drift_check(context).with_record(
            stack_arn=created,
            own_tags=deployer_tags(release.tags),
            region=context.cloud.region,
            teardown=release.tags.get(TEARDOWN_TAG, ""),
        )
        return context.snooze(Task.SYNC)

    def update_stack(self, context: ReconcileContext) -> StepResult:
        """Order an update of the stack, or of its tags alone, or the rollback of one that stopped half-way."""
        if context.work.progress.recovered and (
            not context.work.progress.updated or _stopped_half_way(context)
        ):
            context.assert_lease()
            context.cloud.continue_rollback(context.name, context.idempotency_token("recover"))
            return pause_drift_check(context).snooze(Task.SYNC)
        if context.work.progress.restored and not context.work.progress.updated:
            return order_tags(context).snooze(Task.SYNC)
        read = self._folders.read_wanted_folder(context)
        if isinstance(read, Stop):
            return read.result
        return self._update_from(*read)

    @report_on_context
    def _update_from(self, context: ReconcileContext, folder: DeployFolder) -> StepResult:
        release = self._folders.build_linted_release(context, folder)
        updated = context.update_stack(release)
        if isinstance(updated, Stop):
            return updated.result
        context = context.with_record(
            teardown=release.tags.get(TEARDOWN_TAG, ""), own_tags=deployer_tags(release.tags)
        )
        if not updated:
            return context.again(Task.SYNC)
        return pause_drift_check(context).snooze(Task.SYNC)

    # --- the end of a goal that cannot go on ---

    def report_failure(self, observation: Observation, decision: Decision) -> StepResult:
        """End a goal that cannot go on, with the first resource that failed in AWS."""
        context, stack = observation.context, observation.stack
        if stack is None or not context.owns_stack(stack):
            return self._reporter.fail_goal(context, decision.reason)
        if context.work.progress.created and stack.status in REFUSED:
            digest = stack.tags.get("deployer:digest", "")
            before = (
                context.record.status.stack.refusals if context.record.status.stack.refused == digest else 0
            )
            context = context.with_record(refused=digest, refusals=before + 1)
        if context.work.progress.updated and stack.phase is Phase.READY:
            # the rollback was an update as well
            context = context.with_record(applied=state_to_compare(stack), own_tags=deployer_tags(stack.tags))
        return self._report_stack_failure(context, decision, stack, observation.folder)

    @report_on_context
    def _report_stack_failure(
        self, context: ReconcileContext, decision: Decision, stack: Stack, folder: DeployFolder | None
    ) -> StepResult:
        work, kept = context.work, context.record.status.stack.failure
        failure, url = context.cloud.failure(stack.arn), context.cloud.stack_url(stack.arn)
        if failure is None and work.progress.recovered and work.progress.updated and kept:
            failure = Failure(kept.resource, kept.type, kept.reason)
        if failure is None:
            return self._reporter.fail_goal(context, decision.reason, url)
        context, location = self._folders.locate_failure(context, failure, folder)
        recorded = StackFailure(failure.resource, failure.type, failure.reason, url, **location)
        context = context.with_record(failure=recorded)
        what, _, _ = decision.reason.partition(": ")
        where = f" at {location['file']}:{location['line']}" if location else ""
        reason = f"{what}: {failure}{f'; {decision.remedy}' if decision.remedy else ''}"
        short = f"{failure.resource}{where}: {failure.reason}"
        return self._reporter.fail_goal(context, reason, url, short)


def _stopped_half_way(context: ReconcileContext) -> bool:
    """Whether this goal's own update stopped half-way."""
    stack = context.cloud.stack(context.name)
    return stack is not None and stack.phase is Phase.STUCK
