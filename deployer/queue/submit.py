"""The door: everything that may become work passes here on its way into a lane."""

import logging
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PermanentError, StoredValueError, UnavailableError, one_line
from deployer.model.events import CloudEvent, Ignored, Push, RepositoryChange
from deployer.model.expiry import ASLEEP, FOREVER, due
from deployer.model.records import RESYNC_KEY, Cause, DeliveryRecord, EnvironmentRecord, Outcome, Task, Work
from deployer.model.refs import Ref, parse_sha, skip_reason
from deployer.queue import progress_log as progress
from deployer.queue.lookup import why_of_another_stack
from deployer.queue.store import Accepted, Lanes, Queue

_log = logging.getLogger(__name__)
_audit = logging.getLogger("deployer.audit")
LONGEST_APPROVER = 100
JUDGED_AGAIN_SECONDS = (
    3600  # after its push; then nobody remembers pushing it, and only a person may release it
)
_AGED_AT_A_TIME = 50  # a new time to live must not empty an account in a minute


@dataclass(frozen=True, slots=True)
class Answer:
    """What the sender of a delivery is told."""

    delivery: str
    outcome: str  # queued, duplicate or ignored
    reason: str


class Intake:
    """Accepts deliveries and people's requests.

    Args:
        lanes: takes the work.
        queue: carries the dispatch; the work is safe before it is sent.
        allows: whether the installation serves a repository.
        accounts: the AWS account of each kind of environment, or an empty text where the settings do not name it.
        ttl: the installation's time to live.
    """

    def __init__(
        self,
        lanes: Lanes,
        queue: Queue,
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
        self._aged = ""  # the repository at which the last look at ages ended before all were seen

    def github(self, event: Push | RepositoryChange | Ignored) -> Answer:
        """Accept an event of GitHub.

        Raises:
            UnavailableError: Redis is away; nothing was recorded.
        """
        if isinstance(event, Ignored):
            served = event.repository is not None and self._allows(event.repository)
            return self._ignore(event.delivery, event.reason, event.repository, event.ref if served else "")
        if isinstance(event, RepositoryChange):
            return self._look_at_all(event)
        if not self._allows(event.repository):
            reason = f"{event.repository} matches none of the patterns in DEPLOYER_REPOSITORIES"
            return self._ignore(event.delivery, reason, event.repository)
        # decided here, since in the lane it would take the place of a push that waits
        skipped = None if event.deleted else skip_reason(event.ref, event.message)
        environment = Environment.of_ref(event.repository, event.ref, event.default_branch)
        if skipped:
            return self._skip(event, environment, skipped)
        work = Work(
            environment=environment.key,
            cause=Cause.DELETION if event.deleted else Cause.PUSH,
            ref=event.ref.name,
            before=event.before,
            after=event.after,
            default_branch=event.default_branch,
            pushed_at=event.pushed_at,
            repository_id=event.repository_id,
            candidate=event.ref.is_tag,
        )
        accepted = self._accept(event.repository, work, event.delivery, "push")
        if accepted.outcome == "queued":
            progress.pushed(environment, event.ref.short, "" if event.deleted else event.after)
        return self._answer(event.delivery, accepted)

    def _skip(self, event: Push, environment: Environment, reason: str) -> Answer:
        """Record a push that asks to be skipped where people look for it: no task will tell of it."""
        name, key, outcome = event.repository.full_name, environment.key, str(Outcome.SKIPPED)
        first = None
        if not event.ref.is_tag:  # production has no record before the first tag that is to be deployed
            first = EnvironmentRecord(
                name, key, "", event.ref.name, "skipped", event.after, outcome, reason, held_at=event.after,
            )  # fmt: skip
        record = DeliveryRecord(event.delivery, name, key, "push", outcome, reason)
        if environment.kind is Kind.STAGING:  # what no task of staging does now
            self._judge_tag_again(event.repository)
        self._lanes.ignore(record, ref=event.ref.name, commit=event.commit or event.after, first=first)
        progress.ended(environment, outcome, reason)
        return Answer(event.delivery, "ignored", reason)

    def _judge_tag_again(self, repository: Repository) -> None:
        record = self._lanes.environment(Environment(repository, Kind.PRODUCTION))
        if record and (work := tag_to_judge_again(record, self._lanes.now())):
            self._accept(repository, work)

    def _look_at_all(self, event: RepositoryChange) -> Answer:
        """Have each repository of an event looked at; the delivery ends with the first of them.

        That one comes last: where Redis goes away in between, the delivery is as if it had never come.
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
            return self._ignore(event.delivery, reason, named[0] if named else None)
        work = _look(word=event.word, turned=len(served) == 1)
        for each in served[:0:-1]:
            self._accept(each, work)
        return self._answer(event.delivery, self._accept(served[0], work, event.delivery, event.about))

    def aws(self, event: CloudEvent | Ignored) -> Answer:
        """Accept an event of a pipeline or stack.

        Raises:
            UnavailableError: Redis is away; nothing was recorded.
        """
        if isinstance(event, Ignored):
            return self._ignore(event.delivery, event.reason, None)
        environment = self._lanes.find(event.stack_name)
        if environment is None:
            return self._ignore(
                event.delivery, f"{event.stack_name} is no environment's stack or pipeline", None
            )
        try:
            record = self._lanes.environment(environment)
        except StoredValueError:
            record = None  # the task reads it again and becomes a dead letter, which says how to correct it
        if why := why_of_another_stack(event, environment, record, self._accounts[environment.kind]):
            return self._ignore(event.delivery, why, environment.repository)
        work = Work(environment=environment.key, task=Task.NOTIFY, cause=Cause.EVENT)
        accepted = self._accept(environment.repository, work, event.delivery, event.about)
        return self._answer(event.delivery, accepted)

    def request_environment(
        self,
        environment: Environment,
        *,
        cause: Cause,
        ref: str = "",
        sha: str = "",
        yes_really: bool = False,
    ) -> Accepted:
        """Queue what a person asks for an environment.

        Args:
            environment: which.
            cause: what is asked for.
            ref: the ref to deploy, if it is not the environment's own.
            sha: the commit to deploy, if it is not the ref's head.
            yes_really: whether the person typed that staging or production is meant to be deleted; only the command
                line asks for it.

        Raises:
            PermanentError: its repository is not served here, or it is to be deleted, is no development environment,
                and nobody said `yes_really`.
        """
        self.insist(environment.repository)
        if cause is Cause.TEARDOWN and environment.kind is not Kind.DEVELOPMENT and not yes_really:
            raise PermanentError(
                f"{environment} is deleted by nothing but: {delete_command(environment)} --yes-really"
            )
        work = Work(environment=environment.key, cause=cause, ref=ref, sha=sha, chosen=bool(sha), turned=True)
        if environment.kind is Kind.PRODUCTION and ref:
            work = work.but(candidate=True)
        return self._accept(environment.repository, work)

    def approve(self, repository: Repository, tag: Ref, commit: str, by: str) -> Accepted:
        """Queue a deployment to production of a tag that the rules refuse: an operator releases it.

        Args:
            repository: whose production.
            tag: the tag.
            commit: the commit that the operator looked at; where the tag has moved by then, nothing is deployed.
            by: who approves; it is kept in the record and in the log.

        Raises:
            PermanentError: the repository is not served here, it is no tag, or nobody says who approves.
        """
        self.insist(repository)
        who = one_line(by).strip()[:LONGEST_APPROVER]
        if not tag.is_tag:
            raise PermanentError(f"{tag} is no tag; production is only brought to tags")
        if not who:
            raise PermanentError(f"nobody says who approves {tag.short} of {repository}")
        work = Work(
            environment=Environment(repository, Kind.PRODUCTION).key,
            cause=Cause.REDEPLOY,
            ref=tag.name,
            sha=parse_sha(commit),
            chosen=True,
            turned=True,
            approved_by=who,
            candidate=True,
        )
        accepted = self._accept(repository, work)
        _audit.info(
            "%s approves %s at %s for production of %s (%s)", who, tag, commit, repository, accepted.goal
        )
        return accepted

    def resync(self, repository: Repository, age: float = 0, *, in_turn: bool = False) -> Accepted:
        """Queue a look at a whole repository.

        Args:
            repository: which.
            age: how old a listing of all stacks may be, in seconds; people want a new one.
            in_turn: whether it stands in the line of all resyncs: many are asked for at once.

        Raises:
            PermanentError: the repository is not served here.
        """
        self.insist(repository)
        return self._accept(repository, _look(looked_at=self._lanes.now() - age, turned=not in_turn))

    def age(self, now: float) -> None:
        """Queue a look at environments whose age asks for one, but not too many at a time.

        Args:
            now: epoch seconds.

        Raises:
            UnavailableError: Redis is away.
        """
        left = _AGED_AT_A_TIME
        repositories = [each for each in self._lanes.repositories() if self._allows(each)]
        # beginning after the last one, so that none of them keeps the others from theirs
        repositories.sort(key=lambda each: (each.key <= self._aged, each.key))
        # one after the other: all records at once would be as much memory as there are environments
        for repository in repositories:
            try:
                for record in self._due(repository, now)[:left]:
                    self._accept(repository, Work(environment=record.environment, cause=Cause.AGE))
                    left -= 1
            except UnavailableError:
                raise
            except Exception:  # noqa: BLE001  what one repository's records hold must not keep the others waiting
                _log.exception("looking at the ages of %s; the others go on", repository)
            if not left:
                self._aged = repository.key
                return
        self._aged = ""

    def _due(self, repository: Repository, now: float) -> list[EnvironmentRecord]:
        """The environments whose age asks for something; none where nothing new runs, and what stands stays."""
        found = [each for each in self._lanes.environments(repository) if due(each, self._ttl, now)]
        known = self._lanes.repository(repository) if found else None
        return [] if known and known.state else found

    def keep(self, environment: Environment, seconds: float = 0) -> EnvironmentRecord:
        """Keep a development environment as if it were used now, and at least for so many seconds.

        Returns:
            What is known of it then.

        Raises:
            PermanentError: its repository is not served here, it never ages, or it does not stand.
        """
        self.insist(environment.repository)
        if environment.kind is not Kind.DEVELOPMENT:
            raise PermanentError(f"{environment} is kept anyway: only development environments age")
        record = self._lanes.environment(environment)
        if record is None or record.state in {"deleting", "deleted", ASLEEP}:
            back = f"deployer redeploy {environment.repository} {shlex.quote(environment.name)}"
            raise PermanentError(f"{environment} does not stand; bring it back: {back}")
        until = min(self._lanes.now() + seconds, FOREVER) if seconds else 0
        self._lanes.keep_environment(environment, until)
        return self._lanes.environment(environment) or record

    def replay(self, letter: str) -> Accepted:
        """Queue a dead letter once more.

        Raises:
            NotFoundError: there is no such dead letter.
        """
        return self._send(self._lanes.replay(letter))

    def insist(self, repository: Repository) -> None:
        """Refuse a repository that is not served.

        Raises:
            PermanentError: with the remedy.
        """
        if not self._allows(repository):
            raise PermanentError(f"{repository} matches none of the patterns in DEPLOYER_REPOSITORIES")

    def unserved(self) -> dict[str, float]:
        """The repositories of which deliveries came lately although the settings leave them out, the latest first.

        Returns:
            Of each, in lower case, when the last delivery came (epoch seconds).
        """
        found = self._lanes.unserved()
        return {name: at for name, at in found.items() if not self._allows(Repository.parse(name))}

    def known(self, repository: Repository) -> Repository:
        """The repository as GitHub spells it, where that is known: people type it in any case."""
        return next((each for each in self._lanes.repositories() if each.key == repository.key), repository)

    def _accept(self, repository: Repository, work: Work, delivery: str = "", event: str = "") -> Accepted:
        return self._send(self._lanes.accept(repository, work, delivery, event))

    def _send(self, accepted: Accepted) -> Accepted:
        if accepted.dispatch:
            self._queue.send(accepted.dispatch)
        return accepted

    def _ignore(self, delivery: str, reason: str, repository: Repository | None, ref: str = "") -> Answer:
        """Record a delivery that calls for nothing; with a ref, which stands for its environment, it is listed."""
        name = repository.full_name if repository else ""
        record = DeliveryRecord(delivery, name, environment=ref, reason=reason)
        self._lanes.ignore(record, ref=ref, served=repository is None or self._allows(repository))
        return Answer(delivery, "ignored", reason)

    def _answer(self, delivery: str, accepted: Accepted) -> Answer:
        return Answer(delivery, accepted.outcome, accepted.reason)


def _look(**wish: Any) -> Work:
    return Work(environment=RESYNC_KEY, task=Task.RESYNC, cause=Cause.RESYNC, **wish)


def tag_to_judge_again(record: EnvironmentRecord, now: float) -> Work | None:
    """The work of judging the newest refused tag once more, since a push to the default branch may contain its commit.

    Args:
        record: production's.
        now: epoch seconds by Redis's clock.

    Returns:
        None where a push cannot change the answer, or `JUDGED_AGAIN_SECONDS` after the tag's own push.
    """
    refused = next((each for each in reversed(record.refused_tags) if each.recheck), None)
    if not refused or refused.pushed_at <= record.decision_time:
        return None
    if now - refused.accepted_at > JUDGED_AGAIN_SECONDS:
        return None
    return Work(
        environment=record.environment, cause=Cause.PUSH, ref=refused.ref, after=refused.object,
        pushed_at=refused.pushed_at, candidate=True,
    )  # fmt: skip


def delete_command(environment: Environment) -> str:
    """What a person types to have staging or production deleted, but for the last word."""
    return f"deployer delete --environment {environment.kind} {environment.repository}"
