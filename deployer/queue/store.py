"""The queues as Protocols, with the values that their methods return.

An adapter raises `UnavailableError` if Redis is unavailable.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from deployer.model.environments import Repository
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.items import Work, split_key
from deployer.queue.record_store import Page, RecordStore
from deployer.queue.step_results import StepResult

# the name in `QueueStore.last_heartbeats` of a scheduler one of whose jobs failed when it was last tried
FAILING_JOB = "failing-job"


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A message to the workers with a queue's next task. Losing it or sending it twice does no harm.

    Attributes:
        environment: the key of the queue item: the environment's key, with the tag of a candidate for production.
        low: whether it has low priority, because its item is a resync's and nothing else waits in its queue.
    """

    repository: str
    environment: str
    task: str
    token: int
    low: bool = False


@dataclass(frozen=True, slots=True)
class Accepted:
    """The result of accepting work: `queued` or `duplicate`."""

    outcome: str
    reason: str
    goal: str = ""
    dispatch: Dispatch | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterTotals:
    """All dead letters together.

    Attributes:
        oldest_at: when the oldest one was made (epoch seconds); 0 if there is none.
    """

    count: int
    oldest_at: float


@dataclass(frozen=True, slots=True)
class QueueState:
    """The state of a repository's queue, for people.

    Items are identified by their keys, which `deployer.queue.items.split_key` reads.

    Attributes:
        environment: the environment of the item that is sent or running; empty if there is none.
        ref: the tag of that item, if it is a candidate for production.
        snoozed: in how many seconds each snoozed item is due.
        failing: the snoozed items whose last attempt failed, and which wait for the next one.
        resting: why snoozed items may not run now.
        refused: why no worker has understood an item.
        broken: why this queue can be neither used nor shown; empty if it can.
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
        """The key of the item that is sent or running; empty if there is none."""
        return f"{self.environment} {self.ref}" if self.ref else self.environment

    def snoozed_keys(self, environment: str) -> list[str]:
        """The keys of an environment's snoozed items, its own key first."""
        return sorted(key for key in self.snoozed if split_key(key)[0] == environment)


@dataclass(frozen=True, slots=True)
class Refused:
    """The result of refusing a queue item that a worker did not understand.

    Attributes:
        dead: whether it became a dead letter.
        seconds: otherwise, after how many seconds it is handed out again.
        dispatch: the queue's next task.
    """

    dead: bool
    seconds: float
    dispatch: Dispatch | None


class NextItem(StrEnum):
    """Who gets the next item of a queue whose item has ended."""

    SEND = ""  # any worker, by a message
    TAKE = "take"  # this worker; if its priority is low, only if no message waits for a worker
    TAKE_IF_ALONE = "alone"  # this worker, if no message waits for a worker


@dataclass(frozen=True, slots=True)
class Taken:
    """The next item of a queue, which the worker that ended the item before has begun in the same step.

    Attributes:
        token: its token.
        text: the item as stored.
    """

    token: int
    text: str

    def read_item(self) -> Work:
        """Read the item.

        Raises:
            QueueItemError: this version does not understand it; the caller must `refuse` it.
        """
        return Work.read_item(self.text)


