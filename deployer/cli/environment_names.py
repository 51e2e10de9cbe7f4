"""Maps the names that people type to environments."""

from typing import TYPE_CHECKING

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import NotFoundError, PayloadError
from deployer.model.refs import Ref
from deployer.queue.items import RESYNC_KEY, split_key
from deployer.queue.lookup import find_environment_record
from deployer.queue.store import QueueState, QueueStore

QUEUED = "queued"  # the state that is shown of an environment without a record

if TYPE_CHECKING:
    from deployer.wiring import Deployer


def environment_label(repository: Repository, key: str) -> str:
    """Return the name that people type for an environment: the branch, `staging` or `production`.

    For the queue item of a tag, the name of the tag is added.
    """
    if key == RESYNC_KEY:
        return "(whole repository)"
    name, ref = split_key(key)
    try:
        environment = Environment.from_key(repository, name)
        return f"{environment.name} {Ref.parse(ref).short}" if ref else environment.name
    except PayloadError:
        return key


def queued_environments(lane: QueueState) -> list[str]:
    """Return the keys of the environments that have work in a queue."""
    snoozed = (split_key(key)[0] for key in lane.snoozed)
    keys = [lane.environment, *(work.environment for work in lane.waiting), *snoozed]
    return [key for key in dict.fromkeys(keys) if key and key != RESYNC_KEY]


def find_queued_only(lanes: QueueStore, repository: Repository | None) -> list[EnvironmentRecord]:
    """Return records for environments that have only a queue item and no stored record yet.

    Args:
        lanes: the queues and the stored records.
        repository: only of this repository; None for all.
    """
    queued = {
        Repository.parse(each.repository): queued_environments(each) for each in lanes.lanes(repository)
    }
    known = {(each.repository.lower(), each.environment) for each in lanes.environments_by_key(queued)}
    return [
        EnvironmentRecord.of(whose.full_name, key, Environment.from_key(whose, key).stack_name, state=QUEUED)
        for whose, keys in queued.items()
        for key in keys
        if (whose.key, key) not in known
    ]


def find_recorded(deployer: "Deployer", repository: Repository, text: str) -> Environment:
    return Environment.from_key(
        repository, find_environment_record(deployer.lanes, repository, text).environment
    )


def resolve_unrecorded(deployer: "Deployer", repository: Repository, text: str) -> Environment:
    """Return the environment of a name that has no stored record, after asking GitHub for the default branch.

    Raises:
        NotFoundError: production has no known tag.
        TransientError, PermanentError: GitHub does not answer, or refuses.
    """
    if text == Kind.STAGING:
        return Environment(repository, Kind.STAGING)
    if text == Kind.PRODUCTION:
        raise NotFoundError(f"no tag is known for production of {repository}; give one as refs/tags/...")
    ref = Ref.from_user_input(text)
    if ref.is_tag:
        return Environment(repository, Kind.PRODUCTION)
    return Environment.of_ref(repository, ref, deployer.host.default_branch(repository))
