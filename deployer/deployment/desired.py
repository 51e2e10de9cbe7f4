"""The desired state of an environment: what the goal asks for, compared with what GitHub says now."""

import logging
import shlex
from collections.abc import Callable

from deployer.deployment.closed_pulls import ClosedPullRequests
from deployer.deployment.desired_state import Absent, Deploy
from deployer.deployment.production.desired import DesiredProduction
from deployer.deployment.ref_tracking import RefTracker
from deployer.environment.code_host import CodeHost, Head, RepositoryFacts
from deployer.environment.context import ReconcileContext, Stop, report_on_context
from deployer.environment.repository_state import Repositories
from deployer.environment.statuses import StatusReporter
from deployer.model.durations import date
from deployer.model.environment_record import Deletion
from deployer.model.environments import Kind
from deployer.model.errors import DeployerError, NotFoundError, PermanentError
from deployer.model.expiry import (
    IDLE,
    NIGHT,
    AgeAction,
    due_age_action,
    expires_at,
    expiry_reason,
    warning_lead_seconds,
)
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref
from deployer.queue.items import Cause, Task
from deployer.teardown.expiry_comment import ExpiryComments

_log = logging.getLogger(__name__)


class DesiredResolver:
    """Finds the desired state of an environment. Nothing here changes AWS.

    Args:
        host: GitHub.
        repositories: says whether a repository is still the one to which the environments belong.
        tracker: chooses the commit of a branch.
        closed: decides about environments whose pull request was closed.
        production: finds the commit that production should run.
        reporter: posts what an environment's expiry does.
        comments: warns of an environment's end.
        ttl: how long a development environment may be idle, unless its repository says so itself.
        clock: epoch seconds.
    """

    def __init__(
        self,
        host: CodeHost,
        repositories: Repositories,
        tracker: RefTracker,
        closed: ClosedPullRequests,
        production: DesiredProduction,
        reporter: StatusReporter,
        comments: ExpiryComments,
        ttl: str,
        clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._repositories = repositories
        self._tracker = tracker
        self._closed = closed
        self._production = production
        self._reporter = reporter
        self._comments = comments
        self._ttl = ttl
        self._clock = clock

    def resolve_desired(self, context: ReconcileContext) -> Deploy | Absent | Stop:
        """Find the desired state: a commit to deploy, absence, or a stop if the goal ends here."""
        work, environment = context.work, context.environment
        if work.cause == Cause.TEARDOWN:
            return self._resolve_teardown(context)
        if work.cause == Cause.AGE and environment.kind is not Kind.DEVELOPMENT:
            return Stop(context.done(Outcome.SKIPPED, f"{environment.kind} never expires"))
        ordered = (
            work.progress.created
            or work.progress.updated
            or work.progress.recovered
            or work.progress.replacing
        )
        if ordered and context.is_admitted:
            return Deploy(
                context
            )  # this goal has ordered something; a newer push has a queue item of its own
        if environment.kind is Kind.PRODUCTION:
            return self._production.resolve_production(context)
        return self._resolve_branch(context)

    def _resolve_teardown(self, context: ReconcileContext) -> Absent | Stop:
        """Record that a person, or the state of the repository, wants the environment to be absent."""
        work, record = context.work, context.record
        reason = f"#{work.spec.pull} was closed" if work.spec.pull else "a person asked for its teardown"
        if context.environment.kind is Kind.PRODUCTION:  # a tag that was pushed before does not bring it back
            decided_at = max(record.decision_time, work.accepted_at)
            return Absent(context.with_record(decided_at=decided_at), reason)
        if work.spec.word:
            return Absent(context, f"its repository or branch asks for its teardown: {work.spec.word}")
        if record.spec.deletion and record.spec.deletion.at >= work.accepted_at:
            # this goal has recorded it; a push since then must not be overlooked
            return Absent(context, reason)
        if work.spec.pull and (why := self._closed.why_kept(context)):
            _log.info("%s stays although #%s was closed: %s", context.environment, work.spec.pull, why)
            # this item may have replaced a push in the queue
            return Stop(context.again(Task.SYNC, cause=Cause.RESYNC, pull=0, turned=True))
        head = self._read_deleted_head(context)
        if isinstance(head, Stop):
            return head
        deletion = Deletion(head=head, at=work.accepted_at, pull=work.spec.pull) if head else Deletion()
        return Absent(context.with_record(deletion=deletion, aged=""), reason)

    def _read_deleted_head(self, context: ReconcileContext) -> str | Stop:
        """Where the branch of an environment is that a person deletes; empty if the branch does not exist.

        A deletion needs nothing else of GitHub. If GitHub does not answer, the head on record is used.
        """
        record, branch = context.record, context.environment.branch
        try:
            ref = branch or Ref.of_branch(self._staging_branch(context))
            head = self._host.head(context.repository, ref)
        except DeployerError as error:
            _log.warning("deleting %s with the head on record: %s", context.environment, error)
            return record.spec.held_at or record.spec.commit
        if head is None:
            return ""
        return self._tracker.wait_for_fresh_read(context, head) or head.object

    def _resolve_branch(self, context: ReconcileContext) -> Deploy | Absent | Stop:
        """Find the desired state of staging or of a development environment, which follow a branch."""
        work, branch = context.work, context.environment.branch
        ref = branch or Ref.of_branch(self._staging_branch(context))
        head = self._host.head(context.repository, ref)
        if stop := self._tracker.wait_for_fresh_read(context, head):
            return stop
        if head is None:
            return self._resolve_missing_branch(context, ref)
        if _stays_deleted(context, head):
            return _resolve_deleted(context)
        if work.cause == Cause.AGE:
            return self._resolve_age(context, ref, head)
        if work.cause == Cause.PUSH and branch and self._is_default(context, ref):
            reason = f"{ref.short} is the default branch now: staging deploys it"
            return Stop(context.done(Outcome.SKIPPED, reason))
        return self._tracker.choose_commit(context, ref, head)

    def _staging_branch(self, context: ReconcileContext) -> str:
        """The branch of staging. A push that arrives late may name a former default branch."""
        named = context.work.push.default_branch
        if named and self._repositories.stored_record(context.repository).default_branch == named:
            return named
        return self._host.default_branch(context.repository)

    def _is_default(self, context: ReconcileContext, ref: Ref) -> bool:
        known = self._repositories.stored_record(context.repository).default_branch
        return ref.branch == known == self._host.default_branch(context.repository)

    # --- a branch that GitHub does not have ---

    def _resolve_missing_branch(self, context: ReconcileContext, ref: Ref) -> Absent | Stop:
        """Delete an environment only if its repository is still the same and its list of refs lacks the branch too."""
        if context.environment.kind is Kind.STAGING:
            reason = f"{ref} is gone; a webhook never deletes staging"
            return Stop(context.done(Outcome.SKIPPED, reason))
        facts = self._read_repository(context)
        if isinstance(facts, Stop):
            return facts
        if facts is None or ref.branch == facts.default_branch:
            reason = f"{ref} is the default branch; nothing is deleted"
            return Stop(context.done(Outcome.SKIPPED, reason))
        if ref in facts.refs:  # GitHub's answers contradict each other
            return Stop(context.snooze(event_follows=False))
        if self._is_left_to_resync(context):
            context = context.with_record(age_looked_at=self._clock())
            reason = f"{ref.short} is gone; a resync deletes the environment later"
            return Stop(context.done(Outcome.SKIPPED, reason))
        # without its branch, nothing could wake the environment
        return Absent(context.with_record(held_at="", aged="", deletion=Deletion()), f"{ref} is gone")

    def _is_left_to_resync(self, context: ReconcileContext) -> bool:
        """Whether only the environment's age asks for its deletion, and it is not expired.

        A resync keeps an environment for some time after its branch is gone. The age must not shorten that time.
        """
        if context.work.cause != Cause.AGE or context.record.status.receipt.is_running:
            return False
        return due_age_action(context.record, self._ttl, self._clock()) is not AgeAction.EXPIRE

    def _read_repository(self, context: ReconcileContext) -> RepositoryFacts | Stop | None:
        """Read the repository before something is deleted because GitHub lacks it or because of its age.

        Returns:
            A stop if another repository has the name, or the repository is archived, renamed or removed.

        Raises:
            PermanentError: GitHub does not find the repository.
        """
        try:
            known, facts = self._repositories.refresh_record(
                context.repository, only=context.environment.branch
            )
        except NotFoundError as error:
            raise PermanentError(str(error)) from error
        if known.state:
            return Stop(context.done(Outcome.SKIPPED, known.reason))
        return facts

    # --- expiry and sleep ---

    def _resolve_age(self, context: ReconcileContext, ref: Ref, head: Head) -> Deploy | Absent | Stop:
        """Find what the environment's age asks for: wake it, take it down, warn of its end, or nothing."""
        record, now = context.record, self._clock()
        if record.status.receipt.is_running and record.spec.expiry.aged_at > record.history.used_at:
            return Absent(context, "its age has begun a teardown")
        act = due_age_action(record, self._ttl, now)
        if act is AgeAction.EXPIRE:
            shown_at = self._comments.warning_shown_at(context.environment, record)
            end = (shown_at or 0) + warning_lead_seconds(record, self._ttl)
            if shown_at is None:
                act = AgeAction.WARN  # nobody could know of the end, so it is announced again
            elif end > now:  # GitHub took the warning late
                reason = (
                    f"it ends on {date(end)}, because GitHub shows the warning only since {date(shown_at)}"
                )
                return Stop(context.with_record(told_end=end).done(Outcome.SKIPPED, reason))
        known = {record.spec.commit, record.spec.held_at, record.spec.deletion.head}
        if act is AgeAction.WAKE or head.object not in known:
            # a push was lost or the sleep is over: as in a resync, the commit on GitHub is wanted
            return self._resolve_wake(context, ref, head, wakes=act is AgeAction.WAKE)
        match act:
            case AgeAction.EXPIRE | AgeAction.SLEEP:
                facts = self._read_repository(context)
                if isinstance(facts, Stop):
                    return facts
                aged = NIGHT if act is AgeAction.SLEEP else IDLE
                context = context.with_record(aged=aged, aged_at=now, held_at=head.object)
                reason = expiry_reason(context.record, now)
                return Absent(context.enter_state("deleting", reason=reason), reason)
            case AgeAction.WARN:
                return self._warn_of_end(context, now)
            case AgeAction.WITHDRAW_WARNING:
                context = context.with_record(warned_at=0)
                text = "is used again and stays"
                record = self._reporter.post_expiry_status(context.environment, context.record, text)
                return Stop(context.replace_record(record).done(Outcome.SKIPPED, text))
            case None:
                reason = "it was used in the meantime; nothing is due"
                return Stop(context.done(Outcome.SKIPPED, reason))

    def _resolve_wake(self, context: ReconcileContext, ref: Ref, head: Head, *, wakes: bool) -> Deploy | Stop:
        facts = self._read_repository(context)
        if isinstance(facts, Stop):
            return facts
        return self._choose_commit_as_resync(context.as_resync(wakes=wakes), ref, head)

    @report_on_context
    def _choose_commit_as_resync(self, context: ReconcileContext, ref: Ref, head: Head) -> Deploy | Stop:
        return self._tracker.choose_commit(context, ref, head)

    def _warn_of_end(self, context: ReconcileContext, now: float) -> Stop:
        """Warn people of the environment's end, on its commit and in a comment."""
        environment, record = context.environment, context.record
        record = record.but(warned_at=now, told_end=0)
        record = record.but(told_end=expires_at(record, self._ttl, now) or 0)
        text = (
            f"will be taken down on {date(record.history.told_end)} if it stays unused; "
            f"push, or: deployer keep {context.repository} {shlex.quote(environment.name)}"
        )
        record = self._comments.warn_of_end(environment, record)
        record = self._reporter.post_expiry_status(environment, record, text)
        return Stop(context.replace_record(record).done(Outcome.SKIPPED, text))


def _stays_deleted(context: ReconcileContext, head: Head) -> bool:
    """Whether a person deleted the environment at this head of its branch, and nobody has asked for it since."""
    work, deletion = context.work, context.record.spec.deletion
    if not deletion or deletion.head != head.object:
        return False
    if work.cause == Cause.PUSH:  # GitHub may send a delivery again much later
        return 0 < work.push.pushed_at < deletion.at
    return work.cause == Cause.RESYNC


def _resolve_deleted(context: ReconcileContext) -> Absent | Stop:
    """Leave an environment deleted; a teardown that has not ended continues."""
    if context.record.status.receipt.is_running:
        return Absent(context, context.record.spec.deletion.reason)
    reason = f"{context.record.spec.deletion.reason}, and its branch has not moved since"
    return Stop(context.done(Outcome.SKIPPED, reason))
