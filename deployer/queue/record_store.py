"""The records of repositories and environments as a Protocol."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from deployer.model.environments import Environment, Repository
from deployer.model.records import (
    Activity,
    DeliveryRecord,
    EnvironmentRecord,
    RepositoryRecord,
    Seen,
)


class RecordStore(Protocol):
    """What is stored of repositories."""

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

    def count(self, repository: Repository, counts: Mapping[str, int]) -> None:
        """Add to the counters."""

    def counters(self) -> dict[str, int]:
        """Totals since Redis began: outcomes, deliveries and calls by kind, as `name:label`."""

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

    def resync_turns(self) -> dict[str, int]:
        """Which period's resync of each repository was asked for last, by its key."""

    def note_resync_turns(self, turns: Mapping[str, int], repositories: Collection[str]) -> None:
        """Keep which period's resync was asked for, by the repository's key, and drop those of other repositories.

        Args:
            turns: the periods.
            repositories: the keys of all repositories that are resynced.
        """
