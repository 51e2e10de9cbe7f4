"""How the AWS adapter talks: clients, retries of seconds, and the translation of AWS's errors into the core's.

Every error code and message of AWS is read in this file and nowhere else. Codes: each API's reference, "Common
Errors", and botocore's models; messages where CloudFormation says everything as `ValidationError`.
"""

import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
from botocore import exceptions as botocore
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from botocore.session import get_session
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from deployer.adapters.aws_answers import AnswerError, is_unparsable
from deployer.adapters.aws_sharing import RateLimit
from deployer.errors import ConfigError, DeployerError, PermanentError, QuotaError, TransientError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_codepipeline import CodePipelineClient
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

_ATTEMPTS = 4
_SECONDS = 20.0
_TEXT_LIMIT = 800
_LONGEST_RETRY_AFTER = 600.0  # seconds: a header that asks for more is not believed
_backoff = wait_random_exponential(multiplier=0.5, max=6)

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


class AwsClients:
    """The clients of one account and region, made when first used and anew in every process.

    Args:
        region: the region.
        endpoint_url: another address for all of AWS, or None for AWS's own variables.
        role_arn: the role to assume; empty for the process's own credentials.
        external_id: given when that role is assumed.
        throttle: asked before every call.
        on_call: told of every request that is sent, repeats too.
    """

    def __init__(
        self,
        region: str,
        endpoint_url: str | None = None,
        *,
        role_arn: str = "",
        external_id: str = "",
        throttle: RateLimit | None = None,
        on_call: Callable[[], None] | None = None,
    ) -> None:
        self.region = region
        self._endpoint_url = endpoint_url
        self._role_arn = role_arn
        self._external_id = external_id
        self._throttle = throttle
        self._on_call = on_call
        self._pid = 0
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}
        self._session: boto3.session.Session | None = None

    @property
    def cloudformation(self) -> "CloudFormationClient":
        """CloudFormation."""
        client: CloudFormationClient = self._client("cloudformation")
        return client

    @property
    def codepipeline(self) -> "CodePipelineClient":
        """CodePipeline."""
        client: CodePipelineClient = self._client("codepipeline")
        return client

    @property
    def s3(self) -> "S3Client":
        """S3."""
        client: S3Client = self._client("s3")
        return client

    @property
    def iam(self) -> Any:
        """IAM."""
        return self._client("iam")

    @property
    def sts(self) -> Any:
        """The token service."""
        return self._client("sts")

    def check_reachable(self, seconds: float) -> None:
        """Ask CloudFormation once, signed with a key that nobody has: that it refuses the call shows that it is there.

        Args:
            seconds: how long to wait for a connection, and as long again for an answer.

        Raises:
            TransientError: it does not answer, or answers with a server error.
        """
        config = Config(
            connect_timeout=seconds,
            read_timeout=seconds,
            retries={"total_max_attempts": 1},
        )
        client = boto3.session.Session().client(
            "cloudformation",
            region_name=self.region,
            endpoint_url=self._endpoint_url,
            config=config,
            aws_access_key_id="nobody",
            aws_secret_access_key="nobody",  # noqa: S106  none
        )
        try:
            client.describe_account_limits()
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            if status >= 500:
                raise TransientError(f"reaching {self.region}: AWS answers {status}") from error
        except (BotoCoreError, ResponseParserError, OSError) as error:
            reason = type(error).__name__
            raise TransientError(f"reaching {self.region}: AWS does not answer ({reason})") from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            if not is_unparsable(error):
                raise
            raise TransientError(f"reaching {self.region}: the answer is not AWS's") from error

    def _client(self, service: str) -> Any:
        if self._pid != os.getpid():
            # after a fork: sockets must not be shared, and another thread may have held the lock
            self._pid, self._lock, self._made, self._session = os.getpid(), threading.Lock(), {}, None
        with self._lock:
            if service not in self._made:
                if self._session is None:
                    self._session = self._signed_in()
                self._made[service] = self._make(self._session, service)
            return self._made[service]

    def _make(self, session: Any, service: str, **credentials: str | None) -> Any:
        """A client whose requests are counted, and throttled before AWS has to."""
        config = Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"mode": "adaptive", "total_max_attempts": 1},  # `retried` repeats; this slows down
            user_agent_extra="deployer",
        )
        if service == "s3" and self._elsewhere():
            # no wildcard DNS there: bucket names belong into the path
            config = config.merge(Config(s3={"addressing_style": "path"}))
        client = session.client(
            service, region_name=self.region, endpoint_url=self._endpoint_url, config=config, **credentials
        )
        if self._throttle:
            client.meta.events.register("before-call", self._taken)
            client.meta.events.register("after-call", self._answered)
        client.meta.events.register("before-send", self._sent)
        return client

    def _signed_in(self) -> boto3.session.Session:
        """A session with the process's own credentials, or those of the role."""
        own = boto3.session.Session()
        if not self._role_arn:
            return own
        wanted = {
            "RoleSessionName": "deployer",
            **({"ExternalId": self._external_id} if self._external_id else {}),
        }

        def assume() -> Any:
            with translated(f"assuming role {self._role_arn}", self._external_id):
                if (credentials := own.get_credentials()) is None:
                    raise botocore.NoCredentialsError
                fetcher = AssumeRoleCredentialFetcher(
                    client_creator=lambda service, **keys: self._make(own, service, **keys),
                    source_credentials=credentials,
                    role_arn=self._role_arn,
                    extra_args=wanted,
                )
                try:
                    return retried(fetcher.fetch_credentials)
                except (ClientError, botocore.ParamValidationError) as error:
                    if isinstance(error, ClientError) and (_passing(error) or code(error) in _CREDENTIALS):
                        raise
                    said = _line(_masked(str(error), self._external_id))
                    raise TransientError(
                        f"assuming role {self._role_arn}: AWS refuses it ({said}): the role must trust deployer's own"
                        " role, with the external id of DEPLOYER_TARGETS, and that one must be let sts:AssumeRole"
                    ) from None  # what AWS was asked holds the external id

        session = get_session()
        # botocore asks again before they end
        session._credentials = DeferredRefreshableCredentials(assume, "assume-role")  # type: ignore[attr-defined]
        return boto3.session.Session(botocore_session=session)

    def _taken(self, model: Any, **_: object) -> None:
        if self._throttle:
            self._throttle.take(model.service_model.service_name, model.name)

    def _answered(self, http_response: Any, parsed: Any, model: Any, **_: object) -> None:
        if self._throttle and _is_throttling(parsed.get("Error", {}).get("Code"), http_response.status_code):
            self._throttle.refused(model.service_model.service_name, model.name)

    def _sent(self, **_: object) -> None:
        if self._on_call:
            self._on_call()

    def _elsewhere(self) -> bool:
        return bool(
            self._endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        )


