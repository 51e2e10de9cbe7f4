"""Reads stored values one by one: what cannot be read is named in the log and hides nothing else."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec
import redis

from deployer.model.environments import Environment, Repository
from deployer.model.errors import DeployerError, PayloadError
from deployer.model.records import RESYNC_KEY, EnvironmentRecord, RepositoryRecord
from deployer.model.refs import Ref
from deployer.redis_store.errors import refuses_all

_log = logging.getLogger(__name__)
T = TypeVar("T")
_warned: set[str] = set()  # listings are read every few seconds
_MOST_WARNED = 1000


def skip(where: str, why: object) -> None:
    """Warn, once per process, that a value is left out.

    Args:
        where: the key, and the field if it has any.
        why: what is wrong with it.
    """
    if where in _warned or len(_warned) >= _MOST_WARNED:
        return
    _warned.add(where)
    _log.warning("%s in Redis is left out: %s; correct it or delete it there", where[:300], why)


def readable(rows: Iterable[tuple[str, str]], read: Callable[[str], T]) -> Iterator[T]:
    """The values that can be read.

    Args:
        rows: where each stands, and its text.
        read: makes a value of a text; raises `DeployerError`, `MsgspecError` or `ValueError` where it cannot.
    """
    for where, text in rows:
        try:
            yield read(text)
        except (DeployerError, msgspec.MsgspecError, ValueError) as error:
            skip(where, error)


def answered(where: str, answer: T | Exception, empty: T) -> T:
    """One answer of a pipeline that does not raise; `empty` where the key is of another type than the command needs.

    Raises:
        redis.RedisError: Redis refuses more than this command.
    """
    if not isinstance(answer, Exception):
        return answer
    if not isinstance(answer, redis.ResponseError) or refuses_all(answer):
        raise answer
    skip(where, answer)
    return empty


def is_environment(repository: Repository, key: str) -> bool:
    """Whether this is the key of an environment, or stands for the whole repository."""
    if key == RESYNC_KEY:
        return True
    try:
        Environment.from_key(repository, key)
    except PayloadError:
        return False
    return True


def environment_record(repository: Repository, text: str) -> EnvironmentRecord:
    """Read an environment's record.

    Raises:
        StoredValueError: it is no record.
        PayloadError: it names no environment of this repository, or no ref.
    """
    record = EnvironmentRecord.from_json(text)
    if record.repository.lower() != repository.key:
        raise PayloadError(f"it is of the repository {record.repository[:150]!r}")
    if record.environment != RESYNC_KEY:
        Environment.from_key(repository, record.environment)
    if record.ref:
        Ref.parse(record.ref)
    return record


def repository_record(repository: Repository, text: str) -> RepositoryRecord:
    """Read the record of a repository as a whole.

    Raises:
        StoredValueError: it is no record.
        PayloadError: it is of another repository.
    """
    record = RepositoryRecord.from_json(text)
    if record.repository.lower() != repository.key:
        raise PayloadError(f"it is of the repository {record.repository[:150]!r}")
    return record


def number(text: object, default: float = 0) -> float:
    """A number, or the default where it is none."""
    try:
        found = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return default
    return found if abs(found) < float("inf") else default
