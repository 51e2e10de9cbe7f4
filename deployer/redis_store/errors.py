"""The errors of redis-py as the errors of deployer."""

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
    """A command that was not sent: the request has waited enough, or Redis hangs, which a thread of its own watches."""


def refuses_all(error: redis.ResponseError) -> bool:
    """Whether Redis refuses more than this one command: it is full, read-only, starting or in someone else's script."""
    answer = str(error).rpartition("of pipeline caused error: ")[2]  # redis-py names the command first
    lasting = (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError)
    return isinstance(error, lasting) or answer.startswith(_REFUSALS)


def refuses_one(error: UnavailableError) -> bool:
    """Whether Redis answers and has refused nothing but this command, such as one for a key of another type."""
    return isinstance(error.__cause__, redis.ResponseError) and not refuses_all(error.__cause__)


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn what redis-py raises when the server is away into `UnavailableError`."""
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
        # out of memory, a broken disk, a script killed: nothing was recorded, and Redis may recover
        raise UnavailableError(f"Redis refused a command: {' '.join(str(error).split())[:200]}") from error
