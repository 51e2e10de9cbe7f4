"""Brings one environment from what is to what should be: observe, decide, take one step.

Every method here may be repeated after a crash at any point: it looks before it acts, and what it orders bears a
token made of the goal, so that AWS itself recognises a repeat. None of them waits: they end in a `Verdict`.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from deployer.environments import Environment, Kind, Repository
from deployer.errors import PermanentError
from deployer.ledger import Cause, EnvironmentRecord, Outcome, Task, Work
from deployer.ports import Again, Cloud, Clouds, Done, Execution, Head, Host, Lanes, Snooze, Verdict
from deployer.refs import Ref, skip_reason
from deployer.release import FOLDER, Release, build_release, has_pipeline
from deployer.reporting import Reporter, failure_text
from deployer.stacks import Desired, Observed, Phase, Stack, Step, decide

_STALE_SECONDS = 30  # GitHub's API has been seen to lag behind its own webhooks by some seconds
_STALE_WAIT = 2
_LONGEST_POLL = 15  # times the first one
_ENDS = {Outcome.DEPLOYED: "deployed", Outcome.DELETED: "deleted", Outcome.FAILED: "failed"}
_SOURCE_POLLS = 20  # how often to wait for an execution to tell its commit


@dataclass(frozen=True, slots=True)
class Options:
    """What the installation decides.

    Attributes:
        poll_seconds: the first wait where no event comes.
        public_url: where the dashboard is, or empty.
    """

    poll_seconds: float = 4
    public_url: str = ""


@dataclass(slots=True)
class _Run:
    """One task's view: the work it was handed and the record it changes."""

    environment: Environment
    work: Work
    record: EnvironmentRecord
    guard: Callable[[], None]
    cloud: Cloud

    @property
    def repository(self) -> Repository:
        return self.environment.repository

    @property
    def name(self) -> str:
        return self.environment.stack_name

    def note(self, state: str, **changes: object) -> None:
        self.record = self.record.but(state=state, **changes)

    def token(self, step: str) -> str:
        """An idempotency token: of (environment, commit, generation, step), and of the goal that asks for it."""
        parts = (
            self.name,
            self.work.sha,
            str(self.record.generation),
            step,
            self.work.goal,
            str(self.work.deletions),
        )
        return f"deployer-{hashlib.sha256('|'.join(parts).encode()).hexdigest()[:40]}"

    def again(self, task: Task, **changes: object) -> Again:
        return Again(self.work.but(task=task, polls=0, **changes), self.record)

    def done(self, outcome: Outcome, reason: str, **changes: object) -> Done:
        """End the goal. What changed nothing leaves the record as it is: that tells of the environment."""
        changed_nothing = outcome in {Outcome.SKIPPED, Outcome.SUPERSEDED}
        if not (changed_nothing and self.record.outcome):
            state = _ENDS.get(outcome, self.record.state)
            if outcome is Outcome.SKIPPED and state in {"", "pending"}:
                state = "skipped"
            self.record = self.record.but(outcome=str(outcome), reason=reason, state=state, **changes)
        return Done(str(outcome), reason, self.record)


