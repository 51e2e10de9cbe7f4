"""Reads the settings from environment variables.

The composition root passes the function that resolves `ssm:/path/name` and `secretsmanager:name`, because this package
must not import AWS.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from ipaddress import ip_network
from urllib.parse import urlsplit

from deployer.model.environments import Kind
from deployer.model.errors import ConfigError
from deployer.model.redis_url import SETTING as REDIS_SETTING
from deployer.model.redis_url import parse_redis_url
from deployer.model.targets import Target
from deployer.settings.reader import SettingReader
from deployer.settings.targets import read_targets
from deployer.settings.values import Config

_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,99}")
_PATTERN = re.compile(r"[A-Za-z0-9_.*?\[\]-]+/[A-Za-z0-9_.*?\[\]-]+")
THIS_MACHINE = {"127.0.0.1", "::1", "localhost"}
_SANDBOX = "DEPLOYER_SANDBOX_"  # variables of the simulators, which deployer does not read
REQUIRED_FOR_WEB = ("webhook_secrets", "repositories")
REQUIRED_FOR_WORKER = ("artifact_bucket", "github_token")


def load_config(env: Mapping[str, str], resolve: Callable[[str], str] | None = None) -> Config:
    """Read and check the settings.

    Args:
        env: the environment variables.
        resolve: returns the value of an `ssm:` or `secretsmanager:` reference.

    Raises:
        ConfigError: a setting is malformed or missing; the text is one line that names it.
    """
    read = SettingReader(env, resolve)
    app_id, app_key = _read_github_app(read)
    config = Config(
        redis_url=_read_redis_url(read),
        webhook_secrets=read.listed("DEPLOYER_GITHUB_WEBHOOK_SECRET"),
        github_token=read.text("DEPLOYER_GITHUB_TOKEN"),
        github_app_id=app_id,
        github_app_private_key=app_key,
        github_api_url=read.url("DEPLOYER_GITHUB_API_URL", "https://api.github.com", "http", "https"),
        github_rate=read.number("DEPLOYER_GITHUB_RATE", 1, 0.01, 1000),
        repositories=_read_repositories(read),
        artifact_bucket=read.text("DEPLOYER_ARTIFACT_BUCKET"),
        connection_arn=read.text("DEPLOYER_CONNECTION_ARN"),
        targets_text=read.text_or_file("DEPLOYER_TARGETS"),
        aws_rate=read.number("DEPLOYER_AWS_RATE", 1, 0.01, 1000),
        aws_event_key=read.text("DEPLOYER_AWS_EVENT_KEY"),
        api_token=read.text("DEPLOYER_API_TOKEN"),
        trusted_proxy_header=read.text("DEPLOYER_TRUSTED_PROXY_HEADER"),
        trusted_proxies=read.listed("DEPLOYER_TRUSTED_PROXIES"),
        public_url=read.url("DEPLOYER_PUBLIC_URL", "", "http", "https"),
        lease_seconds=read.number("DEPLOYER_LEASE_SECONDS", 60, 1, 3600),
        grace_seconds=read.number("DEPLOYER_GRACE_SECONDS", 10, 0.5, 600),
        max_attempts=read.whole_number("DEPLOYER_MAX_ATTEMPTS", 6, 1, 100),
        retry_seconds=read.number("DEPLOYER_RETRY_SECONDS", 15, 0.05, 3600),
        poll_seconds=read.number("DEPLOYER_POLL_SECONDS", 4, 0.05, 600),
        resync_seconds=read.number("DEPLOYER_RESYNC_SECONDS", 3600, 0, 7 * 86400),
        orphan_seconds=read.number("DEPLOYER_ORPHAN_SECONDS", 3600, 0, 30 * 86400),
        ttl=read.time_to_live("DEPLOYER_TTL"),
        tag_wait_seconds=read.number("DEPLOYER_TAG_WAIT_SECONDS", 60, 0, 3600),
        drain_seconds=read.number("DEPLOYER_DRAIN_SECONDS", 30, 0, 3600),
        concurrency=read.whole_number("DEPLOYER_CONCURRENCY", 4, 1, 256),
        web_host=read.text("DEPLOYER_WEB_HOST", "127.0.0.1"),
        web_port=read.whole_number("DEPLOYER_WEB_PORT", 8080, 1, 65535),
        # the processes share a limit of memory and disk, of which each needs enough for a body of 25 MB
        web_processes=read.whole_number("DEPLOYER_WEB_PROCESSES", 1, 1, 8),
        webhook_port=read.whole_number("DEPLOYER_WEBHOOK_PORT", 0, 0, 65535),
        data_dir=read.text("DEPLOYER_DATA_DIR", ".deployer"),
        log_level=_read_log_level(read),
        sandbox=read.flag("DEPLOYER_SANDBOX"),
        unfenced=read.flag("DEPLOYER_UNFENCED"),
        give_token=read.flag("DEPLOYER_GIVE_TOKEN"),
    )
    _check_combinations(config)
    return config


def _read_repositories(read: SettingReader) -> tuple[str, ...]:
    patterns = read.listed("DEPLOYER_REPOSITORIES")
    for pattern in patterns:
        if not _PATTERN.fullmatch(pattern):
            raise ConfigError(
                f"DEPLOYER_REPOSITORIES has {pattern[:80]!r}, which is not an owner/repo pattern"
            )
    return patterns


def _read_log_level(read: SettingReader) -> str:
    level = read.text("DEPLOYER_LOG_LEVEL", "INFO").upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise ConfigError(f"DEPLOYER_LOG_LEVEL is {level[:40]!r}; it must be DEBUG, INFO, WARNING or ERROR")
    return level


def _read_github_app(read: SettingReader) -> tuple[str, str]:
    """Return the App's id with its private key; both are empty without an App."""
    app_id = read.text("DEPLOYER_GITHUB_APP_ID")
    app_key = read.text("DEPLOYER_GITHUB_APP_PRIVATE_KEY").replace("\\n", "\n")
    if bool(app_id) != bool(app_key):
        raise ConfigError("DEPLOYER_GITHUB_APP_ID and DEPLOYER_GITHUB_APP_PRIVATE_KEY must be set together")
    return app_id, app_key


