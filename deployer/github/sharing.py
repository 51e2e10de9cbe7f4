"""What all processes of deployer share about GitHub, as the Protocol `Sharing`."""

import time
from typing import Protocol

from deployer.github.bounded_cache import BoundedCache
from deployer.model.environments import Repository

_MAX_INSTALLATIONS = 5000  # one per repository
_MAX_TOKENS = 500  # one per installation


class Sharing(Protocol):
    """Rate limits, installations and sealed tokens. `deployer/redis_store/github/` implements it.

    GitHub is called even if nothing can be shared. Then each process obeys only the limits that it meets itself.
    """

    def wait_for_turn(self, account: str, resource: str, *, writes: bool) -> None:
        """Wait until a request may be sent, some seconds at most.

        Args:
            account: whose rate limits the request counts towards.
            resource: `core` or `graphql`.
            writes: whether the request changes something on GitHub.

        Raises:
            ThrottledError: the wait would be longer; `retry_after` says how long.
        """

    def record_limits(
        self,
        account: str,
        resource: str,
        *,
        quota: tuple[int, int, float] | None,
        refused_seconds: float | None,
        refuses_all: bool,
    ) -> None:
        """Store what an answer said about the rate limits.

        Args:
            account: whose rate limits they are.
            resource: `core` or `graphql`.
            quota: limit, remaining requests and the end of the hour in epoch seconds; None if the answer lacks one.
            refused_seconds: for how long GitHub refuses further requests; None if it does not.
            refuses_all: whether that concerns every resource.
        """

    def installation(self, repository: Repository) -> int:
        """The id of the App's installation that serves a repository; 0 if it is unknown."""

    def save_installation(self, repository: Repository, installation: int) -> None:
        """Store which installation serves a repository; 0 deletes what is stored."""

    def sealed_token(self, installation: int) -> tuple[str, float] | None:
        """An installation's sealed token with the seconds for which it may be used; None if there is none."""

    def save_sealed_token(self, installation: int, sealed: str, seconds: float) -> None:
        """Store an installation's sealed token for some seconds; an empty text deletes it."""


class OwnProcess:
    """Implements `Sharing` for one process alone: each request passes, and the rest is kept in memory."""

    def __init__(self) -> None:
        self._installations = BoundedCache[int](_MAX_INSTALLATIONS)
        self._tokens = BoundedCache[tuple[str, float]](_MAX_TOKENS)

    def wait_for_turn(self, account: str, resource: str, *, writes: bool) -> None:
        """Return at once."""

    def record_limits(
        self,
        account: str,
        resource: str,
        *,
        quota: tuple[int, int, float] | None,
        refused_seconds: float | None,
        refuses_all: bool,
    ) -> None:
        """Do nothing."""

    def installation(self, repository: Repository) -> int:
        """See `Sharing.installation`."""
        return self._installations.get(repository.key) or 0

    def save_installation(self, repository: Repository, installation: int) -> None:
        """See `Sharing.save_installation`."""
        if installation:
            self._installations.put(repository.key, installation)
        else:
            self._installations.remove(repository.key)

    def sealed_token(self, installation: int) -> tuple[str, float] | None:
        """See `Sharing.sealed_token`."""
        sealed, ends = self._tokens.get(installation) or ("", 0.0)
        left = ends - time.monotonic()
        return (sealed, left) if left > 0 else None

    def save_sealed_token(self, installation: int, sealed: str, seconds: float) -> None:
        """See `Sharing.save_sealed_token`."""
        if sealed and seconds > 0:
            self._tokens.put(installation, (sealed, time.monotonic() + seconds))
        else:
            self._tokens.remove(installation)
