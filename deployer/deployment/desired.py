"""What should be: which commit of which ref an environment is to run, or that it is to be gone.

What a goal asks for is compared with what GitHub says now. Nothing here changes AWS.
"""

import shlex
from collections.abc import Callable

from deployer.deployment.desired_production import Production
from deployer.deployment.ref_tracking import Moves
from deployer.environment.context import Run, Settled
from deployer.environment.ports import Facts, Head, Host
from deployer.environment.repository_state import Repositories
from deployer.environment.statuses import Reporter
from deployer.model.durations import duration_text
from deployer.model.environments import Kind
from deployer.model.errors import NotFoundError, PermanentError
from deployer.model.expiry import IDLE, NIGHT, Act, due, expires_at, lead, why
from deployer.model.records import Cause, Outcome
from deployer.model.refs import Ref
from deployer.teardown.expiry_comment import ExpiryComments
from deployer.teardown.teardown import under_way


class Wanted:
    """Finds what an environment should be.

    Args:
        host: GitHub.
        repositories: says whether a repository is still the one that the environments are of.
        moves: follows a branch to where it is.
        production: finds the tag that production is to run.
        reporter: tells of an environment's age.
        comments: warns of an environment's end.
        ttl: how long a development environment may be idle where its repository has no wish.
        clock: epoch seconds.
    """

    def __init__(
        self,
        host: Host,
        repositories: Repositories,
        moves: Moves,
        production: Production,
        reporter: Reporter,
        comments: ExpiryComments,
        ttl: str,
        clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._repositories = repositories
        self._moves = moves
        self._production = production
        self._reporter = reporter
        self._comments = comments
        self._ttl = ttl
        self._clock = clock

    def find(self, run: Run) -> bool:
        """Find what should be: sets the work's commit and ref and returns True, or False if it should be gone."""
        work, environment = run.work, run.environment
        if work.cause == Cause.TEARDOWN:
            if environment.kind is Kind.PRODUCTION:  # a tag that was pushed before does not bring it back
                run.record = run.record.but(decided_at=max(run.record.decision_time, work.accepted_at))
            return False
        if work.cause == Cause.AGE and environment.kind is not Kind.DEVELOPMENT:
            raise Settled(run.done(Outcome.SKIPPED, f"{environment.kind} never ages"))
        if (work.created or work.updated or work.recovered or work.replacing) and run.is_admitted:
            return True  # ordered already; a newer push has its own place in the lane
        if environment.kind is Kind.PRODUCTION:
            return self._production.find(run)
        ref = environment.branch or Ref.of_branch(self._default_branch(run))
        head = self._host.head(run.repository, ref)
        self._moves.refuse_stale(run, head)
        if head is None:
            if environment.kind is Kind.STAGING:
                raise Settled(run.done(Outcome.SKIPPED, f"{ref} is gone; a webhook never deletes staging"))
            self._insist_gone(run, ref)
            self._leave_to_resync(run, ref)
            run.record = run.record.but(held_at="", aged="")  # nothing is left that could be woken
            return False
        if work.cause == Cause.AGE and not self._wakes(run, head):
            return False
        if work.cause == Cause.PUSH and environment.branch and self._is_default(run, ref):
            raise Settled(
                run.done(Outcome.SKIPPED, f"{ref.short} is the default branch now: staging deploys it")
            )
        self._moves.take(run, ref, head)
        return True

    def _default_branch(self, run: Run) -> str:
        """Which branch staging is of: a push that comes late tells of a former one."""
        told = run.work.default_branch
        if told and self._repositories.known(run.repository).default_branch == told:
            return told
        return self._host.default_branch(run.repository)

    def _is_default(self, run: Run, ref: Ref) -> bool:
        known = self._repositories.known(run.repository).default_branch
        return ref.branch == known == self._host.default_branch(run.repository)

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

    def _leave_to_resync(self, run: Run, ref: Ref) -> None:
        """What has lost its branch, and nobody told, is left for a while, which its age must not cut short.

        Raises:
            Settled: it is its age alone that asks, and its end has neither come nor begun.
        """
        record, now = run.record, self._clock()
        if run.work.cause != Cause.AGE or under_way(record.receipt):
            return
        if due(record, self._ttl, now) is not Act.EXPIRE:
            run.record = record.but(age_looked_at=now)
            raise Settled(
                run.done(Outcome.SKIPPED, f"{ref.short} is gone; a resync sees to that in its time")
            )

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
                record = record.but(warned_at=now, told_end=0)
                record = record.but(told_end=expires_at(record, self._ttl, now) or 0)
                run.record = self._comments.warn(run.environment, record)
            case Act.CALM:
                text = "is used again and stays"
                run.record = record.but(warned_at=0)
            case None:
                raise Settled(run.done(Outcome.SKIPPED, "it was used meanwhile; its age asks for nothing"))
        told = self._reporter.age(run.environment, record, text)
        if act is Act.WARN and not (told or run.record.notice):
            raise PermanentError(
                "GitHub takes neither a status nor a comment that warns of its end: it stays"
            )
        raise Settled(run.done(Outcome.SKIPPED, text))
