"""Reads stored values one by one, so that an unreadable value hides no other value."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec
import redis

from deployer.model.environment_record import EnvironmentRecord
from deployer.model.environments import Environment, Repository
from deployer.model.errors import DeployerError, PayloadError
from deployer.model.refs import Ref
from deployer.model.repository_record import RepositoryRecord
from deployer.queue.items import RESYNC_KEY
from deployer.redis_store.errors import refuses_all_commands

_log = logging.getLogger(__name__)
T = TypeVar("T")
_warned: set[str] = set()  # pages read the same values every few seconds
_MOST_WARNED = 1000


def warn_unreadable(where: str, why: object) -> None:
    """Log, once per process, that a value cannot be read.

    Args:
        where: the key, with the field of a hash.
        why: what is wrong with the value.
    """
    if where in _warned or len(_warned) >= _MOST_WARNED:
        return
    _warned.add(where)
    _log.warning("%s in Redis is left out: %s; correct it or delete it there", where[:300], why)


def read_valid(rows: Iterable[tuple[str, str]], read: Callable[[str], T]) -> Iterator[T]:
    """Yield the values that can be read; the others are named in the log.

    Args:
        rows: the key (and field) and the text of each value.
        read: parses a text; raises `DeployerError`, `MsgspecError` or `ValueError` if the text is invalid.
    """
    for where, text in rows:
        try:
            yield read(text)
        except (DeployerError, msgspec.MsgspecError, ValueError) as error:
            warn_unreadable(where, error)


def value_or_default(where: str, answer: T | Exception, empty: T) -> T:
    """One answer of a pipeline with `raise_on_error=False`; `empty` if the key has another type than the command needs.

    Raises:
        redis.RedisError: Redis refuses other commands too.
    """
    if not isinstance(answer, Exception):
        return answer
    if not isinstance(answer, redis.ResponseError) or refuses_all_commands(answer):
        raise answer
    warn_unreadable(where, answer)
    return empty


def is_environment_key(repository: Repository, key: str) -> bool:
    """Whether this is the key of an environment, or `RESYNC_KEY`."""
    if key == RESYNC_KEY:
        return True
    try:
        Environment.from_key(repository, key)
    except PayloadError:
        return False
    return True


def parse_environment_record(repository: Repository, text: str) -> EnvironmentRecord:
    """Read an environment's record.

    Raises:
        StoredValueError: the text is no record.
        PayloadError: the record names no environment of this repository, or no ref.
    """
    record = EnvironmentRecord.from_json(text)
    if record.repository.lower() != repository.key:
        raise PayloadError(f"it is of the repository {record.repository[:150]!r}")
    if record.environment != RESYNC_KEY:
        Environment.from_key(repository, record.environment)
    if record.spec.ref:
        Ref.parse(record.spec.ref)
    return record


def parse_repository_record(repository: Repository, text: str) -> RepositoryRecord:
    """Read the record of a repository as a whole.

    Raises:
        StoredValueError: the text is no record.
        PayloadError: the record is of another repository.
    """
    record = RepositoryRecord.from_json(text)
    if record.repository.lower() != repository.key:
        raise PayloadError(f"it is of the repository {record.repository[:150]!r}")
    return record


def to_number(text: object, default: float = 0) -> float:
    """A finite number; the default if it is none."""
    try:
        found = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default
    return found if abs(found) < float("inf") else default
