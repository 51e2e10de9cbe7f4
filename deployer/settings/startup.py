"""Safety checks of the settings at the start of a process."""

from collections.abc import Mapping
from dataclasses import fields

from deployer.model.errors import ConfigError
from deployer.settings.iam_fence import FENCE_REMEDY, unfenced_sentence
from deployer.settings.values import Config

CLUSTER_MODE_REMEDY = "use one with cluster mode disabled (replicas and Sentinel are supported)"
CLUSTER_MODE = f"DEPLOYER_REDIS_URL is a Redis in cluster mode, which is not supported; {CLUSTER_MODE_REMEDY}"
NO_EVICTION = "set maxmemory-policy noeviction (for a managed Redis: in its parameters)"
_SECRET_CHARACTERS = 16  # random hexadecimal digits; nobody can try 64 bits over a network
_DIFFERENT_CHARACTERS = 8
_PUBLISHED = {"it's a secret to everybody", "0123456789abcdef", "1234567890123456", "abcdefghijklmnop"}


def check_fence(config: Config) -> None:
    """Check that IAM limits the permissions of branch code, or that `DEPLOYER_UNFENCED` allows to run without this.

    The sandbox is exempt, because its AWS is simulated. An `AWS_ENDPOINT_URL` on this machine is not exempt, because a
    tunnel or a proxy to the real AWS has one too.

    Args:
        config: the settings.

    Raises:
        ConfigError: a limit is missing; the text is one line with the missing settings and the remedies.
    """
    if (gaps := config.missing_fence_settings) and not config.unfenced:
        raise ConfigError(
            f"{unfenced_sentence(gaps)}; {FENCE_REMEDY}, or set DEPLOYER_UNFENCED=yes to run without this protection"
        )


def check_secrets(config: Config) -> None:
    """Check that nobody can guess the secrets with which senders authenticate to the web process.

    The sandbox is exempt: its secrets are public, and they protect only simulators on this machine.

    Args:
        config: the settings.

    Raises:
        ConfigError: a secret is short, repetitive or published; the text is one line that names the variable, never
            its value.
    """
    if config.sandbox:
        return
    for item in fields(config):
        if item.name not in {"webhook_secrets", "aws_event_key", "api_token"}:
            continue
        value = getattr(config, item.name)
        if any(_is_guessable(each) for each in (value if isinstance(value, tuple) else (value,)) if each):
            raise ConfigError(
                f"{item.metadata['variable']} is too easy to guess: it needs at least {_SECRET_CHARACTERS} characters,"
                f" {_DIFFERENT_CHARACTERS} of them different, and must not be a published example; generate one with"
                " `deployer secrets set --generate ssm:/PATH/NAME` or `openssl rand -hex 32`"
            )


def check_redis_mode(server: Mapping[str, str]) -> None:
    """Check that Redis is a single server, or a primary with replicas.

    The Lua scripts access the keys of one repository together with indexes of all repositories, and a cluster
    distributes these over several servers. Celery's broker does not support a cluster either.

    Args:
        server: the fields that Redis returns for `INFO`.

    Raises:
        ConfigError: Redis runs in cluster mode.
    """
    if server.get("cluster_enabled") == "1":
        raise ConfigError(CLUSTER_MODE)


def eviction_warning(server: Mapping[str, str]) -> str:
    """Return a warning if Redis may evict keys, else an empty text.

    The policy is read from `INFO`, because a managed Redis often forbids `CONFIG GET`.

    Args:
        server: the fields that Redis returns for `INFO`.
    """
    policy = server.get("maxmemory_policy", "noeviction")
    if policy == "noeviction":
        return ""
    return f"Redis evicts keys when its memory is full (maxmemory-policy {policy}), and queued work with them"


def _is_guessable(secret: str) -> bool:
    return (
        len(secret) < _SECRET_CHARACTERS
        or len(set(secret)) < _DIFFERENT_CHARACTERS
        or secret.lower() in _PUBLISHED
    )
