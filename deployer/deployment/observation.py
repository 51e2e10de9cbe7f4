"""The observation of an environment: its stack in AWS, its drift, and the release that the stack should have."""

from dataclasses import dataclass, replace

from deployer.deployment.deploy_folder import DeployFolder, DeployFolderReader
from deployer.deployment.desired_state import Absent, Deploy
from deployer.environment.context import ReconcileContext, Stop, report_on_context
from deployer.environment.decision import Desired, Observed
from deployer.environment.drift import record_drift
from deployer.model.environments import Kind
from deployer.model.stacks import Phase, Stack
from deployer.queue.items import Cause
from deployer.teardown.teardown import Teardown, is_unfinished


@dataclass(frozen=True, slots=True)
class StackRead:
    """The result of reading the environment's stack.

    Attributes:
        context: the context, whose record has the name under which the stack was found.
        stack: the stack; None if there is none.
    """

    context: ReconcileContext
    stack: Stack | None


@dataclass(frozen=True, slots=True)
class Observation:
    """The input of the decision.

    Attributes:
        context: the context, whose record has the drift and what the stack's pipeline deploys.
        desired: what should be in AWS.
        observed: what is in AWS.
        folder: the `deploy/` folder of the wanted commit, if it was read.
    """

    context: ReconcileContext
    desired: Desired
    observed: Observed
    folder: DeployFolder | None = None

    @property
    def stack(self) -> Stack | None:
        """The environment's stack."""
        return self.observed.stack


def read_stack(context: ReconcileContext) -> StackRead:
    """Read the environment's stack in its region."""
    stack = context.cloud.stack(context.name)
    present_name = context.environment.stack_name
    if context.name == present_name or (stack and context.owns_stack(stack)):
        return StackRead(context, stack)
    # the stack with the former name is gone, and a stack of somebody else may have that name now
    return read_stack(context.with_record(stack_name=present_name))


class Observer:
    """Observes environments.

    Args:
        folders: reads the `deploy/` folder.
        teardown: is interrupted if the environment is wanted again.
    """

    def __init__(self, folders: DeployFolderReader, teardown: Teardown) -> None:
        self._folders = folders
        self._teardown = teardown

    def observe(self, desired: Deploy | Absent, read: StackRead | None) -> Observation | Stop:
        """Observe the environment.

        Args:
            desired: the desired state.
            read: the stack, if this task has read it already.

        Returns:
            A stop if the goal ends here, or has to wait: see `Teardown.cancel_teardown` and `record_drift`.

        Raises:
            StepFailedError: something is wrong in the repository's files, or AWS refuses an answer.
        """
        return self._observe_stack(desired.context, desired, read)

    @report_on_context
    def _observe_stack(
        self, context: ReconcileContext, desired: Deploy | Absent, read: StackRead | None
    ) -> Observation | Stop:
        if read is None:
            read = read_stack(context)
            context = read.context
        stack, exists = read.stack, isinstance(desired, Deploy)
        deleting = stack is not None and stack.phase is Phase.DELETING  # the decision waits for its end
        if exists and is_unfinished(context.record) and not deleting:
            interrupted = self._teardown.cancel_teardown(context)
            if isinstance(interrupted, Stop):
                return interrupted
            context = interrupted
        return self._observe_drift(context, desired, stack)

    @report_on_context
    def _observe_drift(
        self, context: ReconcileContext, desired: Deploy | Absent, stack: Stack | None
    ) -> Observation | Stop:
        exists = isinstance(desired, Deploy)
        drifted = record_drift(context, stack if exists else None)
        if isinstance(drifted, Stop):
            return drifted
        context = drifted
        if not isinstance(desired, Deploy) or stack is None:
            return _make_observation(context, stack, exists=exists, digest=None)
        work = context.work
        if work.progress.created or work.progress.updated or stack.phase not in {Phase.READY, Phase.WEDGED}:
            # the release that this goal ordered is the wanted one
            return _make_observation(context, stack, exists=True, digest=_digest_of(context, stack))
        return self._compare_with_wanted_release(context, desired.folder, stack)

    @report_on_context
    def _compare_with_wanted_release(
        self, context: ReconcileContext, known: DeployFolder | None, stack: Stack
    ) -> Observation | Stop:
        """Compare the stack with the release of the wanted commit."""
        read = self._folders.read_wanted_folder(context, known)
        if isinstance(read, Stop):
            return read
        return self._compare_digest(*read, stack)

    @report_on_context
    def _compare_digest(self, context: ReconcileContext, folder: DeployFolder, stack: Stack) -> Observation:
        digest = self._folders.build_release(context, folder).digest
        return _make_observation(context, stack, exists=True, digest=digest, folder=folder)


def _make_observation(
    context: ReconcileContext,
    stack: Stack | None,
    *,
    exists: bool,
    digest: str | None,
    folder: DeployFolder | None = None,
) -> Observation:
    """Put together what the decision needs."""
    work, record = context.work, context.record
    lost_tags = stack is not None and _has_lost_tags(context, stack)
    if stack is not None and lost_tags:
        stack = replace(stack, tags={**stack.tags, **record.status.stack.own_tags})
    redeploys = work.cause == Cause.REDEPLOY
    is_new_commit = stack is not None and stack.tags.get("deployer:commit") != work.spec.sha
    observed = Observed(
        stack=stack,
        owned=stack is not None and context.owns_stack(stack),
        lost_tags=lost_tags,
        created=work.progress.created,
        updated=work.progress.updated,
        recovered=work.progress.recovered,
        restored=work.progress.restored,
        deletions=work.progress.deletions,
        disposable=context.environment.kind is Kind.DEVELOPMENT,
        asked=redeploys or work.cause == Cause.PUSH or is_new_commit,
        refusals=record.status.stack.refusals
        if digest == record.status.stack.refused and not redeploys
        else 0,
        unlocks=work.cause == Cause.TEARDOWN and context.environment.kind is not Kind.DEVELOPMENT,
        drifted=work.progress.corrects or (redeploys and bool(record.status.stack.drift)),
    )
    return Observation(context, Desired(exists, digest), observed, folder)


def _has_lost_tags(context: ReconcileContext, stack: Stack) -> bool:
    """Whether the pipeline's own stack lacks deployer's tags, and the record has them."""
    has_tags = context.environment.owns(stack.tags)
    return not has_tags and context.owns_stack(stack) and bool(context.record.status.stack.own_tags)


def _digest_of(context: ReconcileContext, stack: Stack) -> str | None:
    """The digest of the release that deployer applied to the stack last."""
    tags = context.record.status.stack.own_tags if _has_lost_tags(context, stack) else stack.tags
    return tags.get("deployer:digest")