class _Settled(Exception):  # noqa: N818  it is an answer, not an error
    """The goal ends here, for a reason found while looking for what is desired."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__()
        self.verdict = verdict


class Reconciler:
    """Carries out the tasks of one environment.

    Args:
        host: GitHub.
        clouds: AWS.
        lanes: where records are read; they are written with the verdict.
        options: what the installation decides.
        clock: epoch seconds.
    """

    def __init__(
        self,
        host: Host,
        clouds: Clouds,
        lanes: Lanes,
        options: Options,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._clouds = clouds
        self._lanes = lanes
        self._options = options
        self._clock = clock
        self._reporter = Reporter(host, self._page)

    def run(self, repository: Repository, work: Work, guard: Callable[[], None]) -> Verdict:
        """Carry out the task that the work names.

        Args:
            repository: the lane's repository.
            work: what the lane handed out.
            guard: called before anything is changed in AWS; raises `LaneLostError` where the lane is no longer
                held, so that a worker that slept past its lease does nothing more.

        Raises:
            LaneLostError: from the guard.
            TransientError: the far end is away or throttled; the same task may be repeated.
        """
        environment = Environment.from_key(repository, work.environment)
        record = self._record(environment)
        run = _Run(environment, work, record, guard, self._clouds.at(environment.kind, record.region))
        tasks: dict[str, Callable[[_Run], Verdict]] = {
            Task.SYNC: self._sync,
            Task.PROVISION: self._provision,
            Task.UPDATE: self._update,
            Task.TRIGGER: self._trigger,
            Task.DELETE: self._delete,
            Task.NOTIFY: self._notify,
        }
        try:
            return tasks[work.task](run)
        except _Settled as settled:
            return settled.verdict
        except PermanentError as error:
            return self._failed(run, str(error))

    # --- the task that decides ----------------------------------------------------------------------------------

    def died(self, repository: Repository, work: Work, letter: str, reason: str) -> EnvironmentRecord:
        """What is known of an environment whose task became a dead letter; its commit gets a status that says so.

        Args:
            letter: the dead letter's id.
            reason: why, in words fit for everybody.

        Raises:
            DeployerError: GitHub or Redis is away.
        """
        environment = Environment.from_key(repository, work.environment)
        record = self._record(environment)
        text = f"deployer could not go on: {reason}; dead letter {letter}"
        if work.cause != Cause.EVENT:
            record = self._reporter.prepare(environment, record, work.sha or record.commit, "error", text)
            record = record.but(state="failed", outcome=str(Outcome.DEAD_LETTERED), reason=reason)
        return record

    def _record(self, environment: Environment) -> EnvironmentRecord:
        return self._lanes.environment(environment) or EnvironmentRecord(
            environment.repository.full_name, environment.key, environment.stack_name
        )

    def _sync(self, run: _Run) -> Verdict:
        if run.work.execution:
            return self._follow(run)
        wanted = self._wants(run)
        stack = run.cloud.stack(run.name)
        digest = self._wanted_digest(run, stack) if wanted and stack else None
        decision = decide(Desired(wanted, digest), self._observed(run, stack))
        match decision.step:
            case Step.PROVISION:
                return run.again(Task.PROVISION, created=True)
            case Step.UPDATE:
                run.note("updating")
                self._prepare(run, "pending", "updating the pipeline")
                return run.again(Task.UPDATE, updated=True)
            case Step.RECOVER:
                run.note("updating")
                return run.again(Task.UPDATE, recovered=True)
            case Step.REPLACE:
                run.note("provisioning")
                self._prepare(run, "pending", f"replacing the pipeline: {decision.reason}")
                return run.again(Task.DELETE, replacing=True)
            case Step.DELETE:
                run.note("deleting")
                return run.again(Task.DELETE)
            case Step.TRIGGER:
                return self._see_to_execution(run)
            case Step.WAIT:
                if wanted and not (run.work.created or run.work.updated):
                    self._prepare(run, "pending", f"waiting: {decision.reason}")
                return self._snooze(run)
            case Step.FAIL:
                return self._failed(run, self._with_cause(run, decision.reason, stack))
            case _:
                if run.record.applications and run.environment.kind is Kind.DEVELOPMENT:
                    return run.again(
                        Task.DELETE
                    )  # someone deleted the pipeline's stack, not what it deployed
                return self._gone(run)

    def _wants(self, run: _Run) -> bool:
        """Find what should be: sets the work's commit and ref and returns True, or False if it should be gone."""
        work, environment = run.work, run.environment
        if work.cause == Cause.TEARDOWN:
            return False
        if work.created or work.updated or work.recovered or work.replacing:
            return True  # ordered already; a newer push has its own place in the lane
        if environment.kind is Kind.PRODUCTION:
            return self._wants_production(run)
        ref = environment.branch or Ref.of_branch(
            work.default_branch or self._host.default_branch(run.repository)
        )
        head = self._host.head(run.repository, ref)
        self._refuse_stale(run, head)
        if head is None:
            if environment.kind is Kind.STAGING:
                raise _Settled(run.done(Outcome.SKIPPED, f"{ref} is gone; a webhook never deletes staging"))
            if environment.branch == Ref.of_branch(self._host.default_branch(run.repository)):
                raise _Settled(run.done(Outcome.SKIPPED, f"{ref} is the default branch; nothing is deleted"))
            return False
        self._take(run, ref, head)
        return True

    def _wants_production(self, run: _Run) -> bool:
        work = run.work
        if work.cause == Cause.DELETION:
            raise _Settled(run.done(Outcome.SKIPPED, f"{work.ref} was deleted; production stays as it is"))
        if work.cause == Cause.RESYNC and not run.record.commit:
            self._adopt_production(run)
        if work.pushed_at and work.pushed_at < run.record.pushed_at:
            raise _Settled(run.done(Outcome.SUPERSEDED, f"{run.record.ref} was pushed after {work.ref}"))
        name = work.ref or run.record.ref
        if not name:
            raise _Settled(
                run.done(Outcome.SKIPPED, "no tag is known for production; push one, or redeploy a tag")
            )
        ref = Ref.parse(name)
        head = self._host.head(run.repository, ref)
        self._refuse_stale(run, head)
        if head is None:
            raise _Settled(run.done(Outcome.SKIPPED, f"{ref} is gone; production stays as it is"))
        self._take(run, ref, head)
        return True

    def _adopt_production(self, run: _Run) -> None:
        """Learn what production runs after the ledger was lost. It is never moved, nor started: only followed."""
        if run.cloud.stack(run.name) is None:
            return
        newest = next(iter(run.cloud.executions(run.name)), None)
        if newest is None or not newest.sha:
            raise _Settled(run.done(Outcome.SKIPPED, "production stands, and nothing ran in it yet"))
        refs = self._host.refs(run.repository).items()
        tags = {ref.name for ref, target in refs if ref.is_tag and target == newest.sha}
        head = self._host.head(run.repository, Ref.parse(run.work.ref)) if run.work.ref else None
        name = run.work.ref if head and head.sha == newest.sha else min(tags, default="")
        run.work = run.work.but(ref=name, sha=newest.sha, execution=newest.id)
        run.record = run.record.but(ref=name)
        raise _Settled(self._take_execution(run, newest.id))

    def _take(self, run: _Run, ref: Ref, head: Head) -> None:
        work = run.work
        sha = work.sha if work.cause == Cause.REDEPLOY and work.sha else head.sha
        if work.cause != Cause.REDEPLOY and (reason := skip_reason(ref, head.message)):
            if work.cause != Cause.PUSH or ref.is_tag or work.after in {"", head.object}:
                run.record = run.record.but(held_at=head.object)
                raise _Settled(run.done(Outcome.SKIPPED, reason, ref=ref.name, commit=sha))
            sha = work.after  # what was pushed after it asks to be skipped, this push itself did not
        if work.cause == Cause.REDEPLOY and work.sha:
            self._refuse_unknown(run, sha)
        run.work = work.but(ref=ref.name, sha=sha)
        if sha != run.record.commit:
            run.note("pending", outcome="", reason="", stages=[], execution="")
        held = head.object if work.cause == Cause.REDEPLOY and sha != head.sha else ""
        run.record = run.record.but(ref=ref.name, commit=sha, held_at=held)
        if work.cause == Cause.PUSH:
            run.record = run.record.but(
                moved_from=work.before,
                moved_to=work.after,
                moved_at=work.accepted_at,
                pushed_at=work.pushed_at,
            )

    def _refuse_unknown(self, run: _Run, sha: str) -> None:
        """Leave the environment as it is if a person names a commit that is not there."""
        try:
            self._host.files(run.repository, sha, FOLDER)
        except PermanentError as error:
            raise _Settled(run.done(Outcome.SKIPPED, f"{error}; nothing was changed")) from error

    def _refuse_stale(self, run: _Run, head: Head | None) -> None:
        """Come back later if GitHub's API still tells where the ref was before the push that brought us here."""
        work, now = run.work, self._clock()
        live = head.object if head else None
        if work.cause in {Cause.PUSH, Cause.DELETION}:
            expected = None if work.cause == Cause.DELETION else work.after
            before, since = work.before, work.accepted_at
        else:
            expected, before, since = "", run.record.moved_from, run.record.moved_at
        stale = live is not None and live in before.split(",") and live != expected
        if live is None:
            stale, since = self._unborn(run)
        if stale and now - since < _STALE_SECONDS:
            raise _Settled(Snooze(work, _STALE_WAIT, run.record))

    def _unborn(self, run: _Run) -> tuple[bool, float]:
        """Whether "the ref is gone" contradicts a push that is known, and when that push came."""
        work, record = run.work, run.record
        if work.cause == Cause.PUSH:
            return True, work.accepted_at
        at, to = max((work.replaced_at, work.replaced_after), (record.moved_at, record.moved_to))
        if work.cause == Cause.DELETION:
            # it deleted the object that it names first; a push to anything else came after it
            return bool(to) and to != work.before.partition(",")[0], at
        return bool(to), at

    def _wanted_digest(self, run: _Run, stack: Stack) -> str | None:
        if run.work.created or run.work.updated or stack.phase is not Phase.READY:
            return stack.tags.get("deployer:digest")  # what this goal ordered is what it wanted
        return self._release(run).digest

    def _observed(self, run: _Run, stack: Stack | None) -> Observed:
        work = run.work
        return Observed(
            stack=stack,
            owned=stack is not None and run.environment.owns(stack.tags),
            created=work.created,
            updated=work.updated,
            recovered=work.recovered,
            deletions=work.deletions,
            disposable=run.environment.kind is Kind.DEVELOPMENT,
        )

    # --- the steps ----------------------------------------------------------------------------------------------

    def _provision(self, run: _Run) -> Verdict:
        release = self._release(run)
        run.note("provisioning")
        self._prepare(run, "pending", "creating the pipeline")
        run.guard()
        if run.cloud.stack(run.name) is None:
            run.record = run.record.but(
                stack_arn=run.cloud.create_stack(run.name, release, run.token("provision"))
            )
        return self._snooze(run, Task.SYNC)

    def _update(self, run: _Run) -> Verdict:
        if run.work.recovered and not run.work.updated:
            run.guard()
            run.cloud.continue_rollback(run.name, run.token("recover"))
            return self._snooze(run, Task.SYNC)
        release = self._release(run)
        run.guard()
        if not run.cloud.update_stack(run.name, release, run.token("update")):
            return run.again(Task.SYNC)
        return self._snooze(run, Task.SYNC)

    def _see_to_execution(self, run: _Run) -> Verdict:
        """The stack is as wanted: find the execution of the wanted commit, or have one started."""
        run.record = run.record.but(
            applications=run.cloud.deployed_stacks(run.name) or run.record.applications
        )
        executions = run.cloud.executions(run.name)
        newest = executions[0] if executions else None
        if newest and not newest.sha and not newest.ended and run.work.polls < _SOURCE_POLLS:
            return self._snooze(run)  # its source stage has not told the commit yet
        if newest is None or needs_start(newest, run.work, run.record.reported):
            return run.again(Task.TRIGGER)
        return self._take_execution(run, newest.id)

    def _trigger(self, run: _Run) -> Verdict:
        for execution in run.cloud.executions(run.name):
            if execution.automatic and not execution.ended and execution.sha != run.work.sha:
                run.guard()
                run.cloud.stop(run.name, execution.id, f"deployer starts {run.work.sha[:12]} instead")
        run.guard()
        execution_id = run.cloud.start(run.name, run.work.sha, run.token("trigger"))
        return self._take_execution(run, execution_id)

    def _take_execution(self, run: _Run, execution: str) -> Verdict:
        run.record = self._reporter.open(run.record, execution, run.work.sha)
        run.note("running", execution=execution, commit=run.work.sha)
        run.work = run.work.but(execution=execution, task=Task.SYNC, polls=0)
        self._prepare(run, "success", "the pipeline is ready")
        return self._follow(run)

    def _follow(self, run: _Run) -> Verdict:
        """Post how the executions go; end when this goal's own has ended."""
        identity = run.work.execution
        run.record = self._reporter.open(run.record, identity, run.work.sha)
        run.record, found = self._reporter.refresh(run.environment, run.record, run.cloud)
        execution = found.get(identity)
        if execution is None:
            if run.work.cause == Cause.EVENT:
                return Done(str(Outcome.SKIPPED), "its execution is gone", run.record)
            run.work = run.work.but(execution="", task=Task.SYNC)
            return self._snooze(run)  # its pipeline was replaced or has gone
        if not execution.ended:
            return self._snooze(run)
        ended = {"reported": identity, "execution": identity, "commit": run.work.sha}
        match execution.status:
            case "succeeded":
                return run.done(Outcome.DEPLOYED, f"{run.work.sha[:12]} went through every stage", **ended)
            case "superseded":
                return run.done(Outcome.SUPERSEDED, "a newer execution of the pipeline overtook it", **ended)
            case _:
                return run.done(Outcome.FAILED, failure_text(execution), **ended)

    def _notify(self, run: _Run) -> Verdict:
        """An event came that no goal waits for: tell how the newest execution goes. Never starts anything."""
        if run.work.execution:
            return self._follow(run)
        newest = next(iter(run.cloud.executions(run.name)), None)
        if newest is None or newest.id == run.record.reported:
            run.record, _ = self._reporter.refresh(run.environment, run.record, run.cloud)
            return Done(str(Outcome.SKIPPED), "nothing waits for this event", run.record)
        if not newest.sha and not newest.ended and run.work.polls < _SOURCE_POLLS:
            return self._snooze(run)
        run.work = run.work.but(sha=newest.sha or run.record.commit, execution=newest.id)
        return self._follow(run)

    # --- teardown -----------------------------------------------------------------------------------------------

    def _delete(self, run: _Run) -> Verdict:
        if run.environment.kind is not Kind.DEVELOPMENT and not (
            run.work.cause == Cause.TEARDOWN or run.work.replacing
        ):
            return run.done(Outcome.SKIPPED, f"only a person can delete {run.environment.kind}")
        stack = run.cloud.stack(run.work.stack_arn or run.name)
        if stack and not run.environment.owns(stack.tags) and stack.phase is not Phase.GONE:
            return self._failed(run, f"stack {stack.name} does not bear deployer's tags for this environment")
        if not run.work.replacing and (waiting := self._delete_applications(run, stack)):
            return waiting
        if stack is None or stack.phase is Phase.GONE:
            return self._gone(run)
        return self._delete_stack(run, stack) or self._snooze(run)

    def _delete_applications(self, run: _Run, stack: Stack | None) -> Verdict | None:
        """Delete what the pipeline deployed, while the roles that did it still exist; None when all is gone."""
        if stack and stack.phase is not Phase.DELETING:
            for execution in run.cloud.executions(run.name):
                if not execution.ended:
                    run.guard()
                    run.cloud.stop(run.name, execution.id, "the environment is being deleted")
            known = [*run.cloud.deployed_stacks(run.name), *run.record.applications]
            run.record = run.record.but(applications=list(dict.fromkeys(known)))
        waiting = False
        for name in run.record.applications:
            application = run.cloud.stack(name)
            # a stack of another environment, or of nobody we know, is left alone
            if application is None or not run.environment.owns(application.tags):
                continue
            waiting = True
            if verdict := self._delete_stack(run, application):
                return verdict
        return self._snooze(run) if waiting else None

    def _delete_stack(self, run: _Run, stack: Stack) -> Verdict | None:
        """Order a deletion unless it runs; returns a verdict where it is hopeless, or must be gone on with later."""
        decision = decide(Desired(exists=False), Observed(stack, deletions=run.work.deletions))
        if decision.step is Step.FAIL:
            return self._failed(run, self._with_cause(run, decision.reason, stack))
        if decision.step is not Step.DELETE:
            return None
        if stack.phase is Phase.UNDELETED:
            run.work = run.work.but(deletions=run.work.deletions + 1)
        if stack.name == run.name:
            run.work = run.work.but(stack_arn=stack.arn)
        run.guard()
        if run.environment.kind is Kind.DEVELOPMENT and not run.cloud.empty_buckets(stack.arn, run.guard):
            return self._snooze(run)  # there is much in them, or something writes to them all the time
        run.cloud.delete_stack(stack.arn, run.token(f"delete {stack.arn}"))
        return None

    def _gone(self, run: _Run) -> Verdict:
        if run.work.replacing:
            run.work = run.work.but(replacing=False, stack_arn="", deletions=0)
            run.record = run.record.but(generation=run.record.generation + 1)
            return run.again(Task.PROVISION, created=True)
        gone = run.record.but(
            generation=run.record.generation + 1, open={}, stages=[], execution="", applications=[], stack_arn="",
            prepared="",
        )  # fmt: skip
        run.record = gone
        return run.done(Outcome.DELETED, "its pipeline and all that it deployed are gone")

    # --- common -------------------------------------------------------------------------------------------------

    def _release(self, run: _Run) -> Release:
        files = self._host.files(run.repository, run.work.sha, FOLDER)
        ref = Ref.parse(run.work.ref)
        if not has_pipeline(files):
            where = f"{FOLDER}/pipeline.yml (or .yaml, .json) at {run.work.sha[:12]}"
            raise _Settled(run.done(Outcome.SKIPPED, f"there is no {where}"))
        branch = (
            run.work.default_branch or self._host.default_branch(run.repository) if ref.is_tag else ref.branch
        )
        given = self._clouds.target(run.environment.kind).given(run.cloud.region)
        return build_release(run.environment, ref, branch, run.work.sha, files, given)

    def _snooze(self, run: _Run, task: Task | None = None) -> Snooze:
        factor = min(1.5**run.work.polls, _LONGEST_POLL)
        work = run.work.but(polls=run.work.polls + 1, **({"task": task} if task else {}))
        return Snooze(work, self._options.poll_seconds * factor, run.record)

    def _failed(self, run: _Run, reason: str) -> Done:
        self._prepare(run, "failure", reason)
        return run.done(Outcome.FAILED, reason, **({"commit": run.work.sha} if run.work.sha else {}))

    def _with_cause(self, run: _Run, reason: str, stack: Stack | None) -> str:
        ours = stack is not None and run.environment.owns(stack.tags)
        cause = run.cloud.failure(stack.arn) if stack and ours else None
        return f"{reason.partition(': ')[0]}: {cause}" if cause else reason

    def _prepare(self, run: _Run, state: str, text: str) -> None:
        run.record = self._reporter.prepare(run.environment, run.record, run.work.sha, state, text)

    def _page(self, environment: Environment) -> str:
        if not self._options.public_url:
            return ""
        return f"{self._options.public_url}/environments/{environment.stack_name}"


def needs_start(newest: Execution, work: Work, reported: str) -> bool:
    """Whether an execution must be started, or the newest one is what this goal wants.

    Args:
        newest: the pipeline's newest execution.
        work: the goal.
        reported: the execution whose end was told already; people who push or redeploy after it want a new one.
    """
    if newest.sha != work.sha:
        return True
    if not newest.ended:
        return False
    if work.cause == Cause.REDEPLOY or work.updated:
        return True
    if work.cause != Cause.PUSH:
        return False  # what a person stopped stays stopped, and what failed was told
    return newest.status in {"stopped", "superseded"} or (newest.status == "failed" and newest.id == reported)
