"""The queues and the ledger as Protocols, and the values that they return.

An adapter raises `UnavailableError` where Redis is away.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from deployer.model.environments import Environment, Repository
from deployer.model.records import (
    Activity,
    DeadLetter,
    DeliveryRecord,
    EnvironmentRecord,
    RepositoryRecord,
    Seen,
    Work,
    split_key,
)
from deployer.queue.step_results import Verdict


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A lane's next task, to be sent to the workers. Losing it or sending it twice does no harm.

    Attributes:
        environment: the key of the queue item: an environment's key, and of a candidate for production its tag.
        low: whether it lets all others pass: it is a resync's, and nothing else waits in its lane.
    """

    repository: str
    environment: str
    task: str
    token: int
    low: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a delivery at the door: `queued` or `duplicate`."""

    outcome: str
    reason: str
    goal: str = ""
    dispatch: Dispatch | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane to look at: who holds it and what waits.

    Items are named by their keys, which `records.split_key` reads.

    Attributes:
        environment: whose item is sent or running; empty where none is.
        ref: of that item, the tag if it is a candidate for production.
        snoozed: of each item that sleeps, in how many seconds it comes back.
        failing: of what is snoozed, the work whose last attempt ended badly: it does not wait for AWS but to be tried
            again.
        resting: of what is snoozed, why it may not run now.
        refused: of the items that no worker has understood yet, why.
        broken: why this queue cannot be used or shown at all; empty where it can.
    """

    repository: str
    status: str  # idle, sent or running
    environment: str
    task: str
    waiting: Sequence[Work]
    snoozed: Mapping[str, float]
    ref: str = ""
    lease_seconds: float = 0
    failing: Mapping[str, Work] = field(default_factory=dict)
    resting: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    broken: str = ""

    @property
    def key(self) -> str:
        """The key of the item that is sent or running; empty where none is."""
        return f"{self.environment} {self.ref}" if self.ref else self.environment

    def asleep(self, environment: str) -> list[str]:
        """The keys of an environment's items that sleep, its own first."""
        return sorted(key for key in self.snoozed if split_key(key)[0] == environment)


@dataclass(frozen=True, slots=True)
class Refused:
    """What became of a queue item that a worker did not understand.

    Attributes:
        dead: whether it is a dead letter now.
        seconds: otherwise, after how many seconds it is handed out again.
        dispatch: the queue's next task.
    """

    dead: bool
    seconds: float
    dispatch: Dispatch | None


