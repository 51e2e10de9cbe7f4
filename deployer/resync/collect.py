"""Reads GitHub, AWS, the stored records of a repository to plan a resync, then queues the plan."""

import logging
from collections.abc import Callable, Mapping, Sequence

from deployer.deployment.production.gate import ProductionGate
from deployer.environment.cloud_region import LISTING_PATIENCE, Inventory
from deployer.environment.code_host import CodeHost, RepositoryFacts
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import DeployerError, PermanentError, TransientError
from deployer.model.outcomes import RESYNCED
from deployer.model.repository_record import Seen
from deployer.queue.items import Cause, Work
from deployer.queue.step_results import Finished
from deployer.queue.store import QueueStore
from deployer.resync.missed_tags import newest_missed_tag, newest_undeployed_tag, undeployed_tag_sentence
from deployer.resync.orphans import Orphan, find_orphans, orphans_to_delete, records_to_forget
from deployer.resync.plan import ACTIONS, Planned, deleted_by_people, plan
from deployer.resync.snapshot import RepositorySnapshot, environments_with_unknown_status

_log = logging.getLogger(__name__)
_NAMED_ENVIRONMENTS = 3  # that a sentence names


class ResyncPlanner:
    """Plans a repository's resync and queues the plan.

    Args:
        host: GitHub.
        inventory: AWS's stacks.
        lanes: the queues and stored records.
        gate: says which tags production may run.
        allows: whether the installation serves a repository.
        named_repositories: the repositories that the settings name without a wildcard.
        orphan_seconds: how long an environment is kept after its ref is gone.
        clock: epoch seconds; by default Redis's, because other machines compare the stored times.
    """

    def __init__(
        self,
        host: CodeHost,
        inventory: Inventory,
        lanes: QueueStore,
        gate: ProductionGate,
        *,
        allows: Callable[[Repository], bool],
        named_repositories: Sequence[Repository],
        orphan_seconds: float,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._host = host
        self._inventory = inventory
        self._lanes = lanes
        self._gate = gate
        self._allows = allows
        self._named_repositories = named_repositories
        self._orphan_seconds = orphan_seconds
        self._clock = clock or lanes.now

    def repositories(self, warn: Callable[[str], None], age: float = 0) -> list[Repository]:
        """Every repository that is served and known: from Redis, from the settings, or from its stacks' tags.

        Settings and stacks still name repositories after Redis lost its data.

        Args:
            warn: is called with a sentence if the stacks cannot be listed.
            age: how old a listing of all stacks may be, in seconds.

        Raises:
            UnavailableError: Redis is away.
        """
        found = {each.key: each for each in self._lanes.repositories()}
        found = {**{each.key: each for each in self._named_repositories}, **found}
        try:
            for each in self._inventory.repositories(self._clock() - age):
                found.setdefault(each.key, each)
        except DeployerError as error:
            warn(f"checking only the repositories that Redis or the settings name: {error}")
        return sorted((each for each in found.values() if self._allows(each)), key=lambda each: each.key)

    def plan(
        self, repository: Repository, since: float = 0, facts: RepositoryFacts | None = None
    ) -> list[Planned]:
        """What a resync would do now; arguments and errors as of `plan_with_notes`."""
        return self.plan_with_notes(repository, since, facts)[0]

    def plan_with_notes(
        self,
        repository: Repository,
        since: float = 0,
        facts: RepositoryFacts | None = None,
        *,
        recreate: bool = False,
    ) -> tuple[list[Planned], str]:
        """What a resync would do now, and sentences on what only a person may bring back or deploy (or empty).

        Args:
            repository: which.
            since: the oldest listing of all stacks that may be used (epoch seconds).
            facts: what GitHub says of the repository, if the caller has just asked.
            recreate: whether to create what people deleted although its branch exists.

        Raises:
            TransientError: GitHub, AWS or Redis is away.
            PermanentError: the repository cannot be read.
        """
        seen = self._lanes.read_seen(repository)
        snapshot = self._read_snapshot(repository, seen, since, patience=60, facts=facts)
        _log_unknown_statuses(snapshot)
        planned = plan(snapshot, seen.orphans, self._clock(), self._orphan_seconds, recreate=recreate)
        return planned, _plan_notes(snapshot, recreate=recreate)

    def existing_development(
        self, repository: Repository, since: float, patience: float = 60, *, with_retained: bool = False
    ) -> list[Environment]:
        """The development environments that have stacks or a record, whether or not GitHub has their branch.

        Args:
            repository: whose.
            since: the oldest listing of all stacks that may be used (epoch seconds).
            patience: how long to wait for a listing that another worker makes, in seconds.
            with_retained: whether to include environments whose stacks a teardown retained, and those whose stack has a
                status that this version of deployer does not know.

        Raises:
            TransientError: AWS or Redis is away.
        """
        listed = self._inventory.stacks(repository, since, patience, Kind.DEVELOPMENT)
        records = self._lanes.environments(repository)
        snapshot = RepositorySnapshot(repository, "", {}, listed.stacks, records, listed.began)
        orphans = find_orphans(snapshot) if with_retained else orphans_to_delete(snapshot)
        found = [each.environment for each in orphans if each.mine]
        unknown = [each for each in _log_unknown_statuses(snapshot) if each.kind is Kind.DEVELOPMENT]
        return [*found, *unknown] if with_retained else found

    def orphans(self, repository: Repository, since: float = 0) -> list[tuple[Orphan, float]]:
        """The environments without a ref, each with the time when a resync may delete it (epoch seconds; 0 for never).

        Raises:
            TransientError, PermanentError: as `plan_with_notes`.
        """
        seen = self._lanes.read_seen(repository)
        snapshot = self._read_snapshot(repository, seen, since, patience=60)
        _log_unknown_statuses(snapshot)
        now, grace = self._clock(), self._orphan_seconds
        return [
            (each, seen.orphans.get(each.environment.key, now) + grace if each.mine else 0)
            for each in find_orphans(snapshot)
        ]

    def queue_plan(
        self, repository: Repository, work: Work, facts: RepositoryFacts | None = None
    ) -> Finished:
        """Plan a repository and queue the plan; work that already waits for an environment is merged with it.

        Args:
            repository: which.
            work: the resync's own queue item.
            facts: what GitHub says of the repository, if the caller has just asked.

        Raises:
            TransientError: GitHub, AWS or Redis is away. If only one AWS account is, the work of the others is queued.
            PermanentError: the repository cannot be read.
        """
        seen, now = self._lanes.read_seen(repository), self._clock()
        snapshot = self._read_snapshot(
            repository, seen, work.progress.looked_at, LISTING_PATIENCE, facts, allow_unlisted=True
        )
        recreate = work.spec.recreate
        planned = plan(snapshot, seen.orphans, now, self._orphan_seconds, recreate=recreate)
        due = [each for each in planned if not each.due]
        self._queue(repository, due)
        if snapshot.unlisted:
            raise TransientError(snapshot.unlisted)
        self._note_seen(repository, snapshot, planned, seen, now)
        self._lanes.delete_environment_records(repository, records_to_forget(snapshot, now))
        self._lanes.index_repository_records(repository)
        summary = _plan_summary(planned, due, _log_unknown_statuses(snapshot))
        notes = _plan_notes(snapshot, recreate=recreate)
        return Finished(RESYNCED, "; ".join(filter(None, (summary, notes))))

    def _queue(self, repository: Repository, due: Sequence[Planned]) -> None:
        for each in due:
            work = Work.of(
                environment=each.environment.key, cause=Cause.REDEPLOY if each.asked else Cause.RESYNC,
                ref=each.ref, after=each.tag_object, candidate=bool(each.tag_object),
            )  # fmt: skip
            # nothing to dispatch: this task holds the queue's lease, and its end dispatches the next item
            self._lanes.accept(repository, work)

    def _note_seen(
        self,
        repository: Repository,
        snapshot: RepositorySnapshot,
        planned: Sequence[Planned],
        seen: Seen,
        now: float,
    ) -> None:
        """Store since when environments have had no ref, unless nothing changed since the last resync."""
        orphaned = [each.environment.key for each in planned if each.action == "delete"]
        orphaned_at = {key: seen.orphans.get(key, now) for key in orphaned}
        found = Seen(orphaned_at, seen.accepted_at, snapshot.never_deployed)
        if found != seen:
            self._lanes.save_seen(repository, found, instead_of=seen)

    def _read_snapshot(
        self,
        repository: Repository,
        seen: Seen,
        since: float,
        patience: float,
        facts: RepositoryFacts | None = None,
        *,
        allow_unlisted: bool = False,
    ) -> RepositorySnapshot:
        # AWS first: a listing may have to wait for another worker, and each repeat would ask GitHub again
        listed = self._inventory.stacks(repository, since, patience, partly=allow_unlisted)
        facts = facts or self._host.facts(repository)
        if facts is None:
            raise PermanentError(f"{repository} is not found, or deployer has no access")
        records = self._lanes.environments(repository)
        production = Environment(repository, Kind.PRODUCTION).key
        record = next((each for each in records if each.environment == production), None)
        missed = undeployed = None
        if not listed.away:
            missed = newest_missed_tag(self._gate, repository, facts, seen, record)
            undeployed = newest_undeployed_tag(self._gate, repository, facts, record, listed.stacks)
        return RepositorySnapshot(
            repository=repository,
            default_branch=facts.default_branch,
            refs=facts.refs,
            stacks=listed.stacks,
            records=records,
            listed_at=listed.began,
            missed_tag=missed,
            regions=listed.regions,
            unlisted=listed.away,
            never_deployed=undeployed.name if undeployed else "",
        )


def _plan_summary(
    planned: Sequence[Planned], due: Sequence[Planned], unknown: Mapping[Environment, str]
) -> str:
    """How many environments a plan changes, such as `2 to provision, 1 to delete later`.

    Args:
        planned: the whole plan.
        due: the part of the plan that is queued now.
        unknown: the environments that are left out, with the reasons.
    """
    counts = {action: sum(each.action == action for each in due) for action in ACTIONS}
    parts = [f"{count} to {action}" for action, count in counts.items() if count]
    if later := len(planned) - len(due):
        parts.append(f"{later} to delete later")
    if unknown:
        parts.append(f"{len(unknown)} left out: {next(iter(unknown.values()))}")
    return ", ".join(parts) or "nothing to do"


def _plan_notes(snapshot: RepositorySnapshot, *, recreate: bool) -> str:
    """Sentences on what a resync leaves to people; empty if there is nothing."""
    deleted = [] if recreate else deleted_by_people(snapshot)
    names = ", ".join(each.name for each in deleted[:_NAMED_ENVIRONMENTS])
    more = f" and {len(deleted) - _NAMED_ENVIRONMENTS} more" if len(deleted) > _NAMED_ENVIRONMENTS else ""
    kept = f"a person deleted {names}{more}; --recreate creates them again" if deleted else ""
    tag = undeployed_tag_sentence(snapshot.repository, snapshot.never_deployed)
    return "; ".join(filter(None, (kept, tag)))


def _log_unknown_statuses(snapshot: RepositorySnapshot) -> dict[Environment, str]:
    """The environments that the plan leaves out, with the reasons, which are logged as warnings."""
    found = environments_with_unknown_status(snapshot)
    for reason in found.values():
        _log.warning("%s", reason)
    return found
