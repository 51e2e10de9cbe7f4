"""Submits work to the queues: deliveries, requests of people, expiries."""

import logging
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PermanentError, StoredValueError, one_line
from deployer.model.events import CloudEvent, Ignored, PullRequestChange, Push, RepositoryChange
from deployer.model.expiry import ASLEEP, FOREVER
from deployer.model.outcomes import Outcome
from deployer.model.refs import Ref, parse_sha, skip_reason
from deployer.queue import progress_log as progress
from deployer.queue.expiry_checks import ExpiryChecks
from deployer.queue.items import RESYNC_KEY, Cause, Task, Work
from deployer.queue.lookup import why_of_another_stack
from deployer.queue.refused_tags import refused_tag_to_recheck
from deployer.queue.skipped_commits import show_skipped_push
from deployer.queue.store import Accepted, Dispatcher, QueueStore

_log = logging.getLogger(__name__)
_audit = logging.getLogger("deployer.audit")
APPROVER_LENGTH = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to the sender of a delivery."""

    delivery: str
    outcome: str  # queued, duplicate or ignored
    reason: str


class WorkSubmitter:
    """Submits deliveries and people's requests.

    Args:
        lanes: the queues.
        queue: sends the dispatch to a worker, after the work was stored.
        allows: whether the installation serves a repository.
        accounts: the AWS account of each kind of environment; empty if the settings do not name it.
        ttl: the installation's time to live.
    """

    def __init__(
        self,
        lanes: QueueStore,
        queue: Dispatcher,
        *,
        allows: Callable[[Repository], bool],
        accounts: Mapping[Kind, str],
        ttl: str,
    ) -> None:
        self._lanes = lanes
        self._queue = queue
        self._allows = allows
        self._accounts = accounts
        self._ttl = ttl
        self._knows_ttl = (
            False  # whether the times of all checks of expiries were computed for this time to live
        )

    def submit_github(self, event: Push | RepositoryChange | PullRequestChange | Ignored) -> Answer:
        """Submit an event of GitHub.

        Raises:
            UnavailableError: Redis is unavailable; nothing was stored.
        """
        if isinstance(event, Ignored):
            served = event.repository is not None and self._allows(event.repository)
            return self.record_ignored(
                event.delivery, event.reason, event.repository, event.ref if served else ""
            )
        if isinstance(event, RepositoryChange):
            return self._resync_repositories(event)
        if not self._allows(event.repository):
            reason = f"{event.repository} matches none of the patterns in DEPLOYER_REPOSITORIES"
            return self.record_ignored(event.delivery, reason, event.repository)
        if isinstance(event, PullRequestChange):
            return self.record_ignored(event.delivery, f"{event.about} requires no work", event.repository)
        # decided before the queue, because in the queue a skipped push would replace a waiting one
        skipped = None if event.deleted else skip_reason(event.ref, event.message)
        environment = Environment.of_ref(event.repository, event.ref, event.default_branch)
        if skipped:
            return self._record_skipped(event, environment, skipped)
        work = Work.of(
            environment=environment.key,
            cause=Cause.DELETION if event.deleted else Cause.PUSH,
            ref=event.ref.name,
            before=event.before,
            after=event.after,
            default_branch=event.default_branch,
            pushed_at=event.pushed_at,
            repository_id=event.repository_id,
            sender=event.sender,
            candidate=event.ref.is_tag,
        )
        accepted = self._enqueue(event.repository, work, event.delivery, "push")
        if accepted.outcome == "queued":
            progress.log_push(environment, event.ref.short, "" if event.deleted else event.after)
        return Answer(event.delivery, accepted.outcome, accepted.reason)

    def _record_skipped(self, event: Push, environment: Environment, reason: str) -> Answer:
        """Record a push that asks to be skipped, because no task runs for it that would record it."""
        name, key, outcome = event.repository.full_name, environment.key, str(Outcome.SKIPPED)
        first = None
        if not event.ref.is_tag:  # production has no record before its first tag to deploy
            first = EnvironmentRecord.of(
                name,
                key,
                "",
                ref=event.ref.name,
                state="skipped",
                commit=event.after,
                outcome=outcome,
                reason=reason,
                held_at=event.after,
            )
        record = DeliveryRecord(event.delivery, name, key, "push", outcome, reason)
        if first:
            show_skipped_push(self._lanes, environment, event.after, reason)
        # A push to the default branch may contain the commit of a refused tag. Usually the task of staging checks that.
        if environment.kind is Kind.STAGING:
            self._recheck_refused_tag(event.repository)
        self._lanes.ignore(record, ref=event.ref.name, commit=event.commit or event.after, first=first)
        progress.log_outcome(environment, outcome, reason)
        return Answer(event.delivery, "ignored", reason)

    def submit_work(
        self, environment: Environment, work: Work, delivery: str = "", event: str = ""
    ) -> Answer:
        """Queue work that an event asks for.

        Raises:
            UnavailableError: Redis is unavailable; nothing was stored.
        """
        accepted = self._enqueue(environment.repository, work, delivery, event)
        return Answer(delivery, accepted.outcome, accepted.reason)

    def _recheck_refused_tag(self, repository: Repository) -> None:
        record = self._lanes.environment(Environment(repository, Kind.PRODUCTION))
        if record and (work := refused_tag_to_recheck(record, self._lanes.now())):
            self._enqueue(repository, work)

    def _resync_repositories(self, event: RepositoryChange) -> Answer:
        """Queue a resync of each repository of an event; the delivery belongs to the first of them.

        The first one is queued last, so that if Redis becomes unavailable meanwhile, the delivery is not recorded.
        """
        named = event.repositories
        if not named:
            named = tuple(
                each for each in self._lanes.repositories() if each.owner.lower() == event.owner.lower()
            )
        served = [each for each in named if self._allows(each)]
        if not served:
            names = ", ".join(str(each) for each in named[:3])
            reason = f"{names} matches none of the patterns in DEPLOYER_REPOSITORIES"
            if not named:
                reason = f"no repository of {event.owner} is known here"
            return self.record_ignored(event.delivery, reason, named[0] if named else None)
        work = _resync_work(word=event.word, turned=len(served) == 1)
        for each in served[:0:-1]:
            self._enqueue(each, work)
        accepted = self._enqueue(served[0], work, event.delivery, event.about)
        return Answer(event.delivery, accepted.outcome, accepted.reason)

    def submit_aws(self, event: CloudEvent | Ignored) -> Answer:
        """Submit an event of a pipeline or stack.

        Raises:
            UnavailableError: Redis is unavailable; nothing was stored.
        """
        if isinstance(event, Ignored):
            return self.record_ignored(event.delivery, event.reason, None)
        environment = self._lanes.find(event.stack_name)
        if environment is None:
            return self.record_ignored(
                event.delivery, f"{event.stack_name} is no environment's stack or pipeline", None
            )
        try:
            record = self._lanes.environment(environment)
        except StoredValueError:
            record = None  # the task reads the record again and becomes a dead letter, which says how to correct it
        if why := why_of_another_stack(event, environment, record, self._accounts[environment.kind]):
            return self.record_ignored(event.delivery, why, environment.repository)
        work = Work(environment=environment.key, task=Task.NOTIFY, cause=Cause.EVENT)
        accepted = self._enqueue(environment.repository, work, event.delivery, event.about)
        return Answer(event.delivery, accepted.outcome, accepted.reason)

    def request_environment(
        self,
        environment: Environment,
        *,
        cause: Cause,
        ref: str = "",
        sha: str = "",
        yes_really: bool = False,
    ) -> Accepted:
        """Queue a person's request for an environment.

        Args:
            environment: the environment.
            cause: what the person asks for.
            ref: the ref to deploy, if it is not the environment's own.
            sha: the commit to deploy, if it is not the ref's head.
            yes_really: whether the person has confirmed the deletion of staging or production; only the command line
                asks for it.

        Raises:
            PermanentError: its repository is not served here, or staging or production is to be deleted without
                `yes_really`.
        """
        self.require_served(environment.repository)
        if cause is Cause.TEARDOWN and environment.kind is not Kind.DEVELOPMENT and not yes_really:
            raise PermanentError(
                f"{environment} is deleted by nothing but: {delete_command(environment)} --yes-really"
            )
        work = Work.of(
            environment=environment.key, cause=cause, ref=ref, sha=sha, chosen=bool(sha), turned=True
        )
        if environment.kind is Kind.PRODUCTION and ref:
            work = work.but(candidate=True)
        return self._enqueue(environment.repository, work)

    def approve(self, repository: Repository, tag: Ref, commit: str, by: str) -> Accepted:
        """Queue a deployment to production of a tag that the rules refuse and an operator approves.

        Args:
            repository: whose production.
            tag: the tag.
            commit: the commit that the operator has checked; if the tag has moved since, nothing is deployed.
            by: who approves; stored in the record and in the audit log.

        Raises:
            PermanentError: the repository is not served here, the ref is no tag, or `by` is empty.
        """
        self.require_served(repository)
        who = one_line(by).strip()[:APPROVER_LENGTH]
        if not tag.is_tag:
            raise PermanentError(f"{tag} is no tag; only tags are deployed to production")
        if not who:
            raise PermanentError(
                f"the name of the person who approves {tag.short} of {repository} is missing"
            )
        work = Work.of(
            environment=Environment(repository, Kind.PRODUCTION).key,
            cause=Cause.REDEPLOY,
            ref=tag.name,
            sha=parse_sha(commit),
            chosen=True,
            turned=True,
            approved_by=who,
            candidate=True,
        )
        accepted = self._enqueue(repository, work)
        _audit.info(
            "%s approves %s at %s for production of %s (%s)", who, tag, commit, repository, accepted.goal
        )
        return accepted

    def resync(
        self, repository: Repository, since: float = 0, *, in_turn: bool = False, recreate: bool = False
    ) -> Accepted:
        """Queue a resync of a repository.

        Args:
            repository: the repository.
            since: the oldest listing of all stacks that may be used (epoch seconds by Redis's clock); 0 for a new one.
            in_turn: whether the resync waits for its turn, because many are requested at once.
            recreate: whether a person asks for what people deleted although its branch exists.

        Raises:
            PermanentError: the repository is not served here.
        """
        self.require_served(repository)
        work = _resync_work(looked_at=since or self._lanes.now(), turned=not in_turn, recreate=recreate)
        return self._enqueue(repository, work)

    def queue_expiry_checks(self, now: float) -> None:
        """Queue a check of environments that may have expired, a limited number at once.

        Args:
            now: epoch seconds.

        Raises:
            UnavailableError: Redis is unavailable.
        """
        if not self._knows_ttl:
            self._lanes.check_all_expiries(self._ttl)
            self._knows_ttl = True
        checks = ExpiryChecks(self._lanes, self._enqueue, self._allows, self._ttl)
        checks.queue_due(now)

    def keep_environment(self, environment: Environment, seconds: float = 0) -> EnvironmentRecord:
        """Keep a development environment as if it were used now.

        Args:
            environment: the environment.
            seconds: for at least how long to keep it; 0 for its usual time to live.

        Returns:
            Its record.

        Raises:
            PermanentError: its repository is not served here, it never expires, or it has no stack.
        """
        self.require_served(environment.repository)
        if environment.kind is not Kind.DEVELOPMENT:
            raise PermanentError(f"{environment} is kept anyway: only development environments age")
        record = self._lanes.environment(environment)
        if record is None or record.status.state in {"deleting", "deleted", ASLEEP}:
            back = f"deployer redeploy {environment.repository} {shlex.quote(environment.name)}"
            raise PermanentError(f"{environment} has no stack; create it again: {back}")
        until = min(self._lanes.now() + seconds, FOREVER) if seconds else 0
        self._lanes.keep_environment(environment, until)
        return self._lanes.environment(environment) or record

    def replay(self, letter: str) -> Accepted:
        """Queue the work of a dead letter again.

        Raises:
            NotFoundError: there is no such dead letter.
        """
        return self._send_dispatch(self._lanes.replay(letter))

    def require_served(self, repository: Repository) -> None:
        """Check that the settings let deployer serve a repository.

        Raises:
            PermanentError: they do not.
        """
        if not self._allows(repository):
            raise PermanentError(f"{repository} matches none of the patterns in DEPLOYER_REPOSITORIES")

    def unserved_repositories(self) -> dict[str, float]:
        """The repositories that send deliveries although the settings exclude them, the latest first.

        Returns:
            The time of the last delivery (epoch seconds) by the repository's name in lower case.
        """
        found = self._lanes.unserved_repositories()
        return {name: at for name, at in found.items() if not self._allows(Repository.parse(name))}

    def as_github_spells(self, repository: Repository) -> Repository:
        """The repository as GitHub spells it, if it is known, because people type names in any case."""
        return self._lanes.find_repository(repository.key) or repository

    def _enqueue(self, repository: Repository, work: Work, delivery: str = "", event: str = "") -> Accepted:
        return self._send_dispatch(self._lanes.accept(repository, work, delivery, event))

    def _send_dispatch(self, accepted: Accepted) -> Accepted:
        if accepted.dispatch:
            self._queue.send(accepted.dispatch)
        return accepted

    def record_ignored(
        self, delivery: str, reason: str, repository: Repository | None, ref: str = ""
    ) -> Answer:
        """Record a delivery that needs no work. With a ref the activity lists it, and the ref names its environment."""
        name = repository.full_name if repository else ""
        record = DeliveryRecord(delivery, name, environment=ref, reason=reason)
        self._lanes.ignore(record, ref=ref, served=repository is None or self._allows(repository))
        return Answer(delivery, "ignored", reason)


def _resync_work(**fields: Any) -> Work:
    return Work.of(environment=RESYNC_KEY, task=Task.RESYNC, cause=Cause.RESYNC, **fields)


def delete_command(environment: Environment) -> str:
    """The command that deletes staging or production, without the option that confirms it."""
    return f"deployer delete --environment {environment.kind} {environment.repository}"
