"""Reads single settings from environment variables."""

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from deployer.model.durations import parse_duration
from deployer.model.errors import ConfigError

_REFERENCE = ("ssm:", "secretsmanager:")


class SettingReader:
    """Reads settings as values of the type that each must have.

    Every method raises `ConfigError` if the value is malformed. The error is one line, which names the setting.

    Args:
        env: the environment variables.
        resolve: returns the value behind an `ssm:` or `secretsmanager:` reference.
    """

    def __init__(self, env: Mapping[str, str], resolve: Callable[[str], str] | None = None) -> None:
        self._env = env
        self._resolve = resolve

    def text(self, name: str, default: str = "") -> str:
        """Return the text of a setting, after a reference has been resolved."""
        value = self._env.get(name, "").strip() or default
        if is_reference(value):
            return _resolve_reference(name, value, self._resolve)
        return value

    def text_or_file(self, name: str) -> str:
        """Return the text of a setting, or of the file whose path is given."""
        return _read_if_path(name, self.text(name))

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """Return a number from `low` to `high`."""
        value = self.text(name, str(default))
        found = _parse_number(value)
        if not low <= found <= high:
            raise ConfigError(f"{name} is {value[:40]!r}; it must be a number from {low:g} to {high:g}")
        return found

    def whole_number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number from `low` to `high`."""
        value = self.text(name, str(default))
        found = _parse_number(value)
        if not low <= found <= high or not found.is_integer():
            raise ConfigError(f"{name} is {value[:40]!r}; it must be a whole number from {low:g} to {high:g}")
        return int(found)

    def url(self, name: str, default: str, *schemes: str) -> str:
        """Return a URL of one of the schemes, without a slash at its end."""
        value = self.text(name, default)
        if value and not _is_url(value, schemes):  # the value is not quoted: it may contain a password
            *most, last = (f"{scheme}://" for scheme in schemes)
            raise ConfigError(f"{name} is not a {', '.join(most)} or {last} URL")
        return value.rstrip("/")

    def time_to_live(self, name: str) -> str:
        """Return a duration such as `3d`, or `never`, as text."""
        value = self.text(name, "never")
        try:
            parse_duration(value)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from error
        return value

    def flag(self, name: str) -> bool:
        """Return whether the setting is `yes`; the default is `no`."""
        value = self.text(name, "no").lower()
        if value not in {"yes", "no"}:
            raise ConfigError(f"{name} is {value[:40]!r}; it must be yes or no")
        return value == "yes"

    def listed(self, name: str) -> tuple[str, ...]:
        """Return the parts of a comma-separated list."""
        return tuple(part.strip() for part in self.text(name).split(",") if part.strip())


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")  # which no range contains


def is_reference(value: str) -> bool:
    """Whether a setting's value is a reference to a secret in AWS."""
    return value.startswith(_REFERENCE)


def _read_if_path(name: str, value: str) -> str:
    """Return the value, or the text of the file if the value is a path.

    Raises:
        ConfigError: the file cannot be read.
    """
    if not value or "\n" in value or ":" in value:
        return value
    try:
        return Path(value).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        # the value is not quoted, because it may be a secret that was meant to be a part of YAML
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(f"{name} is the path of a file that cannot be read ({why})") from None


def _resolve_reference(name: str, reference: str, resolve: Callable[[str], str] | None) -> str:
    """Return the value of a reference.

    Raises:
        ConfigError: it cannot be read; the text is one line that names the setting.
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
