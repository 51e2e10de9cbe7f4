"""What must hold before a process may start, beyond settings that are there and well formed."""

from dataclasses import fields

from deployer.config import Config
from deployer.errors import ConfigError
from deployer.fence import REMEDY, unfenced_sentence

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


def _is_guessable(secret: str) -> bool:
    return (
        len(secret) < _SECRET_CHARACTERS
        or len(set(secret)) < _DIFFERENT_CHARACTERS
        or secret.lower() in _PUBLISHED
    )
