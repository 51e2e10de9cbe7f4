"""The boto3 clients of one account's region, through which the adapter sends every request."""

import os
import threading
import time
from collections.abc import Callable, Iterator
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

from deployer.aws.errors import (
    AnswerError,
    is_credential_error,
    is_raised_by_parser,
    is_temporary,
    is_throttling,
    mask_secret,
    required_member,
    retry_after_seconds,
    shorten_line,
    translate_errors,
)
from deployer.aws.sharing import RateLimit
from deployer.model.errors import ConfigError, ThrottledError, TransientError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation import CloudFormationClient
    from mypy_boto3_codepipeline import CodePipelineClient
    from mypy_boto3_s3 import S3Client

T = TypeVar("T")

_RETRY_ATTEMPTS = 4  # of one call, the first one included
_RETRY_SECONDS = 20.0  # no retry starts later than this after the first attempt
_backoff = wait_random_exponential(multiplier=0.5, max=6)


class AwsClients:
    """The clients of one account and region. Each process creates a client when it first uses that service.

    Args:
        region: the region's name.
        endpoint_url: one address for all services of AWS; None to use AWS's own environment variables.
        role_arn: the role to assume; empty to use the process's own credentials.
        external_id: the external id for AssumeRole; empty if the role needs none.
        rate_limit: every call waits for its turn here; None for no limit.
        on_call: called for every request that is sent, including retries.
    """

    def __init__(
        self,
        region: str,
        endpoint_url: str | None = None,
        *,
        role_arn: str = "",
        external_id: str = "",
        rate_limit: RateLimit | None = None,
        on_call: Callable[[], None] | None = None,
    ) -> None:
        self.region = region
        self._endpoint_url = endpoint_url
        self._role_arn = role_arn
        self._external_id = external_id
        self._rate_limit = rate_limit
        self._on_call = on_call
        self._pid = 0
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._session: boto3.session.Session | None = None
        self._principal = role_arn

    @property
    def cloudformation(self) -> "CloudFormationClient":
        """The client of CloudFormation."""
        client: CloudFormationClient = self._cached_client("cloudformation")
        return client

    @property
    def codepipeline(self) -> "CodePipelineClient":
        """The client of CodePipeline."""
        client: CodePipelineClient = self._cached_client("codepipeline")
        return client

    @property
    def s3(self) -> "S3Client":
        """The client of S3."""
        client: S3Client = self._cached_client("s3")
        return client

    @property
    def ecr(self) -> Any:
        """The client of ECR, the Elastic Container Registry."""
        return self._cached_client("ecr")

    @property
    def logs(self) -> Any:
        """The client of CloudWatch Logs."""
        return self._cached_client("logs")

    @property
    def iam(self) -> Any:
        """The client of IAM."""
        return self._cached_client("iam")

    @property
    def sts(self) -> Any:
        """The client of STS, the Security Token Service."""
        return self._cached_client("sts")

    def principal(self) -> str:
        """The ARN of the target's role, or of the role or user of deployer's own credentials."""
        if not self._principal:
            answer = call_with_retries(self.sts.get_caller_identity)
            self._principal = str(required_member(answer, "Arn"))
        return self._principal

    def check_reachable(self, seconds: float) -> None:
        """Send CloudFormation one request with an invalid access key; its refusal proves that AWS can be reached.

        Args:
            seconds: the timeout for the connection, and again for the response.

        Raises:
            TransientError: there is no response, or it is a server error.
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
            aws_secret_access_key="nobody",  # noqa: S106  not a secret
        )
        try:
            client.describe_account_limits()
        except ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
            if status >= 500:
                raise TransientError(f"reaching {self.region}: AWS returned HTTP {status}") from error
        except (BotoCoreError, ResponseParserError, OSError) as error:
            reason = type(error).__name__
            raise TransientError(f"reaching {self.region}: no response from AWS ({reason})") from error
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            if not is_raised_by_parser(error):
                raise
            raise TransientError(f"reaching {self.region}: the response is not from AWS") from error

    def _cached_client(self, service: str) -> Any:
        if self._pid != os.getpid():
            # This process is a fork: it must not share sockets, and the lock may be a copy of one that was held.
            self._pid, self._lock, self._clients, self._session = os.getpid(), threading.Lock(), {}, None
        with self._lock:
            if service not in self._clients:
                if self._session is None:
                    self._session = self._build_session()
                self._clients[service] = self._build_client(self._session, service)
            return self._clients[service]

    def _build_client(self, session: Any, service: str, **credentials: str | None) -> Any:
        """Create a client whose calls wait for the rate limit, so that AWS seldom throttles them."""
        config = Config(
            connect_timeout=5,
            read_timeout=20,
            retries={"mode": "adaptive", "total_max_attempts": 1},  # slows down; `call_with_retries` retries
            user_agent_extra="deployer",
        )
        if service == "s3" and self._has_custom_endpoint():
            # A custom endpoint has no wildcard DNS, so the bucket name must be in the path.
            config = config.merge(Config(s3={"addressing_style": "path"}))
        client = session.client(
            service, region_name=self.region, endpoint_url=self._endpoint_url, config=config, **credentials
        )
        if self._rate_limit:
            client.meta.events.register("before-call", self._wait_for_rate_limit)
            client.meta.events.register("after-call", self._report_throttling)
        client.meta.events.register("before-send", self._count_request)
        return client

    def _build_session(self) -> boto3.session.Session:
        """Create a session with the credentials of the role, or the process's own if there is no role."""
        own_session = boto3.session.Session()
        if not self._role_arn:
            return own_session
        extra_args = {
            "RoleSessionName": "deployer",
            **({"ExternalId": self._external_id} if self._external_id else {}),
        }

        def fetch_role_credentials() -> Any:
            with translate_errors(f"assuming role {self._role_arn}", self._external_id):
                if (credentials := own_session.get_credentials()) is None:
                    raise botocore.NoCredentialsError
                fetcher = AssumeRoleCredentialFetcher(
                    client_creator=lambda service, **credentials_of_caller: self._build_client(
                        own_session, service, **credentials_of_caller
                    ),
                    source_credentials=credentials,
                    role_arn=self._role_arn,
                    extra_args=extra_args,
                )
                try:
                    return call_with_retries(fetcher.fetch_credentials)
                except (ClientError, botocore.ParamValidationError) as error:
                    if isinstance(error, ClientError) and (is_temporary(error) or is_credential_error(error)):
                        raise
                    reported = shorten_line(mask_secret(str(error), self._external_id))
                    raise TransientError(
                        f"assuming role {self._role_arn}: AWS refuses it ({reported}): let the role trust"
                        " deployer's own role with the external id of DEPLOYER_TARGETS, and allow deployer's own"
                        " role sts:AssumeRole"
                    ) from None  # the original exception contains the request, and so the external id

        session = get_session()
        # botocore renews the credentials before they expire
        session._credentials = DeferredRefreshableCredentials(fetch_role_credentials, "assume-role")  # type: ignore[attr-defined]
        return boto3.session.Session(botocore_session=session)

    def _wait_for_rate_limit(self, model: Any, **_: object) -> None:
        if self._rate_limit:
            self._rate_limit.wait_for_turn(model.service_model.service_name, model.name)

    def _report_throttling(self, http_response: Any, parsed: Any, model: Any, **_: object) -> None:
        if self._rate_limit and is_throttling(parsed.get("Error", {}).get("Code"), http_response.status_code):
            self._rate_limit.lower_rate(model.service_model.service_name, model.name)

    def _count_request(self, **_: object) -> None:
        if self._on_call:
            self._on_call()

    def _has_custom_endpoint(self) -> bool:
        return bool(
            self._endpoint_url or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        )


