"""Maps the names that people type to environments."""

from typing import TYPE_CHECKING

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import NotFoundError, PayloadError
from deployer.model.records import RESYNC_KEY, EnvironmentRecord, split_key
from deployer.model.refs import Ref
from deployer.queue.store import Lane
from deployer.queue.submit import record_of

if TYPE_CHECKING:
    from deployer.wiring import Deployer


def environment_label(repository: Repository, key: str) -> str:
    """An environment's key as people say it, and may type it: the branch, `staging` or `production`.

    Of the key of a queue item that is a candidate for production, the tag is named as well.
    """
    if key == RESYNC_KEY:
        return "(whole repository)"
    name, ref = split_key(key)
    try:
        environment = Environment.from_key(repository, name)
        return f"{environment.name} {Ref.parse(ref).short}" if ref else environment.name
    except PayloadError:
        return key


def queued_environments(lane: Lane) -> list[str]:
    """Keys of the environments that a lane holds or awaits."""
    snoozed = (split_key(key)[0] for key in lane.snoozed)
    keys = [lane.environment, *(work.environment for work in lane.waiting), *snoozed]
    return [key for key in dict.fromkeys(keys) if key and key != RESYNC_KEY]


def find_queued_only(lanes: list[Lane], known: list[EnvironmentRecord]) -> list[EnvironmentRecord]:
    """Environments that no worker has looked at yet: they wait in a lane and nowhere else."""
    seen = {(record.repository.lower(), record.environment) for record in known}
    found = []
    for lane in lanes:
        repository = Repository.parse(lane.repository)
        for key in queued_environments(lane):
            if (repository.key, key) not in seen:
                name = Environment.from_key(repository, key).stack_name
                found.append(EnvironmentRecord(lane.repository, key, name, state="queued"))
    return found


def find_recorded(deployer: "Deployer", repository: Repository, text: str) -> Environment:
    return Environment.from_key(repository, record_of(deployer.lanes, repository, text).environment)


def resolve_unrecorded(deployer: "Deployer", repository: Repository, text: str) -> Environment:
    """The environment people name although the ledger does not know it: GitHub says what its ref is.

    Raises:
        NotFoundError: it cannot be told which it is.
        TransientError, PermanentError: GitHub cannot be asked.
    """
    if text == Kind.STAGING:
        return Environment(repository, Kind.STAGING)
    if text == Kind.PRODUCTION:
        raise NotFoundError(f"no tag is known for production of {repository}; give one as refs/tags/...")
    ref = Ref.from_people(text)
    if ref.is_tag:
        return Environment(repository, Kind.PRODUCTION)
    return Environment.of_ref(repository, ref, deployer.host.default_branch(repository))
