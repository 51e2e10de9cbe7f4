"""Translates errors of redis-py into errors of deployer."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from deployer.model.errors import UnavailableError

# error codes at the start of a reply: https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors
_REFUSALS = (
    "OOM",
    "MISCONF",
    "NOREPLICAS",
    "READONLY",
    "MASTERDOWN",
    "NOAUTH",
    "NOPERM",
    "BUSY",
    "CLUSTERDOWN",
)
_CLUSTER = (redis.exceptions.AskError, redis.exceptions.ClusterCrossSlotError)  # MOVED is an AskError


class SpentError(redis.TimeoutError):
    """A command that was not sent, because the request has waited long enough or Redis hangs."""


def refuses_all_commands(error: redis.ResponseError) -> bool:
    """Whether Redis refuses other commands too: it is full, read-only, starting, or busy with another script."""
    answer = str(error).rpartition("of pipeline caused error: ")[2]  # redis-py names the command first
    permanent = (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError)
    return isinstance(error, permanent) or answer.startswith(_REFUSALS)


def refuses_one_command(error: UnavailableError) -> bool:
    """Whether Redis refused only this command, such as one for a key of another type."""
    return isinstance(error.__cause__, redis.ResponseError) and not refuses_all_commands(error.__cause__)


@contextmanager
def unavailable() -> Iterator[None]:
    """Raise `UnavailableError` instead of the errors of redis-py for a server that is unavailable."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ReadOnlyError, OSError) as error:
        if isinstance(error.__context__, ssl.SSLCertVerificationError):
            raise UnavailableError(
                f"Redis's certificate is refused: {error.__context__.verify_message}"
            ) from error
        why = str(error) if isinstance(error, SpentError) else type(error).__name__
        raise UnavailableError(f"Redis does not answer ({why})") from error
    except redis.InvalidResponse as error:
        raise UnavailableError("what answers at the address of Redis is not Redis") from error
    except _CLUSTER as error:
        raise UnavailableError("Redis runs in cluster mode, which is not supported") from error
    except redis.ResponseError as error:
        # out of memory, a broken disk, a killed script: nothing was stored, and Redis may recover
        raise UnavailableError(f"Redis refused a command: {' '.join(str(error).split())[:200]}") from error
