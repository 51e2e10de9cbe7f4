"""Sends requests to GitHub and checks each answer against the type that the call states.

Redirects, retries of seconds and the choice of the credentials are here; what the core is told is in `github_errors`.
"""

import os
from collections.abc import Callable, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol, TypeVar
from urllib.parse import SplitResult, urljoin, urlsplit, urlunsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_before_delay
from tenacity.wait import wait_random_exponential

from deployer.adapters.github_answers import Accepted, QueryAnswer
from deployer.adapters.github_answers import Repository as RepositoryAnswer
from deployer.adapters.github_errors import (
    ApiError,
    Headers,
    UnexpectedAnswerError,
    is_too_large_to_compare,
    retry_after_seconds,
)
from deployer.environments import Repository
from deployer.tally import note, note_quota

_T = TypeVar("_T")

_MAX_CONNECTIONS = 4  # of a process; one more request waits for another one's end
_TIMEOUT_SECONDS = 15  # seconds to connect, and as long between two parts of an answer
_MAX_ATTEMPTS = 4
_RETRY_SECONDS = 15.0
_REDIRECTS = frozenset({301, 302, 307, 308})
_MAX_REDIRECTS = 3
_DEFAULT_PORTS = {"https": 443, "http": 80}
# without a JSON message these are believed too: nothing is concluded from them but that it did not work
_STATUSES_BELIEVED_WITHOUT_JSON = frozenset({401, 403, 407, 429})
_backoff = wait_random_exponential(multiplier=0.5, max=4)


class Credentials(Protocol):
    """Signs requests."""

    def authorization(self, repository: Repository) -> str:
        """The header `Authorization` of a request about a repository."""

    def discard_cached_credentials(self, repository: Repository) -> None:
        """Sign in anew at the next request: GitHub refused these credentials, or does not show the repository."""


class GitHubClient:
    """One API address.

    All installations and threads share one pool of connections in each process: the number of repositories does not
    change how many sockets are open.

    Args:
        api_url: `https://api.github.com`, or `https://<host>/api/v3` of an Enterprise Server.
        credentials: sign the requests about repositories.
    """

    def __init__(self, api_url: str, credentials: Credentials) -> None:
        self.api_url = api_url
        self._credentials = credentials
        self._sessions: dict[
            int, requests.Session
        ] = {}  # by process: a socket must not be shared after a fork

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
        """Ask with the rights that deployer has on a repository, and again for some seconds where that may help.

        Args:
            repository: whose credentials are used.
            verb: the HTTP method.
            path: what is asked for, below the API's address.
            answer: the type of a good answer's body; any other shape is an error.
            query: the URL's parameters.
            body: sent as JSON.
            once_only: whether a repeat could make a second of what was made although the answer was lost.

        Returns:
            The headers and the body.

        Raises:
            ApiError: GitHub answers with an error.
            UnexpectedAnswerError: the answer has another shape, however often it was asked for.
            requests.RequestException: there is no answer.
        """

        def once() -> tuple[Headers, _T]:
            authorization = self._credentials.authorization(repository)
            return self.send_once(verb, path, answer, authorization, query=query, body=body)

        try:
            return once() if once_only else retry_transient_failures(once)
        except ApiError as error:
            if error.status == 401:  # a GitHub App may have been installed anew
                self._credentials.discard_cached_credentials(repository)
            raise

    def query(
        self,
        repository: Repository,
        query: str,
        variables: Mapping[str, Any],
        read: Callable[[Headers, QueryAnswer], _T],
    ) -> _T:
        """Ask the GraphQL API, as `call` does.

        Args:
            repository: whose credentials are used.
            query: the query.
            variables: what it is about.
            read: makes the result of the headers and the body; may raise `ApiError` or `UnexpectedAnswerError`.
        """
        body = {"query": query, "variables": variables}

        def once() -> _T:
            authorization = self._credentials.authorization(repository)
            return read(*self.send_once("POST", self._graphql_url(), QueryAnswer, authorization, body=body))

        try:
            return retry_transient_failures(once)
        except ApiError as error:
            if error.status == 401:
                self._credentials.discard_cached_credentials(repository)
            raise

    def send_once(
        self,
        verb: str,
        path: str,
        answer: type[_T],
        authorization: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
    ) -> tuple[Headers, _T]:
        """Send one request, follow its redirects, and read its answer. Nothing is repeated.

        GitHub asks to repeat the same request at the new address, whatever its method:
        https://docs.github.com/rest/using-the-rest-api/best-practices-for-using-the-rest-api#follow-redirects
        """
        url = path if path.startswith(("https://", "http://")) else f"{self.api_url}{path}"
        headers = {
            "Authorization": authorization,
            "Accept": "application/vnd.github+json",
            "User-Agent": "deployer",
        }
        parameters = query
        for _ in range(_MAX_REDIRECTS + 1):
            note("github")
            found = self._process_session().request(
                verb,
                url,
                params=parameters,
                json=body,
                headers=headers,
                timeout=_TIMEOUT_SECONDS,
                allow_redirects=False,
            )
            note_quota(found.headers.get("x-ratelimit-limit"))
            if found.status_code not in _REDIRECTS:
                return found.headers, _read_response(verb, found, answer)
            url, parameters = self._redirect_target(url, found.headers.get("location", "")), None
        raise UnexpectedAnswerError(f"more than {_MAX_REDIRECTS} redirects")

    def _redirect_target(self, url: str, location: str) -> str:
        try:
            there, here = urlsplit(urljoin(url, location)), urlsplit(self.api_url)
            same_origin = _normalized_origin(there) == _normalized_origin(here)
        except ValueError:
            raise UnexpectedAnswerError("a redirect to no address") from None
        if not location or not same_origin:
            # the credentials are for this host alone
            raise UnexpectedAnswerError("a redirect to another host; see DEPLOYER_GITHUB_API_URL")
        # a proxy may spell the host in capitals or name the default port; the configured spelling is the one to use
        return urlunsplit(there._replace(netloc=here.netloc))

    def _graphql_url(self) -> str:
        parts = urlsplit(self.api_url)
        return urlunsplit(parts._replace(path=f"{parts.path.removesuffix('/v3')}/graphql"))

    def _process_session(self) -> requests.Session:
        session = self._sessions.get(os.getpid())
        return session or self._sessions.setdefault(os.getpid(), _unshared_session())


