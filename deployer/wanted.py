"""What should be: which commit of which ref an environment is to run, or that it is to be gone.

What a goal asks for is compared with what GitHub says now. Nothing here changes AWS.
"""

import shlex
import time
from collections.abc import Callable

from deployer.age import IDLE, NIGHT, Act, due, lead, why
from deployer.drift import applied, drift
from deployer.environments import Kind
from deployer.errors import NotFoundError, PermanentError
from deployer.executions import Executions
from deployer.ledger import Cause, Outcome
from deployer.ports import Done, Facts, Head, Host, Snooze
from deployer.preferences import Patterns, read_preferences
from deployer.refs import Ref, skip_reason
from deployer.reporting import Reporter
from deployer.repositories import Repositories
from deployer.run import Run, Settled
from deployer.sources import Sources
from deployer.stacks import Phase, Stack
from deployer.teardown import under_way
from deployer.template import UnreadableError
from deployer.times import duration_text

_STALE_SECONDS = 30  # GitHub's API has been seen to lag behind its own webhooks by some seconds
_STALE_WAIT = 2
_LATE_SECONDS = 60  # GitHub delivers within some; what was sent again may be days old
_ASKED_TAGS = 100  # that a record keeps
_LOOKED_AT_TAGS = 5  # the latest: each is a call or two


