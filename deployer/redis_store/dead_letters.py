"""The dead letters of queues."""

import time
import uuid
from contextlib import suppress
from dataclasses import replace

from deployer.model.environments import Environment, Repository
from deployer.model.errors import NotFoundError, PayloadError, StoredValueError
from deployer.model.records import DeadLetter
from deployer.queue.store import Accepted
from deployer.redis_store.errors import unavailable
from deployer.redis_store.queue_script import DELIVERY_TTL, QueueScript, dispatch_of
from deployer.redis_store.records.repository_index import repository_key
from deployer.redis_store.records.stack_names import index_names
from deployer.redis_store.records.values import number

_LONGEST_SHOWN = 2000  # characters of a dead letter that cannot be read


class DeadLetters(QueueScript):
    """Implements these parts of `Lanes`."""

    def dead_letters(self, repository: Repository | None = None) -> list[DeadLetter]:
        """See `Lanes.dead_letters`."""
        chosen = [repository] if repository else self.repositories()
        found = [
            _letter(each, name, text)
            for each, texts in self._each("dead", "hgetall", chosen, {})
            for name, text in texts.items()
        ]
        return sorted(found, key=lambda letter: letter.at)

    def dead_letter(self, letter: str) -> DeadLetter | None:
        """See `Lanes.dead_letter`."""
        try:
            repository = letter_repository(letter)
        except NotFoundError:
            return None
        with unavailable():
            text = self._redis.hget(repository_key(repository, "dead"), letter)
        return _letter(repository, letter, text) if text else None

    def replay(self, letter: str) -> Accepted:
        """See `Lanes.replay`."""
        repository = letter_repository(letter)
        goal = f"replay-{uuid.uuid4().hex[:12]}"
        with unavailable():
            text = self._redis.hget(repository_key(repository, "dead"), letter)
            dead = _letter(repository, letter, text) if text else None
            if dead:
                self._index_names_of(repository, dead.arguments.environment)
            known = dead is not None and dead.readable
            found = self._run(repository, "replay", letter, goal, self._grace, DELIVERY_TTL, str(int(known)))
        if not found:
            raise NotFoundError(f"there is no dead letter {letter}; see: deployer dead-letters list")
        if found == ["unreadable"]:
            raise StoredValueError(
                f"dead letter {letter} does not say what to do; discard it: deployer dead-letters discard {letter}"
            )
        return Accepted("queued", "", goal=found[0], dispatch=dispatch_of(repository, found[1:]))

    def discard(self, letter: str) -> None:
        """See `Lanes.discard`."""
        repository = letter_repository(letter)
        with unavailable():
            if not int(self._run(repository, "discard", letter)[0]):
                raise NotFoundError(f"there is no dead letter {letter}; see: deployer dead-letters list")

    def _index_names_of(self, repository: Repository, key: str) -> None:
        """Let `find` find the environment of a dead letter, whose names may be lost or dropped."""
        with suppress(PayloadError):  # the letter is damaged, or of a whole repository
            pipe = self._redis.pipeline(transaction=False)
            index_names(pipe, Environment.from_key(repository, key))
            pipe.execute()


def letter_repository(letter: str) -> Repository:
    """The repository that a dead letter's id names: `owner~name-token`.

    Raises:
        NotFoundError: it is not such an id.
    """
    try:
        return Repository.parse(letter.rpartition("-")[0].replace("~", "/"))
    except PayloadError as error:
        raise NotFoundError(
            f"there is no dead letter {letter[:100]}; see: deployer dead-letters list"
        ) from error


def _letter(repository: Repository, name: str, text: str) -> DeadLetter:
    """A dead letter; one that cannot be read is shown all the same, since it waits for a person."""
    try:
        letter = DeadLetter.from_json(text)
        return (
            letter
            if letter.repository.lower() == repository.key
            else replace(letter, repository=str(repository))
        )
    except StoredValueError as error:
        at = number(name.rpartition("-")[2]) / 1000
        return DeadLetter(
            id=name,
            repository=repository.full_name,
            task="",
            reason=f"this dead letter cannot be read: {error}",
            traceback=text[:_LONGEST_SHOWN],
            at=at if 0 < at < time.time() else time.time(),
            work="",
            kind=type(error).__name__,
        )
