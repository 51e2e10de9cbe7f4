"""Values that views derive from stored records: ids, ages, states, missed deliveries."""

import time
from collections.abc import Sequence

from deployer.model.activity import Activity
from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PayloadError
from deployer.model.expiry import ASLEEP, expires_at, used_at
from deployer.model.outcomes import Outcome
from deployer.model.repository_record import RepositoryRecord
from deployer.queue.store import QueueStore

MISSED = ("redelivered", "superseded", "left")  # what happens to a missed delivery
_MISSED_SECONDS = 3 * 86400.0  # as long as GitHub keeps deliveries
GONE_STATES = {
    "deleted",
    "deleting",
    "skipped",
}  # states of an environment without a stack, or soon without one
# states that lead to another state, then states in which an environment stays; no record has the state `queued`, which
# is shown for an environment that no worker has handled yet
MOVING_STATES = ("queued", "pending", "waiting", "provisioning", "updating", "running", "deleting")
RESTING_STATES = ("deployed", "failed", "skipped", "asleep", "deleted")
UNDER_WAY = "under way"  # the outcome of a report of a teardown that has not ended


def seconds_since(at: float, now: float | None = None) -> float:
    """How many seconds ago an epoch time was.

    Args:
        at: epoch seconds.
        now: the present time by Redis's clock (epoch seconds), if the clock of this machine may be wrong.
    """
    return max(0.0, (time.time() if now is None else now) - at)


def environment_id(repository: str, key: str) -> str | None:
    """The id of an environment by its key; None if the key names no single environment.

    The id is the name that a new stack of the environment gets. An existing stack may still have a former name, which
    the API accepts as an id, too.
    """
    try:
        return Environment.from_key(Repository.parse(repository), key).stack_name
    except PayloadError:
        return None


def changed_at(record: EnvironmentRecord) -> float:
    """When an environment's state or outcome changed last (epoch seconds); checks that found no change do not count."""
    return record.status.changed_at or record.updated_at


def never_deployed(lanes: QueueStore, repositories: Sequence[Repository]) -> dict[str, str]:
    """The newest tag that was never deployed, by repository key, for repositories whose production ran no tag yet.

    Args:
        lanes: the results of the last resyncs.
        repositories: which repositories.

    Raises:
        UnavailableError: Redis is away.
    """
    tags = lanes.never_deployed(repositories)
    # production may have run a tag since the last resync
    productions = lanes.environments_by_key(
        {each: [str(Kind.PRODUCTION)] for each in repositories if each.key in tags}
    )
    with_production = {
        each.repository.lower()
        for each in productions
        if each.spec.production.admitted.commit or each.spec.held_at
    }
    return {key: tag for key, tag in tags.items() if key not in with_production}


def expiry_time(record: EnvironmentRecord, ttl: str, now: float) -> float:
    """When an unused environment is deleted (epoch seconds); 0 for never or without a stack.

    Args:
        record: the environment's record.
        ttl: the installation's time to live.
        now: epoch seconds.
    """
    gone = record.status.state in {*GONE_STATES, ASLEEP} and not (
        record.status.state == "skipped" and record.status.stack.stack_arn
    )
    if gone or not used_at(record):  # a new record may have no time of use yet
        return 0
    return expires_at(record, ttl, now) or 0


def page_url(record: EnvironmentRecord, base_url: str) -> str:
    """The URL of an environment's page on the dashboard; empty if the dashboard's URL is not known."""
    return (
        f"{base_url}/environments/{environment_id(record.repository, record.environment)}" if base_url else ""
    )


def last_skipped_push(record: EnvironmentRecord, history: Sequence[Activity]) -> Activity | None:
    """An environment's last push if it was skipped after an earlier push was deployed; else None.

    A skipped push does not change the environment's record, because the record says what runs.

    Args:
        record: the environment's record.
        history: the environment's lines of the activity, newest first.
    """
    for line in history:
        # `moved_at` (the last push that was not skipped) is by Redis's clock, as `line.at` is; `used_at` (the last
        # redeployment) is by a worker's clock
        if line.at < max(record.history.moved_at, record.history.used_at):
            return None
        if line.outcome == Outcome.SKIPPED and line.commit not in {"", record.spec.commit}:
            return line
    return None


def missed_lately(known: RepositoryRecord) -> bool:
    """Whether deliveries were missed that GitHub's log still has, so that people can see why."""
    return bool(known.missed) and not known.unchecked and seconds_since(known.missed["at"]) < _MISSED_SECONDS
