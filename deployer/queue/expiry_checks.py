"""Queues a check of each environment whose age asks for something."""

import logging
from collections.abc import Callable, Sequence

from deployer.model.environments import Repository
from deployer.model.errors import UnavailableError
from deployer.model.expiry import due_age_action, next_age_check
from deployer.queue.items import Cause, Work
from deployer.queue.record_store import ExpiryCheck, RecordStore

_log = logging.getLogger(__name__)
_CHECKS_AT_ONCE = 200  # records read at once
_REPEATED_SECONDS = 300.0  # until a check is repeated whose item was queued
_IDLE_SECONDS = 1800.0  # until the next check of an environment whose record or repository allows none
_EXPIRED_AT_ONCE = 50  # a shorter time to live must not delete all environments within a minute


class ExpiryChecks:
    """Reads the environments whose check is due.

    Args:
        lanes: the records.
        enqueue: queues an item of a repository.
        allows: whether the installation serves a repository.
        ttl: the installation's time to live.
    """

    def __init__(
        self,
        lanes: RecordStore,
        enqueue: Callable[[Repository, Work], object],
        allows: Callable[[Repository], bool],
        ttl: str,
    ) -> None:
        self._lanes = lanes
        self._enqueue = enqueue
        self._allows = allows
        self._ttl = ttl

    def queue_due(self, now: float) -> None:
        """Queue a check of environments that may have expired, a limited number at once.

        Args:
            now: epoch seconds.

        Raises:
            UnavailableError: Redis is unavailable.
        """
        left = _EXPIRED_AT_ONCE
        while left and (claimed := self._lanes.claim_expiry_checks(now, _CHECKS_AT_ONCE, _REPEATED_SECONDS)):
            by_repository: dict[Repository, list[ExpiryCheck]] = {}
            for each in claimed:
                by_repository.setdefault(each.repository, []).append(each)
            for repository, checks in by_repository.items():
                try:
                    left -= self._check_repository(repository, checks, now, left)
                except UnavailableError:
                    raise
                except Exception:  # noqa: BLE001  the records of one repository must not stop the others
                    _log.exception(
                        "checking the expiries of %s; the other repositories are checked", repository
                    )

    def _check_repository(
        self, repository: Repository, checks: Sequence[ExpiryCheck], now: float, most: int
    ) -> int:
        """Check environments of a repository, and say when each is checked next. Returns how many items were queued.

        A check whose item was queued is repeated after some minutes, if the item has not changed the record by then.
        """
        known = self._lanes.repository(repository) if self._allows(repository) else None
        if (known and known.state) or not self._allows(repository):  # it is archived, gone or not served
            self._lanes.postpone_expiry_checks(dict.fromkeys(checks, now + _IDLE_SECONDS))
            return 0
        found = self._lanes.environments_by_key({repository: [each.environment for each in checks]})
        records = {each.environment: each for each in found}
        queued, later = 0, dict[ExpiryCheck, float]()
        for each in checks:
            record = records.get(each.environment)
            if record is None:
                later[each] = now + _IDLE_SECONDS
            elif not due_age_action(record, self._ttl, now):
                later[each] = next_age_check(record, self._ttl, now)
            elif queued < most:
                self._enqueue(repository, Work(environment=record.environment, cause=Cause.AGE))
                queued += 1
            else:
                later[each] = each.due
        self._lanes.postpone_expiry_checks(later)
        return queued
