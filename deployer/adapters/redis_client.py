"""A connection to Redis from one URL: `redis://`, `rediss://`, `unix://` or `sentinel://`."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from deployer.errors import ConfigError, UnavailableError

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
_CONNECT_SECONDS = 0.5
_ANSWER_SECONDS = 2.0  # twice at most: GitHub waits ten seconds for an answer, and should get our 503


def connect(url: str) -> redis.Redis:
    """Make a client; it connects with its first command.

    Args:
        url: `redis://host:port/db`, `rediss://...`, `unix:///path`, or
            `sentinel://[:password@]host:port[,host:port...]/<service>[/<db>][?ssl=true]`.

    Raises:
        ConfigError: the URL cannot be read; the text does not repeat it, since it may hold a password.
    """
    options: dict[str, Any] = {
        "socket_connect_timeout": _CONNECT_SECONDS,
        "socket_timeout": _ANSWER_SECONDS,
        # one quick repeat hides a connection that was closed while idle; longer waits are the caller's to decide
        "retry": Retry(NoBackoff(), 1),
        "decode_responses": True,
    }
    try:
        if not url.startswith("sentinel://"):
            return redis.Redis.from_url(url, **options)
        parts = urlsplit(url)
        credentials, _, hosts = parts.netloc.rpartition("@")
        service, _, database = parts.path.strip("/").partition("/")
        password = credentials.partition(":")[2] or None
        nodes = [(host, int(port or 26379)) for host, _, port in (n.partition(":") for n in hosts.split(","))]
        if secured := tls(url):
            options.update(secured, ssl=True)
        sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            nodes, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_ANSWER_SECONDS
        )
        client: redis.Redis = sentinel.master_for(
            service or "mymaster", db=int(database or 0), password=password, **options
        )
    except ValueError as error:
        raise ConfigError(
            "DEPLOYER_REDIS_URL is not a redis://, rediss://, unix:// or sentinel:// URL"
        ) from error
    return client


def tls(url: str) -> dict[str, Any]:
    """redis-py's options for a `rediss://` URL, or a `sentinel://` one with `ssl=true`; empty without TLS.

    Certificates are checked unless the URL itself says otherwise (`ssl_cert_reqs=none`).

    Raises:
        ConfigError: an option cannot be read.
    """
    parts = urlsplit(url)
    if parts.scheme != "rediss" and not (
        parts.scheme == "sentinel" and parse_qs(parts.query).get("ssl") == ["true"]
    ):
        return {}
    try:
        said: dict[str, Any] = dict(parse_url(f"rediss://?{parts.query}"))  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ConfigError(f"DEPLOYER_REDIS_URL: {error}") from error
    given = {name: value for name, value in said.items() if name.startswith("ssl_")}
    return {"ssl_cert_reqs": "required", **given}


def refuses_all(error: redis.ResponseError) -> bool:
    """Whether Redis refuses more than this one command: it is full, read-only, starting or in someone else's script."""
    return isinstance(error, (redis.exceptions.ReadOnlyError, redis.exceptions.OutOfMemoryError)) or str(
        error
    ).startswith(_REFUSALS)


@contextmanager
def unavailable() -> Iterator[None]:
    """Turn what redis-py raises when the server is away into `UnavailableError`."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ReadOnlyError, OSError) as error:
        raise UnavailableError(f"Redis does not answer ({type(error).__name__})") from error
    except redis.ResponseError as error:
        # out of memory, a broken disk, a script killed: nothing was recorded, and Redis may recover
        raise UnavailableError(f"Redis refused a command: {' '.join(str(error).split())[:200]}") from error