def own_region() -> str:
    """The region of AWS's own variables.

    Raises:
        TransientError: they cannot be read; `check_settings` tells so at a process's start.
    """
    with translated("reading AWS's own settings"):
        return boto3.session.Session().region_name or "us-east-1"


def check_settings() -> str:
    """Insist that AWS's own variables can be used; nothing is sent.

    Returns:
        The address of CloudFormation that they lead to.

    Raises:
        ConfigError: one cannot; one line that names it.
    """
    try:
        session = boto3.session.Session()
        client = session.client("cloudformation", region_name=session.region_name or "us-east-1")
    except botocore.ProfileNotFound as error:
        raise ConfigError(f"AWS_PROFILE: {error}") from error
    except botocore.InvalidRegionError as error:
        raise ConfigError(f"AWS_REGION: {error}") from error
    except ValueError as error:
        raise ConfigError(f"AWS_ENDPOINT_URL: {error}") from error
    return client.meta.endpoint_url


def retried(call: Callable[[], T]) -> T:
    """Make a call, again for some seconds while AWS is throttled, broken or away."""
    attempts = Retrying(
        retry=retry_if_exception(_passing),
        stop=stop_after_attempt(_ATTEMPTS) | stop_before_delay(_SECONDS),
        wait=_wait,
        reraise=True,
    )
    return attempts(call)


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
        raise TransientError(f"{doing}: deployer has no usable AWS credentials ({_line(error)})") from error
    except _UNREACHABLE as error:
        raise TransientError(f"{doing}: AWS cannot be reached ({type(error).__name__})") from error
    except botocore.ParamValidationError as error:
        fault = TransientError if artifacts else PermanentError
        raise fault(f"{doing}: {_masked(_line(error), secret)}") from (None if secret else error)
    except BotoCoreError as error:
        raise TransientError(f"{doing}: {_masked(_line(error), secret)}") from (None if secret else error)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        if not is_unparsable(error):
            raise  # a bug of deployer's own, which must not look like a fault of AWS
        raise TransientError(f"{doing}: AWS's answer makes no sense ({type(error).__name__})") from error


# --- what an error says -----------------------------------------------------------------------------------------


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


def code(error: ClientError) -> str:
    """AWS's name for the error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message(error: ClientError) -> str:
    """AWS's words."""
    return str(error.response.get("Error", {}).get("Message", ""))


def _error(doing: str, error: ClientError, secret: str, artifacts: bool) -> DeployerError:
    said = f"{code(error)}: {_masked(_line(message(error)), secret)}"
    if _throttled(error):
        return TransientError(f"{doing}: AWS is throttling ({said})", retry_after=_retry_after(error))
    if _unwell(error):
        return TransientError(f"{doing}: AWS is unwell ({said})", retry_after=_retry_after(error))
    if code(error) in _CREDENTIALS:
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


def _passing(error: BaseException) -> bool:
    """Whether a repeat within seconds may help."""
    if isinstance(error, ClientError):
        return _throttled(error) or _unwell(error)
    return isinstance(error, _UNREACHABLE) and not isinstance(error, botocore.SSLError)


def _throttled(error: ClientError) -> bool:
    return _is_throttling(code(error), _status(error))


def _is_throttling(said: str | None, status: int) -> bool:
    return said in _THROTTLED or status == 429


def _unwell(error: ClientError) -> bool:
    return code(error) in _UNWELL or _status(error) >= 500


def _of_a_proxy(error: ClientError) -> bool:
    """Whether a page was answered, or nothing: AWS names each error, and botocore puts the status where no name is."""
    return not code(error) or code(error).isdigit()


def _status(error: ClientError) -> int:
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _retry_after(error: BaseException | None) -> float | None:
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


def _wait(state: RetryCallState) -> float:
    asked = _retry_after(state.outcome.exception() if state.outcome else None)
    return _backoff(state) if asked is None else asked


def _line(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= _TEXT_LIMIT else f"{line[: _TEXT_LIMIT - 1]}…"


def _masked(text: str, secret: str) -> str:
    return text.replace(secret, "****") if secret else text
