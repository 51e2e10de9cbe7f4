"""What becomes of environments when their repository as a whole changes: renamed, archived, out of reach.

An event only says that there is something to see, as a push does. Every resync begins with a look at the repository, so
what no event told is found too. Staging and production are never touched by any of it
(docs/decisions/0011-repository-life.md).
"""

from collections.abc import Callable

from deployer.deployment.production.candidates import put_off
from deployer.environment.cloud_region import LISTING_PATIENCE, Inventory
from deployer.environment.code_host import Facts
from deployer.environment.repository_state import (
    DEFAULT,
    DELETED,
    OUT_OF_REACH,
    RENAMED,
    REPLACED,
    Repositories,
)
from deployer.model.durations import backoff
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import NotFoundError, PermanentError
from deployer.model.records import (
    RESYNCED,
    Cause,
    EnvironmentRecord,
    Outcome,
    RepositoryRecord,
    Seen,
    Work,
    is_over,
)
from deployer.model.refs import Ref
from deployer.queue.step_results import Done, Snooze, Verdict
from deployer.queue.store import Lanes
from deployer.queue.submit import Intake
from deployer.resync.collect import Resyncer
from deployer.resync.missed_deliveries import Deliveries
from deployer.resync.plan import REMEMBERED_SECONDS, Planned, is_ended

# what would bring something new, or end something because of a ref that is no longer there
_NEWS = {Cause.PUSH, Cause.RESYNC, Cause.AGE}
_OF_REFS = {Cause.DELETION, Cause.REDEPLOY}
_LOOKS = 12  # how often to come back for a staging that is still on its way to the new default branch
_LONGEST_WAIT = 60.0
_ENDED = {RENAMED, *OUT_OF_REACH}


