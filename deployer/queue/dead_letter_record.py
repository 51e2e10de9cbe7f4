"""A dead letter: work that deployer could not do, kept until a person decides."""

from deployer.model import errors
from deployer.model.stored_value import StoredValue
from deployer.queue.items import Work

# the kinds of dead letters that no exception made: all workers were lost, or all were killed because of the time
WORKER_LOST = "WorkerLost"
TASK_TIMEOUT = "TaskTimeout"


class DeadLetter(StoredValue, frozen=True):
    """Work that could not be done for a reason of deployer's own, kept until a person decides.

    Attributes:
        at: when the last attempt began, in epoch seconds by Redis's clock.
        work: the queue item as the queue held it, which may be text that this version cannot read.
        kind: the class of the exception that ended it, `WORKER_LOST` or `TASK_TIMEOUT`. Only deployer's own errors have
            the plain name of a class in `deployer.model.errors`.
        environment: of the queue item, where `queue.lua` wrote it: the item may be unreadable.
    """

    id: str
    repository: str
    task: str
    reason: str
    traceback: str
    at: float
    work: str
    kind: str = "unknown"  # of a dead letter that was written before there were kinds
    environment: str = ""

    @property
    def is_expected(self) -> bool:
        """Whether one of deployer's own errors ended it, whose text is written for people."""
        found = getattr(errors, self.kind, None)
        own = isinstance(found, type) and issubclass(found, errors.DeployerError)
        return own or self.kind in {WORKER_LOST, TASK_TIMEOUT}

    @property
    def public_reason(self) -> str:
        """The reason, fit for everybody to read: the text of an unexpected error may contain anything."""
        return self.reason if self.is_expected else self.kind

    @property
    def is_readable(self) -> bool:
        """Whether this version can read the queue item."""
        try:
            Work.from_json(self.work)
        except errors.StoredValueError:
            return False
        return True

    @property
    def arguments(self) -> Work:
        """The queue item; of one that cannot be read only environment and task are known."""
        try:
            return Work.from_json(self.work)
        except errors.StoredValueError:
            return Work(self.environment, task=self.task, cause="")
