"""What must hold before a process may start, beyond settings that are there and well formed."""

from collections.abc import Mapping
from dataclasses import fields

from deployer.model.errors import ConfigError
from deployer.settings.iam_fence import REMEDY, unfenced_sentence
from deployer.settings.values import Config

CLUSTER_MODE_REMEDY = "use one with cluster mode disabled (replicas and Sentinel are fine)"
CLUSTER_MODE = (
    f"DEPLOYER_REDIS_URL leads to a Redis in cluster mode, which is not supported; {CLUSTER_MODE_REMEDY}"
)
NO_EVICTION = "set maxmemory-policy noeviction, of a managed Redis in its parameters"
_SECRET_CHARACTERS = 16  # of a random hexadecimal text that is 64 bits, which nobody tries out over a network
_DIFFERENT_CHARACTERS = 8
_PUBLISHED = {"it's a secret to everybody", "0123456789abcdef", "1234567890123456", "abcdefghijklmnop"}


def check_fence(config: Config) -> None:
    """Insist that branch code is fenced in by IAM, or that the installation has decided to run without.

    An address of AWS on this machine (`AWS_ENDPOINT_URL`) is no reason to leave this out: a tunnel or a proxy to the
    real AWS has one too. So only the sandbox is left out, whose AWS is known to be simulated.

    Args:
        config: the settings.

    Raises:
        ConfigError: it is not; one line with what is missing and the remedies.
    """
    if (gaps := config.fence_gaps) and not config.unfenced:
        raise ConfigError(
            f"{unfenced_sentence(gaps)}; {REMEDY}, or set DEPLOYER_UNFENCED=yes to run without this protection"
        )


def check_secrets(config: Config) -> None:
    """Insist that the secrets which the web compares with what a sender knows cannot be guessed.

    The sandbox is left out: its secrets are public, and nothing but this machine's simulators is behind them.

    Args:
        config: the settings.

    Raises:
        ConfigError: a secret is short, monotonous or published; one line that names its variable, never its value.
    """
    if config.sandbox:
        return
    for item in fields(config):
        if item.name not in {"webhook_secrets", "aws_event_key", "api_token"}:
            continue
        value = getattr(config, item.name)
        if any(_is_guessable(each) for each in (value if isinstance(value, tuple) else (value,)) if each):
            raise ConfigError(
                f"{item.metadata['variable']} is too easy to guess: it needs {_SECRET_CHARACTERS} characters,"
                f" {_DIFFERENT_CHARACTERS} of them different, and must not be a published example; make one by"
                " `deployer secrets set --generate ssm:/PATH/NAME` or `openssl rand -hex 32`"
            )


def check_redis_mode(server: Mapping[str, str]) -> None:
    """Insist that Redis is one server, or a primary with replicas.

    A script reads and writes the keys of its repository and the indexes of all of them, which a cluster spreads over
    servers. Celery's broker does not work on a cluster either.

    Args:
        server: what Redis says of itself, by the names of `INFO`.

    Raises:
        ConfigError: it runs in cluster mode.
    """
    if server.get("cluster_enabled") == "1":
        raise ConfigError(CLUSTER_MODE)


def eviction_warning(server: Mapping[str, str]) -> str:
    """What to tell operators whose Redis may evict keys; empty where it does not.

    The policy is read from `INFO`, since a managed Redis often forbids `CONFIG GET`.

    Args:
        server: what Redis says of itself, by the names of `INFO`.
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