class Lifecycle:
    """Looks at a repository as a whole before its environments are resynced.

    Args:
        inventory: AWS's stacks, also those of which the ledger knows nothing.
        lanes: takes the work.
        repositories: looks at the repository, and knows what was seen before.
        intake: queues the resync of another repository.
        resyncer: plans the environments of one that is as usual.
        deliveries: has sent again what GitHub could not deliver.
        allows: whether the installation serves a repository.
        poll_seconds: the first wait where no event comes.
        clock: epoch seconds; by default Redis's, since the times are stored and read on other machines.
    """

    def __init__(
        self,
        inventory: Inventory,
        lanes: Lanes,
        repositories: Repositories,
        intake: Intake,
        resyncer: Resyncer,
        deliveries: Deliveries,
        *,
        allows: Callable[[Repository], bool],
        poll_seconds: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._inventory = inventory
        self._lanes = lanes
        self._repositories = repositories
        self._intake = intake
        self._resyncer = resyncer
        self._deliveries = deliveries
        self._allows = allows
        self._poll_seconds = poll_seconds
        self._clock = clock or lanes.now

    def run(self, repository: Repository, work: Work) -> Verdict:
        """Carry out a resync of a repository.

        Raises:
            TransientError: GitHub, AWS or Redis is away.
            PermanentError: the repository cannot be read. That alone never has anything deleted.
        """
        # first, since it may have to wait for one that another worker makes: else GitHub is asked each time
        listed = self._inventory.stacks(repository, work.looked_at, LISTING_PATIENCE, partly=True)
        # it will do from here on, though the clock of who asked be ahead of the lister's
        work = work.but(looked_at=min(work.looked_at, listed.began))
        known, facts = self._repositories.look(repository, work.word)
        match known.state:
            case "renamed":
                return self._moved(repository, work, known, facts)
            case "deleted":
                return self._take_down(repository, work, known)
            case "replaced":
                return Done(str(Outcome.FAILED), known.reason)
            case "archived" | "removed":
                return Done(RESYNCED, known.reason)
        if facts:  # a stack's tags do not tell its capitals
            repository = Repository.parse(facts.full_name)
        done = self._resyncer.run(repository, work, facts)
        self._deliveries.check_if_due(repository)
        if facts is None or not self._former_development(repository, work, facts.default_branch):
            return done
        return self._give_way(repository, work, facts.default_branch, done)

    def refusal(self, repository: Repository, work: Work) -> str:
        """Why the work of an environment is not to be done now, or an empty text.

        What would bring something new is refused, whatever is to be said of the repository; where another one has its
        name, or it was deleted, also whatever follows from its refs. GitHub is asked again, since the state may be over
        and nobody has told. What is begun is ended: a pipeline that was just made runs whatever its branch is at, and
        only the goal that made it sees to the right commit.

        Raises:
            TransientError: GitHub or Redis is away.
        """
        ordered = work.created or work.updated or work.recovered or work.replacing or bool(work.execution)
        before = self._repositories.known(repository)
        other = _is_of_another(work, before)
        refused = _NEWS | _OF_REFS if other or before.state == DELETED else _NEWS
        if work.cause not in refused or not (before.state or other):
            return ""
        if ordered and not other:
            return ""
        try:
            # no ref matters here, and one is cheaper than all
            one = Ref.of_branch(before.default_branch or "main")
            known, _ = self._repositories.look(repository, only=one)
        except NotFoundError:
            return before.reason
        if known.state == DELETED:
            self._take_up(repository, work)
        return known.reason

    def put_off(self, repository: Repository, work: Work, why: str) -> EnvironmentRecord | None:
        """What is kept of a push that was refused: see `production.put_off`. None of another repository's.

        Args:
            repository: whose push it was.
            work: the push.
            why: the refusal.
        """
        if _is_of_another(work, self._repositories.known(repository)):
            return None
        environment = Environment.from_key(repository, work.environment)
        record = self._lanes.environment(environment) or EnvironmentRecord(
            repository.full_name, environment.key, ""
        )
        return put_off(record, work, why, self._clock())

    def dormant(self, repository: Repository) -> bool:
        """Whether the schedule leaves a repository alone: GitHub said that it is gone, or no longer ours to see."""
        return self._repositories.known(repository).state in OUT_OF_REACH

    def forget_ended(self, repository: Repository) -> bool:
        """Drop what is known of a repository that ended here 30 days ago, once nothing is left of it for as long.

        It has ended if it is renamed, deleted, taken from the App, or left out by the settings. Until the 30 days are
        over no record is dropped, because the repository may come back: the settings had a typo, or the App was removed
        by mistake. The record of a staging that a person deleted is all that keeps a resync from making it again.

        Returns:
            Whether nothing is known of it any more.

        Raises:
            StoredValueError: the repository's record cannot be read.
            UnavailableError: Redis is away.
        """
        known = self._note_left_out(repository)
        ends = [known.since] if known.state in _ENDED else []
        ends += [known.left_out_at] if known.left_out_at else []
        latest = self._clock() - REMEMBERED_SECONDS
        if not ends or min(ends) > latest:
            return False
        records = self._lanes.environments(repository)
        ended = [each for each in records if is_ended(each, latest)]
        self._lanes.forget(repository, ended)
        if len(ended) < len(records):
            return False
        self._lanes.forget_if_empty(repository)
        return all(each.key != repository.key for each in self._lanes.repositories())

    def _note_left_out(self, repository: Repository) -> RepositoryRecord:
        """Note when the settings began to leave a repository out, or that they do not; what is known of it then."""
        known, allowed = self._repositories.known(repository), self._allows(repository)
        if allowed != bool(known.left_out_at):
            return known
        left_out_at = 0 if allowed else self._clock()
        return self._lanes.change_repository(repository, lambda stored: stored.but(left_out_at=left_out_at))

    def accept(self, repository: Repository) -> None:
        """Take the repository that has this name now for the one whose environments stand here; a person says so.

        Raises:
            PermanentError: it is not a matter of that.
        """
        now = self._clock()

        def accepted(known: RepositoryRecord) -> RepositoryRecord:
            if known.state != REPLACED:
                raise PermanentError(
                    f"{repository} is {known.state or 'as usual'}; there is nothing to accept"
                )
            return known.but(id=0, state="", reason="", since=now)

        accepted(self._repositories.known(repository))
        # what was seen was the other one's. First, since a resync may begin as soon as the repository is accepted
        self._lanes.see(repository, Seen(accepted_at=now))
        self._lanes.change_repository(repository, accepted)

    def plan(self, repository: Repository, since: float = 0) -> tuple[list[Planned], str]:
        """What a resync would do now, and what is to be said of the repository as a whole; nothing is changed.

        Args:
            repository: which.
            since: how old a listing of all stacks will do (epoch seconds).

        Raises:
            TransientError: GitHub, AWS or Redis is away.
            PermanentError: the repository cannot be read.
        """
        known, facts = self._repositories.look(repository, keep=False)
        if known.state == RENAMED and not self._allows(Repository.parse(known.name)):
            return [], f"{known.reason}; it matches none of the patterns in DEPLOYER_REPOSITORIES"
        if known.state in {RENAMED, DELETED}:
            why = f"{repository} is {known.state}"
            return [
                Planned(each, "delete", why) for each in self._resyncer.standing(repository, since)
            ], known.reason
        return ([], known.reason) if known.state else self._resyncer.report(repository, since, facts)

    # --- what each state has done -----------------------------------------------------------------------------------

    def _moved(
        self, repository: Repository, work: Work, known: RepositoryRecord, facts: Facts | None
    ) -> Verdict:
        now = Repository.parse(known.name)
        if not self._allows(now):
            return Done(
                str(Outcome.FAILED),
                f"{repository} is {now} now, which matches none of the patterns in DEPLOYER_REPOSITORIES; nothing was "
                "changed",
            )
        there = self._lanes.repository(now)
        # that it is out of reach is known from before: GitHub has just said that it is there
        if facts and (there is None or there.state in OUT_OF_REACH):
            self._intake.resync(now)
        return self._take_down(repository, work, known)

    def _take_down(self, repository: Repository, work: Work, known: RepositoryRecord) -> Done:
        """Queue the teardown of every development environment of a name that no branch belongs to any more."""
        found = self._resyncer.standing(repository, work.looked_at, LISTING_PATIENCE)
        over = not (found or self._is_kept(repository, work))
        reason = self._repositories.note_over(known, over=over).reason
        for environment in found:
            wish = Work(environment=environment.key, cause=Cause.TEARDOWN, word=known.state)
            self._lanes.accept(repository, wish)
        return Done(RESYNCED, f"{reason}; {len(found)} to delete" if found else reason)

    def _is_kept(self, repository: Repository, work: Work) -> bool:
        """Whether anything stands: staging or production, which only people delete, or development until it is gone."""
        if self._resyncer.standing(repository, work.looked_at, LISTING_PATIENCE, left=True):
            return True
        for kind in (Kind.STAGING, Kind.PRODUCTION):
            environment = Environment(repository, kind)
            record = self._lanes.environment(environment)
            listed = self._inventory.stacks(repository, work.looked_at, LISTING_PATIENCE, kind)
            if record and (record.updated_at > listed.began or record.stack_arn):
                # the listing may be older, or its region be named no longer
                stands = not is_over(record)
            else:
                stands = any(not each.is_gone and environment.owns(each.tags) for each in listed.stacks)
            if stands:
                return True
        return False

    def _take_up(self, repository: Repository, work: Work) -> None:
        """Queue a teardown again whose place the refused work may have taken: no resync looks there any more."""
        environment = Environment.from_key(repository, work.environment)
        record = self._lanes.environment(environment)
        if environment.kind is Kind.DEVELOPMENT and record and record.state != "deleted":
            wish = Work(environment=environment.key, cause=Cause.TEARDOWN, word=DELETED)
            self._lanes.accept(repository, wish)  # this task holds the lane: nothing to dispatch

    def _former_development(self, repository: Repository, work: Work, default_branch: str) -> bool:
        """Whether the default branch still has the development environment of the time before it was that.

        What was known before this look does not matter: that look may have come to nothing, or the ledger be lost.
        """
        environment = _of_branch(repository, default_branch)
        record = self._lanes.environment(environment)
        if record is not None and record.state != "deleted":
            return True
        listed = self._inventory.stacks(repository, work.looked_at, LISTING_PATIENCE, environment.kind)
        if record is not None and record.updated_at > listed.began:
            return False  # the listing may be older than its end
        left = {each["id"] for each in record.receipt.get("retained", [])} if record else set()
        own = [each for each in listed.stacks if environment.owns(each.tags) and each.arn not in left]
        # of a status that this version does not know the resync has warned already
        return any(not each.is_gone for each in own) and all(each.is_known for each in own)

    def _give_way(self, repository: Repository, work: Work, default_branch: str, done: Done) -> Verdict:
        """Have it taken down once staging has moved to that branch; until then come back."""
        staging = self._lanes.environment(Environment(repository, Kind.STAGING))
        if (
            staging
            and staging.ref == Ref.of_branch(default_branch).name
            and staging.outcome == Outcome.DEPLOYED
        ):
            environment = _of_branch(repository, default_branch)
            wish = Work(environment=environment.key, cause=Cause.TEARDOWN, word=DEFAULT)
            self._lanes.accept(repository, wish)
            return Done(done.outcome, f"{done.reason}; {default_branch} is staging now, 1 to delete")
        if work.polls >= _LOOKS:
            return Done(
                done.outcome, f"{done.reason}; development of {default_branch} stays until staging is there"
            )
        wait = backoff(self._poll_seconds, 1.5, work.polls, _LONGEST_WAIT)
        return Snooze(work.but(polls=work.polls + 1), wait)


def _is_of_another(work: Work, known: RepositoryRecord) -> bool:
    """Whether another repository has the name, or the work comes of another one."""
    return known.state == REPLACED or bool(work.repository_id and known.id not in {0, work.repository_id})


def _of_branch(repository: Repository, branch: str) -> Environment:
    return Environment(repository, Kind.DEVELOPMENT, Ref.of_branch(branch))
