"""What AWS's answers and errors mean: AWS's error codes become the errors of the core.

Every error code and message of AWS is read in this file and nowhere else. Codes: each API's reference, "Common
Errors", and botocore's models; messages where CloudFormation says everything as `ValidationError`.

botocore checks neither that an answer has the members that its model requires nor that it comes from AWS: JSON of a
proxy with status 200 becomes an answer without any member, or an AttributeError of botocore's parser.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as botocore
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from deployer.errors import DeployerError, PermanentError, QuotaError, TransientError, raised_in

_READERS = ("botocore.endpoint", "botocore.parsers", "botocore.utils")  # the modules that read an answer
_TEXT_LIMIT = 800
_LONGEST_RETRY_AFTER = 600.0  # seconds: a header that asks for more is not believed

_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_UNWELL = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "RequestAbortedException",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
    }
)
_CREDENTIALS = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
# what the installation's role may not do, and what its account has no room for: nothing that users could mend
_RIGHTS = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "NotAuthorized",
        "OptInRequired",
        "UnauthorizedOperation",
    }
)
_QUOTAS = frozenset({"LimitExceeded", "LimitExceededException", "ServiceQuotaExceededException"})
# a template that CloudFormation cannot fetch from where we put it; other ValidationErrors are about what is in it
_TEMPLATE_UNREAD = re.compile(r"^S3 error: ")
_NO_CREDENTIALS = (
    botocore.CredentialRetrievalError,
    botocore.LoginError,
    botocore.NoAuthTokenError,
    botocore.NoCredentialsError,
    botocore.PartialCredentialsError,
    botocore.ProfileNotFound,
    botocore.SSOError,
    botocore.TokenRetrievalError,
)
_UNREACHABLE = (
    botocore.ConnectionError,
    botocore.HTTPClientError,
    botocore.IncompleteReadError,
    ResponseParserError,  # a body that is no answer of AWS: a proxy's error page, or one cut short
)
# another operation holds what this one needs: it passes when that one ends
_BUSY = frozenset(
    {
        "ConcurrentModificationException",
        "ConcurrentPipelineExecutionsLimitExceededException",
        "ConflictException",
        "OperationAborted",
        "OperationInProgressException",
    }
)
_BUSY_TEXT = re.compile(r"(?:is|currently) in \S+ (?:state|status)|while in status|_IN_PROGRESS\b")
_GONE = frozenset(
    {"NoSuchBucket", "NoSuchEntity", "PipelineExecutionNotFoundException", "PipelineNotFoundException"}
)
# of a template, a parameter or a file that does not exist CloudFormation says so as well, and much the same way
_STACK_GONE = re.compile(r"Stack.* does not exist")
_ROLE_GONE = re.compile(r"Role \S+ is invalid or cannot be assumed")
_ENDED = frozenset({"PipelineExecutionNotStoppableException", "DuplicatedStopRequestException"})


class AnswerError(TransientError):
    """An answer is not one of AWS, or lacks what the next step needs. The same call may succeed later."""


def needed(answer: Any, member: str) -> Any:
    """A member of an answer, or of a structure in it, without which the answer is not AWS's.

    Args:
        answer: the answer or the structure.
        member: its name in botocore's model.

    Raises:
        AnswerError: the member is missing.
    """
    if not isinstance(answer, Mapping) or member not in answer:
        raise AnswerError(f"AWS's answer makes no sense: it has no {member}")
    return answer[member]


def is_unparsable(error: Exception) -> bool:
    """Whether botocore raised this error while it read an answer. Otherwise the error is a bug of deployer's own.

    Args:
        error: an exception that was caught, of any type.
    """
    return raised_in(error, *_READERS)


@contextmanager
def translated(doing: str, secret: str = "", *, artifacts: bool = False) -> Iterator[None]:
    """Turn what botocore raises into the core's errors.

    Args:
        doing: what is being done, on what; the error's text begins with it.
        secret: a value that must not appear in a text, even if AWS quotes it.
        artifacts: it concerns the installation's own artifact bucket: whatever is refused there is no user's fault.
    """
    try:
        yield
    except AnswerError as error:
        raise TransientError(f"{doing}: {error}") from error
    except DeployerError:
        raise
    except ClientError as error:
        raise _error(doing, error, secret, artifacts) from (None if secret else error)
    except _NO_CREDENTIALS as error:
        raise TransientError(
            f"{doing}: deployer has no usable AWS credentials ({one_line(error)})"
        ) from error
    except _UNREACHABLE as error:
        raise TransientError(f"{doing}: AWS cannot be reached ({type(error).__name__})") from error
    except botocore.ParamValidationError as error:
        fault = TransientError if artifacts else PermanentError
        raise fault(f"{doing}: {masked(one_line(error), secret)}") from (None if secret else error)
    except BotoCoreError as error:
        raise TransientError(f"{doing}: {masked(one_line(error), secret)}") from (None if secret else error)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if not is_unparsable(error):
            raise  # a bug of deployer's own, which must not look like a fault of AWS
        raise TransientError(f"{doing}: AWS's answer makes no sense ({type(error).__name__})") from error


def says_missing(error: ClientError) -> bool:
    """What was asked for does not exist."""
    return code(error) in _GONE or (
        code(error) == "ValidationError" and bool(_STACK_GONE.match(message(error)))
    )


def says_no_update(error: ClientError) -> bool:
    """CloudFormation sees nothing to update."""
    return code(error) == "ValidationError" and "No updates are to be performed" in message(error)


def says_token_known(error: ClientError) -> bool:
    """This client request token was used before: the operation was ordered already."""
    return code(error) == "TokenAlreadyExistsException"


def says_name_taken(error: ClientError) -> bool:
    """A stack of this name exists already."""
    return code(error) == "AlreadyExistsException"


def says_protected(error: ClientError) -> bool:
    """The stack has termination protection."""
    return code(error) == "ValidationError" and "TerminationProtection" in message(error)


def says_role_gone(error: ClientError) -> bool:
    """The role that CloudFormation works with has gone, or no longer lets it."""
    return code(error) == "ValidationError" and bool(_ROLE_GONE.match(message(error)))


def says_busy(error: ClientError) -> bool:
    """Another operation is under way."""
    return code(error) in _BUSY or (
        code(error) == "ValidationError" and bool(_BUSY_TEXT.search(message(error)))
    )


def says_no_room(error: ClientError) -> bool:
    """A quota of the account is used up."""
    return code(error) in _QUOTAS


def passes(said: str) -> bool:
    """Whether an error of this name passes by itself within seconds or minutes."""
    return said in _THROTTLED or said in _UNWELL


def says_ended(error: ClientError) -> bool:
    """The execution has ended, or is being stopped already."""
    return code(error) in _ENDED


def is_credential_error(error: ClientError) -> bool:
    """AWS refuses the credentials, not the call."""
    return code(error) in _CREDENTIALS


def code(error: ClientError) -> str:
    """AWS's name for the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message(error: ClientError) -> str:
    """AWS's words."""
    return str(error.response.get("Error", {}).get("Message", ""))


