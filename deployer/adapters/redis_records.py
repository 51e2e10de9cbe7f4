"""Changes of stored records that several processes make, and the removal of what describes nothing any more.

docs/lanes.md lists every key, who writes it and what bounds it.
"""

from collections.abc import Callable, Sequence
from typing import Any

from deployer.environments import Environment, Repository
from deployer.ledger import EnvironmentRecord

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

# KEYS[1], repository's key, then pairs of a name and an environment's key
_DROP_NAMES = """
for i = 2, #ARGV, 2 do
  local found = redis.call('HGET', KEYS[1], ARGV[i]) or ''
  local repository, environment = string.match(found, '^(.-)\\n(.*)$')
  if repository and string.lower(repository) == ARGV[1] and environment == ARGV[i + 1] then
    redis.call('HDEL', KEYS[1], ARGV[i])
  end
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


def index_names(pipe: Any, environment: Environment, in_use: str = "") -> None:
    """Let links and AWS's events find an environment by its present and its former name.

    Args:
        pipe: the commands are added to it.
        environment: which.
        in_use: the name that its record says is in use, if any: it is this environment's, whoever had it before.
    """
    value = f"{environment.repository.full_name}\n{environment.key}"
    pipe.hset(NAMES, environment.stack_name, value)
    # another branch may have the same former name, and keeps it unless this one has it in use
    if in_use in environment.stack_names[1:]:
        pipe.hset(NAMES, in_use, value)
    else:
        pipe.hsetnx(NAMES, environment.former_stack_name, value)


def drop_names(client: Any, repository: Repository, records: Sequence[EnvironmentRecord]) -> None:
    """Let no name lead to these environments any more. A name that leads to another environment stays."""
    pairs = [
        text
        for record in records
        for name in Environment.from_key(repository, record.environment).stack_names
        for text in (name, record.environment)
    ]
    for start in range(0, len(pairs), 2 * _CHUNK):
        client.eval(_DROP_NAMES, 1, NAMES, repository.key, *pairs[start : start + 2 * _CHUNK])


def drop_environments(
    client: Any, repository: Repository, records: Sequence[EnvironmentRecord], forget: Callable[[], object]
) -> None:
    """Drop records of environments and all that is stored beside them.

    Args:
        client: a connection with `decode_responses`.
        repository: whose.
        records: of which environments.
        forget: drops those of the records that may be dropped.
    """
    start, keys = prefix(repository.full_name), [record.environment for record in records]
    drop_names(
        client, repository, records
    )  # first, so that a crash in between leaves no name without its record
    forget()
    pipe = client.pipeline(transaction=False)
    for record, text in zip(records, client.hmget(f"{start}:environments", keys), strict=True):
        if text is None:  # somebody may have asked to keep it while it was deleted
            pipe.hdel(f"{start}:kept", record.environment)
        else:
            environment = Environment.from_key(repository, record.environment)
            index_names(pipe, environment, EnvironmentRecord.from_json(text).stack_name)
    pipe.execute()


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
    rest = [f"{start}:{name}" for name in ("repository", "seen", "kept", "queue", "later", "snoozed")]

    def drop(pipe: Any) -> bool:
        if pipe.exists(*holds) or pipe.hget(state, "status") not in {None, "idle"}:
            return False
        counts = pipe.hgetall(counters)
        pipe.multi()
        for name, number in counts.items():
            pipe.hincrby(TOTALS, name, int(number))
        pipe.delete(state, counters, *rest)
        pipe.expire(f"{start}:activity", _ACTIVITY_SECONDS)
        pipe.zrem(INDEX, repository.key)
        pipe.hdel(SPELLED, repository.key)
        return True

    dropped: bool = client.transaction(drop, *holds, state, counters, value_from_callable=True)
    return dropped
