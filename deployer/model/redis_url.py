"""The address of Redis (DEPLOYER_REDIS_URL), parsed once for both of its clients.

redis-py, which deployer uses, and kombu, which Celery uses, understand different URL options. If only one of them knows
an option, the other fails with a traceback or ignores it. Therefore this module parses the URL and accepts only options
that mean the same to both, and both clients are made from the result.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from deployer.model.errors import ConfigError

SETTING = "DEPLOYER_REDIS_URL"
_FORMS = "redis://, rediss://, unix:// or sentinel://"
_REDIS_PORT, _SENTINEL_PORT = 6379, 26379
_COMMON_OPTIONS = ("db", "username", "password")
_SENTINEL_OPTIONS = ("ssl", "sentinel_username", "sentinel_password")
_TLS_OPTIONS = (
    "ssl_ca_certs",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_keyfile",
    "ssl_min_version",
    "ssl_password",
)
_YES, _NO = {"true", "yes", "1"}, {"false", "no", "0"}
_TLS_VERSIONS = {"771": 771, "772": 772}  # ssl.TLSVersion.TLSv1_2 and TLSv1_3; redis-py takes the number
_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """The address of Redis and the credentials for it.

    Attributes:
        scheme: `redis`, `rediss`, `unix` or `sentinel`.
        nodes: host and port of the server, or of each Sentinel; empty for a socket.
        path: the path of a Unix socket.
        service: the name of the servers in the Sentinels' settings.
        database: the number of the database.
        username, password: for the servers that hold data.
        sentinel_username, sentinel_password: for the Sentinels themselves.
        tls: redis-py's `ssl_` options, or None without TLS. Connections to a Sentinel itself use no TLS.
    """

    scheme: str
    nodes: tuple[tuple[str, int], ...] = ()
    path: str = ""
    service: str = ""
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    tls: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def credentials(self) -> str:
        """User and password in the form that precedes the host of a URL, encoded; empty without them."""
        if self.username is None and self.password is None:
            return ""
        password = "" if self.password is None else f":{quote(self.password, safe='')}"
        return f"{quote(self.username or '', safe='')}{password}@"


def parse_redis_url(url: str) -> RedisUrl:
    """Parse an address of Redis.

    Args:
        url: `redis://[user:password@]host[:port][/db]`, `rediss://...` for TLS, `unix://[user:password@]/path[?db=1]`,
            or `sentinel://[user:password@]host[:port][,host[:port]...]/service[/db][?ssl=true]`.

    Raises:
        ConfigError: redis-py or kombu would not accept it. The message is one line with the remedy, and quotes no
            value, because any part of the URL may contain a password.
    """
    try:
        parts = urlsplit(url)
        if parts.scheme == "sentinel":
            return _parse_sentinel_url(parts)
        if parts.scheme == "unix":
            return _parse_socket_url(parts)
        if parts.scheme in {"redis", "rediss"} and "://" in url:
            return _parse_server_url(parts)
    except ValueError:
        pass  # an unreadable port or IPv6 address
    raise ConfigError(
        f"{SETTING} is not a {_FORMS} URL; write / ? # @ % : in a user or password encoded, as %2F"
    )


def _parse_server_url(parts: SplitResult) -> RedisUrl:
    tls = parts.scheme == "rediss"
    options = _options(parts, _COMMON_OPTIONS + (_TLS_OPTIONS if tls else ()))
    node = (unquote(parts.hostname or "localhost"), _port(parts.port, _REDIS_PORT))
    username, password = _login(parts.username, parts.password, options)
    return RedisUrl(
        parts.scheme,
        (node,),
        database=_database(parts.path.removeprefix("/").removesuffix("/"), options),
        username=username,
        password=password,
        tls=_tls_options(options) if tls else None,
    )


def _parse_socket_url(parts: SplitResult) -> RedisUrl:
    options = _options(parts, _COMMON_OPTIONS)
    if parts.hostname or not parts.path.strip("/"):
        raise ConfigError(f"{SETTING} has no path of a socket; write unix:///path/to/redis.sock")
    username, password = _login(parts.username, parts.password, options)
    return RedisUrl(
        "unix",
        path=unquote(parts.path),
        database=_database("", options),
        username=username,
        password=password,
    )


def _parse_sentinel_url(parts: SplitResult) -> RedisUrl:
    options = _options(parts, _COMMON_OPTIONS + _SENTINEL_OPTIONS + _TLS_OPTIONS)
    secured = "ssl" in options and _read_flag("ssl", options["ssl"])
    if not secured and any(name in options for name in _TLS_OPTIONS):
        raise ConfigError(f"{SETTING} has options for TLS but not ssl=true; add it")
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, password = _login(*credentials.partition(":")[::2], options)
    service, _, database = parts.path.removeprefix("/").removesuffix("/").partition("/")
    sentinel_username, sentinel_password = _sentinel_login(password, options)
    return RedisUrl(
        "sentinel",
        tuple(_sentinel_node(each) for each in hosts.split(",")),
        service=unquote(service) or "mymaster",
        database=_database(database, options),
        username=username,
        password=password,
        sentinel_username=sentinel_username,
        sentinel_password=sentinel_password,
        tls=_tls_options(options) if secured else None,
    )


def _sentinel_node(text: str) -> tuple[str, int]:
    found = urlsplit(f"//{text}")
    if not found.hostname or found.username is not None:
        raise ValueError(text)
    return unquote(found.hostname), _port(found.port, _SENTINEL_PORT)


def _port(port: int | None, default: int) -> int:
    if port == 0:
        raise ValueError(port)
    return port or default


def _options(parts: SplitResult, known: tuple[str, ...]) -> dict[str, str]:
    """The options after the question mark.

    Raises:
        ConfigError: an option is unknown or occurs twice.
        ValueError: the text after the question mark belongs to a password that was not encoded.
    """
    if "@" in parts.query:
        raise ValueError("an @ that is not encoded")
    options: dict[str, str] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:
            raise ConfigError(_unknown_option_text(name, parts, known))
        if name in options:
            raise ConfigError(f"{SETTING} has the option {name} twice; remove one")
        options[name] = value
    return options


def _unknown_option_text(name: str, parts: SplitResult, known: tuple[str, ...]) -> str:
    if name in _TLS_OPTIONS or name == "ssl":
        remedy = "remove it" if parts.scheme in {"rediss", "unix"} else "write rediss:// for TLS"
        return f"{SETTING} has the option {name}, which a {parts.scheme}:// URL does not take; {remedy}"
    is_name = name.isidentifier() and name.isascii() and len(name) <= _LONGEST_NAME
    which = f"the option {name}" if is_name else "an option"
    return f"{SETTING} has {which}, which is not supported; remove it: only {', '.join(known)} are"


def _login(
    username: str | None, password: str | None, options: Mapping[str, str]
) -> tuple[str | None, str | None]:
    """User and password for the servers that hold data: from before the host, or else from the options."""
    return (
        unquote(username or "") or options.get("username") or None,
        unquote(password or "") or options.get("password") or None,
    )


def _sentinel_login(password: str | None, options: Mapping[str, str]) -> tuple[str | None, str | None]:
    """User and password for the Sentinels.

    Without options for them, the Sentinels get the password of the servers, because both are often the same. A Sentinel
    without a password accepts any password from the user `default` (https://redis.io/docs/latest/commands/auth/).

    Raises:
        ConfigError: a user is given without a password.
    """
    password = options.get("sentinel_password", password) or None
    username = options.get("sentinel_username") or ("default" if password else None)
    if username and not password:
        raise ConfigError(
            f"{SETTING} has the option sentinel_username without a password; add sentinel_password"
        )
    return username, password


def _database(in_path: str, options: Mapping[str, str]) -> int:
    """The number of the database, from the path or from the option `db`.

    Raises:
        ConfigError: the text is not a number, or both are given.
    """
    if in_path and "db" in options:
        raise ConfigError(f"{SETTING} names a database in its path and as the option db; remove one")
    text = options.get("db", in_path or "0")
    if not (text.isascii() and text.isdecimal() and len(text) <= 6):
        raise ConfigError(f"{SETTING} names a database that is not a number; write one such as 0")
    return int(text)


def _tls_options(options: Mapping[str, str]) -> dict[str, Any]:
    """redis-py's options for TLS. Certificates and host names are verified unless the URL says otherwise.

    Raises:
        ConfigError: an option is malformed, or requires another one that is missing.
    """
    given: dict[str, Any] = {name: value for name, value in options.items() if name in _TLS_OPTIONS}
    if empty := next((name for name, value in given.items() if not value), ""):
        raise ConfigError(f"{SETTING} has the option {empty} without a value; give it one, or remove it")
    checked = given.setdefault("ssl_cert_reqs", "required")
    if checked not in {"none", "optional", "required"}:
        raise ConfigError(
            f"{SETTING} has an ssl_cert_reqs that is not none, optional or required; correct it"
        )
    # without a certificate there is no host name to check, and Python refuses the combination
    given["ssl_check_hostname"] = checked != "none" and _read_flag(
        "ssl_check_hostname", given.get("ssl_check_hostname", "true")
    )
    if "ssl_min_version" in given:
        if given["ssl_min_version"] not in _TLS_VERSIONS:
            raise ConfigError(
                f"{SETTING} has an ssl_min_version that is not 771 (TLS 1.2) or 772 (1.3); correct it"
            )
        given["ssl_min_version"] = _TLS_VERSIONS[given["ssl_min_version"]]
    if "ssl_keyfile" in given and "ssl_certfile" not in given:
        raise ConfigError(f"{SETTING} has the option ssl_keyfile without ssl_certfile; add it")
    return given


def _read_flag(name: str, value: str) -> bool:
    if value.lower() not in _YES | _NO:
        raise ConfigError(f"{SETTING} has the option {name} with neither true nor false; correct it")
    return value.lower() in _YES