def _error(doing: str, error: ClientError, secret: str, artifacts: bool) -> DeployerError:
    said = f"{code(error)}: {masked(one_line(message(error)), secret)}"
    if _throttled(error):
        return TransientError(f"{doing}: AWS is throttling ({said})", retry_after=retry_after(error))
    if _unwell(error):
        return TransientError(f"{doing}: AWS is unwell ({said})", retry_after=retry_after(error))
    if is_credential_error(error):
        return TransientError(f"{doing}: AWS refuses deployer's credentials ({said})")
    if _of_a_proxy(error):
        return TransientError(
            f"{doing}: AWS cannot be reached (the answer is not AWS's: HTTP {_status(error)})"
        )
    if code(error) in _RIGHTS:
        return TransientError(f"{doing}: AWS refuses it: deployer's own rights lack it ({said})")
    if says_no_room(error):
        return QuotaError(f"{doing}: a quota of the AWS account is used up: raise it or make room ({said})")
    if says_busy(error):
        return TransientError(f"{doing}: AWS is still busy with it ({said})")
    if artifacts or (code(error) == "ValidationError" and _TEMPLATE_UNREAD.match(message(error))):
        return TransientError(f"{doing}: see deployer's artifact bucket and its rights there ({said})")
    return PermanentError(f"{doing}: {said}")


def is_passing(error: BaseException) -> bool:
    """Whether a repeat within seconds may help."""
    if isinstance(error, ClientError):
        return _throttled(error) or _unwell(error)
    return isinstance(error, _UNREACHABLE) and not isinstance(error, botocore.SSLError)


def _throttled(error: ClientError) -> bool:
    return is_throttling(code(error), _status(error))


def is_throttling(said: str | None, status: int) -> bool:
    return said in _THROTTLED or status == 429


def _unwell(error: ClientError) -> bool:
    return code(error) in _UNWELL or _status(error) >= 500


def _of_a_proxy(error: ClientError) -> bool:
    """Whether a page was answered, or nothing: AWS names each error, and botocore puts the status where no name is."""
    return not code(error) or code(error).isdigit()


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def retry_after(error: BaseException | None) -> float | None:
    """The seconds that an answer asks to wait, within bounds; None if it names none.

    The header also allows a date, which neither AWS nor this function uses.
    """
    if not isinstance(error, ClientError):
        return None
    headers: dict[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


def one_line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _TEXT_LIMIT else f"{line[: _TEXT_LIMIT - 1]}…"


def masked(text: str, secret: str) -> str:
    return text.replace(secret, "****") if secret else text
