"""The translation of AWS's errors into the errors of the core.

No other module reads AWS's error codes or messages. The codes come from "Common Errors" in the reference of each API,
or from botocore's models. Messages are read only where CloudFormation uses the code `ValidationError` for everything.

botocore does not check that a response comes from AWS, nor that it has the members that its model requires. If a proxy
returns JSON with status 200, botocore returns a response without members, or its parser raises an AttributeError.
"""

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from botocore import exceptions as botocore
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from deployer.model.errors import DeployerError, PermanentError, QuotaError, TransientError, raised_in

_PARSER_MODULES = (
    "botocore.endpoint",
    "botocore.parsers",
    "botocore.utils",
)  # botocore's modules that parse a response
_TEXT_LIMIT = 800  # characters of a text from AWS
_LONGEST_RETRY_AFTER = 600.0  # seconds; a longer value of the header Retry-After is cut to this

_THROTTLING_CODES = frozenset(
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
_SERVER_ERROR_CODES = frozenset(
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
_CREDENTIAL_CODES = frozenset(
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
# A permission of the installation's role is missing or its account is full: a repository's users cannot fix either.
_PERMISSION_CODES = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AllAccessDisabled",
        "NotAuthorized",
        "OptInRequired",
        "UnauthorizedOperation",
    }
)
_QUOTA_CODES = frozenset({"LimitExceeded", "LimitExceededException", "ServiceQuotaExceededException"})
# CloudFormation cannot fetch the template from the artifact bucket. Other ValidationErrors concern its content.
_TEMPLATE_UNREADABLE = re.compile(r"^S3 error: ")
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
    ResponseParserError,  # the body is not a response of AWS: a proxy's error page, or a truncated response
)
# Another operation is in progress on the same resource. The call succeeds after that operation ends.
_BUSY_CODES = frozenset(
    {
        "ConcurrentModificationException",
        "ConcurrentPipelineExecutionsLimitExceededException",
        "ConflictException",
        "OperationAborted",
        "OperationInProgressException",
    }
)
_BUSY_TEXT = re.compile(r"(?:is|currently) in \S+ (?:state|status)|while in status|_IN_PROGRESS\b")
_NOT_FOUND_CODES = frozenset(
    {
        "NoSuchBucket",
        "NoSuchEntity",
        "PipelineExecutionNotFoundException",
        "PipelineNotFoundException",
        "RepositoryNotFoundException",
        "ResourceNotFoundException",
    }
)
# CloudFormation uses similar words for a template, parameter or file that does not exist, so "Stack" must come first.
_STACK_NOT_FOUND = re.compile(r"Stack.* does not exist")
_ROLE_UNUSABLE = re.compile(r"Role \S+ is invalid or cannot be assumed")
_EXECUTION_ENDED_CODES = frozenset(
    {"PipelineExecutionNotStoppableException", "DuplicatedStopRequestException"}
)


class AnswerError(TransientError):
    """A response is not from AWS, or lacks a member that deployer needs. The same call may succeed later."""


def required_member(answer: Any, member: str) -> Any:
    """Return a member that every such response of AWS has.

    Args:
        answer: the response, or a structure in it.
        member: the member's name in botocore's model.

    Raises:
        AnswerError: the member is missing.
    """
    if not isinstance(answer, Mapping) or member not in answer:
        raise AnswerError(f"AWS's response is invalid: it has no {member}")
    return answer[member]


def is_raised_by_parser(error: Exception) -> bool:
    """Whether botocore raised this error while it parsed a response. Otherwise the error is a bug in deployer.

    Args:
        error: a caught exception of any type.
    """
    return raised_in(error, *_PARSER_MODULES)


@contextmanager
def translate_errors(action: str, secret: str = "", *, artifact_bucket: bool = False) -> Iterator[None]:
    """Raise an error of the core in place of an error of botocore.

    Args:
        action: what deployer is doing, such as "reading stack x". The error's text begins with it.
        secret: a value that must not appear in the text, even if AWS quotes it.
        artifact_bucket: whether the call uses the installation's own artifact bucket. Operators must fix an error
            there, not users.

    Raises:
        TransientError: AWS throttles, has a server error or cannot be reached, or deployer's credentials or permissions
            are insufficient.
        QuotaError: a quota of the account is used up.
        PermanentError: AWS rejects the request itself.
    """
    try:
        yield
    except AnswerError as error:
        raise TransientError(f"{action}: {error}") from error
    except DeployerError:
        raise
    except ClientError as error:
        raise _translate_client_error(action, error, secret, artifact_bucket) from (None if secret else error)
    except _NO_CREDENTIALS as error:
        raise TransientError(
            f"{action}: deployer has no usable AWS credentials ({shorten_line(error)})"
        ) from error
    except _UNREACHABLE as error:
        raise TransientError(f"{action}: AWS cannot be reached ({type(error).__name__})") from error
    except botocore.ParamValidationError as error:
        error_type = TransientError if artifact_bucket else PermanentError
        raise error_type(f"{action}: {mask_secret(shorten_line(error), secret)}") from (
            None if secret else error
        )
    except BotoCoreError as error:
        raise TransientError(f"{action}: {mask_secret(shorten_line(error), secret)}") from (
            None if secret else error
        )
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if not is_raised_by_parser(error):
            raise  # a bug in deployer, which must not look like an error of AWS
        raise TransientError(f"{action}: AWS's response is invalid ({type(error).__name__})") from error


def is_not_found(error: ClientError) -> bool:
    """Whether the requested resource does not exist."""
    return error_code(error) in _NOT_FOUND_CODES or (
        error_code(error) == "ValidationError" and bool(_STACK_NOT_FOUND.match(error_message(error)))
    )


