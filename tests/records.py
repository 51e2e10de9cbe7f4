"""Sets stored records as a test wants them, and reads them by the names of their fields."""

from typing import Any

from deployer.model.environments import Repository
from deployer.model.repository_record import RepositoryRecord
from deployer.model.stored_value import StoredValue, field_groups
from deployer.queue.store import QueueStore


def know_repository(lanes: QueueStore, record: RepositoryRecord) -> None:
    """Let this be what is known of a repository as a whole."""
    lanes.change_repository(Repository(*record.repository.split("/")), lambda _: record)


def field_value(value: StoredValue, name: str) -> Any:
    """A field of a stored value, or of one of its groups."""
    group = field_groups(type(value))[name]
    return field_value(getattr(value, group), name) if group else getattr(value, name)
