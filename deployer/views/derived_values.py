"""Values that views derive from stored records: ids, ages, states, missed deliveries."""

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PayloadError
from deployer.model.expiry import ASLEEP, expires_at, used_at
from deployer.model.records import Activity, EnvironmentRecord, Outcome, RepositoryRecord
from deployer.queue.store import Lanes

MISSED = ("redelivered", "superseded", "left")  # what becomes of a delivery that was missed
_MISSED_SECONDS = 3 * 86400.0  # as long as GitHub keeps deliveries
GONE_STATES = {"deleted", "deleting", "skipped"}  # states in which nothing stands, or soon
# states that lead to another one, and those in which an environment stays; no record has the state `queued`, which is
# shown for an environment that no worker has looked at yet
MOVING_STATES = ("queued", "pending", "waiting", "provisioning", "updating", "running", "deleting")
RESTING_STATES = ("deployed", "failed", "skipped", "asleep", "deleted")
UNDER_WAY = "under way"  # the outcome of a receipt that is still being written


def age(at: float, now: float | None = None) -> float:
    """How many seconds ago an epoch time was.

    Args:
        at: epoch seconds.
        now: by Redis's clock (epoch seconds), where a wrong clock of this machine matters.
    """
    return max(0.0, (time.time() if now is None else now) - at)


def environment_id(repository: str, key: str) -> str | None:
    """The id of an environment by its key, or None where the key stands for no single environment.

    It is the name of a new stack. The stack itself may have a former name, which does for an id as well.
    """
    try:
        return Environment.from_key(Repository.parse(repository), key).stack_name
    except PayloadError:
        return None


def changed_at(record: EnvironmentRecord) -> float:
    """Since when its state and outcome are what they are (epoch seconds); looks that found nothing new do not count."""
    return record.changed_at or record.updated_at


def never_deployed(
    lanes: Lanes, repositories: Sequence[Repository], records: Iterable[EnvironmentRecord]
) -> dict[str, str]:
    """The newest tag that was never deployed, of repositories whose production deployer has brought to none.

    Args:
        lanes: knows what the last resyncs have seen.
        repositories: which.
        records: what is known of their environments; production may have moved since the last resync.

    Raises:
        UnavailableError: Redis is away.
    """
    brought = {
        each.repository.lower()
        for each in records
        if each.environment == Kind.PRODUCTION and (each.admitted.commit or each.held_at)
    }
    return {key: tag for key, tag in lanes.never_deployed(repositories).items() if key not in brought}


def expiry_time(record: EnvironmentRecord, ttl: str, now: float) -> float:
    """When it is taken down if nobody uses it, 0 for never or if nothing stands."""
    gone = record.state in {*GONE_STATES, ASLEEP} and not (record.state == "skipped" and record.stack_arn)
    if gone or not used_at(record):  # it may have been pushed and no more
        return 0
    return expires_at(record, ttl, now) or 0


def unlisted_counts(told: Mapping[str, Any]) -> dict[str, int]:
    """How many buckets and other resources a receipt has counted and does not list."""
    return {name: int((told.get("unlisted") or {}).get(name, 0)) for name in ("removed", "retained")}


def page_url(record: EnvironmentRecord, base_url: str) -> str:
    """Its page on the dashboard, or empty where that is not known."""
    return (
        f"{base_url}/environments/{environment_id(record.repository, record.environment)}" if base_url else ""
    )


def not_deployed(record: EnvironmentRecord, history: Sequence[Activity]) -> Activity | None:
    """The last push of an environment if it was skipped, while the record tells of an earlier one.

    A skipped push leaves the record of an environment as it was, since that tells what runs.

    Args:
        record: what is known of the environment.
        history: its lines of the activity, the newest first.
    """
    for line in history:
        # the last push that was not skipped is Redis's time, as the line is; the last redeployment is a worker's
        if line.at < max(record.moved_at, record.used_at):
            return None
        if line.outcome == Outcome.SKIPPED and line.commit not in {"", record.commit}:
            return line
    return None


def missed_lately(known: RepositoryRecord) -> bool:
    """Whether deliveries were missed that GitHub still keeps: people may want to see why."""
    return bool(known.missed) and not known.unchecked and age(known.missed["at"]) < _MISSED_SECONDS
