"""The file `.env` of the working directory, from which settings are also read."""

from dotenv import dotenv_values

from deployer.model.errors import ConfigError

_PATH = ".env"


def read() -> dict[str, str]:
    """What the file sets; empty without one.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return {name: value for name, value in dotenv_values(_PATH).items() if value is not None}
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{_PATH} cannot be read: {error}") from None
