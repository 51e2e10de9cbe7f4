"""The index of stack names."""

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any

import redis

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import PayloadError, StoredValueError
from deployer.model.records import DeadLetter, split_key
from deployer.redis_store.errors import refuses_all, unavailable
from deployer.redis_store.records.environments import EnvironmentRecords
from deployer.redis_store.records.repository_index import repository_prefix
from deployer.redis_store.records.values import skip

_BATCH = 1000  # records whose names are written at a time
NAMES = "deployer:names"  # stack name -> repository and environment key
_CHUNK = 500
# KEYS[1], then pairs of a name and to what it leads: dropped unless it leads to something else by now
_DROP_NAMES = """
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
"""


class StackNames(EnvironmentRecords):
    """Implements these parts of `Lanes`."""

    def find(self, stack_name: str) -> Environment | None:
        """See `Lanes.find`."""
        with unavailable():
            text = self._redis.hget(NAMES, stack_name)
        if not text:
            return None
        repository, _, key = text.partition("\n")
        try:
            return Environment.from_key(Repository.parse(repository), key)
        except PayloadError as error:
            skip(f"{stack_name} of {NAMES}", error)
            return None

    def index_names(self) -> None:
        """See `Lanes.index_names`."""
        records = self.environments()
        for start in range(0, len(records), _BATCH):
            with unavailable():
                pipe = self._redis.pipeline(transaction=False)
                for record in records[start : start + _BATCH]:
                    with suppress(PayloadError):  # such a record has no page
                        repository = Repository.parse(record.repository)
                        index_names(pipe, Environment.from_key(repository, record.environment))
                pipe.execute()
        with unavailable():
            drop_names(self._redis)


def index_names(pipe: Any, environment: Environment) -> None:
    """Let links and AWS's events find an environment by its present and its former name.

    Args:
        pipe: the commands are added to it.
        environment: which.
    """
    value = f"{environment.repository.full_name}\n{environment.key}"
    pipe.hset(NAMES, environment.stack_name, value)
    # Another branch may have the same former name, and must not take it over.
    pipe.hsetnx(NAMES, environment.former_stack_name, value)


def drop_names(client: Any) -> None:
    """Drop every name that leads to an environment without a record, without work and without a dead letter.

    Work that comes meanwhile has written its names before, so what was dropped is looked at once more.
    """
    last = 0
    while True:
        last, found = client.hscan(NAMES, last, count=_CHUNK)
        unknown = [
            name for name, known in zip(found, _are_known(client, found.values()), strict=True) if not known
        ]
        pairs = [text for name in unknown for text in (name, found[name])]
        if pairs:
            client.eval(_DROP_NAMES, 1, NAMES, *pairs)
        for name, known in zip(unknown, _are_known(client, [found[each] for each in unknown]), strict=True):
            if known:
                client.hsetnx(NAMES, name, found[name])
        if not last:
            return


def _are_known(client: Any, values: Iterable[str]) -> list[bool]:
    """Whether each environment, as the names lead to it, has a record, waits, runs or has a dead letter.

    One counts as known where a key has another type, because nobody can say what that key held.
    """
    pairs = []
    pipe = client.pipeline(transaction=False)
    for value in values:
        repository, _, environment = value.partition("\n")
        start = repository_prefix(repository)
        pairs.append((start, environment))
        pipe.hexists(f"{start}:environments", environment)
        # candidates for production have keys of their own
        pipe.hkeys(f"{start}:items") if environment == Kind.PRODUCTION else pipe.hexists(
            f"{start}:items", environment
        )
        pipe.hget(f"{start}:state", "env")
    found = pipe.execute(raise_on_error=False)
    for each in found:
        if isinstance(each, Exception):
            _check_refusal(each)
    rows = zip(pairs, found[::3], found[1::3], found[2::3], strict=True)
    known = {
        pair
        for pair, recorded, waits, runs in rows
        if recorded
        or isinstance(runs, Exception)
        or split_key(runs or "")[0] == pair[1]
        or _waits(waits, pair[1])
    }
    # after the rest, because a task may end as a dead letter meanwhile
    known |= _with_dead_letters(client, {pair for pair in pairs if pair not in known})
    return [pair in known for pair in pairs]


def _waits(found: Any, environment: str) -> bool:
    """Whether an item of an environment waits, by Redis's answer: whether there is one, all keys, or an error."""
    return any(split_key(key)[0] == environment for key in found) if isinstance(found, list) else bool(found)


def _with_dead_letters(client: Any, pairs: Collection[tuple[str, str]]) -> set[tuple[str, str]]:
    """Which of these environments, each with the beginning of its repository's keys, have a dead letter."""
    found: set[tuple[str, str]] = set()
    for start in {start for start, _ in pairs}:  # one by one, because dead letters are long
        try:
            texts = client.hvals(f"{start}:dead")
        except redis.ResponseError as error:
            _check_refusal(error)
            found |= {pair for pair in pairs if pair[0] == start}
            continue
        for text in texts:
            with suppress(StoredValueError):  # such a letter cannot be replayed
                found.add((start, DeadLetter.from_json(text).arguments.environment))
    return found


def _check_refusal(error: Exception) -> None:
    """Return if Redis has refused one command only, since its key has another type.

    Raises:
        Exception: the error, which is about more than that.
    """
    if not isinstance(error, redis.ResponseError) or refuses_all(error):
        raise error