def _read_redis_url(read: SettingReader) -> str:
    url = read.text(REDIS_SETTING, "redis://127.0.0.1:6379/0")
    parse_redis_url(url)  # raises ConfigError, whose text does not contain the URL: it may contain a password
    return url


def _check_combinations(config: Config) -> None:
    """Check combinations of settings.

    Raises:
        ConfigError: two settings contradict each other; the text is one line that names one of them.
    """
    if config.sandbox and urlsplit(config.github_api_url).hostname not in THIS_MACHINE:
        # the sandbox's secrets are public, so they must never be used with the real GitHub
        raise ConfigError("DEPLOYER_SANDBOX is yes, but DEPLOYER_GITHUB_API_URL is not on this machine")
    if config.webhook_port == config.web_port:
        raise ConfigError(
            "DEPLOYER_WEBHOOK_PORT is the same port as DEPLOYER_WEB_PORT; set another one, or none"
        )
    _check_proxies(config.trusted_proxy_header, config.trusted_proxies)
    read_targets(config.targets_text, Target(Kind.DEVELOPMENT))


def _check_proxies(header: str, proxies: tuple[str, ...]) -> None:
    """Check the settings of a trusted proxy.

    Raises:
        ConfigError: one is malformed, or is set without the other; the text is one line that names it.
    """
    if bool(header) != bool(proxies):
        raise ConfigError("DEPLOYER_TRUSTED_PROXY_HEADER and DEPLOYER_TRUSTED_PROXIES must be set together")
    if header and (not _HEADER.fullmatch(header) or header.lower() in {"authorization", "host", "cookie"}):
        raise ConfigError(
            f"DEPLOYER_TRUSTED_PROXY_HEADER is {header[:40]!r}; it must be a header name such as X-Forwarded-User"
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


def require_settings(config: Config, *names: str) -> None:
    """Check that settings have a value.

    Args:
        config: the settings.
        names: attributes of `Config`, such as those of `REQUIRED_FOR_WEB`.

    Raises:
        ConfigError: one of them is missing; the text is one line with the variable and its purpose.
    """
    for item in fields(config):
        if item.name == "github_token" and config.github_app_id:
            continue  # either a token or an App is required
        if item.name in names and not getattr(config, item.name):
            raise ConfigError(f"{item.metadata['variable']} is not set; it is the {item.metadata['help']}")


def unknown_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Return variables that begin with `DEPLOYER_` but are not settings, each with a setting of a similar name.

    Args:
        env: the environment variables.

    Returns:
        The variables; the value is empty if no setting has a similar name.
    """
    known = [str(item.metadata["variable"]) for item in fields(Config)]
    others = sorted(name for name in env if name.startswith("DEPLOYER_") and name not in known)
    similar = {name: get_close_matches(name, known, 1, 0.9) for name in others}
    return {
        name: similar[name][0] if similar[name] else "" for name in others if not name.startswith(_SANDBOX)
    }
