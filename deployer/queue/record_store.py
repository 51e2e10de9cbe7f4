"""The Protocol of the records of repositories."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from deployer.model.activity import Activity
from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.repository_record import RepositoryRecord, Seen

Row_co = TypeVar("Row_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Page(Generic[Row_co]):
    """One page of a list.

    Attributes:
        rows: in the order of the list; those that cannot be read are left out.
        last: where the next page begins (`after` of the call that returned this page); empty if this is the last one.
    """

    rows: Sequence[Row_co]
    last: str


@dataclass(frozen=True, slots=True)
class ExpiryCheck:
    """A due check of an environment's age.

    Attributes:
        environment: the environment's key.
        due: since when it is due (epoch seconds).
        claimed_until: when it is due again, unless it is postponed (epoch seconds).
    """

    repository: Repository
    environment: str
    due: float
    claimed_until: float


class RecordStore(Protocol):
    """The records of repositories, their environments and their deliveries."""

    def environments(self, repository: Repository | None = None) -> list[EnvironmentRecord]:
        """The records of the environments of one repository or of all."""

    def environment_page(
        self, names: Sequence[str], repository: Repository | None = None, *, after: str = "", limit: int
    ) -> Page[EnvironmentRecord]:
        """The environments of one or several lists, sorted by repository and key.

        Args:
            names: the lists: see `deployer.model.listings`.
            repository: only of this repository.
            after: `last` of the page before.
            limit: how many at most.
        """

    def count_members(self, names: Sequence[str], repository: Repository | None = None) -> int:
        """How many environments of one repository or of all are in one of these lists."""

    def environments_of_list(self, name: str, start: int, limit: int) -> list[EnvironmentRecord]:
        """Some environments of a list, sorted by repository and key.

        Args:
            name: the list.
            start: how many to leave out at the beginning.
            limit: how many at most.
        """

    def environments_by_key(self, keys: Mapping[Repository, Sequence[str]]) -> list[EnvironmentRecord]:
        """The records of some environments. The log names those that cannot be read.

        Args:
            keys: the environments' keys by repository; those without a record are left out.
        """

    def list_sizes(self) -> dict[str, int]:
        """How many members each list has; see `deployer.model.listings`. Empty lists may be missing."""

    def index_records(self) -> None:
        """List all records, because an earlier version lists none, and may run side by side with this one.

        It changes only what differs, and can be repeated at any time.
        """

    def index_repository_records(self, repository: Repository) -> None:
        """List the records of one repository; see `index_records`."""

    def claim_expiry_checks(self, now: float, limit: int, seconds: float) -> list[ExpiryCheck]:
        """The checks of environments' ages that are due. Each is due again after `seconds`, unless it is postponed.

        Args:
            now: epoch seconds.
            limit: how many at most.
            seconds: for how long no other process gets these checks.
        """

    def postpone_expiry_checks(self, times: Mapping[ExpiryCheck, float]) -> None:
        """Set when environments are checked next (epoch seconds; infinity for not before the record is written).

        A check that became due meanwhile, because the record was written, stays due.
        """

    def check_all_expiries(self, ttl: str) -> None:
        """Let all checks be due now if the installation has another time to live than at the last call.

        Args:
            ttl: the installation's time to live.
        """

    def environment(self, environment: Environment) -> EnvironmentRecord | None:
        """The record of an environment."""

    def keep_environment(self, environment: Environment, until: float) -> None:
        """Store a person's request to keep an environment, from now and at least until a time (epoch seconds).

        The request is deleted with the environment.
        """

    def index_stack_names(self) -> None:
        """Let `find` find every environment by its present stack name, because an earlier release used other names.

        Names of environments that have neither a record nor a queue item nor a dead letter are deleted.
        """

    def find(self, stack_name: str) -> Environment | None:
        """The environment whose stack and pipeline may have this name; its record says which name is in use."""

    def delivery(self, delivery: str) -> DeliveryRecord | None:
        """The record of a delivery."""

    def activity(self, repository: Repository | None = None, limit: int = 50) -> list[Activity]:
        """The latest outcomes, newest first: up to 500 of one repository, or of all together."""

    def goal_repository(self, goal: str) -> Repository | None:
        """The repository of a request, if it was accepted within the last day, or of a delivery that has a record."""

    def repositories(self) -> list[Repository]:
        """Every repository that has data here."""

    def find_repository(self, key: str) -> Repository | None:
        """The repository with this key, as GitHub or a person spelled it last; None if it has no data here."""

    def repository_page(self, *, after: str = "", limit: int) -> Page[Repository]:
        """The repositories that have data here, sorted by key; see `environment_page`."""

    def repositories_of_list(self, name: str) -> list[Repository]:
        """The repositories of a list; see `deployer.model.listings`."""

    def delete_repository_if_empty(self, repository: Repository) -> None:
        """Delete the data of a repository that has no environment, no queue item and no dead letter."""

    def delete_environment_records(
        self, repository: Repository, records: Sequence[EnvironmentRecord]
    ) -> None:
        """Delete the records of environments that do not exist any more.

        A record that has changed since it was read stays, and so does the record of an environment with a queue item.
        """

    def repository(self, repository: Repository) -> RepositoryRecord | None:
        """The record of a repository.

        Raises:
            StoredValueError: the record cannot be read; the error names the key and the remedy.
        """

    def repository_records(self, repositories: Sequence[Repository] | None = None) -> list[RepositoryRecord]:
        """The records of repositories. The log names those that cannot be read.

        Args:
            repositories: which; by default all, sorted by name.
        """

    def change_repository(
        self, repository: Repository, edit: Callable[[RepositoryRecord], RepositoryRecord]
    ) -> RepositoryRecord:
        """Change the record of a repository without losing changes that other processes make at the same time.

        Resyncs, checks for missed deliveries and people change it.

        Args:
            repository: which.
            edit: gets the stored record and returns the new one. It is called again if another process has changed the
                record meanwhile. Its exceptions are not caught.

        Returns:
            The new record.

        Raises:
            StoredValueError: the record cannot be read; the error names the key and the remedy.
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
        """Record a delivery that needs no work; as `ignored` unless the record has another outcome.

        Args:
            record: the record. If it names an environment, the activity lists it.
            served: whether the settings let deployer serve the repository; other deliveries are counted separately.
            ref: the ref that was pushed.
            commit: the commit of the ref.
            first: becomes the environment's record if that has only had skipped pushes and no item of it waits.

        Raises:
            UnavailableError: Redis is unavailable.
        """

    def unserved_repositories(self) -> dict[str, float]:
        """The repositories that send deliveries although the settings exclude them, the latest first.

        Returns:
            The time of the last delivery (epoch seconds) by the repository's name in lower case; only the newest few.
        """

    def count(self, counts: Mapping[str, int]) -> None:
        """Add to the counters."""

    def counters(self) -> dict[str, int]:
        """The totals of outcomes, deliveries and calls since Redis was empty, by `name:label`."""

    def has_lost_data(self) -> bool:
        """Whether Redis has lost its data since the last `keep`, or is new."""

    def mark_data_complete(self) -> None:
        """Mark the data as complete again, after every repository was resynced."""

    def read_seen(self, repository: Repository) -> Seen:
        """What the last resync of a repository has stored for the next one."""

    def orphaned(self, repositories: Sequence[Repository]) -> dict[str, dict[str, float]]:
        """Since when environments have had no ref (epoch seconds), by the keys of their repository and their own.

        Repositories without such environments are left out.
        """

    def never_deployed(self, repositories: Sequence[Repository]) -> dict[str, str]:
        """The tag that was never deployed (see `Seen`), by the repository's key, of repositories that have one.

        Raises:
            UnavailableError: Redis is unavailable.
        """

    def save_seen(self, repository: Repository, seen: Seen, *, instead_of: Seen | None = None) -> None:
        """Store what a resync has seen.

        Args:
            repository: whose resync.
            seen: what to store.
            instead_of: what was stored when the resync began. If another value is stored by now, it stays, and the next
                resync checks again. None to store `seen` in any case.
        """

    def last_resync_periods(self) -> dict[str, int]:
        """The number of the period of each repository's last scheduled resync, by the repository's key."""

    def save_last_resync_periods(self, turns: Mapping[str, int], repositories: Collection[str]) -> None:
        """Store the period of each repository's last scheduled resync, and delete those of other repositories.

        Args:
            turns: the numbers of the periods by the repository's key.
            repositories: the keys of all repositories that are resynced.
        """