class Wanted:
    """Finds what an environment should be.

    Args:
        host: GitHub.
        repositories: says whether a repository is still the one that the environments are of.
        sources: what a repository wishes at a commit.
        executions: follows what production runs already.
        reporter: tells of an environment's age.
        ttl: how long a development environment may be idle where its repository has no wish.
        clock: epoch seconds.
    """

    def __init__(
        self,
        host: Host,
        repositories: Repositories,
        sources: Sources,
        executions: Executions,
        reporter: Reporter,
        ttl: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = host
        self._repositories = repositories
        self._sources = sources
        self._executions = executions
        self._reporter = reporter
        self._ttl = ttl
        self._clock = clock

    def find(self, run: Run) -> bool:
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
        ref = environment.branch or Ref.of_branch(self._default_branch(run))
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
        if work.cause == Cause.PUSH and environment.branch and self._is_default(run, ref):
            raise Settled(
                run.done(Outcome.SKIPPED, f"{ref.short} is the default branch now: staging deploys it")
            )
        self._take(run, ref, head)
        return True

    def _default_branch(self, run: Run) -> str:
        """Which branch staging is of: a push that comes late tells of a former one."""
        told = run.work.default_branch
        if told and self._repositories.known(run.repository).default_branch in {"", told}:
            return told
        return self._host.default_branch(run.repository)

    def _is_default(self, run: Run, ref: Ref) -> bool:
        known = self._repositories.known(run.repository).default_branch
        return ref.branch == known == self._host.default_branch(run.repository)

    def note_drift(self, run: Run, stack: Stack | None) -> None:
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
            known, facts = self._repositories.look(run.repository, only=run.environment.branch)
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
        act = due(record, self._ttl, now)
        if act is Act.WAKE or head.object not in {record.commit, record.held_at}:
            # a push was lost, or its night is over: what GitHub has is wanted, as at a resync
            self._look(run)
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
                    f"will be taken down in {duration_text(lead(record, self._ttl))} if it stays unused; "
                    f"push, or: deployer keep {run.repository} {shlex.quote(run.environment.name)}"
                )
                run.record = self._reporter.warn(run.environment, record.but(warned_at=now), self._ttl)
            case Act.CALM:
                text = "is used again and stays"
                run.record = record.but(warned_at=0)
            case None:
                raise Settled(run.done(Outcome.SKIPPED, "it was used meanwhile; its age asks for nothing"))
        self._reporter.age(run.environment, record, text)
        raise Settled(run.done(Outcome.SKIPPED, text))

    def _wants_production(self, run: Run) -> bool:
        work = run.work
        if work.cause == Cause.DELETION:
            raise Settled(run.done(Outcome.SKIPPED, f"{work.ref} was deleted; production stays as it is"))
        if work.cause == Cause.RESYNC and not run.record.commit:
            self._adopt_production(run)
        if work.cause == Cause.PUSH:
            self._ask_for(run, work.ref, *(ref for _, ref in work.passed_tags))
        if work.pushed_at and work.pushed_at < run.record.pushed_at:
            raise Settled(run.done(Outcome.SUPERSEDED, f"{run.record.ref} was pushed after {work.ref}"))
        while True:
            record = run.record
            try:
                return self._wants_tag(run, run.work.ref or record.ref)
            except Settled as settled:
                if run.work.cause != Cause.PUSH or not isinstance(settled.verdict, Done):
                    raise
                # it took the place of other tags in the lane, and is not deployed itself
                left = [(at, ref) for at, ref in run.work.passed_tags if not 0 < at < record.pushed_at]
                if not left:
                    raise
                (at, ref), *others = left
                passed = "\n".join(f"{at:.0f} {ref}" for at, ref in others)
                run.work = run.work.but(ref=ref, pushed_at=at, passed=passed, before="", after="")
                run.record = record.but(asked_tags=run.record.asked_tags)

    def _wants_tag(self, run: Run, name: str) -> bool:
        work = run.work
        if not name:
            raise Settled(
                run.done(Outcome.SKIPPED, "no tag is known for production; push one, or redeploy a tag")
            )
        ref = Ref.parse(name)
        head = self._host.head(run.repository, ref)
        self._refuse_stale(run, head)
        if head is None:
            raise Settled(run.done(Outcome.SKIPPED, f"{ref} is gone; production stays as it is"))
        if work.cause == Cause.PUSH and run.record.ref != name:
            self._refuse_late(run, ref, head)
        if work.cause == Cause.RESYNC and run.record.ref and run.record.ref != name:
            self._refuse_backwards(run, ref, head)
        if work.cause == Cause.RESYNC and not work.polls:
            self._refuse_behind(run, ref, head)
        moves = work.cause == Cause.RESYNC and run.record.ref != name
        self._take(run, ref, head)
        if work.cause == Cause.RESYNC:
            run.record = run.record.but(moved_to=head.object)
        if moves:
            run.record = run.record.but(pushed_at=0)  # it was pushed some day, and nobody told when
        return True

    def _refuse_late(self, run: Run, ref: Ref, head: Head) -> None:
        """Leave production as it is if nobody knows when its tag was pushed, and one that comes late may be the older.

        So it is where the ledger was lost, or where a resync found the tag that it runs.
        """
        work, record = run.work, run.record
        if record.pushed_at or not 0 < work.pushed_at < work.accepted_at - _LATE_SECONDS:
            return
        if all(each.automatic for each in run.cloud.executions(run.name)):
            return  # nothing was deployed there yet
        if record.ref:
            current = self._host.head(run.repository, Ref.parse(record.ref))
            newer, at = record.ref, current.at if current else 0
        else:  # what runs is not known yet: any tag may
            facts = self._host.facts(run.repository)
            others = {each.name: at for each, at in (facts.made if facts else {}).items() if each != ref}
            newer, at = max(others.items(), key=lambda item: item[1], default=("what runs", 0))
        if not 0 < at < head.at:
            reason = f"{ref} was delivered late, and is not known to be newer than {newer}; redeploy it"
            # nothing is written of a production that was not known: a resync is to learn what runs
            kept = record if record.commit else None
            raise Settled(Done(str(Outcome.SKIPPED), f"{reason} if that is wanted", kept))

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
        self.note_drift(run, run.cloud.stack(run.name))
        raise Settled(self._reporter.failed(run, f"{reason} if that is wanted"))

    def _adopt_production(self, run: Run) -> None:
        """Learn what production runs after the ledger was lost. What deployer started is only followed."""
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
        if run.work.ref and (newest is None or newest.automatic):
            return  # nothing but what AWS starts by itself, at the default branch's head: its tag tells better
        if newest is None or not newest.sha:
            raise Settled(run.done(Outcome.SKIPPED, "production stands, and nothing ran in it yet"))
        facts = self._host.facts(run.repository)
        if facts is None:
            raise PermanentError(f"{run.repository} is not found, or deployer has no access")
        name = self._tag_of(run, facts, newest.sha)
        run.work = run.work.but(ref=name, sha=newest.sha, execution=newest.id)
        run.record = run.record.but(ref=name)
        raise Settled(self._executions.take(run, newest.id))

    def _tag_of(self, run: Run, facts: Facts, sha: str) -> str:
        """The tag of a commit, that of the stack first; empty where none is found."""

        def is_at(ref: Ref) -> bool:
            head = self._host.head(run.repository, ref)
            return head is not None and head.sha == sha

        if run.work.ref and is_at(Ref.parse(run.work.ref)):
            return run.work.ref
        tags = {ref: target for ref, target in facts.refs.items() if ref.is_tag}
        if direct := [ref.name for ref, target in tags.items() if target == sha]:
            return min(direct)
        # what an annotated tag points to is no commit: the latest are asked for theirs
        latest = sorted(tags, key=lambda ref: facts.made.get(ref, 0), reverse=True)[:_LOOKED_AT_TAGS]
        return next((ref.name for ref in latest if is_at(ref)), "")

    def _take(self, run: Run, ref: Ref, head: Head) -> None:
        work = run.work
        if ref.is_tag:
            self._ask_for(run, ref.name)
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

    @staticmethod
    def _ask_for(run: Run, *tags: str) -> None:
        """Note which tags production was asked for, though another's push took their place: none was missed."""
        known = run.record.asked_tags
        new = [tag for tag in dict.fromkeys(reversed(tags)) if tag not in known]
        if new:
            run.record = run.record.but(asked_tags=[*known, *new][-_ASKED_TAGS:])

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
        # by Redis's clock, as when the push came: a worker whose own is ahead must not give up waiting
        work, now = run.work, run.work.began_at or self._clock()
        live = head.object if head else None
        if work.cause in {Cause.PUSH, Cause.DELETION}:
            expected = None if work.cause == Cause.DELETION else work.after
            before, since = work.before, work.accepted_at
            # a ref that was deleted since comes from nowhere
            if not 0 < work.pushed_at < run.record.pushed_at:
                before = f"{before},{run.record.moved_to}"
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