def is_no_update(error: ClientError) -> bool:
    """Whether CloudFormation found nothing to update."""
    return error_code(error) == "ValidationError" and "No updates are to be performed" in error_message(error)


def is_already_accepted(error: ClientError) -> bool:
    """Whether the client request token was used before, so AWS already accepted this operation."""
    return error_code(error) == "TokenAlreadyExistsException"


def is_name_taken(error: ClientError) -> bool:
    """Whether a stack of this name already exists."""
    return error_code(error) == "AlreadyExistsException"


def is_termination_protected(error: ClientError) -> bool:
    """Whether the stack has termination protection."""
    return error_code(error) == "ValidationError" and "TerminationProtection" in error_message(error)


def is_role_unusable(error: ClientError) -> bool:
    """Whether CloudFormation cannot assume the stack's role: it was deleted, or no longer trusts CloudFormation."""
    return error_code(error) == "ValidationError" and bool(_ROLE_UNUSABLE.match(error_message(error)))


def is_busy(error: ClientError) -> bool:
    """Whether another operation is in progress."""
    return error_code(error) in _BUSY_CODES or (
        error_code(error) == "ValidationError" and bool(_BUSY_TEXT.search(error_message(error)))
    )


def is_quota_exceeded(error: ClientError) -> bool:
    """Whether a quota of the account is used up."""
    return error_code(error) in _QUOTA_CODES


def is_temporary_code(reported: str) -> bool:
    """Whether an error with this code goes away by itself within seconds or minutes."""
    return reported in _THROTTLING_CODES or reported in _SERVER_ERROR_CODES


def is_execution_ended(error: ClientError) -> bool:
    """Whether the execution already ended or is already stopping."""
    return error_code(error) in _EXECUTION_ENDED_CODES


def is_permission_missing(error: ClientError) -> bool:
    """Whether deployer's role lacks the permission for the call."""
    return error_code(error) in _PERMISSION_CODES


def is_credential_error(error: ClientError) -> bool:
    """Whether AWS rejected the credentials rather than the call."""
    return error_code(error) in _CREDENTIAL_CODES


def error_code(error: ClientError) -> str:
    """Return AWS's code of the error; empty if it has none."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_message(error: ClientError) -> str:
    """Return AWS's message of the error; empty if it has none."""
    return str(error.response.get("Error", {}).get("Message", ""))


def _translate_client_error(
    action: str, error: ClientError, secret: str, artifact_bucket: bool
) -> DeployerError:
    reported = f"{error_code(error)}: {mask_secret(shorten_line(error_message(error)), secret)}"
    if _is_throttled(error):
        return TransientError(
            f"{action}: AWS throttles the call ({reported})", retry_after=retry_after_seconds(error)
        )
    if _is_server_error(error):
        return TransientError(
            f"{action}: AWS has a server error ({reported})", retry_after=retry_after_seconds(error)
        )
    if is_credential_error(error):
        return TransientError(f"{action}: AWS rejects deployer's credentials ({reported})")
    if _is_from_proxy(error):
        return TransientError(
            f"{action}: AWS cannot be reached (the response is not from AWS: HTTP {_http_status(error)})"
        )
    if is_permission_missing(error):
        return TransientError(f"{action}: AWS refuses it: deployer's role lacks a permission ({reported})")
    if is_quota_exceeded(error):
        return QuotaError(
            f"{action}: a quota of the AWS account is used up: raise it, or delete what is not needed ({reported})"
        )
    if is_busy(error):
        return TransientError(f"{action}: another operation is in progress ({reported})")
    if artifact_bucket or (
        error_code(error) == "ValidationError" and _TEMPLATE_UNREADABLE.match(error_message(error))
    ):
        return TransientError(f"{action}: check deployer's artifact bucket and permissions ({reported})")
    return PermanentError(f"{action}: {reported}")


def is_temporary(error: BaseException) -> bool:
    """Whether a retry within seconds may succeed."""
    if isinstance(error, ClientError):
        return _is_throttled(error) or _is_server_error(error)
    return isinstance(error, _UNREACHABLE) and not isinstance(error, botocore.SSLError)


def _is_throttled(error: ClientError) -> bool:
    return is_throttling(error_code(error), _http_status(error))


def is_throttling(reported: str | None, status: int) -> bool:
    """Whether an error code or an HTTP status means that AWS throttles the caller."""
    return reported in _THROTTLING_CODES or status == 429


def _is_server_error(error: ClientError) -> bool:
    return error_code(error) in _SERVER_ERROR_CODES or _http_status(error) >= 500


def _is_from_proxy(error: ClientError) -> bool:
    """Whether the response has no error code: AWS always sends one, and botocore puts the HTTP status in its place."""
    return not error_code(error) or error_code(error).isdigit()


def _http_status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def retry_after_seconds(error: BaseException | None) -> float | None:
    """Return the header Retry-After in seconds, at most `_LONGEST_RETRY_AFTER`; None if the response has none.

    HTTP also allows a date in this header. AWS does not send one, so this function ignores it.
    """
    if not isinstance(error, ClientError):
        return None
    headers: dict[str, str] = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        seconds = float(headers.get("retry-after", ""))
    except ValueError:
        return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


def shorten_line(text: object) -> str:
    """Return a text as one line of at most `_TEXT_LIMIT` characters."""
    line = " ".join(str(text).split())
    return line if len(line) <= _TEXT_LIMIT else f"{line[: _TEXT_LIMIT - 1]}…"


def mask_secret(text: str, secret: str) -> str:
    """Return the text with asterisks in place of the secret."""
    return text.replace(secret, "****") if secret else text


def single_line(text: object) -> str:
    """Return a text without line breaks; None becomes an empty text."""
    return " ".join(str(text or "").split())
