"""What can go wrong, told apart by what is to be done about it: a type decides, never a message.

See docs/decisions/0004-errors-by-remedy.md for how a task maps each of them to queue behaviour.
"""

import errno
import re

from deployer.model.visible import visible

_SPACES = re.compile(r"[ \t\n\r]+")
LONGEST_RETRY_AFTER = 3700.0
"""The longest wait, in seconds, that a server is believed to ask for: GitHub's rate limits renew within an hour."""
_LIMIT = 500  # an error may quote what was sent or pushed, which may be megabytes
_TAIL = 150
_SHORTAGES = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,  # no process can be started
}
_NO_DIRECTORY = "No usable temporary directory"  # Python's own words, which have the code of a missing file
_DEEPEST = 10  # causes of a cause


def one_line(text: object) -> str:
    """Any text as one printable line of at most 500 characters; what is cut out of it is its middle."""
    # cut before and after: megabytes are not looked at one by one, and an escape is longer than what it shows
    return _cut(visible(_cut(_SPACES.sub(" ", str(text)).strip(" "))))


def _cut(line: str) -> str:
    # it quotes first and explains last
    return line if len(line) <= _LIMIT else f"{line[: _LIMIT - _TAIL - 3]} … {line[-_TAIL:]}"


def raised_in(error: BaseException, *modules: str) -> bool:
    """Whether the code that raised an error is in one of these modules, or in a module below one of them.

    A library's KeyError says that it cannot read its input. The same error of deployer's own code is a bug, and must
    not be reported as a fault of that input.

    Args:
        error: an exception that was caught.
        modules: full names, such as `yaml` or `botocore.parsers`.
    """
    trace, name = error.__traceback__, ""
    while trace:
        name, trace = str(trace.tb_frame.f_globals.get("__name__", "")), trace.tb_next
    return any(name == each or name.startswith(f"{each}.") for each in modules)


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


class UnknownStatusError(DeployerError):
    """AWS has a status that this version of deployer does not know. Any step would be a guess; an update knows more.

    Args:
        what: what has the status, such as `stack hello-main`.
        status: AWS's word.
    """

    def __init__(self, what: str, status: str) -> None:
        super().__init__(
            f"{what} has the status {status}, which this version of deployer does not know;"
            " update deployer, then replay"
        )


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


class StoredValueError(DeployerError):
    """A value in Redis is not of the form that this version writes: another version or a person wrote it."""


class QueueItemError(StoredValueError):
    """A queue item names a task or cause that this version does not know, or cannot be read at all."""


class SignatureError(DeployerError):
    """A delivery's signature or key is missing or wrong."""


class PayloadError(DeployerError):
    """A delivery's body or headers are not what its sender promises."""


class NotFoundError(DeployerError):
    """What was asked for is not known."""


def shortage(error: BaseException) -> str:
    """What this machine lacks, in one line, if an error comes from that; else an empty text.

    A full disk or a lack of memory, processes or open files is nobody's mistake and passes, so the work is tried
    again. A library may have put an error of its own around that of the operating system.

    Args:
        error: whatever a step raised.
    """
    cause: BaseException | None = error
    for _ in range(_DEEPEST):
        if isinstance(cause, OSError):
            text = cause.strerror or ""
            if cause.errno in _SHORTAGES or text.startswith(_NO_DIRECTORY):
                where = f" ({cause.filename})" if cause.filename else ""
                return one_line(
                    f"the worker's machine: {text}{where};"
                    " see its disk and temporary directory, memory and limit of open files"
                )
        if cause is None:
            break
        cause = cause.__cause__ or cause.__context__
    return ""
