"""The index of stack names, which finds the environment of a stack or pipeline."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

import redis

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PayloadError, StoredValueError
from deployer.queue.dead_letter_record import DeadLetter
from deployer.queue.items import split_key
from deployer.redis_store.errors import refuses_all_commands, unavailable
from deployer.redis_store.records.environments import EnvironmentRecords
from deployer.redis_store.records.repository_index import repository_prefix
from deployer.redis_store.records.values import warn_unreadable

_BATCH = 1000  # records whose names are written in one pipeline
STACK_NAMES = "deployer:names"  # stack name -> repository and key of the environment
_CHUNK = 500
# KEYS[1], ARGV: pairs of a name and its value. A name whose value has changed meanwhile stays.
_DROP_NAMES = """
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
"""


class StackNames(EnvironmentRecords):
    """Implements the methods of `QueueStore` for stack names."""

    def find(self, stack_name: str) -> Environment | None:
        """See `QueueStore.find`."""
        with unavailable():
            text = self._redis.hget(STACK_NAMES, stack_name)
        if not text:
            return None
        repository, _, key = text.partition("\n")
        try:
            return Environment.from_key(Repository.parse(repository), key)
        except PayloadError as error:
            warn_unreadable(f"{stack_name} of {STACK_NAMES}", error)
            return None

    def index_stack_names(self) -> None:
        """See `QueueStore.index_stack_names`."""
        records = self.environments()
        for start in range(0, len(records), _BATCH):
            with unavailable():
                pipe = self._redis.pipeline(transaction=False)
                for record in records[start : start + _BATCH]:
                    with suppress(PayloadError):  # a record without a valid key has no page
                        repository = Repository.parse(record.repository)
                        add_stack_names(pipe, Environment.from_key(repository, record.environment))
                pipe.execute()
        with unavailable():
            drop_unused_names(self._redis)


def add_stack_names(pipe: Any, environment: Environment) -> None:
    """Let links and AWS's events find an environment by its present and its former stack name.

    Args:
        pipe: the commands are added to it.
        environment: the environment.
    """
    value = f"{environment.repository.full_name}\n{environment.key}"
    pipe.hset(STACK_NAMES, environment.stack_name, value)
    # Another branch may have the same former name, and must not take it over.
    pipe.hsetnx(STACK_NAMES, environment.former_stack_name, value)


def drop_unused_names(client: Any) -> None:
    """Delete the names of environments that have no record, no queue item and no dead letter.

    A new item writes its names before it enters the queue. So each deleted name is checked once more, and written again
    if it is in use.
    """
    cursor = 0
    while True:
        cursor, found = client.hscan(STACK_NAMES, cursor, count=_CHUNK)
        unknown = [
            name
            for name, known in zip(found, _environments_are_known(client, found.values()), strict=True)
            if not known
        ]
        pairs = [text for name in unknown for text in (name, found[name])]
        if pairs:
            client.eval(_DROP_NAMES, 1, STACK_NAMES, *pairs)
        for name, known in zip(
            unknown, _environments_are_known(client, [found[each] for each in unknown]), strict=True
        ):
            if known:
                client.hsetnx(STACK_NAMES, name, found[name])
        if not cursor:
            return


def _environments_are_known(client: Any, values: Iterable[str]) -> list[bool]:
    """Whether the environment of each value of the index has a record, a queue item or a dead letter.

    If a key of its repository has another type, the environment counts as in use, because nobody knows what the key
    held.
    """
    pairs = []
    pipe = client.pipeline(transaction=False)
    for value in values:
        repository, _, environment = value.partition("\n")
        prefix = repository_prefix(repository)
        pairs.append((prefix, environment))
        pipe.hexists(f"{prefix}:environments", environment)
        # candidates for production have keys of their own
        pipe.hkeys(f"{prefix}:items") if environment == Kind.PRODUCTION else pipe.hexists(
            f"{prefix}:items", environment
        )
        pipe.hget(f"{prefix}:state", "env")
    found = pipe.execute(raise_on_error=False)
    for each in found:
        if isinstance(each, Exception):
            _raise_unless_wrong_type(each)
    rows = zip(pairs, found[::3], found[1::3], found[2::3], strict=True)
    known = {
        pair
        for pair, recorded, waits, runs in rows
        if recorded
        or isinstance(runs, Exception)
        or split_key(runs or "")[0] == pair[1]
        or _has_waiting_item(waits, pair[1])
    }
    # read after the rest, because a running item may become a dead letter meanwhile
    known |= _with_dead_letters(client, {pair for pair in pairs if pair not in known})
    return [pair in known for pair in pairs]


def _has_waiting_item(found: Any, environment: str) -> bool:
    """Whether an item of an environment waits. `found` is whether its key exists, all keys of items, or an error."""
    return any(split_key(key)[0] == environment for key in found) if isinstance(found, list) else bool(found)


def _with_dead_letters(client: Any, pairs: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these environments have a dead letter; each is a pair of its repository's key prefix and its own key."""
    found: set[tuple[str, str]] = set()
    for prefix in {prefix for prefix, _ in pairs}:  # one repository at a time, because dead letters are long
        try:
            texts = client.hvals(f"{prefix}:dead")
        except redis.ResponseError as error:
            _raise_unless_wrong_type(error)
            found |= {pair for pair in pairs if pair[0] == prefix}
            continue
        for text in texts:
            with suppress(StoredValueError):  # such a letter cannot be replayed
                found.add((prefix, DeadLetter.from_json(text).arguments.environment))
    return found


def _raise_unless_wrong_type(error: Exception) -> None:
    """Return if Redis has refused only one command, because its key has another type.

    Raises:
        Exception: the error, if it concerns more than that.
    """
    if not isinstance(error, redis.ResponseError) or refuses_all_commands(error):
        raise error