def own_region() -> str:
    """Return the region that AWS's own environment variables and configuration files name.

    Raises:
        TransientError: these settings are invalid. `check_settings` reports that when a process starts.
    """
    with translate_errors("reading AWS's own settings"):
        return boto3.session.Session().region_name or "us-east-1"


def check_settings() -> str:
    """Check AWS's own environment variables without sending a request.

    Returns:
        The address of CloudFormation that they lead to.

    Raises:
        ConfigError: a variable is invalid; the text names it in one line.
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


def call_with_retries(call: Callable[[], T]) -> T:
    """Make a call, with retries while AWS throttles it, has a server error or cannot be reached.

    The retries take about twenty seconds at most. They honor the header Retry-After.
    """
    attempts = Retrying(
        retry=retry_if_exception(is_temporary),
        stop=stop_after_attempt(_RETRY_ATTEMPTS) | stop_before_delay(_RETRY_SECONDS),
        wait=_retry_delay,
        reraise=True,
    )
    return attempts(call)


def _retry_delay(state: RetryCallState) -> float:
    requested = retry_after_seconds(state.outcome.exception() if state.outcome else None)
    return _backoff(state) if requested is None else requested


def read_pages(
    operation: Callable[..., Any], max_wait: float = 0, *, cursor: str = "NextToken", **query: Any
) -> Iterator[Any]:
    """Yield every page of a listing.

    Args:
        operation: a client's method.
        max_wait: the total time in seconds to wait for the rate limit before further pages. Without it, a later attempt
            would have to read the first pages again.
        cursor: the name of the pagination token, in the response as well as in the next request.
        query: the method's arguments.

    Raises:
        AnswerError: a page contains its own token as the next one, which would be an endless loop.
        ThrottledError: the first page has no turn yet, or a further page needs a longer wait than `max_wait`.
    """
    while True:
        try:
            page = call_with_retries(lambda: operation(**query))
        except ThrottledError as error:
            seconds = error.retry_after or 1.0
            if cursor not in query or seconds > max_wait:
                raise
            max_wait -= seconds
            time.sleep(seconds)
            continue
        yield page
        if not page.get(cursor):
            return
        if page[cursor] == query.get(cursor):
            raise AnswerError(f"AWS's response is invalid: a page has its own {cursor} as the next one")
        query[cursor] = page[cursor]
