"""A connection to Redis from one URL: `redis://`, `rediss://`, `unix://` or `sentinel://`."""

import ssl
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry as RedisRetry
from redis.sentinel import Sentinel

from deployer.model.errors import ConfigError
from deployer.model.redis_url import SETTING, RedisUrl, parse_redis_url
from deployer.redis_store.circuit_breaker import RedisCircuitBreaker
from deployer.redis_store.errors import unavailable
from deployer.redis_store.sharing_client import SharingClient

_CONNECT_SECONDS = 0.5
_ANSWER_SECONDS = 2.0  # a slow fsync is no reason to fail a task
_SENTINEL_SECONDS = 1.0
_HASTY_SENTINEL_SECONDS = 0.35  # half of the time that a web request waits for an answer


def connect(url: str, budget: RedisCircuitBreaker | None = None) -> redis.Redis:
    """Make a client; it connects with its first command.

    Args:
        url: an address of Redis; `deployer.model.redis_url` has its forms.
        budget: limits the waits of each request; without one every command waits by itself.

    Raises:
        ConfigError: the URL is malformed; the error does not repeat it, because it may contain a password.
    """
    address = parse_redis_url(url)
    options: dict[str, Any] = {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        "socket_connect_timeout": _CONNECT_SECONDS,
        "socket_timeout": _ANSWER_SECONDS,
        # One quick repeat hides a connection that was closed while idle. The caller decides about longer waits, because
        # a command without an answer may have been carried out.
        "retry": RedisRetry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        "decode_responses": True,
        # A value that is not UTF-8 fails where it is read, and not the whole answer that contains it.
        "encoding_errors": "backslashreplace",
    }
    if address.tls is not None:
        options.update(address.tls, ssl=True)
    kind = SharingClient if budget else redis.Redis
    if address.scheme == "sentinel":
        sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            list(address.nodes), sentinel_kwargs=sentinel_options(address, in_haste=budget is not None)
        )
        client: redis.Redis = sentinel.master_for(address.service, redis_class=kind, **options)
    elif address.scheme == "unix":
        client = kind(unix_socket_path=address.path, **options)
    else:
        ((host, port),) = address.nodes
        client = kind(host=host, port=port, **options)
    if budget:
        budget.bind(client)
    return client


def sentinel_options(address: RedisUrl, *, in_haste: bool) -> dict[str, Any]:
    """redis-py's options for the connections to the Sentinels themselves.

    Args:
        address: has their user and password.
        in_haste: whether a web request waits; it must have time for another Sentinel if one hangs.
    """
    seconds = _HASTY_SENTINEL_SECONDS if in_haste else _SENTINEL_SECONDS
    return {
        "username": address.sentinel_username,
        "password": address.sentinel_password,
        "socket_connect_timeout": seconds,
        "socket_timeout": seconds,
        "retry": RedisRetry(
            NoBackoff(), 0
        ),  # redis-py's default waits for seconds before it asks another Sentinel
    }


def check_certificates(address: RedisUrl) -> None:
    """Check the files that the URL names for TLS, because redis-py would only report that Redis is unavailable.

    Raises:
        ConfigError: a file cannot be read, or has another content than expected; names the option.
    """
    given = address.tls or {}
    context = ssl.create_default_context()
    if (directory := given.get("ssl_ca_path")) and not Path(directory).is_dir():
        raise ConfigError(f"{SETTING}: ssl_ca_path is not a directory; correct it")
    option = "ssl_ca_certs"
    try:
        if file := given.get(option):
            context.load_verify_locations(file)
        option = "ssl_certfile"
        if file := given.get(option):
            # without a password OpenSSL asks for one at the terminal
            context.load_cert_chain(file, given.get("ssl_keyfile"), given.get("ssl_password", ""))
    except OSError as error:  # ssl.SSLError is one
        readable = not isinstance(error, FileNotFoundError | PermissionError)
        why = "not a valid PEM file" if readable else error.strerror
        raise ConfigError(f"{SETTING}: the file of {option} cannot be used ({why}); correct it") from error


def read_server(client: redis.Redis) -> dict[str, str]:
    """Read the server's memory, persistence and cluster mode, by the names of `INFO`.

    Raises:
        UnavailableError: Redis is unavailable, or does not allow `INFO`.
    """
    pipe = client.pipeline(transaction=False)
    for section in ("memory", "persistence", "cluster"):  # several at once need Redis 7
        pipe.info(section)
    with unavailable():
        parts = pipe.execute()
    return {name: str(value) for part in parts for name, value in part.items()}
