"""The frozen context of one task: the queue item, the environment's record, and the results in which the task ends."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from deployer.environment.cloud_region import CloudRegion
from deployer.model.durations import backoff
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import CallLimitError, DeployerError, PermanentError
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref
from deployer.model.source_actions import SourceLocation
from deployer.model.stacks import Stack
from deployer.queue import progress_log as progress
from deployer.queue.items import Cause, Task, Work
from deployer.queue.step_results import Continue, Finished, StepResult, WaitUntil
from deployer.templates.release import Release

_MAX_POLL_FACTOR = 15  # the longest wait between two polls, as a multiple of the first wait
_POLL_FACTOR_WITH_EVENTS = 10  # the same where AWS events arrive: a lost event costs this much time
_FINAL_STATES = {Outcome.DEPLOYED: "deployed", Outcome.DELETED: "deleted", Outcome.FAILED: "failed"}
_Self = TypeVar("_Self")
_Result = TypeVar("_Result")
_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class Stop:
    """The task ends now, with this result."""

    result: StepResult


class StepFailedError(DeployerError):
    """A step failed with an error that people must correct, after the step had changed the record.

    Attributes:
        context: the context with the changed record, so that the failure is reported on what the task already did.
        cause: the error of the adapter or of the repository's files.
    """

    def __init__(self, context: "ReconcileContext", cause: PermanentError | CallLimitError) -> None:
        super().__init__(cause)
        self.context = context
        self.cause = cause


@dataclass(frozen=True, slots=True)
class ReconcileContext:
    """Everything that a step needs to know about its environment. A step returns a changed copy, or a result.

    Attributes:
        environment: the environment of the queue item.
        work: the queue item. It is stored with the result.
        record: the environment's record. It is stored with the result.
        assert_lease: called before every change in AWS; raises `LaneLostError` if the lease is lost.
        cloud: AWS in the environment's region.
        poll_seconds: the first wait for an operation whose end no event reports.
        events_arrive: whether AWS events arrive, so that the end of an operation is reported by an event.
        now: when the task began, in epoch seconds.
        wakes: whether this task ends the environment's sleep.
    """

    environment: Environment
    work: Work
    record: EnvironmentRecord
    assert_lease: Callable[[], None]
    cloud: CloudRegion
    poll_seconds: float
    events_arrive: Callable[[], bool]
    now: float
    wakes: bool = False

    @property
    def repository(self) -> Repository:
        """The environment's repository."""
        return self.environment.repository

    @property
    def name(self) -> str:
        """The name of the stack and of the pipeline: the recorded name, which an earlier release may have given."""
        return self.record.stack_name or self.environment.stack_name

    def owns_stack(self, stack: Stack) -> bool:
        """Whether a stack is this environment's: by its tags, or because its creation is on record by its ARN.

        Deployer created the pipeline's stack, and the pipeline's actions created the recorded ones. A pipeline can
        create stacks without tags, and remove the tags of its own stack; it cannot change an ARN. A stack whose tags
        name another environment belongs to that one.
        """
        if self.environment.owns(stack.tags):
            return True
        status = self.record.status.stack
        created = {status.stack_arn, *(each.arn for each in status.deployed if each.created)} - {""}
        return stack.arn in created and not self.environment.contradicts(stack.tags)

    def with_record(self, **changes: object) -> "ReconcileContext":
        """Return a copy in which some fields of the record are changed."""
        return replace(self, record=self.record.but(**changes))

    def replace_record(self, record: EnvironmentRecord) -> "ReconcileContext":
        """Return a copy with another record."""
        return replace(self, record=record)

    def with_work(self, **changes: object) -> "ReconcileContext":
        """Return a copy in which some fields of the queue item are changed."""
        return replace(self, work=self.work.but(**changes))

    def as_resync(self, *, wakes: bool) -> "ReconcileContext":
        """Return a copy whose goal continues like a resync that needs not wait for its turn."""
        return replace(self.with_work(cause=Cause.RESYNC, turned=True), wakes=wakes)

    def in_cloud(self, cloud: CloudRegion) -> "ReconcileContext":
        """Return a copy whose environment is in another region."""
        return replace(self, cloud=cloud)

    def enter_state(self, state: str, **changes: object) -> "ReconcileContext":
        """Return a copy with another state, and write the change to the log.

        The stages of an execution are kept only in the state `running`.
        """
        if state != "running":
            changes.setdefault("stages", [])
        if state != self.record.status.state:
            progress.log_state(self.environment, state, self.work.spec.sha or self.record.spec.commit)
        return self.replace_record(self._dated(self.record.but(state=state, **changes)))

    def _dated(self, record: EnvironmentRecord) -> EnvironmentRecord:
        """The record with a new `changed_at`, if a field changed that people see as a change."""
        changed = _dated_fields(record) != _dated_fields(self.record)
        return record.but(changed_at=self.now) if changed else record

    def idempotency_token(self, step: str) -> str:
        """The token with which AWS recognizes a repeated order: a hash of environment, commit, generation and goal."""
        progress = self.work.progress
        parts = (
            self.name,
            self.work.spec.sha,
            str(self.record.history.generation),
            f"{step} again" if progress.corrects else step,
            self.work.goal,
            str(progress.deletions),
        )
        return f"deployer-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:40]}"

    # --- the only calls that deploy a commit in AWS ---

    def create_stack(self, release: Release) -> str | Stop:
        """Order the creation of the environment's stack.

        Returns:
            The stack's ARN, or a stop if production may not run the release's commit.
        """
        if stop := self.stop_if_not_admitted(release.tags["deployer:commit"]):
            return stop
        self.assert_lease()
        return self.cloud.create_stack(self.name, release, self.idempotency_token("provision"))

    def update_stack(self, release: Release) -> bool | Stop:
        """Order an update of the environment's stack.

        Returns:
            Whether there is something to update, or a stop if production may not run the release's commit.
        """
        if stop := self.stop_if_not_admitted(release.tags["deployer:commit"]):
            return stop
        self.assert_lease()
        return self.cloud.update_stack(self.name, release, self.idempotency_token("update"))

    def start_execution(self) -> str | Stop:
        """Start an execution of the pipeline at the commit of the queue item.

        Returns:
            The execution's id, or a stop if production may not run the commit.
        """
        if stop := self.stop_if_not_admitted(self.work.spec.sha):
            return stop
        self.assert_lease()
        token = self.idempotency_token("trigger")
        return self.cloud.start(self.name, self.work.spec.sha, token, self.source_location)

    @property
    def source_location(self) -> SourceLocation:
        """What the pipeline must read. A queue item without a ref concerns the one that the record has, if any."""
        name = self.work.spec.ref or self.record.spec.ref
        return (
            SourceLocation.of_ref(self.repository, Ref.parse(name))
            if name
            else SourceLocation(self.repository)
        )

    @property
    def is_admitted(self) -> bool:
        """Whether the commit of the queue item may be deployed. Only production's commits need an admission."""
        admitted = self.record.spec.production.admitted
        return self.environment.kind is not Kind.PRODUCTION or admitted.covers(
            self.work.spec.ref, self.work.spec.sha
        )

    def stop_if_not_admitted(self, commit: str) -> Stop | None:
        """Stop before production deploys any other commit than the admitted one.

        A queue item that a version without the gate stored at this step goes back to the step that decides.
        """
        if self.is_admitted and commit == self.work.spec.sha:
            return None
        step = {Task.PROVISION: {"created": False}, Task.UPDATE: {"updated": False}}
        no_orders: dict[str, object] = dict(step.get(Task(self.work.task), {"execution": ""}))
        return Stop(self.again(Task.SYNC, **no_orders))

    # --- the results in which a task ends ---

    def again(self, task: Task, **changes: object) -> Continue:
        """Continue at once with another task."""
        return Continue(self.work.but(task=task, polls=0, looked_at=self.now, **changes), self.record)

    def snooze(
        self, task: Task | None = None, seconds: float = 0, *, event_follows: bool = True
    ) -> WaitUntil:
        """Wait until an event arrives or some time has passed.

        Args:
            task: the task that continues; by default the same task.
            seconds: how long; by default each wait is longer than the one before, and the first one is longer if
                AWS events arrive.
            event_follows: whether an event reports the end of the wait.
        """
        factor = backoff(1, 1.5, self.work.log.polls, _MAX_POLL_FACTOR)
        if event_follows and not seconds and self.events_arrive():
            factor = max(factor, _POLL_FACTOR_WITH_EVENTS)
        work = self.work.but(
            polls=self.work.log.polls + 1, looked_at=self.now, **({"task": task} if task else {})
        )
        return WaitUntil(work, seconds or self.poll_seconds * factor, self.record)

    def done(self, outcome: Outcome, reason: str, **changes: object) -> Finished:
        """End the goal. An outcome that changed nothing keeps what the record says about earlier deployments."""
        changed_nothing = outcome in {Outcome.SKIPPED, Outcome.SUPERSEDED}
        nothing_deployed = outcome is Outcome.SKIPPED and self.record.only_skipped
        if changed_nothing and self.record.status.outcome and not nothing_deployed:
            return Finished(str(outcome), reason, self.record)
        state = _FINAL_STATES.get(outcome, self.record.status.state)
        if outcome is Outcome.SKIPPED and state in {"", "pending", "provisioning"}:
            state = "skipped"
        if outcome in _FINAL_STATES:
            # without stages of its own the goal ended before an execution: the recorded ones are of an earlier one
            changes.setdefault("stages", [])
        record = self.record.but(outcome=str(outcome), reason=reason, state=state, **changes)
        return Finished(str(outcome), reason, self._dated(record))


def report_on_context(
    step: Callable[Concatenate[_Self, ReconcileContext, _P], _Result], /
) -> Callable[Concatenate[_Self, ReconcileContext, _P], _Result]:
    """Decorate a method that receives a changed context: if it fails, the failure is reported on that context.

    Of nested methods the innermost one counts, since its context is the latest.

    Raises:
        StepFailedError: the method raised `PermanentError` or `CallLimitError`.
    """

    @wraps(step)
    def with_context(
        self: _Self, context: ReconcileContext, /, *args: _P.args, **kwargs: _P.kwargs
    ) -> _Result:
        try:
            return step(self, context, *args, **kwargs)
        except (PermanentError, CallLimitError) as error:
            raise StepFailedError(context, error) from error

    return with_context


def _dated_fields(record: EnvironmentRecord) -> tuple[str, ...]:
    """The fields whose last change `changed_at` dates."""
    status = record.status
    return status.state, status.outcome, record.spec.commit, status.pipeline.execution
