"""Reads settings from the file `.env` of the working directory."""

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
