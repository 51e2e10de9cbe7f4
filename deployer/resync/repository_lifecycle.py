"""What happens to environments when their repository is renamed, deleted, archived, replaced or out of reach.

A webhook event only says that the repository changed. Every resync first asks GitHub for the repository's state, so a
change that no event reported is found too. None of these changes affects staging or production
(docs/decisions/0011-repository-life.md).
"""

import logging
from collections.abc import Callable, Iterable

from deployer.deployment.production.candidates import record_refused_push
from deployer.environment.cloud_region import LISTING_PATIENCE, Inventory
from deployer.environment.code_host import PullRequestHead, RepositoryFacts
from deployer.environment.repository_state import (
    DEFAULT,
    DELETED,
    OUT_OF_REACH,
    RENAMED,
    REPLACED,
    Repositories,
)
from deployer.model.durations import backoff
from deployer.model.environment_record import EnvironmentRecord, is_over
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import CallLimitError, NotFoundError, PermanentError
from deployer.model.outcomes import RESYNCED, Outcome
from deployer.model.refs import Ref
from deployer.model.repository_record import RepositoryRecord, Seen
from deployer.queue.items import Cause, Work
from deployer.queue.step_results import Finished, StepResult, WaitUntil
from deployer.queue.store import QueueStore
from deployer.queue.submit import WorkSubmitter
from deployer.resync.collect import ResyncPlanner
from deployer.resync.missed_deliveries import MissedDeliveries
from deployer.resync.orphans import REMEMBERED_SECONDS, is_ended
from deployer.resync.plan import Planned
from deployer.resync.pull_requests import PullRequests

_log = logging.getLogger(__name__)
# causes that would deploy something new, then causes that follow from a ref or from a person's request
_CAUSES_OF_CHANGE = {Cause.PUSH, Cause.RESYNC, Cause.AGE}
_CAUSES_OF_REFS = {Cause.DELETION, Cause.REDEPLOY}
_MOST_CHECKS = 12  # of whether staging runs the new default branch
_LONGEST_WAIT_SECONDS = 60.0
_ENDED_STATES = {RENAMED, *OUT_OF_REACH}


