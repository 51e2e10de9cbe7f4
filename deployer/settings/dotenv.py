"""Reads settings from the environment and the file `.env` of the working directory."""

import os

from dotenv import dotenv_values

from deployer.model.errors import ConfigError

_PATH = ".env"


def read_dotenv() -> dict[str, str]:
    """Return the variables that the file sets; empty without a file.

    Raises:
        ConfigError: the file cannot be read.
    """
    try:
        return {name: value for name, value in dotenv_values(_PATH).items() if value is not None}
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{_PATH} cannot be read: {error}") from None


def read_environment() -> dict[str, str]:
    """Return the variables of the process, which override those of the file.

    Raises:
        ConfigError: the file cannot be read.
    """
    env = read_dotenv()
    for name, value in env.items():
        os.environ.setdefault(name, value)  # boto3 reads AWS's variables from there
    if region := os.environ.get("AWS_REGION"):
        os.environ.setdefault("AWS_DEFAULT_REGION", region)  # boto3 reads only this one
    return {**env, **os.environ}
