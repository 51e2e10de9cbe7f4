"""Resyncs: compares GitHub's refs with AWS's stacks and the ledger, and puts what is to be done into the lanes."""

import logging
from collections.abc import Callable, Iterable, Sequence

from deployer.deployment.production.gate import Gate
from deployer.environment.cloud_region import LISTING_PATIENCE, Inventory
from deployer.environment.code_host import Facts, Host
from deployer.model.environments import Environment, Kind, Repository, ref_from_tags
from deployer.model.errors import DeployerError, PermanentError, TransientError
from deployer.model.production_record import MOST_REFUSED
from deployer.model.records import RESYNCED, Cause, EnvironmentRecord, Seen, Work
from deployer.model.refs import Ref, skip_reason
from deployer.model.stacks import Stack
from deployer.queue.step_results import Done
from deployer.queue.store import Lanes
from deployer.resync.plan import (
    ACTIONS,
    Known,
    Orphan,
    Planned,
    bygone,
    doomed,
    never_deployed_words,
    orphans,
    plan,
    unclear,
)

_log = logging.getLogger(__name__)


class Resyncer:
    """Makes a repository's plan and puts it into the lane.

    Args:
        host: GitHub.
        inventory: AWS's stacks.
        lanes: takes the work, and knows what was seen.
        gate: says which tags production may be brought to.
        allows: whether the installation serves a repository.
        named_repositories: those that the settings name without a wildcard.
        orphan_seconds: how long an environment is kept after its ref is gone.
        clock: epoch seconds; by default Redis's, since the times are stored and read on other machines.
    """

    def __init__(
        self,
        host: Host,
        inventory: Inventory,
        lanes: Lanes,
        gate: Gate,
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

    def repositories(self, told: Callable[[str], None], age: float = 0) -> list[Repository]:
        """Every repository that is served and can be found: in Redis, named in the settings, or by its stacks.

        The last two are what is left after Redis was wiped.

        Args:
            told: is told what could not be asked.
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
            told(f"only repositories known to Redis and the settings are looked at: {error}")
        return sorted((each for each in found.values() if self._allows(each)), key=lambda each: each.key)

    def plan(self, repository: Repository, since: float = 0, facts: Facts | None = None) -> list[Planned]:
        """What a resync would do now; see `report`."""
        return self.report(repository, since, facts)[0]

    def report(
        self, repository: Repository, since: float = 0, facts: Facts | None = None
    ) -> tuple[list[Planned], str]:
        """What a resync would do now, and what it leaves to people, in a sentence or empty.

        Args:
            repository: which.
            since: how old a listing of all stacks will do (epoch seconds).
            facts: what GitHub says of it, where it was asked just now.

        Raises:
            TransientError: GitHub, AWS or Redis is away.
            PermanentError: the repository cannot be read.
        """
        seen = self._lanes.seen(repository)
        known = self._known(repository, seen, since, patience=60, facts=facts)
        _warned(known)
        planned = plan(known, seen.orphans, self._clock(), self._orphan_seconds)
        return planned, never_deployed_words(repository, known.never_deployed)

    def standing(
        self, repository: Repository, since: float, patience: float = 60, *, left: bool = False
    ) -> list[Environment]:
        """The development environments that stand, whatever GitHub says.

        Args:
            repository: whose.
            since: how old a listing of all stacks will do (epoch seconds).
            patience: how long to wait for one that another worker makes, in seconds.
            left: whether also those of which a teardown had to leave what stands, and those whose stack has a status
                that this version of deployer does not know.

        Raises:
            TransientError: AWS or Redis is away.
        """
        listed = self._inventory.stacks(repository, since, patience, Kind.DEVELOPMENT)
        records = self._lanes.environments(repository)
        known = Known(repository, "", {}, listed.stacks, records, listed.began)
        found = [each.environment for each in (orphans(known) if left else doomed(known)) if each.mine]
        unknown = [each for each in _warned(known) if each.kind is Kind.DEVELOPMENT]
        return [*found, *unknown] if left else found

    def orphans(self, repository: Repository, since: float = 0) -> list[tuple[Orphan, float]]:
        """What stands without a ref, and when a resync may remove it (epoch seconds; 0 for never).

        Raises:
            TransientError, PermanentError: as `plan`.
        """
        seen = self._lanes.seen(repository)
        known = self._known(repository, seen, since, patience=60)
        _warned(known)
        found = orphans(known)
        now, grace = self._clock(), self._orphan_seconds
        return [
            (each, seen.orphans.get(each.environment.key, now) + grace if each.mine else 0) for each in found
        ]

    def run(self, repository: Repository, work: Work, facts: Facts | None = None) -> Done:
        """Queue the plan; work that waits for an environment already is joined, never doubled.

        Args:
            repository: whose plan.
            work: the resync's own work.
            facts: what GitHub says of it, where it was asked just now.

        Raises:
            TransientError: GitHub, AWS or Redis is away. What an account that is away has nothing to do with is queued.
            PermanentError: the repository cannot be read.
        """
        seen, now = self._lanes.seen(repository), self._clock()
        known = self._known(repository, seen, work.looked_at, LISTING_PATIENCE, facts, partly=True)
        planned = plan(known, seen.orphans, now, self._orphan_seconds)
        due = [each for each in planned if not each.due]
        for each in due:
            wish = Work(
                environment=each.environment.key, cause=Cause.RESYNC, ref=each.ref, after=each.tag_object,
                candidate=bool(each.tag_object),
            )  # fmt: skip
            self._lanes.accept(repository, wish)  # this task holds the lane: nothing to dispatch
        if known.away:
            raise TransientError(known.away)
        orphaned = [each.environment.key for each in planned if each.action == "delete"]
        orphaned_at = {key: seen.orphans.get(key, now) for key in orphaned}
        found = Seen(orphaned_at, seen.accepted_at, known.never_deployed)
        if found != seen:
            self._lanes.see(repository, found, instead_of=seen)
        self._lanes.forget(repository, bygone(known, now))
        counts = {action: sum(each.action == action for each in due) for action in ACTIONS}
        words = [f"{count} to {action}" for action, count in counts.items() if count]
        if left := len(planned) - len(due):
            words.append(f"{left} to delete later")
        if unknown := _warned(known):
            words.append(f"{len(unknown)} left out: {next(iter(unknown.values()))}")
        told = [", ".join(words) or "nothing to do", never_deployed_words(repository, known.never_deployed)]
        return Done(RESYNCED, "; ".join(filter(None, told)))

    def _known(
        self,
        repository: Repository,
        seen: Seen,
        since: float,
        patience: float,
        facts: Facts | None = None,
        *,
        partly: bool = False,
    ) -> Known:
        listed = self._inventory.stacks(repository, since, patience, partly=partly)
        facts = facts or self._host.facts(repository)
        if facts is None:
            raise PermanentError(f"{repository} is not found, or deployer has no access")
        records = self._lanes.environments(repository)
        production = Environment(repository, Kind.PRODUCTION).key
        record = next((each for each in records if each.environment == production), None)
        missed = never_deployed = None
        if not listed.away:
            missed = self._missed(repository, facts, seen, record)
            never_deployed = self._never_deployed(repository, facts, record, listed.stacks)
        return Known(
            repository, facts.default_branch, facts.refs, listed.stacks, records, listed.began, missed, listed.regions,
            listed.away, never_deployed.name if never_deployed else "",
        )  # fmt: skip

    def _missed(
        self, repository: Repository, facts: Facts, seen: Seen, record: EnvironmentRecord | None
    ) -> Ref | None:
        """The newest tag that is newer than what production should run and was never judged; None where there is none.

        GitHub sends no event for more than three tags that are pushed at once. No tag counts as missed where it is not
        known when it was decided what production should run: a person may have chosen that.
        """
        since = record.decision_time if record else 0
        if record is None or not since:
            return None
        newer = _newest_first(facts, record, max(since, seen.accepted_at))
        own = Ref.parse(record.ref) if record.ref else None
        if own in newer and (facts.refs[own] in {record.moved_to, record.commit} or not record.moved_to):
            newer.remove(own)
        return self._first_allowed(repository, newer)

    def _never_deployed(
        self, repository: Repository, facts: Facts, record: EnvironmentRecord | None, stacks: Iterable[Stack]
    ) -> Ref | None:
        """The newest tag, where production runs an older one or none, and nothing tells whether a person wants that."""
        if record and (record.admitted.commit or record.held_at or record.state == "deleted"):
            return None
        own = _production_tag(repository, record, stacks)
        since = facts.made.get(Ref.parse(own), 0.0) if own else -1.0
        if since == 0:
            return None  # which ones are newer cannot be told
        return self._first_allowed(repository, _newest_first(facts, record, since))

    def _first_allowed(self, repository: Repository, tags: Sequence[Ref]) -> Ref | None:
        """The first tag that production's rules allow by its name, among as many as a record remembers refused ones."""
        return self._gate.first_allowed(repository, tags[:MOST_REFUSED]) if tags else None


def _warned(known: Known) -> dict[Environment, str]:
    """The environments that are left out of a plan, each with a warning in the log that says why."""
    found = unclear(known)
    for why in found.values():
        _log.warning("%s", why)
    return found


def _newest_first(facts: Facts, record: EnvironmentRecord | None, since: float) -> list[Ref]:
    """The tags whose own date is later than `since`, the newest first, but for those that were judged and refused."""
    judged = {(each.ref, each.object) for each in record.refused_tags} if record else set()
    newer = [
        (made_at, ref.name, ref)
        for ref, made_at in facts.made.items()
        if made_at > since and (ref.name, facts.refs[ref]) not in judged and not skip_reason(ref, "")
    ]
    return [ref for _, _, ref in sorted(newer, key=lambda each: each[:2], reverse=True)]


def _production_tag(repository: Repository, record: EnvironmentRecord | None, stacks: Iterable[Stack]) -> str:
    """The tag that production is of, by its record, or else by its stack; empty where it is of none."""
    if record and record.ref:
        return record.ref
    production = Environment(repository, Kind.PRODUCTION)
    own = (ref_from_tags(stack.tags) for stack in stacks if production.owns(stack.tags))
    return next((name for name in own if name and Ref.parse(name).is_tag), "")
