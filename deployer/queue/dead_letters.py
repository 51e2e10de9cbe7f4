"""Dead letters as people decide about them: which are meant, why they died, and what is done with many at once."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from deployer.model import errors
from deployer.model.durations import span
from deployer.model.environments import Environment, Repository
from deployer.model.errors import DeployerError, UnavailableError
from deployer.model.records import RESYNC_KEY, Cause, DeadLetter, Work
from deployer.queue.store import Lanes

_PREFIX = "deployer."


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of a dead letter that a person decided about.

    Attributes:
        task: the id of the task that a replay queued.
        error: why nothing was done, or empty.
    """

    letter: str
    task: str = ""
    error: str = ""


def letter_id(repository: Repository, token: int | str) -> str:
    """The id of the dead letter that ends this hand-out of a lane."""
    return f"{repository.key.replace('/', '~')}-{token}"


def chosen(
    lanes: Lanes, repository: Repository | None = None, kind: str = "", task: str = ""
) -> list[DeadLetter]:
    """The dead letters that are meant, oldest first; what is left empty chooses nothing out.

    Args:
        lanes: the ledger.
        repository: only of this one.
        kind: only what died of this, such as `TransientError`.
        task: only of this task, `provision` or `deployer.provision`.

    Raises:
        UnavailableError: Redis is away.
    """
    return [
        letter
        for letter in lanes.dead_letters(repository)
        if kind in {"", letter.kind} and (not task or letter.task == _PREFIX + task.removeprefix(_PREFIX))
    ]


def settle(letters: Iterable[str], act: Callable[[str], str]) -> list[Settled]:
    """Replay or discard each; one that somebody else has settled meanwhile keeps no other from it.

    Args:
        letters: ids.
        act: replays or discards one and returns the task's id, if there is one.

    Raises:
        UnavailableError: Redis was away from the first one on.
    """
    found: list[Settled] = []
    away = ""  # once Redis is away, the others need not wait for it too
    for letter in letters:
        task, error = "", away
        if not away:
            try:
                task = act(letter)
            except UnavailableError as unavailable:
                if not found:
                    raise
                error = away = str(unavailable)
            except DeployerError as refused:
                error = str(refused)
        found.append(Settled(letter, task, error))
    return found


def in_order(letters: Iterable[DeadLetter]) -> list[str]:
    """The ids in the order to replay them: as they were wished for, so that an environment's newest comes last."""
    return [letter.id for letter in sorted(letters, key=lambda letter: letter.arguments.accepted_at)]


def sentence(letter: DeadLetter, *, public: bool = False) -> str:
    """Why it died, in a sentence.

    Args:
        letter: the dead letter.
        public: leave out what is not for everybody to read.
    """
    task, work = letter.task.removeprefix(_PREFIX), letter.arguments
    why = letter.told if public else letter.reason
    if letter.expected and not work.attempts:
        return why  # nobody could begin it
    if not letter.expected:
        return f"{task} ended in an unexpected error at attempt {work.attempts}: {why}"
    attempts = f"{work.attempts} attempt{'' if work.attempts == 1 else 's'}"
    began = next((each.began_at for each in work.failed_attempts if each.began_at), 0)
    took = f" in {span(letter.at - began)}" if began else ""
    return f"{task} was given up after {attempts}{took}: {why}"


def oldest_seconds(letters: Iterable[DeadLetter], now: float | None = None) -> float:
    """The age of the oldest in seconds, 0 where there is none.

    Args:
        letters: the dead letters.
        now: by Redis's clock (epoch seconds), where a wrong clock of this machine matters.
    """
    now = time.time() if now is None else now
    return max([0.0, *(now - letter.at for letter in letters)])


def warnings_of(letters: list[DeadLetter]) -> list[str]:
    """What to tell people as long as there are any: nothing, or one line with the remedy."""
    if not letters:
        return []
    oldest = span(oldest_seconds(letters))
    count = "1 dead letter awaits" if len(letters) == 1 else f"{len(letters)} dead letters await"
    age = f"for {oldest}" if len(letters) == 1 else f"the oldest for {oldest}"
    return [f"{count} a decision, {age}; see: deployer dead-letters list"]


def make_letter(
    repository: Repository, work: Work, token: int, kind: str, reason: str, told: str = ""
) -> DeadLetter:
    """The dead letter that ends a hand-out.

    Args:
        repository: whose work it was.
        work: what was tried.
        token: of the hand-out.
        kind: see `DeadLetter.kind`.
        reason: why it is given up, in one line.
        told: the traceback, or empty.
    """
    return DeadLetter(
        id=_letter_id(repository, work, token),
        repository=repository.full_name,
        task=work.task,
        reason=reason,
        traceback=told,
        at=work.began_at,  # by Redis's clock, as a person's machine reads it
        work=work.to_json(),
        kind=kind,
        environment=work.environment,
    )


def kind_of(error: Exception) -> str:
    """The name of an error's class; of another's class that is called like one of deployer's own, the whole name."""
    name = type(error).__name__
    if isinstance(error, DeployerError) or not hasattr(errors, name):
        return name
    return f"{type(error).__module__}.{name}"


def _letter_id(repository: Repository, work: Work, token: int) -> str:
    """What a resync asks for comes back every hour: its last death is enough to keep."""
    if work.environment == RESYNC_KEY:
        return letter_id(repository, "resync")
    if work.cause in {Cause.RESYNC, Cause.AGE}:
        _, _, digest = Environment.from_key(repository, work.environment).stack_name.rpartition("-")
        return letter_id(repository, f"resync.{digest}")
    return letter_id(repository, token)
