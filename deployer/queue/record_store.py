"""The Protocol of the records of repositories."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from deployer.model.activity import Activity
from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.repository_record import RepositoryRecord, Seen


class RecordStore(Protocol):
    """The records of repositories, their environments and their deliveries."""

    def environments(self, repository: Repository | None = None) -> list[EnvironmentRecord]:
        """The records of the environments of one repository or of all."""

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
        """The latest outcomes, newest first."""

    def repositories(self) -> list[Repository]:
        """Every repository that has data here."""

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

    def count(self, repository: Repository, counts: Mapping[str, int]) -> None:
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
