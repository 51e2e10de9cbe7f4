"""Brings one environment from what is to what should be: observe, decide, take one step.

Every method here may be repeated after a crash at any point: it looks before it acts, and what it orders bears a
token made of the goal, so that AWS itself recognises a repeat. None of them waits: they end in a `Verdict`.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from deployer.age import ASLEEP, IDLE, NIGHT, Act, due, lead, why
from deployer.drift import applied, drift
from deployer.environments import Environment, Kind, Repository
from deployer.errors import DeployerError, PermanentError, QuotaError, TransientError
from deployer.ledger import Cause, EnvironmentRecord, Outcome, Task, Work
from deployer.ports import Clouds, Done, Execution, Head, Host, Lanes, Snooze, Verdict
from deployer.preferences import Patterns, read_preferences
from deployer.quotas import admits, fullest_last
from deployer.refs import Ref, skip_reason
from deployer.release import FOLDER, TEARDOWN_TAG, Release, check_release, has_pipeline
from deployer.reporting import Reporter, failure_text
from deployer.run import Run, Settled
from deployer.stacks import REFUSED, Decision, Desired, Failure, Observed, Phase, Stack, Step, decide
from deployer.teardown import GONE, Teardown, under_way
from deployer.template import UnreadableError, pick, read
from deployer.times import duration_text
from deployer.validation import Linter, refusal

_log = logging.getLogger(__name__)
_HEARD_SECONDS = 86400  # events that came within a day will come again
_ROOM_SECONDS = 300.0  # between two looks for room in a region
_STALE_SECONDS = 30  # GitHub's API has been seen to lag behind its own webhooks by some seconds
_STALE_WAIT = 2
_ASKED_TAGS = 100
_SOURCE_POLLS = 20  # how often to wait for an execution to tell its commit


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
        lanes: where records are read; they are written with the verdict.
        options: what the installation decides.
        linter: looks at templates before AWS does; None for no such look.
        clock: epoch seconds.
    """

    def __init__(
        self,
        host: Host,
        clouds: Clouds,
        lanes: Lanes,
        options: Options,
        linter: Linter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._clouds = clouds
        self._lanes = lanes
        self._options = options
        self._linter = linter
        self._clock = clock
        self._reporter = Reporter(host, self._page)
        self._teardown = Teardown(lanes, self._reporter, clock)

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
        record, absent = self._located(environment, self._record(environment), work.task)
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
            Task.TRIGGER: self._trigger,
            Task.DELETE: self._delete,
            Task.NOTIFY: self._notify,
        }
        try:
            return tasks[work.task](run)
        except Settled as settled:
            return settled.verdict
        except PermanentError as error:
            if work.task == Task.PROVISION:  # what was refused has no place yet
                run.record = run.record.but(region="")
            return self._reporter.failed(run, str(error))

    def _heard(self) -> bool:
        return self._lanes.beats().get("event", 0) > time.time() - _HEARD_SECONDS

    def _located(
        self, environment: Environment, record: EnvironmentRecord, task: str
    ) -> tuple[EnvironmentRecord, bool]:
        """The record with the environment's region: once it has a stack somewhere it stays there.

        Returns:
            Also whether every region was looked at, and has no such stack. Before a creation nobody looks: where there
            are several regions the chosen one is on record before anything is ordered.
        """
        regions = self._clouds.target(environment.kind).regions
        if record.region or len(regions) < 2 or task == Task.PROVISION:
            return record, False
        clouds = [self._clouds.at(environment.kind, region) for region in regions]
        for cloud in clouds:
            if cloud.stack(environment.stack_name):
                return record.but(region=cloud.region), False
        for cloud in clouds if task == Task.DELETE else []:  # what its pipeline deployed may outlive it
            if any(environment.owns(stack.tags) for stack in cloud.stacks()):
                return record.but(region=cloud.region), False
        return record, True

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

    def _sync(self, run: Run) -> Verdict:
        if run.work.execution:
            return self._follow(run)
        if run.work.polls and run.cloud.still_busy(run.name, run.work.looked_at):
            return run.snooze()  # a shared look shows its stack at work
        wanted = self._wants(run)
        stack = None if run.absent else run.cloud.stack(run.name)
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
                    self._settle(run, self._clouds.target(run.environment.kind).regions)
                run.note("provisioning")
                return run.again(Task.PROVISION, created=True)
            case Step.UPDATE:
                run.note("updating")
                self._prepare(run, "pending", "updating the pipeline")
                return run.again(Task.UPDATE, updated=True)
            case Step.RECOVER:
                self._keep_failure(run, stack)
                run.note("updating")
                self._prepare(run, "pending", f"mending the pipeline: {decision.reason}")
                return run.again(Task.UPDATE, recovered=True)
            case Step.REPLACE:
                run.note("provisioning")
                self._prepare(run, "pending", f"replacing the pipeline: {decision.reason}")
                return run.again(Task.DELETE, replacing=True)
            case Step.DELETE:
                run.note("deleting")
                return run.again(Task.DELETE)
            case Step.TRIGGER if stack:
                return self._see_to_execution(run, stack)
            case Step.WAIT:
                if wanted and not (run.work.created or run.work.updated):
                    self._prepare(run, "pending", f"waiting: {decision.reason}")
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
            run.record = record = record.but(drift=drift(stack, record.applied))
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
            if environment.branch == Ref.of_branch(self._host.default_branch(run.repository)):
                raise Settled(run.done(Outcome.SKIPPED, f"{ref} is the default branch; nothing is deleted"))
            run.record = run.record.but(held_at="", aged="")  # nothing is left that could be woken
            return False
        if work.cause == Cause.AGE and not self._wakes(run, head):
            return False
        self._take(run, ref, head)
        return True

    def _wakes(self, run: Run, head: Head) -> bool:
        """See to an environment's age: whether it should be there; ends the goal where there is nothing more to do."""
        record, now = run.record, self._clock()
        if under_way(record.receipt) and record.aged_at > record.used_at:
            return False  # its end was begun
        act = due(record, self._options.ttl, now)
        if act is Act.WAKE or head.object not in {record.commit, record.held_at}:
            # a push was lost, or its night is over: what GitHub has is wanted, as at a resync
            run.work = run.work.but(cause=Cause.RESYNC, turned=True)
            return True
        match act:
            case Act.EXPIRE | Act.SLEEP:
                aged = NIGHT if act is Act.SLEEP else IDLE
                run.record = record = record.but(aged=aged, aged_at=now, held_at=head.object)
                run.note("deleting", reason=why(record, now))
                return False
            case Act.WARN:
                branch = run.environment.branch.short if run.environment.branch else ""
                text = (
                    f"will be taken down in {duration_text(lead(record, self._options.ttl))} if it stays unused; "
                    f"push, or: deployer keep {run.repository} {branch}"
                )
                run.record = record.but(warned_at=now)
            case Act.CALM:
                text = "is used again and stays"
                run.record = record.but(warned_at=0)
            case None:
                raise Settled(run.done(Outcome.SKIPPED, "it was used meanwhile; its age asks for nothing"))
        self._reporter.age(run.environment, record, text)
        raise Settled(run.done(Outcome.SKIPPED, text))

    def _delete(self, run: Run) -> Verdict:
        """Go on with a teardown; one that the environment's age asked for tells so, and may be woken from."""
        reason = run.record.reason
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
        self._take(run, ref, head)
        return True

    def _refuse_backwards(self, run: Run, ref: Ref, head: Head) -> None:
        """Leave production as it is unless a tag that no webhook told of is newer than its own."""
        current = self._host.head(run.repository, Ref.parse(run.record.ref))
        if run.record.held_at or current is None or not 0 < current.at < head.at:
            raise Settled(run.done(Outcome.SKIPPED, f"{ref} is not known to be newer than {run.record.ref}"))

    def _adopt_production(self, run: Run) -> None:
        """Learn what production runs after the ledger was lost. It is never moved, nor started: only followed."""
        if (stack := run.cloud.stack(run.name)) is None:
            return
        run.record = run.record.but(region=run.cloud.region, stack_arn=stack.arn)
        newest = next(iter(run.cloud.executions(run.name)), None)
        if newest is None or not newest.sha:
            raise Settled(run.done(Outcome.SKIPPED, "production stands, and nothing ran in it yet"))
        refs = self._host.refs(run.repository).items()
        tags = {ref.name for ref, target in refs if ref.is_tag and target == newest.sha}
        head = self._host.head(run.repository, Ref.parse(run.work.ref)) if run.work.ref else None
        name = run.work.ref if head and head.sha == newest.sha else min(tags, default="")
        run.work = run.work.but(ref=name, sha=newest.sha, execution=newest.id)
        run.record = run.record.but(ref=name)
        raise Settled(self._take_execution(run, newest.id))

    def _take(self, run: Run, ref: Ref, head: Head) -> None:
        work = run.work
        sha = work.sha if work.cause == Cause.REDEPLOY and work.sha else head.sha
        if work.cause != Cause.REDEPLOY and (reason := skip_reason(ref, head.message)):
            if work.cause != Cause.PUSH or ref.is_tag or work.after in {"", head.object}:
                run.record = run.record.but(held_at=head.object)
                raise Settled(run.done(Outcome.SKIPPED, reason, ref=ref.name, commit=sha))
            sha = work.after  # what was pushed after it asks to be skipped, this push itself did not
        if work.cause == Cause.REDEPLOY and work.sha:
            self._refuse_unknown(run, sha)
        if work.cause != Cause.REDEPLOY and (reason := self._unwanted(run, ref, sha)):
            if not ref.is_tag:
                run.record = run.record.but(held_at=head.object, used_at=self._clock())
            raise Settled(run.done(Outcome.SKIPPED, reason))
        run.work = work.but(ref=ref.name, sha=sha)
        moved = sha != run.record.commit
        if work.cause in {Cause.PUSH, Cause.REDEPLOY} or moved or not run.record.used_at:
            run.record = run.record.but(used_at=self._clock())
        if moved:
            run.note("pending", outcome="", reason="", stages=[], execution="", warned_at=0)
        run.record = run.record.but(aged="")
        chosen = sha != head.sha or (ref.is_tag and (ref.name != run.record.ref or bool(run.record.held_at)))
        held = head.object if work.cause == Cause.REDEPLOY and chosen else ""
        if ref.is_tag and ref.name not in run.record.asked_tags:
            run.record = run.record.but(asked_tags=[*run.record.asked_tags, ref.name][-_ASKED_TAGS:])
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
        if (ref.is_tag and run.work.cause != Cause.PUSH) or not (ref.is_tag or record.outcome):
            return ""  # a new branch's files are read when its stack is made, and once is enough
        try:
            wishes = read_preferences(self._read(run, sha))
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
            self._read(run, sha)
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
        return self._release(run, self._files(run)).digest

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
        files = self._files(run)
        regions = self._clouds.target(run.environment.kind).regions
        if run.environment.kind is Kind.DEVELOPMENT and run.cloud.region in regions:
            allowed = read_preferences(files).narrowed(regions)
            if run.cloud.region not in allowed:
                self._settle(run, allowed)
                return run.again(Task.PROVISION)
        release = self._checked(run, files)
        run.note("provisioning")
        room = run.cloud.known_room()
        near = f"; {room.region} has room for {room.free} more" if room and room.nearly_full else ""
        self._prepare(run, "pending", f"creating the pipeline{near}")
        run.guard()
        try:
            arn = run.cloud.create_stack(run.name, release, run.token("provision"))
        except QuotaError as error:
            run.record = run.record.but(region="")
            return self._wait_for_room(run, str(error))
        run.record = run.record.but(
            stack_arn=arn, region=run.cloud.region, teardown=release.tags.get(TEARDOWN_TAG, "")
        )
        return run.snooze(Task.SYNC)

    def _settle(self, run: Run, regions: Sequence[str]) -> None:
        """Choose the region of a new environment, by room.

        It is on record before anything is ordered there, so whoever goes on after a lost worker goes to the same one.

        Raises:
            Settled: no region has room; the goal waits until one has.
        """
        kind = run.environment.kind
        target = self._clouds.target(kind)
        clouds = {region: self._clouds.at(kind, region) for region in regions}
        try:
            # a resync counts now and then; only a choice is worth calls of its own
            rooms = [cloud.known_room() or cloud.room() for cloud in clouds.values() if len(clouds) > 1]
        except TransientError as error:
            # it cannot be counted just now; AWS itself refuses what is too much
            _log.warning("counting the room for %s: %s", run.environment, error)
            rooms = []
        run.cloud = clouds[regions[0]]
        room = fullest_last(rooms)[0] if rooms else run.cloud.known_room()
        if room and (why := admits(room, target, kind)):
            raise Settled(self._wait_for_room(run, why))
        run.cloud = clouds[room.region] if room else run.cloud
        run.record = run.record.but(region=run.cloud.region)

    def _wait_for_room(self, run: Run, why: str) -> Snooze:
        if run.record.state != "waiting":  # the numbers change all the time, and many may wait
            self._prepare(run, "pending", f"waiting: {why}")
        run.note("waiting")
        run.work = run.work.but(created=False)  # it is decided anew: room may come with another region
        return run.snooze(Task.SYNC, seconds=_ROOM_SECONDS)

    def _update(self, run: Run) -> Verdict:
        if run.work.recovered and (not run.work.updated or self._is_stuck(run)):
            run.guard()
            run.cloud.continue_rollback(run.name, run.token("recover"))
            return run.snooze(Task.SYNC)
        release = self._checked(run, self._files(run))
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

    def _see_to_execution(self, run: Run, stack: Stack) -> Verdict:
        """The stack is as wanted: find the execution of the wanted commit, or have one started."""
        if run.environment.kind is not Kind.DEVELOPMENT and not stack.protected:
            run.guard()
            run.cloud.protect(stack.arn, on=True)
        run.record = run.record.but(
            applications=run.cloud.deployed_stacks(run.name) or run.record.applications,
            region=run.cloud.region,
            stack_arn=stack.arn,
            failure={},
            refused="",
            refusals=0,
        )
        if run.work.created or run.work.updated or run.work.recovered or not run.record.applied:
            run.record = run.record.but(applied=applied(stack), drift="")
        executions = run.cloud.executions(run.name)
        newest = executions[0] if executions else None
        if newest and not newest.sha:  # unless it was started here, for a commit that is known
            newest = replace(newest, sha=run.record.open.get(newest.id, {}).get("sha", ""))
        if newest and not newest.sha and not newest.ended and run.work.polls < _SOURCE_POLLS:
            # its source stage has not told the commit yet; most likely it is the one
            return self._take_execution(run, newest.id, sha="")
        if newest is None or needs_start(newest, run.work, run.record.reported):
            return run.again(Task.TRIGGER)
        return self._take_execution(run, newest.id)

    def _trigger(self, run: Run) -> Verdict:
        for execution in run.cloud.executions(run.name):
            if execution.automatic and not execution.ended and execution.sha != run.work.sha:
                run.guard()
                run.cloud.stop(run.name, execution.id, f"deployer starts {run.work.sha[:12]} instead")
        run.guard()
        execution_id = run.cloud.start(run.name, run.work.sha, run.token("trigger"))
        return self._take_execution(run, execution_id)

    def _take_execution(self, run: Run, execution: str, sha: str | None = None) -> Verdict:
        """Follow an execution; one whose commit is not told yet (`sha` is empty) may turn out not to be the one."""
        run.record = self._reporter.open(run.record, execution, run.work.sha if sha is None else sha)
        run.note("running", execution=execution, commit=run.work.sha)
        run.work = run.work.but(execution=execution, task=Task.SYNC, polls=0)
        self._prepare(run, "success", "the pipeline is ready")
        return self._follow(run)

    def _follow(self, run: Run) -> Verdict:
        """Post how the executions go; end when this goal's own has ended."""
        identity = run.work.execution
        run.record = self._reporter.open(run.record, identity, run.work.sha)
        untold = not run.record.open[identity]["sha"]
        run.record, found = self._reporter.refresh(run.environment, run.record, run.cloud)
        execution = found.get(identity)
        if execution is None:
            if run.work.cause == Cause.EVENT:
                return Done(str(Outcome.SKIPPED), "its execution is gone", run.record)
            run.work = run.work.but(execution="", task=Task.SYNC)
            return run.snooze()  # its pipeline was replaced or has gone
        if untold and execution.sha != run.work.sha:
            if not execution.sha and not execution.ended and run.work.polls < _SOURCE_POLLS:
                return run.snooze()
            if execution.sha or not execution.ended:
                run.work = run.work.but(execution="")
                return run.again(Task.TRIGGER)  # it builds another commit, or never tells which
        if not execution.ended:
            return run.snooze()
        ended = {"reported": identity, "execution": identity, "commit": run.work.sha}
        match execution.status:
            case "succeeded":
                return run.done(Outcome.DEPLOYED, f"{run.work.sha[:12]} went through every stage", **ended)
            case "superseded":
                return run.done(Outcome.SUPERSEDED, "a newer execution of the pipeline overtook it", **ended)
            case _:
                return run.done(Outcome.FAILED, failure_text(execution), **ended)

    def _notify(self, run: Run) -> Verdict:
        """An event came that no goal waits for: tell how the newest execution goes. Never starts anything."""
        if run.work.execution:
            return self._follow(run)
        newest = next(iter(run.cloud.executions(run.name)), None)
        if newest is None or newest.id == run.record.reported:
            run.record, _ = self._reporter.refresh(run.environment, run.record, run.cloud)
            return Done(str(Outcome.SKIPPED), "nothing waits for this event", run.record)
        if not newest.sha and not newest.ended and run.work.polls < _SOURCE_POLLS:
            return run.snooze()
        run.work = run.work.but(sha=newest.sha or run.record.commit, execution=newest.id)
        return self._follow(run)

    # --- common -------------------------------------------------------------------------------------------------

    def _read(self, run: Run, sha: str) -> dict[str, bytes]:
        if sha not in run.files:
            run.files[sha] = self._host.files(run.repository, sha, FOLDER)
        return run.files[sha]

    def _files(self, run: Run) -> dict[str, bytes]:
        """The commit's files, and heed what they decide of the environment's being and age."""
        files = self._read(run, run.work.sha)
        if not has_pipeline(files):
            where = f"{FOLDER}/pipeline.yml (or .yaml, .json) at {run.work.sha[:12]}"
            raise Settled(run.done(Outcome.SKIPPED, f"there is no {where}"))
        if branch := run.environment.branch:
            wishes = read_preferences(files)
            if run.work.cause != Cause.REDEPLOY and (why_not := wishes.refuses(branch, development=True)):
                raise Settled(run.done(Outcome.SKIPPED, why_not))
            run.record = run.record.but(ttl=wishes.ttl_of(branch.short), sleep=wishes.sleep)
        return files

    def _release(self, run: Run, files: Mapping[str, bytes]) -> Release:
        """What the stack is to be made from.

        Raises:
            PermanentError: something in the files is wrong, or names what is not the environment's.
        """
        ref = Ref.parse(run.work.ref)
        branch = (
            run.work.default_branch or self._host.default_branch(run.repository) if ref.is_tag else ref.branch
        )
        target, region = self._clouds.target(run.environment.kind), run.cloud.region
        given = target.given(region)
        return check_release(
            run.environment, ref, branch, run.work.sha, files, given, target, region
        ).accepted()

    def _checked(self, run: Run, files: Mapping[str, bytes]) -> Release:
        """The same, looked at by the linter too: before AWS is asked, but not where nothing is to change."""
        release = self._release(run, files)
        if self._linter and (name := pick(files, "pipeline")):
            found = self._linter.findings(name, release.template, [run.cloud.region])
            for each in found:
                if each.level == "note":
                    _log.warning("%s at %s: %s", run.environment, run.work.sha[:12], each)
            if why := refusal(found):
                raise PermanentError(why)
        return release

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
        place = self._place(run, failure)
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

    def _place(self, run: Run, failure: Failure) -> dict[str, Any]:
        """Where in the template what failed stands, as far as that can be told."""
        with suppress(DeployerError, Settled):
            files = self._files(run)
            if name := pick(files, "pipeline"):
                template = read(name, files[name])
                if line := template.line_of("Resources", failure.resource):
                    return {"file": template.file, "line": line}
        return {}

    def _prepare(self, run: Run, state: str, text: str) -> None:
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
