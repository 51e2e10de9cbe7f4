"""Errors with one type for each remedy; code decides by the type, never by the message.

docs/decisions/0004-errors-by-remedy.md says how a task maps each type to the queue's behaviour.
"""

import errno
import re

from deployer.model.visible import visible

_SPACES = re.compile(r"[ \t\n\r]+")
LONGEST_RETRY_AFTER = 3700.0
"""The longest wait in seconds that a server may ask for: GitHub's rate limits renew within an hour."""
_LONGEST_LINE = 500  # characters; an error may quote a request or a file, which may have megabytes
_TAIL = 150  # characters that are kept of the end
_SHORTAGES = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,  # no process can start
}
_NO_DIRECTORY = (
    "No usable temporary directory"  # Python's message, whose error code is that of a missing file
)
_MOST_CAUSES = 10  # that are followed from one error to the next


def one_line(text: object) -> str:
    """Any text as one printable line; if it has more than 500 characters, its middle is cut out."""
    # cut twice: `visible` is slow for megabytes, and its escapes are longer than the characters that they replace
    return _cut_middle(visible(_cut_middle(_SPACES.sub(" ", str(text)).strip(" "))))


def _cut_middle(line: str) -> str:
    # a message begins with a quotation and ends with the explanation
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - _TAIL - 3]} … {line[-_TAIL:]}"


def raised_in(error: BaseException, *modules: str) -> bool:
    """Whether an error was raised in one of these modules or in a module below one of them.

    A KeyError of a library says that the library cannot read its input. The same error of deployer's own code is a bug
    and must not be reported as a fault of the input.

    Args:
        error: an exception that was caught.
        modules: full names, such as `yaml` or `botocore.parsers`.
    """
    trace, name = error.__traceback__, ""
    while trace:
        name, trace = str(trace.tb_frame.f_globals.get("__name__", "")), trace.tb_next
    return any(name == each or name.startswith(f"{each}.") for each in modules)


class DeployerError(Exception):
    """Any error that deployer raises on purpose. Its text is one line that people can read.

    Args:
        message: the text; `one_line` shortens it and makes it printable.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(one_line(message))


class TransientError(DeployerError):
    """GitHub, AWS, Redis or this machine is throttled, slow or broken now: the same step may succeed in minutes.

    Args:
        message: what was being done, on what, and what came back.
        retry_after: the seconds after which the server asked to retry, if it did. More than `LONGEST_RETRY_AFTER`, a
            negative number and `nan` are corrected, because no header may end a task or delay it for days.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        asked = -1 if retry_after is None else retry_after
        self.retry_after = min(asked, LONGEST_RETRY_AFTER) if asked >= 0 else None  # also false for `nan`


class PermanentError(DeployerError):
    """The user's input (template, parameters, rights) is wrong: a retry cannot succeed."""


class RightsError(PermanentError):
    """GitHub does not let deployer read or do something. deployer works without that and reports it."""


class NoCommitError(PermanentError):
    """A tag points to an object that is not a commit, so it cannot be deployed."""


class ProtectedError(PermanentError):
    """A stack has termination protection, which only a person may remove."""


class QuotaError(TransientError):
    """An AWS quota is exhausted: a retry succeeds once there is capacity."""


class UnknownStatusError(DeployerError):
    """AWS reports a status that this version of deployer does not know, so no step is safe; the remedy is an update.

    Args:
        what: what has the status, such as `stack hello-main`.
        status: the status that AWS reports.
    """

    def __init__(self, what: str, status: str) -> None:
        super().__init__(
            f"{what} has the status {status}, which this version of deployer does not know;"
            " update deployer, then replay"
        )


class ConfigError(DeployerError):
    """A setting of deployer is missing or malformed."""


class ThrottledError(TransientError):
    """A rate limit of GitHub, of AWS or of deployer is reached: nothing was done, and the call must be made later."""


class UnavailableError(TransientError):
    """Redis cannot be reached: nothing was recorded."""


class LaneLostError(DeployerError):
    """The queue was handed to another worker: this task has an old fencing token and must not act."""


class CallLimitError(DeployerError):
    """One task needs more calls to GitHub than a task may make: a retry would need as many."""


class StoredValueError(DeployerError):
    """A value in Redis has a form that this version does not write: another version or a person wrote it."""


class QueueItemError(StoredValueError):
    """A queue item names a task or cause that this version does not know, or cannot be read at all."""


class SignatureError(DeployerError):
    """A delivery's signature or key is missing or wrong."""


class PayloadError(DeployerError):
    """A value from outside is malformed: a delivery's header or body, a ref, a name or a commit id."""


class NotFoundError(DeployerError):
    """What a person or a program asks for does not exist."""


def machine_shortage(error: BaseException) -> str:
    """What this machine lacks, in one line, if that caused an error; else empty.

    A full disk or a lack of memory, processes or open files is no fault of the user and is temporary, so the work is
    retried. A library may have wrapped the operating system's error in its own.

    Args:
        error: any error that a step raised.
    """
    cause: BaseException | None = error
    for _ in range(_MOST_CAUSES):
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
