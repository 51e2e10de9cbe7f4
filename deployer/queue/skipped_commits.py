"""Shows on GitHub that a commit is skipped, where no task does it."""

from deployer.model.display import skip_change
from deployer.model.environments import Environment, Kind, Repository
from deployer.model.outcomes import Outcome
from deployer.queue.store import QueueStore


def skipped_state(lanes: QueueStore, repository: Repository) -> str:
    """The state of the status of a skipped commit: `success` or `pending`, as the default branch sets it."""
    staging = lanes.environment(Environment(repository, Kind.STAGING))
    return staging.spec.skipped if staging else "success"


def show_skipped_push(lanes: QueueStore, environment: Environment, sha: str, reason: str) -> None:
    """Show that a commit is skipped, unless the environment has deployed it.

    Raises:
        UnavailableError: Redis is unavailable.
    """
    known = lanes.environment(environment)
    if known and known.spec.commit == sha and known.status.outcome != Outcome.SKIPPED:
        return
    show_skip(lanes, environment.repository, environment.key, sha, f"{environment.name}: skipped: {reason}")


def show_skip(lanes: QueueStore, repository: Repository, key: str, sha: str, text: str) -> None:
    """Show that a commit is skipped.

    Args:
        lanes: stores what GitHub should show.
        repository: the repository.
        key: the key of the environment that skips it, or a word of its own.
        sha: the commit.
        text: the whole text.

    Raises:
        UnavailableError: Redis is unavailable.
    """
    lanes.show(repository, key, [skip_change(sha, text, skipped_state(lanes, repository))])