class QueueStore(RecordStore, Protocol):
    """The repositories' queues, and the records that an operation of a queue writes in the same step."""

    def accept(self, repository: Repository, work: Work, delivery: str = "", event: str = "") -> Accepted:
        """Queue work. A delivery is recorded and queued in one step, or recognised as a duplicate.

        Work whose cause is an event or a resync joins the waiting item of that environment. Other work replaces the
        item, and the deliveries of the replaced item end as `superseded`.
        """

    def begin(self, repository: Repository, token: int) -> Work | None:
        """Begin the item that was handed out under this token; None if the token is old.

        Raises:
            QueueItemError: the item was begun, but this version does not understand it; the caller must `refuse` it.
        """

    def refuse(self, repository: Repository, token: int, why: str) -> Refused:
        """Return an item that this worker does not understand, because a newer worker may.

        The item is handed out again after a growing pause, and other items run meanwhile. The eighth refusal, after a
        quarter of an hour, makes a dead letter of it.

        Args:
            repository: whose queue.
            token: the token of the message.
            why: what this worker does not understand, in a line.

        Raises:
            LaneLostError: the token is old; nothing has changed.
        """

    def extend(self, repository: Repository, token: int) -> bool:
        """Renew the lease; False if the token is old."""

    def end_lease(self, repository: Repository, token: int, key: str, why: str) -> bool:
        """End the lease now, because its process has ended. The next sweep hands the item out again.

        If a sweep has done that already, this only corrects the error of the attempt.

        Args:
            repository: whose queue.
            token: the token of the message whose process has ended.
            key: the key of the queue item that the message names.
            why: the error of the attempt, in a line.

        Returns:
            Whether anything has changed.
        """

    def finish(
        self,
        repository: Repository,
        token: int,
        verdict: StepResult,
        counts: Mapping[str, int] = ...,
        request: str = ...,
        next_item: NextItem = ...,
    ) -> Dispatch | Taken | None:
        """Record the result of a step, and hand out the next item, or begin it for this worker.

        Args:
            repository: whose queue.
            token: the token of the lease.
            verdict: the result.
            counts: added to the counters in the same step, so that nothing is lost or counted twice.
            request: an id of this call. A caller that got no answer repeats the call with the same id, and within five
                minutes gets the answer to the first call.
            next_item: who gets the next item.

        Raises:
            LaneLostError: the token is old; nothing has changed.
        """

    def sweep(self, limit: int = 100) -> list[Dispatch]:
        """Hand out lost and due items of the queues whose sweep is due."""

    def lanes(self, repository: Repository | None = None) -> list[QueueState]:
        """The queues of one repository or of all that have items."""

    def lane_page(self, *, after: str = "", limit: int) -> Page[QueueState]:
        """The queues that have items, sorted by repository; see `environment_page`."""

    def dead_letters(self, repository: Repository | None = None) -> list[DeadLetter]:
        """All dead letters, oldest first."""

    def newest_dead_letters(self, limit: int) -> list[DeadLetter]:
        """Some dead letters, newest first."""

    def dead_letter_page(
        self, repository: Repository | None = None, *, after: str = "", limit: int
    ) -> Page[DeadLetter]:
        """The dead letters of one repository or of all, oldest first; see `environment_page`."""

    def dead_letter_totals(self, repository: Repository | None = None) -> DeadLetterTotals:
        """How many dead letters of one repository or of all there are, and how old the oldest is."""

    def find_dead_letter(self, letter: str) -> DeadLetter | None:
        """One dead letter by its id."""

    def replay(self, letter: str) -> Accepted:
        """Queue the work of a dead letter again, and delete the letter.

        Raises:
            NotFoundError: there is no such dead letter.
        """

    def discard(self, letter: str) -> None:
        """Delete a dead letter.

        Raises:
            NotFoundError: there is no such dead letter.
        """

    def take_turn(self, line: str, every: float, at_once: int) -> float:
        """Take the next of the turns that all queues share.

        Args:
            line: the name of these turns.
            every: seconds between two turns.
            at_once: how many unused turns can be taken at once.

        Returns:
            In how many seconds the turn comes.
        """

    def hold_lock(self, what: str, seconds: float) -> AbstractContextManager[object]:
        """Hold a lock. The context's value is true if this process holds it, and the lock is released at the end.

        Args:
            what: the name of the lock.
            seconds: after how many seconds the lock expires, if its holder has died.

        Raises:
            UnavailableError: Redis is unavailable.
        """

    def last_heartbeats(self) -> dict[str, float]:
        """Last heartbeats of a `worker`, a `scheduler`, an `event` of AWS, an `unfenced` worker and a `failing-job`.

        In epoch seconds by Redis's clock, without expired ones.
        """

    def now(self) -> float:
        """The time by Redis's clock, in epoch seconds.

        Other machines read a stored time, and their clocks may differ. So every stored time, and every time that is
        compared with one, comes from here.

        Raises:
            UnavailableError: Redis is unavailable.
        """

    def ping(self) -> None:
        """Check that Redis answers and accepts writes.

        Raises:
            UnavailableError: it does not.
        """


class Dispatcher(Protocol):
    """Sends dispatches to the workers."""

    def send(self, dispatch: Dispatch) -> None:
        """Send a dispatch. An error is only logged, because the scheduler sends the dispatch again."""

    def resend_dispatch(self, dispatch: Dispatch) -> None:
        """Send a dispatch of a sweep, whose message may be waiting already; not if too many messages wait for workers.

        Raises:
            UnavailableError: Redis is unavailable.
        """


class Allowance(Protocol):
    """The share of each repository in the hourly quota of calls to GitHub."""

    def seconds_until_next_call(self, repository: Repository, *, reserved: bool = False) -> float:
        """The seconds until the repository may make its next call.

        Args:
            repository: the repository.
            reserved: whether the call may use the part that is reserved for production and for requests of people.
        """

    def count_calls_made(self, repository: Repository, calls: int, quota: int) -> None:
        """Count calls that were made for a repository.

        Args:
            repository: the repository.
            calls: the number of calls.
            quota: GitHub's limit of calls an hour; 0 if GitHub names none, and then nothing is counted.
        """
