"""Sets stored records as a test wants them."""

from deployer.model.environments import Repository
from deployer.model.records import RepositoryRecord
from deployer.queue.store import QueueStore


def know_repository(lanes: QueueStore, record: RepositoryRecord) -> None:
    """Let this be what is known of a repository as a whole."""
    lanes.change_repository(Repository(*record.repository.split("/")), lambda _: record)
