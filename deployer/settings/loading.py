"""Reads the settings from environment variables and checks them whole.

The names are fixed by the documentation. `ssm:/path/name` and `secretsmanager:name` are resolved by a function that
the composition root hands in, since the core knows no AWS.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

from deployer.model.durations import duration
from deployer.model.environments import Kind
from deployer.model.errors import ConfigError
from deployer.model.redis_url import SETTING as REDIS_SETTING
from deployer.model.redis_url import parse_redis_url
from deployer.model.targets import Target
from deployer.settings.targets import read_targets
from deployer.settings.values import Config

_REFERENCE = ("ssm:", "secretsmanager:")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,99}")
_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]-]+/[A-Za-z0-9_.*?\[\]-]+")
THIS_MACHINE = {"127.0.0.1", "::1", "localhost"}
_SANDBOX = "DEPLOYER_SANDBOX_"  # the simulators' own, which no process of deployer reads
REQUIRED_FOR_WEB = ("webhook_secrets", "repositories")
REQUIRED_FOR_WORKER = ("artifact_bucket", "github_token")


def load(env: Mapping[str, str], resolve: Callable[[str], str] | None = None) -> Config:
    """Read and check the settings.

    Args:
        env: the environment variables.
        resolve: returns the value behind an `ssm:` or `secretsmanager:` reference.

    Raises:
        ConfigError: one is malformed or missing; one line that names it.
    """

    def text(name: str, default: str = "") -> str:
        value = env.get(name, "").strip() or default
        if is_reference(value):
            return _resolved(name, value, resolve)
        return value

    def number(name: str, default: float, low: float, high: float, *, whole: bool = False) -> float:
        value = text(name, str(default))
        try:
            found = float(value)
        except ValueError:
            found = float("nan")
        if not low <= found <= high or (whole and not found.is_integer()):
            kind = "whole number" if whole else "number"
            raise ConfigError(f"{name} is {value[:40]!r}; it must be a {kind} from {low:g} to {high:g}")
        return found

    def url(name: str, default: str, *schemes: str) -> str:
        value = text(name, default)
        if value and not _is_url(value, schemes):  # it is not quoted: it may hold a password
            *most, last = (f"{scheme}://" for scheme in schemes)
            raise ConfigError(f"{name} is not a {', '.join(most)} or {last} URL")
        return value.rstrip("/")

    def time_to_live(name: str) -> str:
        value = text(name, "never")
        try:
            duration(value)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error
        return value

    def flag(name: str) -> bool:
        value = text(name, "no").lower()
        if value not in {"yes", "no"}:
            raise ConfigError(f"{name} is {value[:40]!r}; it must be yes or no")
        return value == "yes"

    def listed(name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in text(name).split(",") if part.strip())

    repositories = listed("DEPLOYER_REPOSITORIES")
    for pattern in repositories:
        if not _PATTERN.fullmatch(pattern):
            raise ConfigError(f"DEPLOYER_REPOSITORIES has {pattern[:80]!r}, which is no owner/repo pattern")
    level = text("DEPLOYER_LOG_LEVEL", "INFO").upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ConfigError(f"DEPLOYER_LOG_LEVEL is {level[:40]!r}; it must be DEBUG, INFO, WARNING or ERROR")
    app_id = text("DEPLOYER_GITHUB_APP_ID")
    app_key = text("DEPLOYER_GITHUB_APP_PRIVATE_KEY").replace("\\n", "\n")
    if bool(app_id) != bool(app_key):
        raise ConfigError("DEPLOYER_GITHUB_APP_ID and DEPLOYER_GITHUB_APP_PRIVATE_KEY must be set together")
    config = Config(
        redis_url=_checked_redis_url(text(REDIS_SETTING, "redis://127.0.0.1:6379/0")),
        webhook_secrets=listed("DEPLOYER_GITHUB_WEBHOOK_SECRET"),
        github_token=text("DEPLOYER_GITHUB_TOKEN"),
        github_app_id=app_id,
        github_app_private_key=app_key,
        github_api_url=url("DEPLOYER_GITHUB_API_URL", "https://api.github.com", "http", "https"),
        repositories=repositories,
        artifact_bucket=text("DEPLOYER_ARTIFACT_BUCKET"),
        connection_arn=text("DEPLOYER_CONNECTION_ARN"),
        targets_text=_content("DEPLOYER_TARGETS", text("DEPLOYER_TARGETS")),
        aws_rate=number("DEPLOYER_AWS_RATE", 1, 0.01, 1000),
        aws_event_key=text("DEPLOYER_AWS_EVENT_KEY"),
        api_token=text("DEPLOYER_API_TOKEN"),
        trusted_proxy_header=text("DEPLOYER_TRUSTED_PROXY_HEADER"),
        trusted_proxies=listed("DEPLOYER_TRUSTED_PROXIES"),
        public_url=url("DEPLOYER_PUBLIC_URL", "", "http", "https"),
        lease_seconds=number("DEPLOYER_LEASE_SECONDS", 60, 1, 3600),
        grace_seconds=number("DEPLOYER_GRACE_SECONDS", 10, 0.5, 600),
        max_attempts=int(number("DEPLOYER_MAX_ATTEMPTS", 6, 1, 100, whole=True)),
        retry_seconds=number("DEPLOYER_RETRY_SECONDS", 15, 0.05, 3600),
        poll_seconds=number("DEPLOYER_POLL_SECONDS", 4, 0.05, 600),
        resync_seconds=number("DEPLOYER_RESYNC_SECONDS", 3600, 0, 7 * 86400),
        orphan_seconds=number("DEPLOYER_ORPHAN_SECONDS", 3600, 0, 30 * 86400),
        ttl=time_to_live("DEPLOYER_TTL"),
        tag_wait_seconds=number("DEPLOYER_TAG_WAIT_SECONDS", 60, 0, 3600),
        drain_seconds=number("DEPLOYER_DRAIN_SECONDS", 30, 0, 3600),
        concurrency=int(number("DEPLOYER_CONCURRENCY", 4, 1, 256, whole=True)),
        web_host=text("DEPLOYER_WEB_HOST", "127.0.0.1"),
        web_port=int(number("DEPLOYER_WEB_PORT", 8080, 1, 65535, whole=True)),
        # the memory and disk that all share must leave each room for a body of 25 MB
        web_processes=int(number("DEPLOYER_WEB_PROCESSES", 1, 1, 8, whole=True)),
        webhook_port=int(number("DEPLOYER_WEBHOOK_PORT", 0, 0, 65535, whole=True)),
        data_dir=text("DEPLOYER_DATA_DIR", ".deployer"),
        log_level=level,
        sandbox=flag("DEPLOYER_SANDBOX"),
        unfenced=flag("DEPLOYER_UNFENCED"),
        give_token=flag("DEPLOYER_GIVE_TOKEN"),
    )
    _check(config)
    return config


def _check(config: Config) -> None:
    """Check what several settings must be together.

    Raises:
        ConfigError: they contradict each other; one line that names one of them.
    """
    if config.sandbox and urlsplit(config.github_api_url).hostname not in THIS_MACHINE:
        # the sandbox's secrets are public: nobody may get them together with the real GitHub
        raise ConfigError("DEPLOYER_SANDBOX is yes, but DEPLOYER_GITHUB_API_URL is not on this machine")
    if config.webhook_port == config.web_port:
        raise ConfigError("DEPLOYER_WEBHOOK_PORT is the port of DEPLOYER_WEB_PORT; set another one, or none")
    _check_proxies(config.trusted_proxy_header, config.trusted_proxies)
    read_targets(config.targets_text, Target(Kind.DEVELOPMENT))


def _check_proxies(header: str, proxies: tuple[str, ...]) -> None:
    """Check the settings by which a proxy vouches for users.

    Raises:
        ConfigError: one is malformed, or is set without the other; one line that names it.
    """
    if bool(header) != bool(proxies):
        raise ConfigError("DEPLOYER_TRUSTED_PROXY_HEADER and DEPLOYER_TRUSTED_PROXIES must be set together")
    if header and (not _HEADER.fullmatch(header) or header.lower() in {"authorization", "host", "cookie"}):
        raise ConfigError(
            f"DEPLOYER_TRUSTED_PROXY_HEADER is {header[:40]!r}; it must be a header's name such as X-Forwarded-User"
        )
    for each in proxies:
        try:
            everyone = ip_network(each, strict=False).prefixlen == 0
        except ValueError:
            everyone = True
        if everyone:
            raise ConfigError(
                f"DEPLOYER_TRUSTED_PROXIES has {each[:60]!r}; it must be an address or a network such as 10.0.0.0/24"
            )


def _content(name: str, value: str) -> str:
    """A text, or that of the file whose path is given.

    Raises:
        ConfigError: the file cannot be read.
    """
    if not value or "\n" in value or ":" in value:
        return value
    try:
        return Path(value).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        # the value is not quoted: it may be a secret that was meant to be part of YAML
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{name} is the path of a file that cannot be read ({why})") from None


def _resolved(name: str, reference: str, resolve: Callable[[str], str] | None) -> str:
    """The value of a setting that is kept elsewhere.

    Raises:
        ConfigError: it cannot be read; one line that names the setting.
    """
    if resolve is None:
        raise ConfigError(f"{name} refers to {reference}, which cannot be read here")
    try:
        return resolve(reference).strip()
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error


def _is_url(value: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(value)
        return parts.scheme in schemes and parts.port != 0 and bool(parts.hostname)
    except ValueError:
        return False


def _checked_redis_url(url: str) -> str:
    """An address of Redis that both clients accept.

    Raises:
        ConfigError: it is malformed; one line that names the setting and repeats no value.
    """
    parse_redis_url(url)
    return url


def is_reference(value: str) -> bool:
    """Whether a setting's value only says where the value is kept."""
    return value.startswith(_REFERENCE)


def require(config: Config, *names: str) -> None:
    """Insist that settings have a value.

    Args:
        config: the settings.
        names: attributes of `Config`, such as those of `REQUIRED_FOR_WEB`.

    Raises:
        ConfigError: one of them is missing; one line that names its variable and what it is for.
    """
    for item in fields(config):
        if item.name == "github_token" and config.github_app_id:
            continue  # one of the two is enough
        if item.name in names and not getattr(config, item.name):
            raise ConfigError(f"{item.metadata['variable']} is not set; it is the {item.metadata['help']}")


def unknown(env: Mapping[str, str]) -> dict[str, str]:
    """Variables that look like settings and are none, each with the setting that may be meant, or an empty text.

    Args:
        env: the environment variables.
    """
    known = [str(item.metadata["variable"]) for item in fields(Config)]
    strange = sorted(name for name in env if name.startswith("DEPLOYER_") and name not in known)
    near = {name: get_close_matches(name, known, 1, 0.9) for name in strange}
    return {name: near[name][0] if near[name] else "" for name in strange if not name.startswith(_SANDBOX)}
