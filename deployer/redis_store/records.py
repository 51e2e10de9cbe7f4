"""Changes of stored records that several processes make, and the removal of what describes nothing any more.

docs/lanes.md lists every key, who writes it and what bounds it.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any

import redis

from deployer.model.environments import Environment, Kind, Repository
from deployer.model.errors import StoredValueError
from deployer.model.records import DeadLetter, EnvironmentRecord, split_key
from deployer.redis_store.connection import refuses_all

INDEX = "deployer:lanes"  # repository's key -> when to look at its lane again (ms)
SPELLED = "deployer:spelled"  # repository's key -> its name as it was last told: people type it in any case
NAMES = "deployer:names"  # stack name -> repository and environment key
TOTALS = "deployer:{-/-}:counters"  # of what belongs to no repository that is listed
UNSERVED = (
    "deployer:unserved"  # repository that the settings leave out -> when it was last told of (epoch seconds)
)
_MOST_UNSERVED = 20
_DAY = 86400
_UNSERVED_SECONDS = 30 * _DAY
_ACTIVITY_SECONDS = _DAY  # of a repository that is forgotten: whoever waits for a result still finds it
_CHUNK = 500
_COUNT = re.compile(r"-?[0-9]{1,18}")  # a number that `HINCRBY` takes; a counter may be damaged

# KEYS[1], then pairs of a name and to what it leads: dropped unless it leads to something else by now
_DROP_NAMES = """
for i = 1, #ARGV, 2 do
  if redis.call('HGET', KEYS[1], ARGV[i]) == ARGV[i + 1] then redis.call('HDEL', KEYS[1], ARGV[i]) end
end
"""


def prefix(repository: str) -> str:
    """The beginning of all keys of a repository, which puts them into one slot of a cluster."""
    return f"deployer:{{{repository.lower()}}}"


def change(client: Any, key: str, edit: Callable[[str | None], str | None]) -> None:
    """Replace the text stored at a key, unless another process replaces it meanwhile: then edit what that one stored.

    Args:
        client: a connection with `decode_responses`.
        key: of the text.
        edit: gets the text, None where there is none, and returns its replacement or None for no change. It is called
            again after each change by another process, and what it raises ends this function.

    Raises:
        redis.RedisError: Redis is away.
    """

    def replace(pipe: Any) -> None:
        text = edit(pipe.get(key))
        pipe.multi()
        if text is not None:
            pipe.set(key, text)

    client.transaction(replace, key)


def note_unserved(pipe: Any, repository: str, now: float) -> None:
    """Note that a delivery came of a repository that the settings leave out; the newest few are kept for some weeks.

    Args:
        pipe: the commands are added to it.
        repository: `owner/name`.
        now: epoch seconds by Redis's clock.
    """
    pipe.zadd(UNSERVED, {repository.lower(): now})
    pipe.zremrangebyrank(UNSERVED, 0, -_MOST_UNSERVED - 1)
    pipe.expire(UNSERVED, _UNSERVED_SECONDS)
    pipe.hincrby(TOTALS, "delivery:unserved", 1)


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
        start = prefix(repository)
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


def drop_kept(client: Any, repository: Repository, records: Sequence[EnvironmentRecord]) -> None:
    """Drop the wishes to keep environments that have no record any more: one may have come while they were deleted."""
    start = prefix(repository.full_name)
    keys = [record.environment for record in records]
    found = client.hmget(f"{start}:environments", keys)
    if gone := [key for key, text in zip(keys, found, strict=True) if text is None]:
        client.hdel(f"{start}:kept", *gone)


def drop_repository(client: Any, repository: Repository) -> bool:
    """Drop all that is stored of a repository, if it has no environment, no work and no dead letter.

    What its counters have counted is added to the totals, which never decrease. Deliveries expire by themselves.

    Returns:
        Whether it was dropped.

    Raises:
        redis.RedisError: Redis is away.
    """
    start = prefix(repository.full_name)
    holds = [f"{start}:{name}" for name in ("environments", "items", "dead")]
    state, counters = f"{start}:state", f"{start}:counters"
    rest = [
        f"{start}:{name}" for name in ("repository", "seen", "kept", "queue", "later", "snoozed", "refused")
    ]

    def drop(pipe: Any) -> bool:
        if pipe.exists(*holds) or pipe.hget(state, "status") not in {None, "idle"}:
            return False
        counts = pipe.hgetall(counters)
        pipe.multi()
        for name, number in counts.items():
            if _COUNT.fullmatch(number):
                pipe.hincrby(TOTALS, name, number)
        pipe.delete(state, counters, *rest)
        pipe.expire(f"{start}:activity", _ACTIVITY_SECONDS)
        pipe.zrem(INDEX, repository.key)
        pipe.hdel(SPELLED, repository.key)
        return True

    dropped: bool = client.transaction(drop, *holds, state, counters, value_from_callable=True)
    return dropped
