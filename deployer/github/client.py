"""Sends requests to GitHub's API.

Each answer is checked against the type that the caller names. This module follows redirects, repeats failed requests
for some seconds, asks the credentials to sign each request, and obeys GitHub's rate limits. `github.errors` translates
its errors for the core.
"""

import os
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from deployer.github.answers import Accepted, Deleted, QueryAnswer
from deployer.github.answers import Repository as RepositoryAnswer
from deployer.github.errors import (
    ApiError,
    Headers,
    UnexpectedAnswerError,
    is_too_large_to_compare,
    rate_limit_seconds,
    retry_after_seconds,
)
from deployer.github.rate_limits import read_rate_limits
from deployer.github.sharing import OwnProcess, Sharing
from deployer.github.signature import Credentials, Signature
from deployer.model.environments import Repository
from deployer.queue.call_counter import count_call, save_quota

_T = TypeVar("_T")

# https://docs.github.com/rest/about-the-rest-api/api-versions
API_VERSION = "2022-11-28"
"""The version of GitHub's REST API that deployer's types of answers describe."""
_MAX_CONNECTIONS = 4  # per process; a fifth request waits until one of the four has ended
_TIMEOUT_SECONDS = 15  # to connect, and again between two parts of an answer
_MAX_ATTEMPTS = 4
_RETRY_SECONDS = 15.0
_REDIRECTS = frozenset({301, 302, 307, 308})
_MAX_REDIRECTS = 3
_DEFAULT_PORTS = {"https": 443, "http": 80}
# These statuses count as GitHub's even without a JSON message: nothing but the failure of the request follows from them
_STATUSES_BELIEVED_WITHOUT_JSON = frozenset({401, 403, 407, 429})
_backoff = wait_random_exponential(multiplier=0.5, max=4)


