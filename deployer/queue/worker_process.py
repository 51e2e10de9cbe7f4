"""What the runner of queue items asks of the worker process in which it runs."""

import time
from typing import Protocol

from deployer.model.environments import Repository
from deployer.queue.items import Work
from deployer.queue.store import NextItem

# After an item a process takes the queue's next item itself, which saves a message. Other queues wait meanwhile, so
# beyond this share of time or of items it does so only while no message of another queue waits for a worker.
SHARE_SECONDS, SHARE_ITEMS = 0.05, 20


class WorkerProcess(Protocol):
    """A process of a worker, which may run several items for one message."""

    def takes_items(self) -> bool:
        """Whether the process may take another item; not if its worker is being stopped."""

    def report_begin(self, repository: Repository, token: int, work: Work) -> None:
        """Report that an item begins which no message has announced."""

    def report_end(self, result: str) -> None:
        """Report how the running item ended, before the next one begins or the process waits for a message."""


class OneItemProcess:
    """A process that runs one item for each message."""

    def takes_items(self) -> bool:
        """See `WorkerProcess.takes_items`."""
        return False

    def report_begin(self, repository: Repository, token: int, work: Work) -> None:
        """See `WorkerProcess.report_begin`."""

    def report_end(self, result: str) -> None:
        """See `WorkerProcess.report_end`."""


class WorkerShare:
    """Decides after each item whether its worker takes the next one.

    Args:
        process: runs the items.
    """

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process
        self._ends_at = time.monotonic() + SHARE_SECONDS
        self._items_left = SHARE_ITEMS

    def next_item(self) -> NextItem:
        """Who gets the next item, now that an item has ended."""
        self._items_left -= 1
        if not self._process.takes_items():
            return NextItem.SEND
        if self._items_left > 0 and time.monotonic() < self._ends_at:
            return NextItem.TAKE
        return NextItem.TAKE_IF_ALONE
