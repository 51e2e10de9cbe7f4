"""Brings one environment from what is to what should be: observe, decide, take one step.

Every method here may be repeated after a crash at any point: it looks before it acts, and what it orders bears a
token made of the goal, so that AWS itself recognises a repeat. None of them waits: they end in a `Verdict`.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from deployer.age import ASLEEP, IDLE, NIGHT, Act, due, lead, used_at, why
from deployer.drift import applied, drift
from deployer.environments import Environment, Kind, Repository
from deployer.errors import NotFoundError, PermanentError, QuotaError
from deployer.executions import Executions
from deployer.ledger import Cause, EnvironmentRecord, Outcome, Task, Work
from deployer.placement import Placement
from deployer.ports import Clouds, Done, Facts, Head, Host, Inventory, Lanes, Snooze, Verdict
from deployer.preferences import Patterns, read_preferences
from deployer.refs import Ref, skip_reason
from deployer.release import TEARDOWN_TAG
from deployer.reporting import Reporter
from deployer.repositories import Repositories
from deployer.run import Run, Settled
from deployer.sources import Sources
from deployer.stacks import REFUSED, Decision, Desired, Failure, Observed, Phase, Stack, Step, decide
from deployer.teardown import GONE, Teardown, under_way
from deployer.template import UnreadableError
from deployer.times import duration_text
from deployer.validation import Linter

_HEARD_SECONDS = 86400  # events that came within a day will come again
_STALE_SECONDS = 30  # GitHub's API has been seen to lag behind its own webhooks by some seconds
_STALE_WAIT = 2
_ASKED_TAGS = 100
_LOOKED_AT_TAGS = 5


@dataclass(frozen=True, slots=True)
class Options:
    """What the installation decides.

    Attributes:
        poll_seconds: the first wait where no event comes.
        public_url: where the dashboard is, or empty.
        ttl: how long a development environment may be idle where its repository has no wish.
    """

    poll_seconds: float = 4
    public_url: str = ""
    ttl: str = "never"


class Reconciler:
    """Carries out the tasks of one environment.

    Args:
        host: GitHub.
        clouds: AWS.
        inventory: tells what stands in any region.
        lanes: where records are read; they are written with the verdict.
        repositories: says whether a repository is still the one that the environments are of.
        options: what the installation decides.
        linter: looks at templates before AWS does; None for no such look.
        clock: epoch seconds.
    """

    def __init__(
        self,
        host: Host,
        clouds: Clouds,
        inventory: Inventory,
        lanes: Lanes,
        repositories: Repositories,
        options: Options,
        linter: Linter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._clouds = clouds
        self._lanes = lanes
        self._repositories = repositories
        self._options = options
        self._clock = clock
        self._reporter = Reporter(host, self._page)
        self._sources = Sources(host, clouds, linter)
        self._placement = Placement(clouds, self._reporter)
        self._executions = Executions(self._reporter)
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
        record, absent = self._placement.located(environment, self._record(environment), work.task)
        cloud = self._clouds.at(environment.kind, record.region)
        run = Run(
            environment,
            work,
            record,
            guard,
            cloud,
            self._options.poll_seconds,
            self._heard,
            self._clock(),
            absent,
        )
        tasks: dict[str, Callable[[Run], Verdict]] = {
            Task.SYNC: self._sync,
            Task.PROVISION: self._provision,
            Task.UPDATE: self._update,
            Task.TRIGGER: self._executions.trigger,
            Task.DELETE: self._delete,
            Task.NOTIFY: self._executions.notify,
        }
        try:
            verdict = tasks[work.task](run)
        except Settled as settled:
            verdict = settled.verdict
        except PermanentError as error:
            if work.cause == Cause.AGE and work.task == Task.SYNC:  # the environment is as it was
                return Done(str(Outcome.FAILED), str(error), record.but(age_looked_at=run.now))
            if work.task == Task.PROVISION:  # what was refused has no place yet
                run.record = run.record.but(region="")
            verdict = self._reporter.failed(run, str(error))
        if isinstance(verdict, Done) and verdict.record:
            record = self._reporter.correct(environment, verdict.record, self._options.ttl)
            verdict = replace(verdict, record=record)
        return verdict

    def _heard(self) -> bool:
        return self._lanes.beats().get("event", 0) > time.time() - _HEARD_SECONDS

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
            return record.but(age_looked_at=self._clock())
        if work.cause != Cause.EVENT:
            record = self._reporter.prepare(environment, record, work.sha or record.commit, "error", text)
            record = record.but(state="failed", outcome=str(Outcome.DEAD_LETTERED), reason=reason)
        return record

    def _record(self, environment: Environment) -> EnvironmentRecord:
        return self._lanes.environment(environment) or EnvironmentRecord(
            environment.repository.full_name, environment.key, environment.stack_name
        )

    def _sync(self, run: Run) -> Verdict:
        if run.work.execution:
            return self._executions.follow(run)
        if run.work.polls and run.cloud.still_busy(run.name, run.work.looked_at):
            return run.snooze()  # a shared look shows its stack at work
        wanted = self._wants(run)
        stack = None if run.absent else run.cloud.stack(run.name)
        if not run.absent and not (stack and run.environment.owns(stack.tags)):
            stack = self._placement.elsewhere(run) or stack
        taken_back = wanted and under_way(run.record.receipt)
        deleting = stack is not None and stack.phase is Phase.DELETING
        if taken_back and not deleting and (ending := self._teardown.cancelled(run)):
            return ending
        self._note_drift(run, stack if wanted else None)
        digest = self._wanted_digest(run, stack) if wanted and stack else None
        decision = decide(Desired(wanted, digest), self._observed(run, stack, digest))
        return self._act(run, decision, stack, wanted=wanted)

    def _act(self, run: Run, decision: Decision, stack: Stack | None, *, wanted: bool) -> Verdict:
        """Hand the decided step on to its task."""
        match decision.step:
            case Step.PROVISION:
                if not run.record.region:
                    self._placement.settle(run, self._clouds.target(run.environment.kind).regions)
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

    def _note_drift(self, run: Run, stack: Stack | None) -> None:
        """Tell of what someone else changed in the stack; who only looks leaves it so.

        Raises:
            Settled: it is the only thing that could be mended, and nobody asked for that.
        """
        work, record = run.work, run.record
        if stack is None or work.created or work.updated or work.recovered:
            return
        if not run.environment.owns(stack.tags):
            return
        if stack.phase is Phase.READY:
            run.record = record = record.but(
                drift=drift(stack, record.applied), stack_arn=stack.arn, region=run.cloud.region
            )
        ended = record.commit == work.sha and record.outcome in {Outcome.DEPLOYED, Outcome.FAILED}
        if work.cause == Cause.RESYNC and record.drift and ended:
            raise Settled(run.done(Outcome.SKIPPED, f"{record.drift}; redeploy to undo that"))

    def _wants(self, run: Run) -> bool:
        """Find what should be: sets the work's commit and ref and returns True, or False if it should be gone."""
        work, environment = run.work, run.environment
        if work.cause == Cause.TEARDOWN:
            return False
        if work.cause == Cause.AGE and environment.kind is not Kind.DEVELOPMENT:
            raise Settled(run.done(Outcome.SKIPPED, f"{environment.kind} never ages"))
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
                raise Settled(run.done(Outcome.SKIPPED, f"{ref} is gone; a webhook never deletes staging"))
            self._insist_gone(run, ref)
            run.record = run.record.but(held_at="", aged="")  # nothing is left that could be woken
            return False
        if work.cause == Cause.AGE and not self._wakes(run, head):
            return False
        self._take(run, ref, head)
        return True

    def _insist_gone(self, run: Run, ref: Ref) -> None:
        """Delete nothing unless the repository is the one that it was, and its list of refs lacks this one, too.

        Raises:
            Settled: it is not so.
        """
        facts = self._look(run)
        if facts is None or ref.branch == facts.default_branch:
            raise Settled(run.done(Outcome.SKIPPED, f"{ref} is the default branch; nothing is deleted"))
        if ref in facts.refs:  # GitHub says both: it is gone and it is there
            raise Settled(run.snooze(told=False))

    def _look(self, run: Run) -> Facts | None:
        """What GitHub says of the repository, before something is deleted because of what it says, or of age.

        Raises:
            Settled: another repository has its name, it is archived, or whatever else is to be said of it as a whole.
            PermanentError: it is not found.
        """
        try:
            known, facts = self._repositories.look(run.repository)
        except NotFoundError as error:
            raise PermanentError(str(error)) from error
        if known.state:
            raise Settled(run.done(Outcome.SKIPPED, known.reason))
        return facts

    def _wakes(self, run: Run, head: Head) -> bool:
        """See to an environment's age: whether it should be there; ends the goal where there is nothing more to do."""
        record, now = run.record, self._clock()
        if under_way(record.receipt) and record.aged_at > record.used_at:
            return False  # its end was begun
        act = due(record, self._options.ttl, now)
        if act is Act.WAKE or head.object not in {record.commit, record.held_at}:
            # a push was lost, or its night is over: what GitHub has is wanted, as at a resync
            run.work, run.wakes = run.work.but(cause=Cause.RESYNC, turned=True), act is Act.WAKE
            return True
        match act:
            case Act.EXPIRE | Act.SLEEP:
                self._look(run)
                aged = NIGHT if act is Act.SLEEP else IDLE
                run.record = record = record.but(aged=aged, aged_at=now, held_at=head.object)
                run.note("deleting", reason=why(record, now))
                return False
            case Act.WARN:
                text = (
                    f"will be taken down in {duration_text(lead(record, self._options.ttl))} if it stays unused; "
                    f"push, or: deployer keep {run.repository} {run.environment.name}"
                )
                run.record = self._reporter.warn(
                    run.environment, record.but(warned_at=now), self._options.ttl
                )
            case Act.CALM:
                text = "is used again and stays"
                run.record = record.but(warned_at=0)
            case None:
                run.record = record.but(age_looked_at=now)
                raise Settled(run.done(Outcome.SKIPPED, "it was used meanwhile; its age asks for nothing"))
        self._reporter.age(run.environment, record, text)
        raise Settled(run.done(Outcome.SKIPPED, text))

    def _delete(self, run: Run) -> Verdict:
        """Go on with a teardown; one that the environment's age asked for tells so, and may be woken from."""
        record, reason = run.record, run.record.reason
        kept = used_at(record) > record.aged_at or record.kept_until > run.now
        if run.work.cause == Cause.AGE and kept and not under_way(record.receipt):
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
        self._reporter.age(run.environment, run.record, f"was taken down: {reason}")
        if verdict.reason != GONE:
            reason = f"{reason}; {verdict.reason}"
        state = ASLEEP if run.record.aged == NIGHT else run.record.state
        run.record = run.record.but(state=state, reason=reason, warned_at=0)
        return replace(verdict, reason=reason, record=run.record)

    def _wants_production(self, run: Run) -> bool:
        work = run.work
        if work.cause == Cause.DELETION:
            raise Settled(run.done(Outcome.SKIPPED, f"{work.ref} was deleted; production stays as it is"))
        if work.cause == Cause.RESYNC and not run.record.commit:
            self._adopt_production(run)
        if work.pushed_at and work.pushed_at < run.record.pushed_at:
            raise Settled(run.done(Outcome.SUPERSEDED, f"{run.record.ref} was pushed after {work.ref}"))
        name = work.ref or run.record.ref
        if not name:
            raise Settled(
                run.done(Outcome.SKIPPED, "no tag is known for production; push one, or redeploy a tag")
            )
        ref = Ref.parse(name)
        head = self._host.head(run.repository, ref)
        self._refuse_stale(run, head)
        if head is None:
            raise Settled(run.done(Outcome.SKIPPED, f"{ref} is gone; production stays as it is"))
        if work.cause == Cause.RESYNC and run.record.ref and run.record.ref != name:
            self._refuse_backwards(run, ref, head)
        if work.cause == Cause.RESYNC and not work.polls:
            self._refuse_behind(run, ref, head)
        self._take(run, ref, head)
        return True

    def _refuse_backwards(self, run: Run, ref: Ref, head: Head) -> None:
        """Leave production as it is unless a tag that no webhook told of is newer than its own."""
        current = self._host.head(run.repository, Ref.parse(run.record.ref))
        if run.record.held_at or current is None or not 0 < current.at < head.at:
            raise Settled(run.done(Outcome.SKIPPED, f"{ref} is not known to be newer than {run.record.ref}"))

    def _refuse_behind(self, run: Run, ref: Ref, head: Head) -> None:
        """Leave production as it is if AWS runs what the ledger has never heard of: then the ledger is the older."""
        started = [each for each in run.cloud.executions(run.name) if not each.automatic]
        if not started or started[0].sha in {"", head.sha, run.record.commit}:
            return
        for name in reversed(run.record.asked_tags[-_LOOKED_AT_TAGS:]):
            known = self._host.head(run.repository, Ref.parse(name))
            if known and known.sha == started[0].sha and known.at <= head.at:
                return
        reason = f"production runs {started[0].sha[:12]}, which is not known to be older than {ref.short}; redeploy it"
        self._note_drift(run, run.cloud.stack(run.name))
        raise Settled(self._reporter.failed(run, f"{reason} if that is wanted"))

    def _adopt_production(self, run: Run) -> None:
        """Learn what production runs after the ledger was lost. It is never moved, nor started: only followed."""
        stack = run.cloud.stack(run.name)
        if stack is None or not run.environment.owns(stack.tags):
            return
        if stack.phase in {Phase.WEDGED, Phase.STUCK, Phase.UNDELETED}:
            return  # nothing runs there: its tag tells what it is to be
        if stack.phase is not Phase.READY:
            raise Settled(run.snooze())
        run.record = run.record.but(
            region=run.cloud.region, stack_arn=stack.arn, applied=applied(stack), drift=""
        )
        newest = next(iter(run.cloud.executions(run.name)), None)
        if newest is None or not newest.sha:
            raise Settled(run.done(Outcome.SKIPPED, "production stands, and nothing ran in it yet"))
        facts = self._host.facts(run.repository)
        if facts is None:
            raise PermanentError(f"{run.repository} is not found, or deployer has no access")
        tags = {ref.name for ref, target in facts.refs.items() if ref.is_tag and target == newest.sha}
        head = self._host.head(run.repository, Ref.parse(run.work.ref)) if run.work.ref else None
        name = run.work.ref if head and head.sha == newest.sha else min(tags, default="")
        run.work = run.work.but(ref=name, sha=newest.sha, execution=newest.id)
        run.record = run.record.but(ref=name)
        raise Settled(self._executions.take(run, newest.id))

    def _take(self, run: Run, ref: Ref, head: Head) -> None:
        work = run.work
        if ref.is_tag and ref.name not in run.record.asked_tags:
            run.record = run.record.but(asked_tags=[*run.record.asked_tags, ref.name][-_ASKED_TAGS:])
        sha = work.sha if work.cause == Cause.REDEPLOY and work.sha else head.sha
        if work.cause != Cause.REDEPLOY and (reason := skip_reason(ref, head.message)):
            if run.wakes and run.record.commit:
                sha = run.record.commit  # what slept, as if nobody had pushed
            elif work.cause != Cause.PUSH or ref.is_tag or work.after in {"", head.object}:
                run.record = run.record if ref.is_tag else run.record.but(held_at=head.object)
                raise Settled(run.done(Outcome.SKIPPED, reason, ref=ref.name, commit=sha))
            else:
                sha = work.after  # what was pushed after it asks to be skipped, this push itself did not
        if work.cause == Cause.REDEPLOY and work.sha:
            self._refuse_unknown(run, sha)
        if work.cause != Cause.REDEPLOY and (reason := self._unwanted(run, ref, sha)):
            if not ref.is_tag:
                run.record = run.record.but(held_at=head.object, used_at=self._clock(), aged="")
            if run.wakes:
                run.note("deleted", reason=reason)
            raise Settled(run.done(Outcome.SKIPPED, reason))
        run.work = work.but(ref=ref.name, sha=sha)
        moved = sha != run.record.commit
        if work.cause in {Cause.PUSH, Cause.REDEPLOY} or moved or not run.record.used_at:
            run.record = run.record.but(used_at=self._clock())
        if moved:
            run.note("pending", outcome="", reason="", stages=[], execution="", warned_at=0)
        run.record = run.record.but(aged="")
        chosen = sha != head.sha or (ref.is_tag and (ref.name != run.record.ref or bool(run.record.held_at)))
        held = head.object if (work.cause == Cause.REDEPLOY or run.wakes) and chosen else ""
        run.record = run.record.but(ref=ref.name, commit=sha, held_at=held)
        if work.cause == Cause.PUSH:
            run.record = run.record.but(
                moved_from=work.before,
                moved_to=work.after,
                moved_at=work.accepted_at,
                pushed_at=work.pushed_at,
            )

    def _unwanted(self, run: Run, ref: Ref, sha: str) -> str:
        """Why the repository does not want this commit deployed, asked before the record says that it is."""
        record = run.record
        moves = run.work.cause == Cause.PUSH or (run.work.cause == Cause.RESYNC and ref.name != record.ref)
        if (ref.is_tag and not moves) or not (ref.is_tag or record.outcome):
            return ""  # a new branch's files are read when its stack is made, and once is enough
        try:
            wishes = read_preferences(self._sources.read(run, sha))
        except UnreadableError:
            return ""  # told where all of the release is looked at
        if why_not := wishes.refuses(ref, development=run.environment.kind is Kind.DEVELOPMENT):
            return why_not
        runs = record.commit if record.outcome == Outcome.DEPLOYED and not ref.is_tag else ""
        if wishes.paths == Patterns() or runs in {"", sha}:
            return ""
        files = self._host.changed(run.repository, runs, sha)  # whatever was skipped in between counts, too
        if files is None or wishes.concerns(files):
            return ""
        return f"nothing among the paths of deploy/deployer.yml has changed since {runs[:12]}"

    def _refuse_unknown(self, run: Run, sha: str) -> None:
        """Leave the environment as it is if a person names a commit that is not there."""
        try:
            self._sources.read(run, sha)
        except PermanentError as error:
            raise Settled(run.done(Outcome.SKIPPED, f"{error}; nothing was changed")) from error

    def _refuse_stale(self, run: Run, head: Head | None) -> None:
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
            raise Settled(Snooze(work, _STALE_WAIT, run.record))

    def _unborn(self, run: Run) -> tuple[bool, float]:
        """Whether "the ref is gone" contradicts a push that is known, and when that push came."""
        work, record = run.work, run.record
        if work.cause == Cause.PUSH:
            return True, work.accepted_at
        at, to = max((work.replaced_at, work.replaced_after), (record.moved_at, record.moved_to))
        if work.cause == Cause.DELETION:
            # it deleted the object that it names first; a push to anything else came after it
            return bool(to) and to != work.before.partition(",")[0], at
        return bool(to), at

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
            allowed = read_preferences(files).narrowed(regions)
            if run.cloud.region not in allowed:
                self._placement.settle(run, allowed)
                return run.again(Task.PROVISION)
        release = self._sources.checked(run, files)
        run.note("provisioning")
        room = run.cloud.known_room()
        near = f"; {room.region} has room for {room.free} more" if room and room.nearly_full else ""
        self._reporter.tell(run, "pending", f"creating the pipeline{near}")
        run.guard()
        try:
            arn = run.cloud.create_stack(run.name, release, run.token("provision"))
        except QuotaError as error:
            run.record = run.record.but(region="")
            return self._placement.wait_for_room(run, str(error))
        run.record = run.record.but(
            stack_arn=arn, region=run.cloud.region, teardown=release.tags.get(TEARDOWN_TAG, "")
        )
        return run.snooze(Task.SYNC)

    def _update(self, run: Run) -> Verdict:
        if run.work.recovered and (not run.work.updated or self._is_stuck(run)):
            run.guard()
            run.cloud.continue_rollback(run.name, run.token("recover"))
            return run.snooze(Task.SYNC)
        release = self._sources.checked(run, self._sources.files(run))
        run.guard()
        changed = run.cloud.update_stack(run.name, release, run.token("update"))
        run.record = run.record.but(teardown=release.tags.get(TEARDOWN_TAG, ""))
        if not changed:
            return run.again(Task.SYNC)
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
