"""What can go wrong, told apart by what is to be done about it: a type decides, never a message.

See docs/decisions/0004-errors-by-remedy.md for how a task maps each of them to queue behaviour.
"""

import re

from deployer.visible import visible

_SPACES = re.compile(r"[ \t\n\r]+")
LONGEST_RETRY_AFTER = 3700.0
"""The longest wait, in seconds, that a server is believed to ask for: GitHub's rate limits renew within an hour."""
_LIMIT = 500  # an error may quote what was sent or pushed, which may be megabytes
_TAIL = 150


def one_line(text: object) -> str:
    """Any text as one printable line of at most 500 characters; what is cut out of it is its middle."""
    # cut before and after: megabytes are not looked at one by one, and an escape is longer than what it shows
    return _cut(visible(_cut(_SPACES.sub(" ", str(text)).strip(" "))))


def _cut(line: str) -> str:
    # it quotes first and explains last
    return line if len(line) <= _LIMIT else f"{line[: _LIMIT - _TAIL - 3]} … {line[-_TAIL:]}"


class DeployerError(Exception):
    """Every error that deployer raises on purpose. Its text is one line, fit for people.

    Args:
        message: made `one_line`, whatever it quotes.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message))


class TransientError(DeployerError):
    """The far end is throttled, slow or broken just now: the same step may succeed in minutes.

    Args:
        message: what was being done, on what, and what came back.
        retry_after: seconds that the far end asked to wait, if it said so. At most `LONGEST_RETRY_AFTER` count, and a
            negative number or `nan` is no answer: a header must neither end a task nor make it wait for days.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        asked = -1 if retry_after is None else retry_after
        self.retry_after = min(asked, LONGEST_RETRY_AFTER) if asked >= 0 else None  # `nan` is not


class PermanentError(DeployerError):
    """The user's own input (template, parameters, rights) is wrong: a repeat cannot help."""


class RightsError(PermanentError):
    """GitHub does not let deployer see or do this: it works without, and says what it lacks."""


class NoCommitError(PermanentError):
    """A tag leads to something that is no commit: nothing of it can be deployed."""


class ProtectedError(PermanentError):
    """A stack has termination protection: only a person may take it off."""


class QuotaError(TransientError):
    """The account has no room for another one: a repeat helps once there is."""


class ConfigError(DeployerError):
    """A setting of deployer itself is missing or malformed."""


class ThrottledError(TransientError):
    """The far end is asked as often as it bears: this call was not made, and is to be made later."""


class UnavailableError(TransientError):
    """Redis cannot be reached: nothing was recorded."""


class LaneLostError(DeployerError):
    """The lane was handed to someone else while this task held an old token: it must not act."""


class CallLimitError(DeployerError):
    """One task needs more calls to GitHub than any may make: a repeat needs as many."""


class SignatureError(DeployerError):
    """A delivery's signature or key is missing or wrong."""


class PayloadError(DeployerError):
    """A delivery's body or headers are not what its sender promises."""


class NotFoundError(DeployerError):
    """What was asked for is not known."""
