"""The reconciliation of one environment: find the desired state, observe, decide, and take one step.

Every step may be repeated after a crash at any point: it reads before it acts, and its orders bear a token made of the
goal, so that AWS itself recognizes a repeated order. No step waits: a step ends in a result for the queue.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from deployer.deployment.adoption import StackAdoption
from deployer.deployment.closed_pulls import ClosedPullRequests
from deployer.deployment.deploy_folder import DeployFolderReader
from deployer.deployment.desired import DesiredResolver
from deployer.deployment.desired_state import Absent, Deploy
from deployer.deployment.executions import Executions
from deployer.deployment.foreign_executions import ForeignExecutions
from deployer.deployment.observation import Observation, Observer, StackRead, read_stack
from deployer.deployment.placement import Placement
from deployer.deployment.production.candidates import CandidateJudge
from deployer.deployment.production.desired import DesiredProduction
from deployer.deployment.production.gate import ProductionGate
from deployer.deployment.provisioning import Provisioning
from deployer.deployment.ref_tracking import RefTracker
from deployer.environment.cloud_region import Clouds, Inventory
from deployer.environment.code_host import CodeHost
from deployer.environment.context import ReconcileContext, StepFailedError, Stop
from deployer.environment.decision import Decision, decide
from deployer.environment.pull_comment import PullRequestComments
from deployer.environment.repository_state import DEFAULT, DELETED, RENAMED, Repositories
from deployer.environment.statuses import StatusReporter
from deployer.model.environment_record import EnvironmentRecord, is_over
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import CallLimitError, PermanentError
from deployer.model.outcomes import Outcome
from deployer.model.stacks import Step
from deployer.outbox.store import Outbox
from deployer.queue.items import RESYNC_KEY, Cause, Task, Work
from deployer.queue.step_results import Finished, StepResult
from deployer.queue.store import QueueStore
from deployer.teardown.expiry import ExpiringTeardown, record_failed_check
from deployer.teardown.expiry_comment import ExpiryComments
from deployer.teardown.teardown import Teardown
from deployer.templates.findings import Linter
from deployer.templates.folder_check import FolderEvaluator

_EVENT_SECONDS = 86400  # if an event arrived within a day, later events will arrive too
# A decision is trusted for this many seconds. Recovery from a lost worker takes longer, so the stack is checked again.
_TRUSTED_SECONDS = 60


@dataclass(frozen=True, slots=True)
class ReconcilerOptions:
    """The settings of the installation.

    Attributes:
        poll_seconds: the first wait for an operation whose end no event reports.
        public_url: the address of the dashboard; empty if there is none.
        ttl: how long a development environment may be idle, unless its repository says so itself.
        tag_wait_seconds: how long a pushed tag waits until its commit is on the default branch.
    """

    poll_seconds: float = 4
    public_url: str = ""
    ttl: str = "never"
    tag_wait_seconds: float = 60


class Reconciler:
    """Carries out the tasks of environments.

    Args:
        host: GitHub.
        clouds: AWS.
        inventory: lists the stacks of every region.
        lanes: the queues, which have the records. Records are written with the result of a task.
        repositories: says whether a repository is still the one to which the environments belong.
        options: the settings of the installation.
        evaluator: parses and evaluates the `deploy/` folder of a branch.
        outbox: what GitHub shows.
        linter: checks templates before AWS does; None for no such check.
        clock: epoch seconds; by default Redis's clock, since the times are stored and read on other machines.
    """

    def __init__(
        self,
        host: CodeHost,
        clouds: Clouds,
        inventory: Inventory,
        lanes: QueueStore,
        repositories: Repositories,
        options: ReconcilerOptions,
        evaluator: FolderEvaluator,
        outbox: Outbox,
        linter: Linter | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._lanes = lanes
        self._repositories = repositories
        self._options = options
        self._clock = clock = clock or lanes.now
        self._reporter = reporter = StatusReporter(self._page_url)
        self._comments = ExpiryComments(host, outbox, self._page_url, options.ttl)
        self._pulls = PullRequestComments(self._page_url, options.ttl)
        self._folders = DeployFolderReader(host, clouds, evaluator, linter)
        self._placement = Placement(clouds, inventory, reporter)
        foreign = ForeignExecutions(clouds, reporter)
        self._executions = Executions(reporter, foreign)
        self._tracker = RefTracker(host, self._folders, clock)
        gate = ProductionGate(host, clouds, evaluator.read_repository_config)
        self._judge = CandidateJudge(
            host, self._tracker, reporter, gate, lanes, options.tag_wait_seconds, clock
        )
        production = DesiredProduction(
            host, self._tracker, self._judge, self._executions, foreign, reporter, lanes
        )
        closed = ClosedPullRequests(host, clouds, evaluator.read_repository_config)
        asked = (host, repositories, self._tracker, closed, production)
        self._desired = DesiredResolver(*asked, reporter, self._comments, options.ttl, clock)
        teardown = Teardown(clouds, inventory, lanes, reporter, clock)
        self._expiring = ExpiringTeardown(teardown, reporter, options.ttl, clock)
        self._adoption = StackAdoption(self._folders, self._executions, foreign)
        self._observer = Observer(self._folders, teardown)
        self._provisioning = Provisioning(clouds, self._folders, self._placement, reporter)
        self._tasks: dict[str, Callable[[ReconcileContext], StepResult]] = {
            Task.SYNC: self._continue_goal,
            Task.PROVISION: self._provisioning.create_stack,
            Task.UPDATE: self._provisioning.update_stack,
            Task.TRIGGER: self._executions.start_wanted,
            Task.DELETE: self._expiring.delete_environment,
            Task.NOTIFY: self._executions.report_event,
        }
        self._steps: dict[Step, Callable[[Observation, Decision], StepResult]] = {
            Step.PROVISION: self._provisioning.store_creation,
            Step.UPDATE: self._provisioning.store_update,
            Step.RECOVER: self._provisioning.prepare_rollback,
            Step.RESTORE: self._provisioning.store_restoration,
            Step.REPLACE: self._provisioning.store_replacement,
            Step.DELETE: self._store_deletion,
            Step.TRIGGER: self._find_execution,
            Step.WAIT: self._wait_for_stack,
            Step.FAIL: self._provisioning.report_failure,
            Step.NONE: self._delete_remaining_stacks,
        }

    def run(self, repository: Repository, work: Work, guard: Callable[[], None]) -> StepResult:
        """Carry out the task that the queue item names.

        Args:
            repository: the queue's repository.
            work: the queue item.
            guard: called before every change in AWS; raises `LaneLostError` if the lease is lost, so that a worker
                that was suspended for longer than its lease does nothing more.

        Raises:
            LaneLostError: the lease is lost.
            TransientError: GitHub, AWS or Redis is unavailable; the same task may be repeated.
        """
        environment = Environment.from_key(repository, work.environment)
        known = self._read_record(environment)
        record, cloud = self._placement.locate_stack(environment, known)
        poll, now = self._options.poll_seconds, self._clock()
        context = ReconcileContext(environment, work, record, guard, cloud, poll, self._events_arrive, now)
        if self._is_called_off(environment, work):
            # a resync that asked for the environment may have been merged with this queue item
            return context.again(Task.SYNC, cause=Cause.RESYNC, word="", turned=True)
        try:
            result = self._decide_again_if_stack_lost(context) or self._tasks[work.task](context)
        except (StepFailedError, PermanentError, CallLimitError) as error:
            failed = error.context if isinstance(error, StepFailedError) else context
            if work.cause == Cause.AGE and work.task == Task.SYNC:
                kept = record_failed_check(record, str(error), context.now)
                return Finished(str(Outcome.FAILED), str(error), kept)
            if work.task == Task.PROVISION:  # a stack that AWS refused has no region yet
                failed = failed.with_record(region="")
            result = self._reporter.fail_goal(failed, str(error))
        if _continues_teardown(context, result):
            record = result.record or record if isinstance(result, Finished) else record
            return context.replace_record(record).again(Task.DELETE, cause=Cause.TEARDOWN)
        return self._finish_goal(context, known, result) if isinstance(result, Finished) else result

    @staticmethod
    def _decide_again_if_stack_lost(context: ReconcileContext) -> StepResult | None:
        """Go back to the step that decides, if this step waited for long and its stack is gone or somebody else's.

        Steps that create or delete need no such check: AWS refuses the order, or the step reads the stack itself.
        """
        work = context.work
        is_recent = context.now - work.progress.looked_at < _TRUSTED_SECONDS
        if work.task not in {Task.UPDATE, Task.TRIGGER} or is_recent:
            return None
        stack = context.cloud.stack(context.name)
        if stack and context.owns_stack(stack):
            return None
        return context.again(Task.SYNC, updated=False, recovered=False, restored=False)

    def _finish_goal(self, context: ReconcileContext, known: EnvironmentRecord, result: Finished) -> Finished:
        """Update what people see at the end of a goal: the status of its commit, and comments about its expiry."""
        if result.record is None:
            return result
        environment, work, record = context.environment, context.work, result.record
        if not work.spec.candidate:  # the end of a candidate is not the end of what production runs
            record = self._reporter.end_prepare(environment, record, result.reason)
            if work.cause != Cause.AGE:
                sha = result.commit or work.spec.sha
                if result.outcome in {Outcome.DEPLOYED, Outcome.FAILED}:
                    sha = sha or record.spec.commit  # the queue item named no commit, as after an event
                skipped = self._repositories.skipped_state
                record = self._reporter.post_outcome(environment, record, result, sha, skipped)
        record = self._comments.correct_warning(environment, record)
        # A record that an event did not change is not written: a newer `updated_at` would make a running resync
        # ignore its own listing.
        unchanged = work.cause == Cause.EVENT and record == known.but(stack_name=record.stack_name)
        record = self._pulls.show_on_pulls(environment, record, self._clock())
        result = replace(
            result, record=None if unchanged else record, commit=result.commit or record.spec.commit
        )
        if result.outcome == Outcome.DELETED:
            self._request_last_resync(environment)
        return result

    def _is_called_off(self, environment: Environment, work: Work) -> bool:
        """Whether the reason of a teardown is over: the repository's state, or that the branch is the default one."""
        if work.cause != Cause.TEARDOWN or not work.spec.word:
            return False
        known, branch = self._repositories.stored_record(environment.repository), environment.branch
        if work.spec.word == DEFAULT:
            return not branch or branch.branch != known.default_branch
        return not known.state

    def _request_last_resync(self, environment: Environment) -> None:
        """Queue a resync if this was the last environment of a repository whose name is gone.

        Such a repository may have no scheduled resync.
        """
        repository = environment.repository
        if self._repositories.stored_record(repository).state not in {RENAMED, DELETED}:
            return
        branches = [
            each
            for each in self._lanes.environments(repository)
            if each.environment.startswith(Kind.DEVELOPMENT) and each.environment != environment.key
        ]
        if environment.kind is not Kind.DEVELOPMENT or all(map(is_over, branches)):
            item = Work(environment=RESYNC_KEY, task=Task.RESYNC, cause=Cause.RESYNC, turned=True)
            self._lanes.accept(repository, item)  # this task has the queue's lease: nothing to dispatch

    def _events_arrive(self) -> bool:
        return self._lanes.last_heartbeats().get("event", 0) > self._lanes.now() - _EVENT_SECONDS

    def report_dead_letter(
        self, repository: Repository, work: Work, letter: str, reason: str
    ) -> EnvironmentRecord:
        """Post on its commit that a queue item became a dead letter, and return the environment's record.

        Args:
            repository: the queue's repository.
            work: the queue item.
            letter: the dead letter's id.
            reason: why, in words that everybody may read.

        Raises:
            DeployerError: GitHub or Redis is unavailable.
        """
        environment = Environment.from_key(repository, work.environment)
        record = self._read_record(environment)
        text = f"deployer could not go on: {reason}; dead letter {letter}"
        if work.cause == Cause.AGE and work.task == Task.SYNC:
            return record_failed_check(record, reason, self._clock())
        if work.cause == Cause.EVENT or work.spec.candidate:
            return record
        # a push that became a dead letter before GitHub was read gets the status on the commit that its webhook named
        named = work.spec.sha or (work.push.after if environment.kind is not Kind.PRODUCTION else "")
        record = self._reporter.post_prepare(environment, record, named or record.spec.commit, "error", text)
        ended = {"outcome": str(Outcome.DEAD_LETTERED), "reason": reason, "changed_at": self._clock()}
        has_stages = (
            bool(work.progress.execution) and work.progress.execution == record.status.pipeline.execution
        )
        record = record.but(
            state="failed", stages=record.status.pipeline.stages if has_stages else [], **ended
        )
        return self._pulls.show_on_pulls(environment, record, self._clock())

    def _read_record(self, environment: Environment) -> EnvironmentRecord:
        # a new record has no stack name yet: AWS may be unavailable now
        return self._lanes.environment(environment) or EnvironmentRecord(
            environment.repository.full_name, environment.key, ""
        )

    def _continue_goal(self, context: ReconcileContext) -> StepResult:
        """Continue a goal: judge a candidate, follow an execution, wait for a busy stack, or reconcile."""
        work = context.work
        if work.spec.candidate:
            return self._judge.judge_candidate(context)
        if work.progress.execution:
            return self._executions.follow(context)
        if work.log.polls and context.cloud.is_still_busy(context.name, work.progress.looked_at):
            return context.snooze()  # a listing that many environments share shows an operation
        if context.environment.kind is Kind.STAGING:
            self._judge.queue_refused_tag_again(context)
        return self._reconcile(context)

    def _reconcile(self, context: ReconcileContext) -> StepResult:
        """Bring the environment one step nearer to its desired state."""
        read = self._read_stack_first(context)
        desired = self._resolve_desired(read.context if read else context, read)
        if isinstance(desired, Stop):
            return desired.result
        observation = self._observer.observe(desired, read)
        if isinstance(observation, Stop):
            return observation.result
        decision = decide(observation.desired, observation.observed)
        try:
            return self._steps[decision.step](observation, decision)
        except (PermanentError, CallLimitError) as error:
            raise StepFailedError(observation.context, error) from error

    def _read_stack_first(self, context: ReconcileContext) -> StackRead | None:
        """Read the stack before the desired state is resolved, if a resync may have to adopt what the stack runs."""
        production = context.environment.kind is Kind.PRODUCTION
        if context.work.cause == Cause.RESYNC and (production or not context.record.status.stack.stack_arn):
            return read_stack(context)
        return None

    def _resolve_desired(self, context: ReconcileContext, read: StackRead | None) -> Deploy | Absent | Stop:
        """Resolve the desired state; what runs stays if GitHub does not say what is wanted."""
        try:
            desired = self._desired.resolve_desired(context)
        except (StepFailedError, PermanentError, CallLimitError) as error:
            return self._keep_deployed(context, error)
        if not isinstance(desired, Stop) or not isinstance(desired.result, Finished):
            return desired
        result, production = desired.result, context.environment.kind is Kind.PRODUCTION
        record = result.record or context.record
        if context.work.cause != Cause.RESYNC or production or record.status.pipeline.reported:
            return desired
        return Stop(self._adoption.adopt_stack(context.replace_record(record), read, result))

    @staticmethod
    def _keep_deployed(
        context: ReconcileContext, error: StepFailedError | PermanentError | CallLimitError
    ) -> Stop:
        """End a goal for which GitHub does not say what is wanted: what is deployed has not failed because of that.

        Returns:
            A stop that leaves the record as it was.

        Raises:
            StepFailedError: nothing was deployed, the environment's age asked, or a push brought a new commit whose
                files take too many calls to read.
        """
        failed, cause = (
            (error.context, error.cause) if isinstance(error, StepFailedError) else (context, error)
        )
        before, work = context.record, failed.work
        is_push = work.cause == Cause.PUSH and context.environment.kind is not Kind.PRODUCTION
        commit = work.spec.sha or (work.push.after if is_push else "")
        if isinstance(cause, CallLimitError) and commit not in {"", before.spec.commit}:
            raise StepFailedError(failed.with_work(sha=commit), cause)
        if before.status.outcome and work.cause != Cause.AGE:
            return Stop(Finished(str(Outcome.FAILED), str(cause), commit=before.spec.commit))
        raise StepFailedError(failed, cause)

    @staticmethod
    def _store_deletion(observation: Observation, _decision: Decision) -> StepResult:
        return observation.context.enter_state("deleting").again(Task.DELETE)

    @staticmethod
    def _delete_remaining_stacks(observation: Observation, _decision: Decision) -> StepResult:
        # the pipeline's stack is gone, but the stacks that the pipeline deployed may exist
        return observation.context.again(Task.DELETE)

    def _wait_for_stack(self, observation: Observation, decision: Decision) -> StepResult:
        context, progress = observation.context, observation.context.work.progress
        if observation.desired.exists and not (progress.created or progress.updated):
            context = self._reporter.post_progress(context, f"waiting: {decision.reason}")
        return context.snooze()

    def _find_execution(self, observation: Observation, _decision: Decision) -> StepResult:
        stack = observation.stack
        if stack is None:
            raise AssertionError("only a stack that exists is ready for an execution")
        return self._executions.find_or_start(observation.context, stack)

    def _page_url(self, environment: Environment) -> str:
        url = self._options.public_url
        return f"{url}/environments/{environment.stack_name}" if url else ""


def _continues_teardown(context: ReconcileContext, result: StepResult) -> bool:
    """Whether a goal that replaced a teardown in the queue deploys nothing: then the teardown continues.

    A candidate is no such goal: production's own queue item, with its teardown, is still in the queue.
    """
    work = context.work
    replaces = work.cause in {Cause.PUSH, Cause.DELETION, Cause.REDEPLOY} and not work.spec.candidate
    if not replaces or not isinstance(result, Finished):
        return False
    record = result.record or context.record
    return result.outcome in {Outcome.SKIPPED, Outcome.SUPERSEDED} and record.status.receipt.is_running
