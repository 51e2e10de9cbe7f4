"""Deliveries that GitHub could not hand over: found in its own log, and sent once more through its API.

GitHub repeats none by itself and keeps them for three days. Where deployer may not read the log, or a delivery cannot
be sent again, the resync covers what it told of (https://docs.github.com/webhooks/using-webhooks).
"""

import json
import logging
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from deployer.environment.code_host import HookDelivery, Host
from deployer.model.environments import Environment, Repository
from deployer.model.errors import (
    DeployerError,
    NotFoundError,
    RightsError,
    StoredValueError,
    TransientError,
    UnavailableError,
)
from deployer.model.events import Push, parse_github
from deployer.model.records import DeliveryRecord, Outcome, RepositoryRecord
from deployer.model.refs import skip_reason
from deployer.queue.store import Lanes

_log = logging.getLogger(__name__)
PATH = "/webhooks/github"
EVENTS = ("push", "repository", "public")  # what a repository's webhook is to send
_APP_EVENTS = ("installation", "installation_repositories", "installation_target")
APP = Repository("-", "-")  # where what is known of the App's own webhook is kept
_KEPT_SECONDS = 3 * 86400.0  # GitHub sends nothing older again
_DUE_SECONDS = 6 * 3600.0
_PAUSE_SECONDS = 600.0  # after a look that failed: resyncs may come one after another
_OVERLAP_SECONDS = 600.0
_LOOK_SECONDS = 600.0  # as long as a task may run
_UNDER_WAY_SECONDS = 60.0  # GitHub gives up after ten; a redelivery waits for its turn
_MOST = 100  # that are sent again at a time: of more, the resync makes less work
_MOST_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Missed:
    """What one look did about deliveries that were missed; `left` ones are the resync's.

    Those that failed just before it, the `recent` ones, are the next look's: GitHub may still be at them. Of all of
    them the last attempt at `refused` ones was answered with 401.
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
        """How many were missed, as far as that is known by now."""
        return self.redelivered + self.superseded + self.left


class Deliveries:
    """Finds missed deliveries and has them sent again.

    Args:
        host: GitHub.
        lanes: knows which deliveries came.
        allows: whether the installation serves a repository.
        webhook_url: the address of deployer's webhook; empty if it is not known.
        clock: epoch seconds; by default Redis's, since the times are stored and read on other machines.
    """

    def __init__(
        self,
        host: Host,
        lanes: Lanes,
        *,
        allows: Callable[[Repository], bool],
        webhook_url: str,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._host = host
        self._lanes = lanes
        self._allows = allows
        self._url = webhook_url
        self._clock = clock or lanes.now

    def check_if_due(self, repository: Repository) -> None:
        """Look at the log now and then, as part of a resync; a failure is the next look's, which comes sooner."""
        own = self._place(repository)
        places = {own}
        try:
            if not self._is_due(own):
                return
            log = self._log(repository)
            places.add(log)
            # an App or an organization has one log for all its repositories, whose resyncs may begin together
            with self._lanes.claimed(f"deliveries:{log}", _LOOK_SECONDS) as mine:
                if not mine or not self._is_due(log):
                    self._note_shared_look(own, log)
                elif (found := self._check(repository, log)).all:
                    _log.warning("missed deliveries of %s: %s", repository, found)
        except DeployerError as error:
            _log.warning("looking for missed deliveries of %s: %s", repository, error)
            for place in places:
                with suppress(UnavailableError, StoredValueError):
                    self._note(place, failed_at=self._clock())

    def _is_due(self, place: Repository) -> bool:
        known = self._known(place)
        return self._clock() >= max(known.checked_at + _DUE_SECONDS, known.failed_at + _PAUSE_SECONDS)

    def _known(self, place: Repository) -> RepositoryRecord:
        return self._lanes.repository(place) or RepositoryRecord(place.full_name)

    def _place(self, repository: Repository) -> Repository:
        """Where people find what is known of the webhook: at the repository, or at the App for all repositories."""
        return APP if self._host.is_app else repository

    def _log(self, repository: Repository) -> Repository:
        """Where it is kept until when the log was read: `_place`, or one place for all repositories of an organization.

        Raises:
            RightsError: deployer may not see the webhooks; noted, too.
            NotFoundError: no webhook leads here; noted, too.
            TransientError: GitHub or Redis is away.
        """
        place = self._place(repository)
        try:
            organization = self._host.webhook_organization(repository, self._url)
        except (RightsError, NotFoundError) as error:
            self._note_unchecked(place, error)
            raise
        return Repository("-", organization) if organization else place  # no owner is called "-"

    def check(self, repository: Repository) -> Missed:
        """Look at the log since the last look, and have sent again what never came.

        The log of an App or of an organization is read for all its repositories.

        Raises:
            RightsError: deployer may not read the log; noted, too.
            NotFoundError: no webhook leads here; noted, too.
            TransientError: GitHub or Redis is away.
        """
        return self._check(repository, self._log(repository))

    def _check(self, repository: Repository, log_place: Repository) -> Missed:
        place = self._place(repository)
        known, now = self._known(log_place), self._clock()
        others = self._other_ids(repository) if log_place != place else set[int]()
        since = max(now - _KEPT_SECONDS, known.checked_at - _OVERLAP_SECONDS)
        try:
            log = self._missed(repository, since, others)
            if log and since > now - _KEPT_SECONDS:  # how often each was tried before stands further back
                tried = self._missed(repository, now - _KEPT_SECONDS, others)
                log = {guid: tried[guid] for guid in log if guid in tried}
        except (RightsError, NotFoundError) as error:
            self._note_unchecked(place, error)
            raise
        refused = sum(tried[0].refused for tried in log.values())
        recent = [guid for guid, tried in log.items() if now - tried[0].delivered_at < _UNDER_WAY_SECONDS]
        for guid in recent:
            del log[guid]
        # the first attempt stands for the delivery; what failed too often is the resync's
        missed = [tried[-1] for tried in log.values() if len(tried) <= _MOST_ATTEMPTS]
        found = self._send_again(repository, sorted(missed, key=lambda each: -each.delivered_at))
        found = replace(found, left=found.left + len(log) - len(missed), recent=len(recent), refused=refused)
        noted: dict[str, Any] = {"checked_at": now, "unchecked": "", "no_webhook": False}
        noted |= {"recent": found.recent, "refused": found.refused}
        if found.all:
            counts = asdict(found)
            del counts["recent"], counts["refused"]
            self._lanes.count(repository, {f"missed:{name}": number for name, number in counts.items()})
            noted["missed"] = {"at": now, **counts}
        self._note(place, **noted)
        if log_place != place:
            self._note(log_place, checked_at=now)
        return found

    def _note(self, place: Repository, **changes: Any) -> None:
        """Change what is known of the webhook; what else became known while GitHub was asked stays."""
        self._lanes.change_repository(place, lambda known: known.but(**changes))

    def _note_unchecked(self, place: Repository, error: DeployerError) -> None:
        no_webhook = isinstance(error, NotFoundError)
        self._note(place, checked_at=self._clock(), unchecked=str(error), no_webhook=no_webhook)

    def _note_shared_look(self, place: Repository, log: Repository) -> None:
        """Note that the resync of another repository has read the organization's log for this one, too."""
        if (read_at := self._known(log).checked_at) > self._known(place).checked_at:
            read = {"checked_at": read_at, "unchecked": "", "no_webhook": False, "recent": 0, "refused": 0}
            self._note(place, **read)

    def _other_ids(self, repository: Repository) -> set[int]:
        """GitHub's ids of the repositories of the same owner that deployer serves, as far as it knows them."""
        return {
            each.id
            for each in self._lanes.repository_records()
            if each.id and not each.state and self._is_served(each.repository, repository.owner)
        }

    def _is_served(self, full_name: str, owner: str) -> bool:
        repository = Repository.parse(full_name)
        return repository.owner.lower() == owner.lower() and self._allows(repository)

    def _missed(
        self, repository: Repository, since: float, others: Collection[int]
    ) -> dict[str, list[HookDelivery]]:
        """The attempts, newest first, at each delivery that neither GitHub nor the ledger knows to have come."""
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

    def _send_again(self, repository: Repository, missed: list[HookDelivery]) -> Missed:
        """Redeliver what is not superseded. Pushes to repositories that the settings leave out are not counted."""
        redelivered = superseded = unserved = 0
        newest: dict[tuple[str, str], float] = {}
        for each in missed[:_MOST]:
            try:
                push = self._push(repository, each)
                if push and not self._allows(push.repository):
                    unserved += 1
                elif push and self._overtaken(push, newest):
                    reason = "it was missed, and a newer push to the same environment came"
                    environment = Environment.of_ref(push.repository, push.ref, push.default_branch)
                    self._lanes.ignore(
                        DeliveryRecord(
                            each.guid,
                            push.repository.full_name,
                            environment.key,
                            "push",
                            str(Outcome.SUPERSEDED),
                            reason,
                        ),
                        ref=push.ref.name,
                        commit=push.commit,
                    )
                    superseded += 1
                else:
                    self._host.redeliver(repository, each)
                    redelivered += 1
            except DeployerError as error:
                if isinstance(error, TransientError) and _concerns_all(error):
                    raise
                _log.warning("sending delivery %s of %s again: %s", each.guid, repository, error)
        return Missed(redelivered, superseded, len(missed) - redelivered - superseded - unserved)

    def _push(self, repository: Repository, delivery: HookDelivery) -> Push | None:
        if delivery.event != "push":
            return None
        body = json.dumps(self._host.payload(repository, delivery)).encode()
        found = parse_github({"X-GitHub-Event": "push", "X-GitHub-Delivery": delivery.guid}, body)
        return found if isinstance(found, Push) else None

    def _overtaken(self, push: Push, newest: dict[tuple[str, str], float]) -> bool:
        """Whether a later push to the same environment is known, or was found to be missed as well.

        Which of several tags production wants, the lane finds out; and who asks to be skipped takes no other's place.
        """
        if push.ref.is_tag or (not push.deleted and skip_reason(push.ref, push.message)):
            return False
        environment = Environment.of_ref(push.repository, push.ref, push.default_branch)
        record = self._lanes.environment(environment)
        key = push.repository.key, environment.key
        latest = max(newest.get(key, 0), record.pushed_at if record else 0)
        newest[key] = max(latest, push.pushed_at)
        return 0 < push.pushed_at < latest


def _concerns_all(error: TransientError) -> bool:
    """Whether no other delivery would fare better: Redis is away, or GitHub's limit is used up."""
    return isinstance(error, UnavailableError) or error.retry_after is not None
