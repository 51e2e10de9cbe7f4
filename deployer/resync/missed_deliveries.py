"""Deliveries that GitHub could not hand over: found in its delivery log, then redelivered through its API.

GitHub itself never repeats a delivery and keeps its log for three days. If deployer may not read the log, or a delivery
cannot be redelivered, a resync finds what the delivery reported (https://docs.github.com/webhooks/using-webhooks).
"""

import json
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from deployer.environment.code_host import CodeHost, HookDelivery
from deployer.model.delivery_record import DeliveryRecord
from deployer.model.environments import Environment, Repository
from deployer.model.errors import (
    DeployerError,
    NotFoundError,
    RightsError,
    StoredValueError,
    TransientError,
    UnavailableError,
)
from deployer.model.events import Push
from deployer.model.outcomes import Outcome
from deployer.model.refs import skip_reason
from deployer.model.repository_record import RepositoryRecord
from deployer.queue.store import QueueStore

_log = logging.getLogger(__name__)
PATH = "/webhooks/github"
EVENTS = ("push", "repository", "public")  # the events that a repository's webhook subscribes to
_APP_EVENTS = ("installation", "installation_repositories", "installation_target")
APP = Repository("-", "-")  # the key of the record that describes the GitHub App's own webhook
_KEPT_SECONDS = 3 * 86400.0  # GitHub redelivers nothing older
_CHECK_SECONDS = 6 * 3600.0
_PAUSE_SECONDS = 600.0  # after a check that failed; resyncs may follow each other quickly
_OVERLAP_SECONDS = 600.0
_CLAIM_SECONDS = 600.0  # longer than any task may run
_IN_PROGRESS_SECONDS = 60.0  # GitHub waits ten seconds for an answer; a redelivery is queued first
_MOST_REDELIVERIES = 100  # of one check; for more deliveries, a resync is less work
_MOST_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check did about missed deliveries.

    Attributes:
        redelivered: how many GitHub delivers again.
        superseded: how many are pushes before a newer push to the same environment.
        left: how many are left to the resync.
        recent: how many failed just before the check. GitHub may still be trying, so the next check decides.
        refused: how many of all these were answered with 401 at the last attempt.
    """

    redelivered: int = 0
    superseded: int = 0
    left: int = 0
    recent: int = 0
    refused: int = 0

    def __str__(self) -> str:
        return ", ".join(f"{number} {name}" for name, number in asdict(self).items() if number)

    @property
    def all(self) -> int:
        """How many deliveries were missed, without those that GitHub may still be trying."""
        return self.redelivered + self.superseded + self.left

    @property
    def counts(self) -> dict[str, int]:
        """The numbers that are added to the metrics."""
        return {"redelivered": self.redelivered, "superseded": self.superseded, "left": self.left}


class MissedDeliveries:
    """Finds missed deliveries and has GitHub redeliver them.

    One log may serve many repositories: a GitHub App and an organization have one webhook for all of theirs. The
    result of a check is stored in the record of the webhook's owner: the App, or the repository. The time until which
    a log was read is stored with the log's owner: the App, the organization, or the repository.

    Args:
        host: GitHub.
        lanes: the records of deliveries and repositories.
        parse: makes an event of a delivery's headers and body; see `github.webhook.parse_delivery`.
        allows: whether the installation serves a repository.
        webhook_url: the address of deployer's webhook; empty if it is not known.
        clock: epoch seconds; by default Redis's, because other machines compare the stored times.
    """

    def __init__(
        self,
        host: CodeHost,
        lanes: QueueStore,
        *,
        parse: Callable[[Mapping[str, str], bytes], object],
        allows: Callable[[Repository], bool],
        webhook_url: str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._host = host
        self._lanes = lanes
        self._parse = parse
        self._allows = allows
        self._url = webhook_url
        self._clock = clock or lanes.now

    def check_if_due(self, repository: Repository) -> None:
        """Check the log every six hours, as a part of a resync. A check that fails is repeated sooner."""
        webhook_owner = self._webhook_owner(repository)
        owners = {webhook_owner}
        try:
            if not self._is_check_due(webhook_owner):
                return
            log_owner = self._find_log_owner(repository)
            owners.add(log_owner)
            # the resyncs of several repositories that share a log may begin at the same time
            with self._lanes.hold_lock(f"deliveries:{log_owner}", _CLAIM_SECONDS) as is_claimed:
                if not is_claimed or not self._is_check_due(log_owner):
                    self._copy_read_time(webhook_owner, log_owner)
                elif (found := self._redeliver_missed(repository, log_owner)).all:
                    _log.warning("missed deliveries of %s: %s", repository, found)
        except DeployerError as error:
            _log.warning("looking for missed deliveries of %s: %s", repository, error)
            for owner in owners:
                with suppress(UnavailableError, StoredValueError):
                    self._update_record(owner, failed_at=self._clock())

    def check(self, repository: Repository) -> CheckResult:
        """Read the log since the last check, and have GitHub redeliver what never arrived.

        The log of an App or of an organization is read for all its repositories.

        Raises:
            RightsError: deployer may not read the log; this is also stored.
            NotFoundError: no webhook has deployer's address; this is also stored.
            TransientError: GitHub or Redis is away.
        """
        return self._redeliver_missed(repository, self._find_log_owner(repository))

    # --- the owners of the webhook and of the log ---------------------------------------------------------------------

    def _webhook_owner(self, repository: Repository) -> Repository:
        """Whose record describes the webhook: the App's for all repositories, or the repository's own."""
        return APP if self._host.is_app else repository

    def _find_log_owner(self, repository: Repository) -> Repository:
        """Whose record holds the time until which the log was read: as `_webhook_owner`, or an organization's.

        Raises:
            RightsError: deployer may not see the webhooks; this is also stored.
            NotFoundError: no webhook has deployer's address; this is also stored.
            TransientError: GitHub or Redis is away.
        """
        webhook_owner = self._webhook_owner(repository)
        try:
            organization = self._host.webhook_organization(repository, self._url)
        except (RightsError, NotFoundError) as error:
            self._record_unreadable_log(webhook_owner, error)
            raise
        # no owner on GitHub is called "-"
        return Repository("-", organization) if organization else webhook_owner

    def _is_check_due(self, owner: Repository) -> bool:
        record = self._repository_record(owner)
        return self._clock() >= max(record.checked_at + _CHECK_SECONDS, record.failed_at + _PAUSE_SECONDS)

    def _repository_record(self, owner: Repository) -> RepositoryRecord:
        return self._lanes.repository(owner) or RepositoryRecord(owner.full_name)

    def _update_record(self, owner: Repository, **changes: Any) -> None:
        """Change some fields of a record; fields that another process changed meanwhile keep their values."""
        self._lanes.change_repository(owner, lambda record: record.but(**changes))

    def _record_unreadable_log(self, webhook_owner: Repository, error: DeployerError) -> None:
        self._update_record(
            webhook_owner,
            checked_at=self._clock(),
            unchecked=str(error),
            no_webhook=isinstance(error, NotFoundError),
        )

    def _copy_read_time(self, webhook_owner: Repository, log_owner: Repository) -> None:
        """Record that the resync of another repository of the organization has read the log for this one, too."""
        if (read_at := self._repository_record(log_owner).checked_at) > self._repository_record(
            webhook_owner
        ).checked_at:
            self._update_record(
                webhook_owner, checked_at=read_at, unchecked="", no_webhook=False, recent=0, refused=0
            )

    # --- one check ----------------------------------------------------------------------------------------------------

    def _redeliver_missed(self, repository: Repository, log_owner: Repository) -> CheckResult:
        webhook_owner, now = self._webhook_owner(repository), self._clock()
        try:
            attempts = self._read_missed(repository, log_owner, now)
        except (RightsError, NotFoundError) as error:
            self._record_unreadable_log(webhook_owner, error)
            raise
        refused = sum(tried[0].refused for tried in attempts.values())
        settled = [
            tried for tried in attempts.values() if now - tried[0].delivered_at >= _IN_PROGRESS_SECONDS
        ]
        # the first attempt stands for the delivery; a delivery that failed too often is left to the resync
        first_attempts = [tried[-1] for tried in settled if len(tried) <= _MOST_ATTEMPTS]
        newest_first = sorted(first_attempts, key=lambda each: -each.delivered_at)
        found = self._redeliver_or_supersede(repository, newest_first)
        found = replace(
            found,
            left=found.left + len(settled) - len(first_attempts),
            recent=len(attempts) - len(settled),
            refused=refused,
        )
        self._record_result(repository, found, now)
        if log_owner != webhook_owner:
            self._update_record(log_owner, checked_at=now)
        return found

    def _record_result(self, repository: Repository, found: CheckResult, now: float) -> None:
        missed: dict[str, Any] = {}
        if found.all:
            self._lanes.count({f"missed:{name}": number for name, number in found.counts.items()})
            missed["missed"] = {"at": now, **found.counts}
        self._update_record(
            self._webhook_owner(repository),
            checked_at=now,
            unchecked="",
            no_webhook=False,
            recent=found.recent,
            refused=found.refused,
            **missed,
        )

    def _read_missed(
        self, repository: Repository, log_owner: Repository, now: float
    ) -> dict[str, list[HookDelivery]]:
        """The attempts at each missed delivery since the last check, by the delivery's guid; newest attempt first."""
        is_shared = log_owner != self._webhook_owner(repository)
        others = self._served_ids_of_owner(repository) if is_shared else set[int]()
        oldest = now - _KEPT_SECONDS
        since = max(oldest, self._repository_record(log_owner).checked_at - _OVERLAP_SECONDS)
        found = self._attempts_at_missed(repository, since, others)
        if found and since > oldest:  # earlier attempts at the same deliveries are further back in the log
            complete = self._attempts_at_missed(repository, oldest, others)
            found = {guid: complete[guid] for guid in found if guid in complete}
        return found

    def _attempts_at_missed(
        self, repository: Repository, since: float, others: Collection[int]
    ) -> dict[str, list[HookDelivery]]:
        """The attempts at each delivery of which neither GitHub nor a record says that it arrived."""
        attempts: dict[str, list[HookDelivery]] = {}
        log = self._host.deliveries(repository, self._url, since, others)
        for each in sorted(log, key=lambda each: -each.delivered_at):
            if each.event in EVENTS + _APP_EVENTS:
                attempts.setdefault(each.guid, []).append(each)
        return {
            guid: tried
            for guid, tried in attempts.items()
            if not any(each.ok for each in tried) and self._lanes.delivery(guid) is None
        }

    def _served_ids_of_owner(self, repository: Repository) -> set[int]:
        """GitHub's ids of the repositories of the same owner that deployer serves, if their records have the ids."""
        return {
            each.id
            for each in self._lanes.repository_records()
            if each.id and not each.state and self._is_served(each.repository, repository.owner)
        }

    def _is_served(self, full_name: str, owner: str) -> bool:
        repository = Repository.parse(full_name)
        return repository.owner.lower() == owner.lower() and self._allows(repository)

    def _redeliver_or_supersede(self, repository: Repository, missed: list[HookDelivery]) -> CheckResult:
        """Have deliveries redelivered unless a newer push supersedes them.

        Pushes to repositories that the settings leave out are not counted.

        Args:
            repository: whose webhook, or the repository whose resync reads a shared log.
            missed: the deliveries, newest first.
        """
        redelivered = superseded = unserved = 0
        newest: dict[tuple[str, str], float] = {}
        for each in missed[:_MOST_REDELIVERIES]:
            try:
                push = self._read_push(repository, each)
                if push and not self._allows(push.repository):
                    unserved += 1
                elif push and self._is_superseded(push, newest):
                    self._record_superseded(each, push)
                    superseded += 1
                else:
                    self._host.redeliver(repository, each)
                    redelivered += 1
            except DeployerError as error:
                if isinstance(error, TransientError) and _affects_all_deliveries(error):
                    raise
                _log.warning("redelivering %s of %s: %s", each.guid, repository, error)
        return CheckResult(redelivered, superseded, len(missed) - redelivered - superseded - unserved)

    def _read_push(self, repository: Repository, delivery: HookDelivery) -> Push | None:
        if delivery.event != "push":
            return None
        body = json.dumps(self._host.payload(repository, delivery)).encode()
        event = self._parse({"X-GitHub-Event": "push", "X-GitHub-Delivery": delivery.guid}, body)
        return event if isinstance(event, Push) else None

    def _record_superseded(self, delivery: HookDelivery, push: Push) -> None:
        environment = Environment.of_ref(push.repository, push.ref, push.default_branch)
        record = DeliveryRecord(
            delivery.guid,
            push.repository.full_name,
            environment.key,
            "push",
            str(Outcome.SUPERSEDED),
            "GitHub could not deliver it, and a newer push to the same environment arrived",
        )
        self._lanes.ignore(record, ref=push.ref.name, commit=push.commit)

    def _is_superseded(self, push: Push, newest: dict[tuple[str, str], float]) -> bool:
        """Whether a later push to the same environment was recorded, or is among the missed ones.

        A tag never is, because the queue decides which of several tags production runs. Neither is a push that asks to
        be skipped, because it replaces no other push.
        """
        if push.ref.is_tag or (not push.deleted and skip_reason(push.ref, push.message)):
            return False
        environment = Environment.of_ref(push.repository, push.ref, push.default_branch)
        record = self._lanes.environment(environment)
        key = push.repository.key, environment.key
        latest = max(newest.get(key, 0), record.history.pushed_at if record else 0)
        newest[key] = max(latest, push.pushed_at)
        return 0 < push.pushed_at < latest


def _affects_all_deliveries(error: TransientError) -> bool:
    """Whether every other delivery would fail as well: Redis is away, or GitHub's rate limit is used up."""
    return isinstance(error, UnavailableError) or error.retry_after is not None
