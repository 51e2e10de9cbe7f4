"""The queues and the ledger as Protocols, and the values that they return.

An adapter raises `UnavailableError` where Redis is away.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from deployer.model.environments import Repository
from deployer.model.records import (
    DeadLetter,
    Work,
    split_key,
)
from deployer.queue.record_store import RecordStore
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


class Lanes(RecordStore, Protocol):
    """The repositories' sequences of work, and the ledger that is written in the same breath."""

    def accept(self, repository: Repository, work: Work, delivery: str = "", event: str = "") -> Accepted:
        """Queue work. For a delivery: recorded and queued in one step, or recognised as a duplicate.

        Work whose cause is an event or a resync joins what waits for that environment; any other replaces it,
        and the deliveries replaced end as `superseded`.
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

    def turn(self, line: str, every: float, at_once: int) -> float:
        """Take the next of the turns that all who stand in a line share: in how many seconds it comes.

        Args:
            line: its name.
            every: seconds from one turn to the next.
            at_once: how many come at once after a quiet time.
        """

    def claimed(self, what: str, seconds: float) -> AbstractContextManager[object]:
        """Hold a claim that one process at a time has; true within where it is this one, which gives it back.

        Args:
            what: its name.
            seconds: after which it is free in any case, should its holder have died.

        Raises:
            UnavailableError: Redis is away.
        """

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


class Allowance(Protocol):
    """How many calls to GitHub each repository may make: a share of the hour's quota that all of them have together."""

    def wait(self, repository: Repository, *, reserved: bool = False) -> float:
        """In how many seconds the repository may make its next call; 0 for now.

        Args:
            repository: which.
            reserved: whether it may use what is kept for production and for what people ask for.
        """

    def spend(self, repository: Repository, calls: int, quota: int) -> None:
        """Count calls that were made for a repository.

        Args:
            repository: which.
            calls: how many.
            quota: how many all repositories may make in an hour; 0 where GitHub names no limit, and nothing is counted.
        """