class GitHubClient:
    """A client of one API address. Threads may share it.

    All installations and threads of a process share one connection pool, so the number of open sockets does not grow
    with the number of repositories.

    Args:
        api_url: `https://api.github.com`, or `https://<host>/api/v3` of an Enterprise Server.
        credentials: signs the requests about repositories.
        sharing: lets requests pass as the rate limits allow; by default this process shares nothing.
    """

    def __init__(self, api_url: str, credentials: Credentials, sharing: Sharing | None = None) -> None:
        self.api_url = api_url
        self._credentials = credentials
        self._sharing = sharing or OwnProcess()
        # by process id, because two processes must not share a socket after a fork
        self._sessions: dict[int, requests.Session] = {}

    def call(
        self,
        repository: Repository,
        verb: str,
        path: str,
        answer: type[_T],
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        once_only: bool = False,
    ) -> tuple[Headers, _T]:
        """Send a request with the repository's credentials, and repeat it for some seconds if the failure is transient.

        Args:
            repository: the repository whose credentials sign the request.
            verb: the HTTP method.
            path: the path below the API's address.
            answer: the type of the body of a 2xx answer; any other body is an error.
            query: the URL's parameters.
            body: the request's body, sent as JSON.
            once_only: do not repeat the request: if only the answer was lost, a repeat would create a second object.

        Returns:
            The answer's headers and body.

        Raises:
            ApiError: GitHub answered with an error.
            ThrottledError: the rate limits allow no request now.
            UnexpectedAnswerError: no attempt got an answer of this type.
            requests.RequestException: no attempt got an answer.
        """

        def once() -> tuple[Headers, _T]:
            signature = self._credentials.sign(repository)
            return self.send_once(verb, path, answer, signature, query=query, body=body)

        try:
            return once() if once_only else retry_transient_failures(once)
        except ApiError as error:
            self._handle_refusal(repository, error)
            raise

    def query(
        self,
        repository: Repository,
        query: str,
        variables: Mapping[str, Any],
        read: Callable[[Headers, QueryAnswer], _T],
    ) -> _T:
        """Send a query to the GraphQL API, with the credentials, repeats and errors of `call`.

        Args:
            repository: the repository whose credentials sign the request.
            query: the GraphQL query.
            variables: the query's variables.
            read: turns headers and body into the result; may raise `ApiError` or `UnexpectedAnswerError`.
        """
        body = {"query": query, "variables": variables}

        def once() -> _T:
            signature = self._credentials.sign(repository)
            headers, found = self.send_once("POST", self._graphql_url(), QueryAnswer, signature, body=body)
            try:
                return read(headers, found)
            except ApiError as error:  # GraphQL answers most errors with status 200
                self._record_limits(signature.account, "graphql", headers, error)
                raise

        try:
            return retry_transient_failures(once)
        except ApiError as error:
            self._handle_refusal(repository, error)
            raise

    def _handle_refusal(self, repository: Repository, error: ApiError) -> None:
        """Discard a token that GitHub refuses, and find out why GitHub refuses a request."""
        if error.status == 401:
            self._credentials.discard_token(repository)
        if error.status == 403 and rate_limit_seconds(error) is None:
            error.remedy = self._credentials.explain_refusal(repository, error)

    def send_once(
        self,
        verb: str,
        path: str,
        answer: type[_T],
        signature: Signature,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> tuple[Headers, _T]:
        """Send one request, follow its redirects, and read its answer, without repeating a failed request.

        GitHub asks clients to send the same request to the new address, whatever its method:
        https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects

        Raises:
            ThrottledError: the rate limits allow no request now.
        """
        url = path if path.startswith(("https://", "http://")) else f"{self.api_url}{path}"
        headers = {
            "Authorization": signature.authorization,
            "Accept": "application/vnd.github+json",
            "User-Agent": "deployer",
            "X-GitHub-Api-Version": API_VERSION,
        }
        parameters, account = query, signature.account
        resource = "graphql" if url == self._graphql_url() else "core"
        # a query of GraphQL changes nothing, and what the App itself sends (to get a token or a delivery) is no content
        writes = verb != "GET" and resource == "core" and account != "app"
        for _ in range(_MAX_REDIRECTS + 1):
            self._sharing.wait_for_turn(account, resource, writes=writes)
            count_call("github")
            found = self._process_session().request(
                verb,
                url,
                params=parameters,
                json=body,
                headers=headers,
                timeout=_TIMEOUT_SECONDS,
                allow_redirects=False,
            )
            save_quota(found.headers.get("x-ratelimit-limit"))
            if found.status_code not in _REDIRECTS:
                return found.headers, self._read_answer(verb, found, answer, account, resource)
            url, parameters = self._redirect_target(url, found.headers.get("location", "")), None
        raise UnexpectedAnswerError(f"more than {_MAX_REDIRECTS} redirects")

    def _read_answer(
        self, verb: str, found: requests.Response, answer: type[_T], account: str, resource: str
    ) -> _T:
        """Read an answer, and share what it says about rate limits."""
        try:
            read = _read_response(verb, found, answer)
        except ApiError as error:
            self._record_limits(account, resource, found.headers, error)
            raise
        self._record_limits(account, resource, found.headers)
        return read

    def _record_limits(
        self, account: str, resource: str, headers: Headers, error: ApiError | None = None
    ) -> None:
        limits = read_rate_limits(resource, headers, error)
        if limits.quota or limits.refused_seconds is not None:
            self._sharing.record_limits(
                account,
                limits.resource,
                quota=limits.quota,
                refused_seconds=limits.refused_seconds,
                refuses_all=limits.refuses_all,
            )

    def _redirect_target(self, url: str, location: str) -> str:
        try:
            there, here = urlsplit(urljoin(url, location)), urlsplit(self.api_url)
            same_origin = _normalized_origin(there) == _normalized_origin(here)
        except ValueError:
            raise UnexpectedAnswerError("a redirect to an invalid address") from None
        if not location or not same_origin:
            # another host must not see the credentials
            raise UnexpectedAnswerError("a redirect to another host; see DEPLOYER_GITHUB_API_URL")
        # A proxy may write the host in capitals or add the default port; the configured spelling is used instead
        return urlunsplit(there._replace(netloc=here.netloc))

    def _graphql_url(self) -> str:
        parts = urlsplit(self.api_url)
        return urlunsplit(parts._replace(path=f"{parts.path.removesuffix('/v3')}/graphql"))

    def _process_session(self) -> requests.Session:
        session = self._sessions.get(os.getpid())
        return session or self._sessions.setdefault(os.getpid(), _unshared_session())


class RepositoryClient:
    """Sends requests about one repository, with deployer's credentials for it.

    Args:
        client: sends the requests.
        repository: the repository.
    """

    def __init__(self, client: GitHubClient, repository: Repository) -> None:
        self._client = client
        self.repository = repository

    def call(self, verb: str, path: str, answer: type[_T], **more: Any) -> tuple[Headers, _T]:
        """Send a request like `GitHubClient.call`, with a path below the repository."""
        return self._client.call(
            self.repository, verb, f"/repos/{self.repository.full_name}{path}", answer, **more
        )

    def get(self, path: str, answer: type[_T], query: Mapping[str, Any] | None = None) -> _T:
        """Read a path below the repository: the body of a GET."""
        return self.call("GET", path, answer, query=query)[1]

    def require_repository(self) -> None:
        """Read the repository itself, because a 404 of a path below it has no meaning if the repository is missing.

        Raises:
            ApiError: GitHub does not show the repository (404), or answered with another error.
        """
        self.get("", RepositoryAnswer)

    def repository_exists(self) -> bool:
        """Whether GitHub shows the repository."""
        try:
            self.require_repository()
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True


def _normalized_origin(url: SplitResult) -> tuple[str, str | None, int | None]:
    """Scheme, host in lower case and port, where a missing port is the scheme's default port.

    Raises:
        ValueError: the port is not a port number.
    """
    return url.scheme, url.hostname, _DEFAULT_PORTS.get(url.scheme) if url.port is None else url.port


class _Session(requests.Session):
    def get_redirect_target(self, _response: requests.Response) -> None:
        """None, because requests parses a redirect's address even if it must not follow it, and fails on a bad one."""


def _unshared_session() -> requests.Session:
    """A session without cookies and with a bounded connection pool, so that threads may share it."""
    session = _Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.auth = lambda request: request  # otherwise a password in a .netrc file would replace the token
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=_MAX_CONNECTIONS, pool_block=True)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return session