class Lanes(Protocol):
    """The repositories' sequences of work, and the ledger that is written in the same breath."""

    def accept(self, repository: Repository, work: Work, delivery: str = "", event: str = "") -> Accepted:
        """Queue work. For a delivery: recorded and queued in one step, or recognised as a duplicate.

        Work whose cause is an event or a resync joins what waits for that environment; any other replaces it,
        and the deliveries replaced end as `superseded`.
        """

    def ignore(
        self,
        record: DeliveryRecord,
        *,
        served: bool = True,
        ref: str = "",
        commit: str = "",
        first: EnvironmentRecord | None = None,
    ) -> None:
        """Record a delivery that calls for nothing; as `ignored` unless the record has another outcome.

        Args:
            record: what is kept of the delivery. If it names an environment, people find it in the activity too.
            served: whether the settings let deployer serve its repository. One of another repository is counted apart.
            ref: the ref that was pushed.
            commit: the commit that it points to.
            first: becomes the environment's record where none but skipped pushes are known and no work waits for it.

        Raises:
            UnavailableError: Redis is away.
        """

    def unserved(self) -> dict[str, float]:
        """The repositories that the settings leave out and that a delivery told of lately, the latest first.

        Returns:
            Of each, in lower case, when the last delivery came (epoch seconds); only the newest few.
        """

    def begin(self, repository: Repository, token: int) -> Work | None:
        """Take the work handed out under this token; None if the token is old.

        Raises:
            QueueItemError: it was taken, but this version does not understand it: `refuse` it.
        """

    def refuse(self, repository: Repository, token: int, why: str) -> Refused:
        """Return an item that this worker does not understand, since a newer worker may.

        The item is handed out again after a pause that grows, and others of the queue go on meanwhile. The eighth
        refusal, after a quarter of an hour, makes a dead letter of it.

        Args:
            repository: the queue's.
            token: under which the item, or its message, was handed out.
            why: what was not understood, in a line.

        Raises:
            LaneLostError: the token is old; nothing was changed.
        """

    def extend(self, repository: Repository, token: int) -> bool:
        """Renew the lease; False if the lane is no longer held under this token."""

    def expire(self, repository: Repository, token: int, key: str, why: str) -> bool:
        """End the lease now, since the process that held it has ended: the next sweep hands the work out again.

        Where a sweep has done that already, only how the attempt ended is corrected.

        Args:
            repository: the lane's.
            token: under which it was held.
            key: the key of the queue item.
            why: how the attempt ended, in a line.

        Returns:
            Whether anything was changed.
        """

    def finish(
        self,
        repository: Repository,
        token: int,
        verdict: Verdict,
        counts: Mapping[str, int] = ...,
        request: str = ...,
    ) -> Dispatch | None:
        """Record the verdict and hand out what is next.

        Args:
            repository: the lane's.
            token: under which it is held.
            verdict: how the task ended.
            counts: added to the counters in the same step, so that none is lost or counted twice.
            request: an id of this call. A caller that got no answer repeats the call with the same id, and within five
                minutes gets the answer to the first one.

        Raises:
            LaneLostError: the token is old; nothing was changed.
        """

    def sweep(self, limit: int = 100) -> list[Dispatch]:
        """Hand out again what was lost, and what is due, of the lanes whose time has come."""

    def lanes(self, repository: Repository | None = None) -> list[Lane]:
        """The lane of one repository, or every one, that holds or awaits something."""

    def environments(self, repository: Repository | None = None) -> list[EnvironmentRecord]:
        """The environments known of one repository or of all."""

    def environment(self, environment: Environment) -> EnvironmentRecord | None:
        """What is known of an environment."""

    def keep_environment(self, environment: Environment, until: float) -> None:
        """Note that a person wants an environment kept, from now on and at least until then (epoch seconds).

        The note goes when the environment is deleted.
        """

    def index_names(self) -> None:
        """Let `find` find every recorded environment by its present name: an earlier release gave it another one.

        Names of environments that have neither a record nor work are dropped.
        """

    def find(self, stack_name: str) -> Environment | None:
        """The environment whose stack and pipeline may have this name; the record says which name is in use."""

    def delivery(self, delivery: str) -> DeliveryRecord | None:
        """What became of a delivery."""

    def activity(self, repository: Repository | None = None, limit: int = 50) -> list[Activity]:
        """The latest outcomes, newest first."""

    def dead_letters(self, repository: Repository | None = None) -> list[DeadLetter]:
        """All dead letters, oldest first."""

    def dead_letter(self, letter: str) -> DeadLetter | None:
        """One dead letter by its id."""

    def replay(self, letter: str) -> Accepted:
        """Queue a dead letter's work once more and take it off the list.

        Raises:
            NotFoundError: there is no such dead letter.
        """

    def discard(self, letter: str) -> None:
        """Take a dead letter off the list.

        Raises:
            NotFoundError: there is no such dead letter.
        """

    def repositories(self) -> list[Repository]:
        """Every repository that ever had work or an environment."""

    def forget_if_empty(self, repository: Repository) -> None:
        """Drop all that is known of a repository that has no environment, no work and no dead letter."""

    def forget(self, repository: Repository, records: Sequence[EnvironmentRecord]) -> None:
        """Drop what is known of environments of which nothing is left.

        Not of those that have changed since their record was read, or have work.
        """

    def repository(self, repository: Repository) -> RepositoryRecord | None:
        """What is known of a repository as a whole.

        Raises:
            StoredValueError: its record cannot be read; the error names the key and the remedy.
        """

    def repository_records(self, repositories: Sequence[Repository] | None = None) -> list[RepositoryRecord]:
        """What is known of repositories as a whole, without records that cannot be read: the log names those.

        Args:
            repositories: which; by default all, by name.
        """

    def change_repository(
        self, repository: Repository, edit: Callable[[RepositoryRecord], RepositoryRecord]
    ) -> RepositoryRecord:
        """Change what is known of a repository as a whole, and keep what other processes have changed meanwhile.

        Resyncs, looks for missed deliveries and people change it at the same time.

        Args:
            repository: which.
            edit: gets what is known now and returns what is to be known. It is called again where another process
                comes in between, and what it raises is raised here.

        Returns:
            What is known afterwards.

        Raises:
            StoredValueError: its record cannot be read; the error names the key and the remedy.
        """

    def count(self, repository: Repository, counts: Mapping[str, int]) -> None:
        """Add to the counters."""

    def emptied(self) -> bool:
        """Whether all that was kept was lost since the last `keep`; so it is with a new Redis, too."""

    def keep(self) -> None:
        """Note that what was lost is found again."""

    def seen(self, repository: Repository) -> Seen:
        """What the resyncs of a repository have seen."""

    def orphaned(self, repositories: Sequence[Repository]) -> dict[str, dict[str, float]]:
        """Since when environments have been seen without a ref (epoch seconds), by repository's key and their own.

        Only repositories that have any are among it.
        """

    def never_deployed(self, repositories: Sequence[Repository]) -> dict[str, str]:
        """The tag that was never deployed, of repositories that have one, by repository's key: see `Seen`.

        Raises:
            UnavailableError: Redis is away.
        """

    def see(self, repository: Repository, seen: Seen, *, instead_of: Seen | None = None) -> None:
        """Keep what a resync has seen.

        Args:
            repository: whose resync.
            seen: what to keep.
            instead_of: what was kept when the resync began. If it is something else by now, that stays, and the next
                resync looks again. None keeps `seen` in any case.
        """

    def turn(self, line: str, every: float, at_once: int) -> float:
        """Take the next of the turns that all who stand in a line share: in how many seconds it comes.

        Args:
            line: its name.
            every: seconds from one turn to the next.
            at_once: how many come at once after a quiet time.
        """

    def resync_turns(self) -> dict[str, int]:
        """Which period's resync of each repository was asked for last, by its key."""

    def note_resync_turns(self, turns: Mapping[str, int], repositories: Collection[str]) -> None:
        """Keep which period's resync was asked for, by the repository's key, and drop those of other repositories.

        Args:
            turns: the periods.
            repositories: the keys of all repositories that are resynced.
        """

    def claimed(self, what: str, seconds: float) -> AbstractContextManager[object]:
        """Hold a claim that one process at a time has; true within where it is this one, which gives it back.

        Args:
            what: its name.
            seconds: after which it is free in any case, should its holder have died.

        Raises:
            UnavailableError: Redis is away.
        """

    def counters(self) -> dict[str, int]:
        """Totals since Redis began: outcomes, deliveries and calls by kind, as `name:label`."""

    def beats(self) -> dict[str, float]:
        """When a `worker`, a `scheduler`, an `event` of AWS, an `unfenced` worker or a `failing-job` was last heard of.

        In epoch seconds by Redis's clock, without those that were not heard of lately.
        """

    def now(self) -> float:
        """The time by Redis's clock, in epoch seconds.

        A time that is stored is read on other machines, whose clocks may differ. So every stored time, and whatever it
        is compared with, is read from here.

        Raises:
            UnavailableError: Redis is away.
        """

    def ping(self) -> None:
        """Return if Redis answers and takes writes.

        Raises:
            UnavailableError: it does not.
        """


class Queue(Protocol):
    """Carries a dispatch to some worker."""

    def send(self, dispatch: Dispatch) -> None:
        """Send it. A failure is logged and left to the sweeper."""

    def send_again(self, dispatch: Dispatch) -> None:
        """Send what the sweeper hands out, which may wait already; not where very many messages wait for workers.

        Raises:
            UnavailableError: Redis is away.
        """
