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

_PARSER_MODULES = (
    "botocore.endpoint",
    "botocore.parsers",
    "botocore.utils",
)  # the modules that read an answer
_TEXT_LIMIT = 800
_LONGEST_RETRY_AFTER = 600.0  # seconds: a header that asks for more is not believed

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
# what the installation's role may not do, and what its account has no room for: nothing that users could mend
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
# a template that CloudFormation cannot fetch from where we put it; other ValidationErrors are about what is in it
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
    ResponseParserError,  # a body that is no answer of AWS: a proxy's error page, or one cut short
)
# another operation holds what this one needs: it passes when that one ends
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
    {"NoSuchBucket", "NoSuchEntity", "PipelineExecutionNotFoundException", "PipelineNotFoundException"}
)
# of a template, a parameter or a file that does not exist CloudFormation says so as well, and much the same way
_STACK_NOT_FOUND = re.compile(r"Stack.* does not exist")
_ROLE_UNUSABLE = re.compile(r"Role \S+ is invalid or cannot be assumed")
_EXECUTION_ENDED_CODES = frozenset(
    {"PipelineExecutionNotStoppableException", "DuplicatedStopRequestException"}
)


class AnswerError(TransientError):
    """An answer is not one of AWS, or lacks what the next step needs. The same call may succeed later."""


def required_member(answer: Any, member: str) -> Any:
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


def is_raised_by_parser(error: Exception) -> bool:
    """Whether botocore raised this error while it read an answer. Otherwise the error is a bug of deployer's own.

    Args:
        error: an exception that was caught, of any type.
    """
    return raised_in(error, *_PARSER_MODULES)


@contextmanager
def translate_errors(action: str, secret: str = "", *, artifact_bucket: bool = False) -> Iterator[None]:
    """Turn what botocore raises into the core's errors.

    Args:
        doing: what is being done, on what; the error's text begins with it.
        secret: a value that must not appear in a text, even if AWS quotes it.
        artifacts: it concerns the installation's own artifact bucket: whatever is refused there is no user's fault.
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
            raise  # a bug of deployer's own, which must not look like a fault of AWS
        raise TransientError(f"{action}: AWS's answer makes no sense ({type(error).__name__})") from error


def is_not_found(error: ClientError) -> bool:
    """What was asked for does not exist."""
    return error_code(error) in _NOT_FOUND_CODES or (
        error_code(error) == "ValidationError" and bool(_STACK_NOT_FOUND.match(error_message(error)))
    )


def is_no_update(error: ClientError) -> bool:
    """CloudFormation sees nothing to update."""
    return error_code(error) == "ValidationError" and "No updates are to be performed" in error_message(error)


def is_token_reused(error: ClientError) -> bool:
    """This client request token was used before: the operation was ordered already."""
    return error_code(error) == "TokenAlreadyExistsException"


def is_name_taken(error: ClientError) -> bool:
    """A stack of this name exists already."""
    return error_code(error) == "AlreadyExistsException"


def is_termination_protected(error: ClientError) -> bool:
    """The stack has termination protection."""
    return error_code(error) == "ValidationError" and "TerminationProtection" in error_message(error)


def is_role_unusable(error: ClientError) -> bool:
    """The role that CloudFormation works with has gone, or no longer lets it."""
    return error_code(error) == "ValidationError" and bool(_ROLE_UNUSABLE.match(error_message(error)))


def is_busy(error: ClientError) -> bool:
    """Another operation is under way."""
    return error_code(error) in _BUSY_CODES or (
        error_code(error) == "ValidationError" and bool(_BUSY_TEXT.search(error_message(error)))
    )


def is_quota_exceeded(error: ClientError) -> bool:
    """A quota of the account is used up."""
    return error_code(error) in _QUOTA_CODES


def is_temporary_code(reported: str) -> bool:
    """Whether an error of this name passes by itself within seconds or minutes."""
    return reported in _THROTTLING_CODES or reported in _SERVER_ERROR_CODES


def is_execution_ended(error: ClientError) -> bool:
    """The execution has ended, or is being stopped already."""
    return error_code(error) in _EXECUTION_ENDED_CODES


def is_credential_error(error: ClientError) -> bool:
    """AWS refuses the credentials, not the call."""
    return error_code(error) in _CREDENTIAL_CODES


def error_code(error: ClientError) -> str:
    """AWS's name for the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_message(error: ClientError) -> str:
    """AWS's words."""
    return str(error.response.get("Error", {}).get("Message", ""))


def _translate_client_error(
    action: str, error: ClientError, secret: str, artifact_bucket: bool
) -> DeployerError:
    reported = f"{error_code(error)}: {mask_secret(shorten_line(error_message(error)), secret)}"
    if _is_throttled(error):
        return TransientError(
            f"{action}: AWS is throttling ({reported})", retry_after=retry_after_seconds(error)
        )
    if _is_server_error(error):
        return TransientError(f"{action}: AWS is unwell ({reported})", retry_after=retry_after_seconds(error))
    if is_credential_error(error):
        return TransientError(f"{action}: AWS refuses deployer's credentials ({reported})")
    if _is_from_proxy(error):
        return TransientError(
            f"{action}: AWS cannot be reached (the answer is not AWS's: HTTP {_http_status(error)})"
        )
    if error_code(error) in _PERMISSION_CODES:
        return TransientError(f"{action}: AWS refuses it: deployer's own rights lack it ({reported})")
    if is_quota_exceeded(error):
        return QuotaError(
            f"{action}: a quota of the AWS account is used up: raise it or make room ({reported})"
        )
    if is_busy(error):
        return TransientError(f"{action}: AWS is still busy with it ({reported})")
    if artifact_bucket or (
        error_code(error) == "ValidationError" and _TEMPLATE_UNREADABLE.match(error_message(error))
    ):
        return TransientError(f"{action}: see deployer's artifact bucket and its rights there ({reported})")
    return PermanentError(f"{action}: {reported}")


def is_temporary(error: BaseException) -> bool:
    """Whether a repeat within seconds may help."""
    if isinstance(error, ClientError):
        return _is_throttled(error) or _is_server_error(error)
    return isinstance(error, _UNREACHABLE) and not isinstance(error, botocore.SSLError)


def _is_throttled(error: ClientError) -> bool:
    return is_throttling(error_code(error), _http_status(error))


def is_throttling(reported: str | None, status: int) -> bool:
    return reported in _THROTTLING_CODES or status == 429


def _is_server_error(error: ClientError) -> bool:
    return error_code(error) in _SERVER_ERROR_CODES or _http_status(error) >= 500


def _is_from_proxy(error: ClientError) -> bool:
    """Whether a page was answered, or nothing: AWS names each error, and botocore puts the status where no name is."""
    return not error_code(error) or error_code(error).isdigit()


def _http_status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def retry_after_seconds(error: BaseException | None) -> float | None:
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


def shorten_line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _TEXT_LIMIT else f"{line[: _TEXT_LIMIT - 1]}…"


def mask_secret(text: str, secret: str) -> str:
    return text.replace(secret, "****") if secret else text
