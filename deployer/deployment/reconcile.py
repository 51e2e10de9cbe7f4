"""Brings one environment from what is to what should be: observe, decide, take one step.

Every method here may be repeated after a crash at any point: it looks before it acts, and what it orders bears a
token made of the goal, so that AWS itself recognises a repeat. None of them waits: they end in a `Verdict`.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

from deployer.deployment.deploy_folder import Sources
from deployer.deployment.desired import Wanted
from deployer.deployment.desired_production import Production
from deployer.deployment.executions import Executions, learn, note_drift
from deployer.deployment.placement import Placement
from deployer.deployment.production_gate import Gate
from deployer.deployment.ref_tracking import Moves
from deployer.environment.context import Run, Settled
from deployer.environment.drift import applied
from deployer.environment.ports import Clouds, Host, Inventory
from deployer.environment.repository_state import DEFAULT, DELETED, RENAMED, Repositories
from deployer.environment.statuses import Reporter
from deployer.model.durations import clock, date
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import CallLimitError, PermanentError, QuotaError
from deployer.model.expiry import ASLEEP, NIGHT, expires_at, used_at
from deployer.model.records import RESYNC_KEY, Cause, EnvironmentRecord, Outcome, Task, Work, is_over
from deployer.model.stacks import REFUSED, Decision, Desired, Failure, Observed, Phase, Stack, Step, decide
from deployer.queue.call_counter import allow_more
from deployer.queue.step_results import Done, Verdict
from deployer.queue.store import Lanes
from deployer.teardown.expiry_comment import ExpiryComments
from deployer.teardown.teardown import GONE, Teardown, under_way
from deployer.templates.findings import Linter
from deployer.templates.folder_check import FolderEvaluator
from deployer.templates.repository_config import TEARDOWN_TAG

_REPORT_CALLS = (
    10  # to GitHub, for a task that has made as many as it may: statuses, comments and their repeats
)
_HEARD_SECONDS = 86400  # events that came within a day will come again
# for so long what was decided stands without another look: a worker that is lost takes longer
_FRESH_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Options:
    """What the installation decides.

    Attributes:
        poll_seconds: the first wait where no event comes.
        public_url: where the dashboard is, or empty.
        ttl: how long a development environment may be idle where its repository has no wish.
        tag_wait_seconds: how long a pushed tag waits for its commit to arrive on the default branch.
    """

    poll_seconds: float = 4
    public_url: str = ""
    ttl: str = "never"
    tag_wait_seconds: float = 60


class Reconciler:
    """Carries out the tasks of one environment.

    Args:
        host: GitHub.
        clouds: AWS.
        inventory: tells what stands in any region.
        lanes: where records are read; they are written with the verdict.
        repositories: says whether a repository is still the one that the environments are of.
        options: what the installation decides.
        evaluator: reads and evaluates what a branch's `deploy/` folder holds.
        linter: looks at templates before AWS does; None for no such look.
        clock: epoch seconds; by default Redis's, since the times are stored and read on other machines.
    """

    def __init__(
        self,
        host: Host,
        clouds: Clouds,
        inventory: Inventory,
        lanes: Lanes,
        repositories: Repositories,
        options: Options,
        evaluator: FolderEvaluator,
        linter: Linter | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._clouds = clouds
        self._lanes = lanes
        self._repositories = repositories
        self._options = options
        self._clock = clock = clock or lanes.now
        self._reporter = Reporter(host, self._page)
        self._comments = ExpiryComments(host, self._page, options.ttl)
        self._sources = Sources(host, clouds, evaluator, linter)
        self._placement = Placement(clouds, inventory, self._reporter)
        self._executions = Executions(self._reporter)
        moves = Moves(host, self._sources, clock)
        gate = Gate(host, clouds, evaluator.read_repository_config)
        self._production = Production(
            host, moves, self._executions, self._reporter, gate, lanes, options.tag_wait_seconds, clock
        )
        self._wanted = Wanted(
            host, repositories, moves, self._production, self._reporter, self._comments, options.ttl, clock
        )
        self._teardown = Teardown(clouds, inventory, lanes, self._reporter, clock)

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
        known = self._record(environment)
        record, cloud = self._placement.locate(environment, known)
        run = Run(
            environment,
            work,
            record,
            guard,
            cloud,
            self._options.poll_seconds,
            self._heard,
            self._clock(),
        )
        if work.word and work.cause == Cause.TEARDOWN and self._is_called_off(environment, work.word):
            # a resync that asked for the environment may have joined this
            return run.again(Task.SYNC, cause=Cause.RESYNC, word="", turned=True)
        tasks: dict[str, Callable[[Run], Verdict]] = {
            Task.SYNC: self._sync,
            Task.PROVISION: self._provision,
            Task.UPDATE: self._update,
            Task.TRIGGER: self._executions.trigger,
            Task.DELETE: self._delete,
            Task.NOTIFY: self._executions.notify,
        }
        try:
            verdict = self._outdated(run) or tasks[work.task](run)
        except Settled as settled:
            verdict = settled.verdict
        except (PermanentError, CallLimitError) as error:
            if isinstance(error, CallLimitError):
                allow_more(_REPORT_CALLS)
            if work.cause == Cause.AGE and work.task == Task.SYNC:
                return Done(str(Outcome.FAILED), str(error), _unaged(record, str(error), run.now))
            if work.task == Task.PROVISION:  # what was refused has no place yet
                run.record = run.record.but(region="")
            verdict = self._reporter.failed(run, str(error))
        if _leaves_a_teardown(run, verdict):
            return run.again(Task.DELETE, cause=Cause.TEARDOWN)
        if isinstance(verdict, Done) and verdict.record:
            record = verdict.record
            if not work.candidate:  # its end is none of what production runs
                record = self._reporter.settle(environment, record, verdict.reason)
            record = self._comments.correct(environment, record)
            # an event that told nothing new dates nothing anew: a resync under way would pass over what it has listed
            nothing_new = work.cause == Cause.EVENT and record == known.but(stack_name=record.stack_name)
            commit = verdict.commit or record.commit
            verdict = replace(verdict, record=None if nothing_new else record, commit=commit)
            if verdict.outcome == Outcome.DELETED:
                self._look_for_more(environment)
        return verdict

    def _is_called_off(self, environment: Environment, word: str) -> bool:
        """Whether its repository has its name again, or its branch is no longer the default one."""
        known, branch = self._repositories.known(environment.repository), environment.branch
        if word == DEFAULT:
            return not branch or branch.branch != known.default_branch
        return not known.state

    def _look_for_more(self, environment: Environment) -> None:
        """Let a resync see whether that was the last of a name that is gone: none may be on the schedule."""
        repository = environment.repository
        if self._repositories.known(repository).state not in {RENAMED, DELETED}:
            return
        branches = [
            each
            for each in self._lanes.environments(repository)
            if each.environment.startswith(Kind.DEVELOPMENT) and each.environment != environment.key
        ]
        if environment.kind is not Kind.DEVELOPMENT or all(map(is_over, branches)):
            wish = Work(environment=RESYNC_KEY, task=Task.RESYNC, cause=Cause.RESYNC, turned=True)
            self._lanes.accept(repository, wish)  # this task holds the lane: nothing to dispatch

    @staticmethod
    def _outdated(run: Run) -> Verdict | None:
        """Decide anew on a step that waited for long, if its stack is gone or no longer the environment's.

        What creates and what deletes is refused by AWS, or looks itself.
        """
        if run.work.task not in {Task.UPDATE, Task.TRIGGER} or run.now - run.work.looked_at < _FRESH_SECONDS:
            return None
        stack = run.cloud.stack(run.name)
        if stack and run.environment.owns(stack.tags):
            return None
        return run.again(Task.SYNC, updated=False, recovered=False)

    def _heard(self) -> bool:
        return self._lanes.beats().get("event", 0) > self._lanes.now() - _HEARD_SECONDS

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
        if work.cause == Cause.AGE and work.task == Task.SYNC:
            return _unaged(record, reason, self._clock())
        if work.cause != Cause.EVENT and not work.candidate:
            # a push that died before GitHub was read is told where its webhook said that it is
            named = work.sha or (work.after if environment.kind is not Kind.PRODUCTION else "")
            record = self._reporter.prepare(environment, record, named or record.commit, "error", text)
            ended = {"outcome": str(Outcome.DEAD_LETTERED), "reason": reason, "changed_at": self._clock()}
            follows = bool(work.execution) and work.execution == record.execution
            record = record.but(state="failed", stages=record.stages if follows else [], **ended)
        return record

    def _record(self, environment: Environment) -> EnvironmentRecord:
        # its name is left open: AWS may be away, and what is on record is believed
        return self._lanes.environment(environment) or EnvironmentRecord(
            environment.repository.full_name, environment.key, ""
        )

    def _sync(self, run: Run) -> Verdict:
        if run.work.candidate:
            return self._production.judge(run)
        if run.work.execution:
            return self._executions.follow(run)
        if run.work.polls and run.cloud.still_busy(run.name, run.work.looked_at):
            return run.snooze()  # a shared look shows its stack at work
        if run.environment.kind is Kind.STAGING:
            self._production.check_again(run)
        production, resync = run.environment.kind is Kind.PRODUCTION, run.work.cause == Cause.RESYNC
        first = resync and (production or not run.record.stack_arn)
        stack = self._stack(run) if first else None
        before = run.record
        try:
            wanted = self._wanted.find(run)
        except (PermanentError, CallLimitError) as error:
            self._keep_as_it_was(run, before, error)
            raise
        except Settled as settled:
            verdict = settled.verdict
            if not resync or production or run.record.reported or not isinstance(verdict, Done):
                raise
            return self._adopt(run, stack if first else self._stack(run), verdict)
        stack = stack if first else self._stack(run)
        deleting = stack is not None and stack.phase is Phase.DELETING  # which is waited for in any case
        interrupts = wanted and under_way(run.record.receipt) and not deleting
        if interrupts and (waiting := self._teardown.interrupt(run)):
            return waiting
        note_drift(run, stack if wanted else None)
        digest = self._wanted_digest(run, stack) if wanted and stack else None
        decision = decide(Desired(wanted, digest), self._observed(run, stack, digest))
        return self._act(run, decision, stack, wanted=wanted)

    @staticmethod
    def _keep_as_it_was(run: Run, before: EnvironmentRecord, error: PermanentError | CallLimitError) -> None:
        """End a goal of which GitHub does not tell what is wanted: what stands, or stood, has not failed for that.

        Raises:
            Settled: with the record as it was; not where nothing was known, its age asked, or a push brought a new
                commit whose files take too many calls to read.
        """
        failed, why = str(Outcome.FAILED), str(error)
        pushed = (
            run.work.after
            if run.work.cause == Cause.PUSH and run.environment.kind is not Kind.PRODUCTION
            else ""
        )
        if isinstance(error, CallLimitError) and (run.work.sha or pushed) not in {"", before.commit}:
            run.work = run.work.but(sha=run.work.sha or pushed)
            return
        if before.outcome and run.work.cause != Cause.AGE:
            raise Settled(Done(failed, why, commit=before.commit))

    def _adopt(self, run: Run, stack: Stack | None, settled: Done) -> Verdict:
        """Learn a branch's stack that stays as it is, if the ledger was lost, and follow what its pipeline ran last."""
        if stack is None or not run.environment.owns(stack.tags) or stack.phase is Phase.BUSY:
            return settled
        learn(run, stack)
        # one that is stuck is not told to be deployed: only what moves its ref mends it
        newest = next(iter(run.cloud.executions(run.name)), None) if stack.phase is Phase.READY else None
        if not run.record.stack_arn or newest is None or not newest.sha:
            return replace(settled, record=run.record)
        run.work = run.work.but(sha=newest.sha)
        with suppress(PermanentError, Settled):
            self._sources.files(run)  # tells how it ages
        run.record = run.record.but(ref=run.record.ref or run.work.ref, used_at=run.record.used_at or run.now)
        return self._executions.take(run, newest.id)

    def _stack(self, run: Run) -> Stack | None:
        """The environment's stack in its region."""
        stack = run.cloud.stack(run.name)
        if run.name == run.environment.stack_name or (stack and run.environment.owns(stack.tags)):
            return stack
        # The stack with the former name is gone, and whoever has that name now must not be in the way.
        run.record = run.record.but(stack_name=run.environment.stack_name)
        return self._stack(run)

    def _act(self, run: Run, decision: Decision, stack: Stack | None, *, wanted: bool) -> Verdict:
        """Hand the decided step on to its task."""
        match decision.step:
            case Step.PROVISION:
                if self._placement.find_elsewhere(run):
                    return run.again(Task.SYNC)
                regions = self._clouds.target(run.environment.kind).regions
                if run.record.region not in regions:  # none is chosen, or the settings name it no longer
                    self._placement.settle(run, regions)
                run.note("provisioning")
                return run.again(Task.PROVISION, created=True)
            case Step.UPDATE:
                run.note("updating")
                self._reporter.tell(run, "pending", "updating the pipeline")
                return run.again(Task.UPDATE, updated=True)
            case Step.RECOVER:
                self._keep_failure(run, stack)
                run.note("updating")
                self._reporter.tell(run, "pending", f"mending the pipeline: {decision.reason}")
                return run.again(Task.UPDATE, recovered=True)
            case Step.REPLACE:
                run.note("provisioning")
                self._reporter.tell(run, "pending", f"replacing the pipeline: {decision.reason}")
                return run.again(Task.DELETE, replacing=True)
            case Step.DELETE:
                run.note("deleting")
                return run.again(Task.DELETE)
            case Step.TRIGGER if stack:
                return self._executions.see_to(run, stack)
            case Step.WAIT:
                if wanted and not (run.work.created or run.work.updated):
                    self._reporter.tell(run, "pending", f"waiting: {decision.reason}")
                return run.snooze()
            case Step.FAIL:
                return self._refused(run, decision, stack)
            case _:
                # its pipeline's stack is gone, what that deployed may not be
                return run.again(Task.DELETE)

    def _delete(self, run: Run) -> Verdict:
        """Go on with a teardown; one that the environment's age asked for tells so, and may be woken from."""
        record, reason = run.record, run.record.reason
        kept = used_at(record) > record.aged_at or record.kept_until > run.now
        if run.work.cause == Cause.AGE and record.aged and kept and not under_way(record.receipt):
            run.record = record.but(aged="", held_at="")
            run.note("deployed" if record.outcome == Outcome.DEPLOYED else "failed", reason="")
            return run.done(Outcome.SKIPPED, "it was used, or a person keeps it, just when its time had come")
        verdict = self._teardown.carry_out(run)
        if (
            run.work.cause != Cause.AGE
            or not run.record.aged
            or not isinstance(verdict, Done)
            or verdict.outcome != Outcome.DELETED
        ):
            return verdict
        self._reporter.age(run.environment, run.record, self._taken_down(run.record, reason))
        if verdict.reason != GONE:
            reason = f"{reason}; {verdict.reason}"
        state = ASLEEP if run.record.aged == NIGHT else run.record.state
        # a night is no use: what was warned of before it ends when that said
        warned_at = record.warned_at if run.record.aged == NIGHT else 0
        run.record = run.record.but(state=state, reason=reason, warned_at=warned_at)
        return replace(verdict, reason=reason, record=run.record)

    def _taken_down(self, record: EnvironmentRecord, reason: str) -> str:
        """What the commit is told; it hears of the end that comes after the night, too."""
        warned = record.aged == NIGHT and record.warned_at > used_at(record)
        if warned and (ends := expires_at(record, self._options.ttl, self._clock())):
            return f"will be taken down for good on {date(ends)}, and is for the night: {reason}"
        return f"was taken down: {reason}"

    def _wanted_digest(self, run: Run, stack: Stack) -> str | None:
        if run.work.created or run.work.updated or stack.phase not in {Phase.READY, Phase.WEDGED}:
            return stack.tags.get("deployer:digest")  # what this goal ordered is what it wanted
        return self._sources.release(run, self._sources.files(run)).digest

    def _observed(self, run: Run, stack: Stack | None, digest: str | None) -> Observed:
        work = run.work
        insists = work.cause == Cause.REDEPLOY
        return Observed(
            stack=stack,
            owned=stack is not None and run.environment.owns(stack.tags),
            created=work.created,
            updated=work.updated,
            recovered=work.recovered,
            deletions=work.deletions,
            disposable=run.environment.kind is Kind.DEVELOPMENT,
            asked=insists
            or work.cause == Cause.PUSH
            or (stack is not None and stack.tags.get("deployer:commit") != work.sha),
            refusals=run.record.refusals if digest == run.record.refused and not insists else 0,
            unlocks=work.cause == Cause.TEARDOWN and run.environment.kind is not Kind.DEVELOPMENT,
            drifted=insists and bool(run.record.drift),
        )

    # --- the steps ----------------------------------------------------------------------------------------------

    def _provision(self, run: Run) -> Verdict:
        files = self._sources.files(run)
        regions = self._clouds.target(run.environment.kind).regions
        if run.environment.kind is Kind.DEVELOPMENT and run.cloud.region in regions:
            allowed = self._sources.preferences(files).allowed_regions(regions)
            if run.cloud.region not in allowed:
                self._placement.settle(run, allowed)
                return run.again(Task.PROVISION)
        release = self._sources.checked(run, files)
        run.note("provisioning")
        room = run.cloud.known_room()
        near = ""
        if room and room.nearly_full:
            near = f"; {room.region} had room for {room.free} more at {clock(room.counted_at)}"
        self._reporter.tell(run, "pending", f"creating the pipeline{near}")
        try:
            arn = run.create_stack(release)
        except QuotaError as error:
            run.record = run.record.but(region="")
            return self._placement.wait_for_room(run, str(error))
        run.record = _ordered(run.record).but(
            stack_arn=arn,
            region=run.cloud.region,
            teardown=release.tags.get(TEARDOWN_TAG, ""),
        )
        return run.snooze(Task.SYNC)

    def _update(self, run: Run) -> Verdict:
        if run.work.recovered and (not run.work.updated or self._is_stuck(run)):
            run.guard()
            run.cloud.continue_rollback(run.name, run.token("recover"))
            run.record = _ordered(run.record)
            return run.snooze(Task.SYNC)
        release = self._sources.checked(run, self._sources.files(run))
        changed = run.update_stack(release)
        run.record = run.record.but(teardown=release.tags.get(TEARDOWN_TAG, ""))
        if not changed:
            return run.again(Task.SYNC)
        run.record = _ordered(run.record)
        return run.snooze(Task.SYNC)

    @staticmethod
    def _is_stuck(run: Run) -> bool:
        """Whether this goal's own update stopped half-way: that comes after it was ordered, not before."""
        stack = run.cloud.stack(run.name)
        return stack is not None and stack.phase is Phase.STUCK

    # --- common -------------------------------------------------------------------------------------------------

    def _refused(self, run: Run, decision: Decision, stack: Stack | None) -> Done:
        """End a goal that cannot go on, with the first thing that failed in AWS."""
        if stack is None or not run.environment.owns(stack.tags):
            return self._reporter.failed(run, decision.reason)
        if run.work.created and stack.status in REFUSED:
            digest = stack.tags.get("deployer:digest", "")
            before = run.record.refusals if run.record.refused == digest else 0
            run.record = run.record.but(refused=digest, refusals=before + 1)
        if run.work.updated and stack.phase is Phase.READY:
            run.record = run.record.but(applied=applied(stack))  # its rollback was an update as well
        failure, url = run.cloud.failure(stack.arn), run.cloud.stack_url(stack.arn)
        if failure is None and run.work.recovered and run.work.updated and (kept := run.record.failure):
            failure = Failure(kept["resource"], kept["type"], kept["reason"])
        if failure is None:
            return self._reporter.failed(run, decision.reason, url)
        place = self._sources.place(run, failure)
        run.record = run.record.but(failure={**asdict(failure), **place, "url": url})
        what, _, _ = decision.reason.partition(": ")
        where = f" at {place['file']}:{place['line']}" if place else ""
        reason = f"{what}: {failure}{f'; {decision.remedy}' if decision.remedy else ''}"
        return self._reporter.failed(run, reason, url, f"{failure.resource}{where}: {failure.reason}")

    @staticmethod
    def _keep_failure(run: Run, stack: Stack | None) -> None:
        """Keep why an update of this goal failed: a rollback that goes on is an operation of its own, and hides it."""
        if stack and run.work.updated and (failure := run.cloud.failure(stack.arn)):
            url = run.cloud.stack_url(stack.arn)
            run.record = run.record.but(failure={**asdict(failure), "url": url})

    def _page(self, environment: Environment) -> str:
        if not self._options.public_url:
            return ""
        return f"{self._options.public_url}/environments/{environment.stack_name}"


def _ordered(record: EnvironmentRecord) -> EnvironmentRecord:
    """A record that knows of no applied stack until the end of what deployer has just ordered is seen.

    Another goal may see it, which would take the change for somebody else's.
    """
    return record.but(applied={}, drift="")


def _leaves_a_teardown(run: Run, verdict: Verdict) -> bool:
    """Whether a goal that replaced a teardown in the queue ends without anything to deploy: the teardown goes on then.

    A tag that is not judged yet is a queue item of its own, so it replaces no teardown.
    """
    replaces = run.work.cause in {Cause.PUSH, Cause.DELETION, Cause.REDEPLOY} and not run.work.candidate
    skipped = isinstance(verdict, Done) and verdict.outcome in {Outcome.SKIPPED, Outcome.SUPERSEDED}
    return replaces and skipped and under_way(run.record.receipt)


def _unaged(record: EnvironmentRecord, reason: str, now: float) -> EnvironmentRecord:
    """An environment whose age could not be seen to: as it was, or, where its end had begun, failed in it."""
    if record.state == "deleting":
        record = record.but(state="failed", reason=reason)
    return record.but(age_looked_at=now)