class RepositoryLifecycle:
    """Checks the state of a repository before its environments are resynced.

    Args:
        inventory: AWS's stacks, with or without a record.
        lanes: the queues and stored records.
        repositories: asks GitHub for a repository's state and stores it.
        submitter: queues the resync of another repository.
        resyncer: plans the environments of a repository in its normal state.
        deliveries: has GitHub redeliver missed deliveries.
        pull_requests: gives the heads of pull requests their status.
        list_open_heads: reads the heads of a repository's open pull requests.
        allows: whether the installation serves a repository.
        poll_seconds: the first wait for a change that no event reports.
        clock: epoch seconds; by default Redis's, because other machines compare the stored times.
    """

    def __init__(
        self,
        inventory: Inventory,
        lanes: QueueStore,
        repositories: Repositories,
        submitter: WorkSubmitter,
        resyncer: ResyncPlanner,
        deliveries: MissedDeliveries,
        pull_requests: PullRequests,
        *,
        list_open_heads: Callable[[Repository], Iterable[PullRequestHead]],
        allows: Callable[[Repository], bool],
        poll_seconds: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._inventory = inventory
        self._lanes = lanes
        self._repositories = repositories
        self._intake = submitter
        self._resyncer = resyncer
        self._deliveries = deliveries
        self._pull_requests = pull_requests
        self._list_open_heads = list_open_heads
        self._allows = allows
        self._poll_seconds = poll_seconds
        self._clock = clock or lanes.now

    def run(self, repository: Repository, work: Work) -> StepResult:
        """Carry out a resync of a repository.

        Raises:
            TransientError: GitHub, AWS or Redis is away.
            PermanentError: the repository cannot be read. Nothing is deleted for that reason.
        """
        # AWS first: a listing may have to wait for another worker, and each repeat would ask GitHub again
        listed = self._inventory.stacks(repository, work.progress.looked_at, LISTING_PATIENCE, partly=True)
        # this listing is new enough for the whole task, even if the requester's clock is ahead of the lister's
        work = work.but(looked_at=min(work.progress.looked_at, listed.began))
        known, facts = self._repositories.refresh_record(repository, work.spec.word)
        match known.state:
            case "renamed":
                return self._end_renamed(repository, work, known, facts)
            case "deleted":
                return self._queue_teardowns(repository, work, known)
            case "replaced":
                return Finished(str(Outcome.FAILED), known.reason)
            case "archived" | "removed":
                return Finished(RESYNCED, known.reason)
        if facts:  # the repository's name may come from a stack's tag, which is in lower case
            repository = Repository.parse(facts.full_name)
        done = self._resyncer.queue_plan(repository, work, facts)
        self._deliveries.check_if_due(repository)
        self._repair_pull_requests(repository, facts)
        if facts is None or not self._has_former_development(repository, work, facts.default_branch):
            return done
        return self._end_former_development(repository, work, facts.default_branch, done)

    def _repair_pull_requests(self, repository: Repository, facts: RepositoryFacts | None) -> None:
        if facts is None:
            return
        try:
            heads = self._list_open_heads(repository)
        except (PermanentError, CallLimitError) as error:  # the resync does all the rest without them
            _log.info("the pull requests of %s are not repaired: %s", repository, error)
            return
        self._pull_requests.repair_open(repository, facts.default_branch, heads)

    def refusal(self, repository: Repository, work: Work) -> str:
        """Why the work of an environment must not be done now; empty if it may.

        Work that would deploy something new is refused in any state but the normal one. If the repository was deleted
        or another repository has its name, work that follows from its refs is refused too. GitHub is asked again before
        a refusal, because no event may have reported that the state is over. Work that has already ordered something
        continues: a new pipeline builds whatever commit its branch has, and only the item that created it checks that.

        Raises:
            TransientError: GitHub or Redis is away.
        """
        ordered = (
            work.progress.created
            or work.progress.updated
            or work.progress.recovered
            or work.progress.replacing
            or bool(work.progress.execution)
        )
        before = self._repositories.stored_record(repository)
        other = _belongs_to_other_repository(work, before)
        refused = (
            _CAUSES_OF_CHANGE | _CAUSES_OF_REFS if other or before.state == DELETED else _CAUSES_OF_CHANGE
        )
        if work.cause not in refused or not (before.state or other):
            return ""
        if ordered and not other:
            return ""
        try:
            # one ref suffices: reading all of them costs more calls
            any_ref = Ref.of_branch(before.default_branch or "main")
            known, _ = self._repositories.refresh_record(repository, only=any_ref)
        except NotFoundError:
            return before.reason
        if known.state == DELETED:
            self._requeue_teardown(repository, work)
        return known.reason

    def record_refused_push(self, repository: Repository, work: Work, why: str) -> EnvironmentRecord | None:
        """The record of a refused push; None if it came from another repository.

        Args:
            repository: whose push it was.
            work: the push.
            why: the refusal.
        """
        if _belongs_to_other_repository(work, self._repositories.stored_record(repository)):
            return None
        environment = Environment.from_key(repository, work.environment)
        record = self._lanes.environment(environment) or EnvironmentRecord(
            repository.full_name, environment.key, ""
        )
        return record_refused_push(record, work, why, self._clock())

    def has_no_scheduled_resync(self, repository: Repository) -> bool:
        """Whether no resync is scheduled: GitHub said that the repository is gone or no longer accessible."""
        return self._repositories.stored_record(repository).state in OUT_OF_REACH

    def forget_ended(self, repository: Repository) -> bool:
        """Delete the records of a repository that ended 30 days ago and that has had no environment for as long.

        A repository has ended if it is renamed, deleted, removed from the App, or left out by the settings. Its records
        are kept for 30 days, because it may come back: the settings had a typo, or the App was removed by mistake. Only
        the record of a staging that a person deleted keeps a resync from creating it again.

        Returns:
            Whether every record of the repository is deleted.

        Raises:
            StoredValueError: the repository's record cannot be read.
            UnavailableError: Redis is away.
        """
        known = self._record_left_out(repository)
        ends = [known.since] if known.state in _ENDED_STATES else []
        ends += [known.left_out_at] if known.left_out_at else []
        latest = self._clock() - REMEMBERED_SECONDS
        if not ends or min(ends) > latest:
            return False
        records = self._lanes.environments(repository)
        ended = [each for each in records if is_ended(each, latest)]
        self._lanes.delete_environment_records(repository, ended)
        if len(ended) < len(records):
            return False
        self._lanes.delete_repository_if_empty(repository)
        return all(each.key != repository.key for each in self._lanes.repositories())

    def _record_left_out(self, repository: Repository) -> RepositoryRecord:
        """Record since when the settings leave a repository out, or that they do not; returns the new record."""
        known, allowed = self._repositories.stored_record(repository), self._allows(repository)
        if allowed != bool(known.left_out_at):
            return known
        left_out_at = 0 if allowed else self._clock()
        return self._lanes.change_repository(repository, lambda stored: stored.but(left_out_at=left_out_at))

    def accept(self, repository: Repository) -> None:
        """Give the environments to the repository that has this name now, because a person says that they are its own.

        Raises:
            PermanentError: no other repository has taken the name.
        """
        now = self._clock()

        def without_replacement(known: RepositoryRecord) -> RepositoryRecord:
            if known.state != REPLACED:
                raise PermanentError(
                    f"{repository} is {known.state or 'as usual'}; there is nothing to accept"
                )
            return known.but(id=0, state="", reason="", since=now)

        without_replacement(self._repositories.stored_record(repository))
        # reset what the last resync noted about the former repository; first, because the next resync may begin at once
        self._lanes.save_seen(repository, Seen(accepted_at=now))
        self._lanes.change_repository(repository, without_replacement)

    def plan(
        self, repository: Repository, since: float = 0, *, recreate: bool = False
    ) -> tuple[list[Planned], str]:
        """What a resync would do now, and a sentence on the repository's state (or empty). Nothing is changed.

        Args:
            repository: which.
            since: the oldest listing of all stacks that may be used (epoch seconds).
            recreate: whether to create what people deleted although its branch exists.

        Raises:
            TransientError: GitHub, AWS or Redis is away.
            PermanentError: the repository cannot be read.
        """
        known, facts = self._repositories.refresh_record(repository, keep=False)
        if known.state == RENAMED and not self._allows(Repository.parse(known.name)):
            return [], f"{known.reason}; it matches none of the patterns in DEPLOYER_REPOSITORIES"
        if known.state in {RENAMED, DELETED}:
            why = f"{repository} is {known.state}"
            return [
                Planned(each, "delete", why)
                for each in self._resyncer.existing_development(repository, since)
            ], known.reason
        if known.state:
            return [], known.reason
        return self._resyncer.plan_with_notes(repository, since, facts, recreate=recreate)

    # --- what each state requires -------------------------------------------------------------------------------------

    def _end_renamed(
        self, repository: Repository, work: Work, known: RepositoryRecord, facts: RepositoryFacts | None
    ) -> StepResult:
        now = Repository.parse(known.name)
        if not self._allows(now):
            return Finished(
                str(Outcome.FAILED),
                f"{repository} is {now} now, which matches none of the patterns in DEPLOYER_REPOSITORIES; nothing was "
                "changed",
            )
        there = self._lanes.repository(now)
        # a state that says out of reach is outdated: GitHub has just returned the repository
        if facts and (there is None or there.state in OUT_OF_REACH):
            self._intake.resync(now)
        return self._queue_teardowns(repository, work, known)

    def _queue_teardowns(self, repository: Repository, work: Work, known: RepositoryRecord) -> Finished:
        """Queue the teardown of every development environment of a name that no repository has any more."""
        found = self._resyncer.existing_development(repository, work.progress.looked_at, LISTING_PATIENCE)
        over = not (found or self._has_remains(repository, work))
        reason = self._repositories.record_nothing_left(known, over=over).reason
        for environment in found:
            teardown = Work.of(environment=environment.key, cause=Cause.TEARDOWN, word=known.state)
            self._lanes.accept(repository, teardown)
        return Finished(RESYNCED, f"{reason}; {len(found)} to delete" if found else reason)

    def _has_remains(self, repository: Repository, work: Work) -> bool:
        """Whether the name still has environments: development, or staging and production, which only people delete."""
        if self._resyncer.existing_development(
            repository, work.progress.looked_at, LISTING_PATIENCE, with_retained=True
        ):
            return True
        for kind in (Kind.STAGING, Kind.PRODUCTION):
            environment = Environment(repository, kind)
            record = self._lanes.environment(environment)
            listed = self._inventory.stacks(repository, work.progress.looked_at, LISTING_PATIENCE, kind)
            if record and (record.updated_at > listed.began or record.status.stack.stack_arn):
                # the listing may be older than the record, or may lack a region that the settings no longer name
                exists = not is_over(record)
            else:
                exists = any(not each.is_gone and environment.owns(each.tags) for each in listed.stacks)
            if exists:
                return True
        return False

    def _requeue_teardown(self, repository: Repository, work: Work) -> None:
        """Queue a teardown that the refused work may have replaced, because no resync queues it again."""
        environment = Environment.from_key(repository, work.environment)
        record = self._lanes.environment(environment)
        if environment.kind is Kind.DEVELOPMENT and record and record.status.state != "deleted":
            teardown = Work.of(environment=environment.key, cause=Cause.TEARDOWN, word=DELETED)
            self._lanes.accept(repository, teardown)  # nothing to dispatch: this task holds the queue's lease

    def _has_former_development(self, repository: Repository, work: Work, default_branch: str) -> bool:
        """Whether the default branch still has a development environment, from before it was the default branch.

        The repository's earlier record does not count: its resync may have failed, or Redis may have lost its data.
        """
        environment = _development_of(repository, default_branch)
        record = self._lanes.environment(environment)
        if record is not None and record.status.state != "deleted":
            return True
        listed = self._inventory.stacks(
            repository, work.progress.looked_at, LISTING_PATIENCE, environment.kind
        )
        if record is not None and record.updated_at > listed.began:
            return False  # the listing may show stacks as they were before the teardown
        retained = {each.id for each in record.status.receipt.retained} if record else set()
        own = [each for each in listed.stacks if environment.owns(each.tags) and each.arn not in retained]
        # the resync has already warned of a stack whose status this version does not know
        return any(not each.is_gone for each in own) and all(each.is_known for each in own)

    def _end_former_development(
        self, repository: Repository, work: Work, default_branch: str, done: Finished
    ) -> StepResult:
        """Queue the teardown of the default branch's development environment once staging runs that branch."""
        staging = self._lanes.environment(Environment(repository, Kind.STAGING))
        if (
            staging
            and staging.spec.ref == Ref.of_branch(default_branch).name
            and staging.status.outcome == Outcome.DEPLOYED
        ):
            environment = _development_of(repository, default_branch)
            teardown = Work.of(environment=environment.key, cause=Cause.TEARDOWN, word=DEFAULT)
            self._lanes.accept(repository, teardown)
            return Finished(done.outcome, f"{done.reason}; {default_branch} is staging now, 1 to delete")
        if work.log.polls >= _MOST_CHECKS:
            return Finished(
                done.outcome, f"{done.reason}; development of {default_branch} stays until staging runs it"
            )
        wait = backoff(self._poll_seconds, 1.5, work.log.polls, _LONGEST_WAIT_SECONDS)
        return WaitUntil(work.but(polls=work.log.polls + 1), wait)


def _belongs_to_other_repository(work: Work, known: RepositoryRecord) -> bool:
    """Whether another repository has the name now, or the work was queued for another one."""
    return known.state == REPLACED or bool(
        work.push.repository_id and known.id not in {0, work.push.repository_id}
    )


def _development_of(repository: Repository, branch: str) -> Environment:
    return Environment(repository, Kind.DEVELOPMENT, Ref.of_branch(branch))
