"""Dead letters, which wait until a person replays or discards them."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deployer.model import errors
from deployer.model.durations import span
from deployer.model.environments import Environment, Repository
from deployer.model.errors import DeployerError, UnavailableError
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.items import RESYNC_KEY, Cause, Work
from deployer.queue.store import DeadLetterTotals, QueueStore

_PREFIX = "deployer."


@dataclass(frozen=True, slots=True)
class LetterResult:
    """The result of replaying or discarding a dead letter.

    Attributes:
        task: the id of the work that a replay queued.
        error: why nothing was done; empty if it succeeded.
    """

    letter: str
    task: str = ""
    error: str = ""


def letter_id(repository: Repository, token: int | str) -> str:
    """The id of the dead letter of the item that was handed out under this token."""
    return f"{repository.key.replace('/', '~')}-{token}"


def matching_dead_letters(
    lanes: QueueStore, repository: Repository | None = None, kind: str = "", task: str = ""
) -> list[DeadLetter]:
    """The dead letters that match all given filters, oldest first.

    Args:
        lanes: has the dead letters.
        repository: only those of this repository.
        kind: only those of this kind, such as `TransientError`.
        task: only those of this task, `provision` or `deployer.provision`.

    Raises:
        UnavailableError: Redis is unavailable.
    """
    return [letter for letter in lanes.dead_letters(repository) if matches_filters(letter, kind, task)]


def matches_filters(letter: DeadLetter, kind: str = "", task: str = "") -> bool:
    """Whether a dead letter is of this kind and of this task; see `matching_dead_letters`."""
    return kind in {"", letter.kind} and (not task or letter.task == _PREFIX + task.removeprefix(_PREFIX))


def act_on_dead_letters(letters: Iterable[str], act: Callable[[str], str]) -> list[LetterResult]:
    """Replay or discard each of several dead letters. An error of one does not stop the others.

    Args:
        letters: their ids.
        act: replays or discards one and returns the id of the queued work, or an empty text.

    Raises:
        UnavailableError: Redis was unavailable for the first one.
    """
    results: list[LetterResult] = []
    unavailable = ""  # once Redis is unavailable, the other letters do not wait for it
    for letter in letters:
        task, error = "", unavailable
        if not unavailable:
            try:
                task = act(letter)
            except UnavailableError as failure:
                if not results:
                    raise
                error = unavailable = str(failure)
            except DeployerError as failure:
                error = str(failure)
        results.append(LetterResult(letter, task, error))
    return results


def replay_order(letters: Iterable[DeadLetter]) -> list[str]:
    """The ids in the order to replay them: by the time of the request, so that an environment's newest comes last."""
    return [letter.id for letter in sorted(letters, key=lambda letter: letter.arguments.accepted_at)]


def describe_dead_letter(letter: DeadLetter, *, public: bool = False) -> str:
    """Why an item became a dead letter, in a sentence.

    Args:
        letter: the dead letter.
        public: whether everybody may read the sentence; then the text of an unexpected error is left out.
    """
    task, work = letter.task.removeprefix(_PREFIX), letter.arguments
    why = letter.public_reason if public else letter.reason
    if letter.is_expected and not work.log.attempts:
        return why  # no worker could begin it
    if not letter.is_expected:
        return f"{task} ended in an unexpected error at attempt {work.log.attempts}: {why}"
    attempts = f"{work.log.attempts} attempt{'' if work.log.attempts == 1 else 's'}"
    began = next((each.began_at for each in work.failed_attempts if each.began_at), 0)
    took = f" in {span(letter.at - began)}" if began else ""
    return f"{task} was given up after {attempts}{took}: {why}"


def oldest_seconds(totals: DeadLetterTotals, now: float | None = None) -> float:
    """The age of the oldest dead letter in seconds; 0 if there is none.

    Args:
        totals: of the dead letters.
        now: epoch seconds by Redis's clock; by default this machine's clock, which may be wrong.
    """
    now = time.time() if now is None else now
    return max(0.0, now - totals.oldest_at) if totals.count else 0.0


def dead_letter_warnings(totals: DeadLetterTotals) -> list[str]:
    """A line with the remedy for people, if there are dead letters."""
    if not totals.count:
        return []
    oldest = span(oldest_seconds(totals))
    count = "1 dead letter awaits" if totals.count == 1 else f"{totals.count} dead letters await"
    age = f"for {oldest}" if totals.count == 1 else f"the oldest for {oldest}"
    return [f"{count} a decision, {age}; see: deployer dead-letters list"]


def make_letter(
    repository: Repository, work: Work, token: int, kind: str, reason: str, traceback: str = ""
) -> DeadLetter:
    """Make the dead letter of an item.

    Args:
        repository: whose item it was.
        work: the item.
        token: the token of its last attempt.
        kind: see `DeadLetter.kind`.
        reason: why it failed, in one line.
        traceback: the traceback, or empty.
    """
    return DeadLetter(
        id=_letter_id(repository, work, token),
        repository=repository.full_name,
        task=work.task,
        reason=reason,
        traceback=traceback,
        at=work.log.began_at,  # by Redis's clock, because another machine compares it with that
        work=work.to_json(),
        kind=kind,
        environment=work.environment,
    )


def error_kind(error: Exception) -> str:
    """The name of an error's class, with its module if deployer has another error of the same name."""
    name = type(error).__name__
    if isinstance(error, DeployerError) or not hasattr(errors, name):
        return name
    return f"{type(error).__module__}.{name}"


def _letter_id(repository: Repository, work: Work, token: int) -> str:
    """The id of a dead letter. A resync is repeated every hour, so only the last dead letter of its items is kept."""
    if work.environment == RESYNC_KEY:
        return letter_id(repository, "resync")
    if work.cause in {Cause.RESYNC, Cause.AGE}:
        _, _, digest = Environment.from_key(repository, work.environment).stack_name.rpartition("-")
        return letter_id(repository, f"resync.{digest}")
    return letter_id(repository, token)
