"""Returns a queue item that this version does not understand to its queue."""

import logging

from deployer.model.environments import Repository
from deployer.model.errors import LaneLostError, UnavailableError
from deployer.queue.store import Lanes, Queue

_log = logging.getLogger("deployer.tasks")


def refuse_item(lanes: Lanes, queue: Queue, repository: Repository, token: int, why: str) -> str:
    """Return a queue item that this version does not understand: a newer worker may; see `Lanes.refuse`.

    Args:
        lanes: the queues.
        queue: carries the next dispatch to a worker.
        repository: the queue's.
        token: under which the item was handed out.
        why: what was not understood.

    Returns:
        What became of it, in a line.
    """
    try:
        refused = lanes.refuse(repository, token, why)
    except LaneLostError:
        return "stale: the lane was handed out again"
    except UnavailableError as error:
        _log.warning("refusing a queue item of %s: %s; it is handed out again", repository, error)
        return f"given up: {error}"
    if refused.dispatch:
        queue.send(refused.dispatch)
    if refused.dead:
        _log.error(
            "a queue item of %s is a dead letter, since no worker understood it: %s; update them, then replay it",
            repository, why,
        )  # fmt: skip
        return f"dead-lettered: {why}"
    _log.warning(
        "a queue item of %s is refused: %s; another worker gets it in %.0f s",
        repository,
        why,
        refused.seconds,
    )
    return f"refused: {why}"