class RepositoryClient:
    """Asks about one repository, with the rights that deployer has on it.

    Args:
        client: sends the requests.
        repository: which.
    """

    def __init__(self, client: GitHubClient, repository: Repository) -> None:
        self._client = client
        self.repository = repository

    def call(self, verb: str, path: str, answer: type[_T], **more: Any) -> tuple[Headers, _T]:
        """`GitHubClient.call` with a path below the repository."""
        return self._client.call(
            self.repository, verb, f"/repos/{self.repository.full_name}{path}", answer, **more
        )

    def get(self, path: str, answer: type[_T], query: Mapping[str, Any] | None = None) -> _T:
        """The body of one GET below the repository."""
        return self.call("GET", path, answer, query=query)[1]

    def require_repository(self) -> None:
        """Ask for the repository itself: a 404 of anything in it says nothing where that is not there."""
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
    """Scheme, host and port. The host is in lower case, and the scheme's default port counts as named.

    Raises:
        ValueError: the port is no port.
    """
    return url.scheme, url.hostname, _DEFAULT_PORTS.get(url.scheme) if url.port is None else url.port


class _Session(requests.Session):
    def get_redirect_target(self, _response: requests.Response) -> None:
        """None: requests would parse a redirect's address even where it is not to follow it, and fail on a bad one."""


def _unshared_session() -> requests.Session:
    """A session that threads may share: it keeps no cookies, and its pool is bounded."""
    session = _Session()
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.auth = lambda request: request  # else a .netrc file's password would replace the token
    adapter = HTTPAdapter(pool_connections=1, pool_maxsize=_MAX_CONNECTIONS, pool_block=True)
    for scheme in ("https://", "http://"):
        session.mount(scheme, adapter)
    return session


def retry_transient_failures(once: Callable[[], _T]) -> _T:
    """Do something, again for some seconds while that may help."""
    attempts = Retrying(
        retry=retry_if_exception(_is_transient),
        stop=stop_after_attempt(_MAX_ATTEMPTS) | stop_before_delay(_RETRY_SECONDS),
        wait=_seconds_to_wait,
        reraise=True,
    )
    return attempts(once)


def decode_json(content: bytes | msgspec.Raw, answer: type[_T]) -> _T:
    """A JSON text as a value of the type.

    Raises:
        UnexpectedAnswerError: it is no JSON, or not of that type.
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
        if answer is Accepted and status == 202 and not content:
            content = b"{}"
        return decode_json(content, answer)
    message = _github_message(content)
    if status < 400 or (status < 500 and message is None and status not in _STATUSES_BELIEVED_WITHOUT_JSON):
        # a 404 of something else than GitHub must not tell that a branch or repository is gone
        raise UnexpectedAnswerError(f"HTTP {status} without GitHub's message")
    raise ApiError(status, message or "", found.headers)


def _github_message(content: bytes) -> str | None:
    """GitHub's words in an error's body; None where it is not GitHub's."""
    try:
        data = decode_json(content, dict[str, Any])
    except UnexpectedAnswerError:
        return None
    return error_text(data) if isinstance(data.get("message"), str) else None


def error_text(data: Mapping[str, Any]) -> str:
    """The message of an error and those of its details."""
    errors = data.get("errors")
    details = (
        [each.get("message") for each in errors if isinstance(each, dict)] if isinstance(errors, list) else []
    )
    return ": ".join(part for part in (data.get("message"), *details) if part and isinstance(part, str))


def _is_transient(error: BaseException) -> bool:
    """Whether a repeat within seconds may help."""
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
