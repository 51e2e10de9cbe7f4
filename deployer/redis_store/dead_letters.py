"""The dead letters of the queues."""

import time
import uuid
from collections.abc import Sequence
from contextlib import suppress

from deployer.model.environments import Environment, Repository
from deployer.model.errors import NotFoundError, PayloadError, StoredValueError
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.record_store import Page
from deployer.queue.store import Accepted, DeadLetterTotals
from deployer.redis_store.errors import unavailable
from deployer.redis_store.queue_script import DELIVERY_TTL, QueueScript, parse_dispatch
from deployer.redis_store.records.listings import DEAD, list_key
from deployer.redis_store.records.repository_index import repository_key
from deployer.redis_store.records.stack_names import add_stack_names
from deployer.redis_store.records.values import to_number, value_or_default

_LONGEST_SHOWN = 2000  # characters shown of a dead letter that cannot be read


class DeadLetters(QueueScript):
    """Implements the methods of `QueueStore` for dead letters."""

    def dead_letters(self, repository: Repository | None = None) -> list[DeadLetter]:
        """See `QueueStore.dead_letters`."""
        chosen = [repository] if repository else self.repositories()
        found = [
            _parse_letter(each, name, text)
            for each, texts in self._read_key_of_each("dead", "hgetall", chosen, {})
            for name, text in texts.items()
        ]
        return sorted(found, key=lambda letter: letter.at)

    def newest_dead_letters(self, limit: int) -> list[DeadLetter]:
        """See `QueueStore.newest_dead_letters`."""
        answer = self.read_lists(lambda pipe: pipe.zrevrange(list_key(DEAD), 0, limit - 1))[0]
        return self._read_letters(value_or_default(list_key(DEAD), answer, []))

    def dead_letter_page(
        self, repository: Repository | None = None, *, after: str = "", limit: int
    ) -> Page[DeadLetter]:
        """See `QueueStore.dead_letter_page`."""
        key, start = _letters_key(repository), 0
        if after:
            rank = self.read_lists(lambda pipe: pipe.zrank(key, after.partition(" ")[2]))[0]
            if isinstance(rank, int):
                start = rank + 1
            else:  # somebody has removed it
                bound = f"({to_number(after.partition(' ')[0])}"
                start = value_or_default(
                    key, self.read_lists(lambda pipe: pipe.zcount(key, "-inf", bound))[0], 0
                )
        answer = self.read_lists(lambda pipe: pipe.zrange(key, start, start + limit, withscores=True))[0]
        rows = value_or_default(key, answer, [])
        shown = rows[:limit]
        last = f"{shown[-1][1]!r} {shown[-1][0]}" if len(rows) > limit else ""
        return Page(self._read_letters([letter for letter, _ in shown]), last)

    def dead_letter_totals(self, repository: Repository | None = None) -> DeadLetterTotals:
        """See `QueueStore.dead_letter_totals`."""
        key = _letters_key(repository)
        count, oldest = self.read_lists(
            lambda pipe: [pipe.zcard(key), pipe.zrange(key, 0, 0, withscores=True)]
        )
        at = [float(score) for _, score in value_or_default(key, oldest, [])]
        return DeadLetterTotals(value_or_default(key, count, 0), at[0] if at else 0)

    def _read_letters(self, members: Sequence[str]) -> list[DeadLetter]:
        """The dead letters of members of a list, in its order."""
        found = []
        named = [
            (Repository.parse(name), letter) for name, _, letter in (each.partition("\n") for each in members)
        ]
        with unavailable():
            pipe = self._redis.pipeline(transaction=False)
            for repository, letter in named:
                pipe.hget(repository_key(repository, "dead"), letter)
            answers = pipe.execute(raise_on_error=False)
        for (repository, letter), text in zip(named, answers, strict=True):
            if text and (text := value_or_default(repository_key(repository, "dead"), text, "")):
                found.append(_parse_letter(repository, letter, text))
        return found

    def find_dead_letter(self, letter: str) -> DeadLetter | None:
        """See `QueueStore.find_dead_letter`."""
        try:
            repository = repository_of_letter(letter)
        except NotFoundError:
            return None
        with unavailable():
            text = self._redis.hget(repository_key(repository, "dead"), letter)
        return _parse_letter(repository, letter, text) if text else None

    def replay(self, letter: str) -> Accepted:
        """See `QueueStore.replay`."""
        repository = repository_of_letter(letter)
        goal = f"replay-{uuid.uuid4().hex[:12]}"
        with unavailable():
            text = self._redis.hget(repository_key(repository, "dead"), letter)
            dead = _parse_letter(repository, letter, text) if text else None
            if dead:
                self._index_letter_names(repository, dead.arguments.environment)
            readable = dead is not None and dead.is_readable
            reply = self._run_operation(
                repository, "replay", letter, goal, self._grace_ms, DELIVERY_TTL, str(int(readable))
            )
        if not reply:
            raise NotFoundError(f"there is no dead letter {letter}; see: deployer dead-letters list")
        if reply == ["unreadable"]:
            raise StoredValueError(
                f"dead letter {letter} does not say what to do; discard it: deployer dead-letters discard {letter}"
            )
        return Accepted("queued", "", goal=reply[0], dispatch=parse_dispatch(repository, reply[1:]))

    def discard(self, letter: str) -> None:
        """See `QueueStore.discard`."""
        repository = repository_of_letter(letter)
        with unavailable():
            if not int(self._run_operation(repository, "discard", letter)[0]):
                raise NotFoundError(f"there is no dead letter {letter}; see: deployer dead-letters list")

    def _index_letter_names(self, repository: Repository, key: str) -> None:
        """Add the stack names of a dead letter's environment to the index, because they may have been dropped."""
        with suppress(PayloadError):  # the letter is damaged, or is about a whole repository
            pipe = self._redis.pipeline(transaction=False)
            add_stack_names(pipe, Environment.from_key(repository, key))
            pipe.execute()


def _letters_key(repository: Repository | None) -> str:
    """The key of the list of the dead letters of one repository or of all."""
    return list_key(f"{DEAD} {repository.key}" if repository else DEAD)


def repository_of_letter(letter: str) -> Repository:
    """The repository that a dead letter's id names: `owner~name-token`.

    Raises:
        NotFoundError: the text is no such id.
    """
    try:
        return Repository.parse(letter.rpartition("-")[0].replace("~", "/"))
    except PayloadError as error:
        raise NotFoundError(
            f"there is no dead letter {letter[:100]}; see: deployer dead-letters list"
        ) from error


def _parse_letter(repository: Repository, name: str, text: str) -> DeadLetter:
    """Read a dead letter. One that cannot be read is shown too, because a person has to decide about it."""
    try:
        letter = DeadLetter.from_json(text)
        return (
            letter if letter.repository.lower() == repository.key else letter.but(repository=str(repository))
        )
    except StoredValueError as error:
        at = to_number(name.rpartition("-")[2]) / 1000
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