def retry_transient_failures(once: Callable[[], _T]) -> _T:
    """Call a function, and call it again for some seconds while its error is transient."""
    attempts = Retrying(
        retry=retry_if_exception(_is_transient),
        stop=stop_after_attempt(_MAX_ATTEMPTS) | stop_before_delay(_RETRY_SECONDS),
        wait=_seconds_to_wait,
        reraise=True,
    )
    return attempts(once)


def decode_json(content: bytes | msgspec.Raw, answer: type[_T]) -> _T:
    """Decode a JSON text into a value of the type.

    Raises:
        UnexpectedAnswerError: the text is not JSON, or not of this type.
    """
    try:
        return msgspec.json.decode(content, type=answer)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise UnexpectedAnswerError(str(error)) from None


def _read_response(verb: str, found: requests.Response, answer: type[_T]) -> _T:
    status, content = found.status_code, found.content
    if 200 <= status < 300:
        if verb == "GET" and status == 202:
            raise UnexpectedAnswerError("HTTP 202: GitHub has no answer yet")
        if (answer, status) in {(Accepted, 202), (Deleted, 204)} and not content:
            content = b"{}"
        return decode_json(content, answer)
    message = _github_message(content)
    if status < 400 or (status < 500 and message is None and status not in _STATUSES_BELIEVED_WITHOUT_JSON):
        # A 404 that does not come from GitHub, but from a proxy, must not mean that a branch or repository is gone
        raise UnexpectedAnswerError(f"HTTP {status} without GitHub's message")
    raise ApiError(status, message or "", found.headers)


def _github_message(content: bytes) -> str | None:
    """GitHub's message in the body of an error; None if the body does not come from GitHub."""
    try:
        data = decode_json(content, dict[str, Any])
    except UnexpectedAnswerError:
        return None
    return error_text(data) if isinstance(data.get("message"), str) else None


def error_text(data: Mapping[str, Any]) -> str:
    """The message of an error with the messages of its details."""
    errors = data.get("errors")
    details = (
        [each.get("message") for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    )
    return ": ".join(part for part in (data.get("message"), *details) if part and isinstance(part, str))


def _is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed some seconds later."""
    if isinstance(error, ApiError):
        return error.status >= 500 and not is_too_large_to_compare(error)
    return isinstance(
        error,
        UnexpectedAnswerError
        | requests.ConnectionError
        | requests.Timeout
        | requests.exceptions.ChunkedEncodingError
        | requests.exceptions.ContentDecodingError,
    )


def _seconds_to_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = retry_after_seconds(error.headers.get("retry-after")) if isinstance(error, ApiError) else None
    return _backoff(state) if asked is None else asked
