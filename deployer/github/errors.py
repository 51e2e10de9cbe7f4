"""Translates GitHub's errors into the core's errors, which differ by remedy.

Sources: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api and
https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api
"""

import errno
import math
import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import requests

from deployer.github.answers import QueryError
from deployer.model.environments import Repository
from deployer.model.errors import (
    LONGEST_RETRY_AFTER,
    DeployerError,
    PermanentError,
    RightsError,
    ThrottledError,
    TransientError,
)

Headers = Mapping[str, str]
"""An answer's headers; the case of their names does not matter."""

_NO_DESCRIPTOR_LEFT = frozenset({errno.EMFILE, errno.ENFILE})
_RATE_LIMIT_PAUSE = 60.0  # seconds; GitHub's best practices ask for them if an answer names no time
# With these statuses the repository's people must change something. Every other error (deployer's permissions, an
# outage of GitHub) is not their fault
_PERMANENT_STATUSES = frozenset({404, 410, 422, 451})
# GraphQL answers these errors with status 200 and a name. Each name is mapped to the status that REST uses. GitHub uses
# two names for an exceeded rate limit: https://github.com/yanyongyu/githubkit/issues/271
_GRAPHQL_STATUSES = {"RATE_LIMITED": 429, "RATE_LIMIT": 429, "FORBIDDEN": 403, "INSUFFICIENT_SCOPES": 403}


class ApiError(Exception):
    """GitHub answered with an error.

    Attributes:
        status: the HTTP status.
        message: GitHub's message; empty if the answer has none.
        headers: the answer's headers.
        remedy: why GitHub refused the request, with the link to the page that changes it; empty if that is unknown.
    """

    remedy = ""

    def __init__(self, status: int, message: str, headers: Headers) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.headers = headers


class UnexpectedAnswerError(Exception):
    """The answer is not what GitHub's API documents: a proxy's page, an incomplete body, or a body of another type."""


@contextmanager
def translate_errors(doing: str, repository: Repository) -> Iterator[None]:
    """Translate the errors of `github.client` and of requests into the core's; any other error is a bug and passes.

    Args:
        doing: the action with its object, such as `reading refs/heads/x of acme/shop`; the error's text begins with it.
        repository: the repository that the action is about.

    Raises:
        ThrottledError: GitHub's rate limit is exceeded, and GitHub did nothing.
        TransientError: a later attempt may succeed, without any change by the repository's people.
        PermanentError: the repository's people must change something.
    """
    try:
        yield
    except ApiError as error:
        raise _core_error(doing, repository, error) from error
    except UnexpectedAnswerError as error:
        raise TransientError(f"{doing}: GitHub's answer is not what its API documents ({error})") from error
    except requests.RequestException as error:
        if remedy := descriptor_remedy(error):
            raise TransientError(f"{doing}: {remedy}") from error
        raise TransientError(f"{doing}: GitHub cannot be reached ({type(error).__name__})") from error


@contextmanager
def requires_permission(needed: str) -> Iterator[None]:
    """Translate GitHub's refusal (403 or 404) of an optional action into `RightsError`.

    Deployer works without the action, so the refusal must not count as a failure. GitHub answers 404 as well as 403
    if a token lacks a permission.

    Args:
        needed: the permission, as GitHub names it in the settings of a token or App.

    Raises:
        RightsError: GitHub refuses the action, for another reason than a rate limit or an archived repository.
    """
    try:
        yield
    except ApiError as error:
        if (
            error.status not in {403, 404}
            or rate_limit_seconds(error) is not None
            or "archived" in error.message
        ):
            raise
        remedy = error.remedy or f"give deployer's token or App the permission {needed}"
        raise RightsError(f"GitHub answers {error.status} ({error.message}); {remedy}") from error


def graphql_error(errors: Sequence[QueryError], headers: Headers) -> ApiError:
    """Translate the errors of a GraphQL query into the error that the REST API would have answered.

    An error without a type is a failure of GitHub itself, such as a time-out (502). But if every error has no type and
    points to a location in the query, GitHub does not understand the query, and a repeat cannot help (400).
    """
    names = {each.type for each in errors}
    message = ": ".join(each.message for each in errors if each.message)
    status = next((code for name, code in _GRAPHQL_STATUSES.items() if name in names), 0)
    if not status:
        is_invalid_query = all(not each.type and each.locations is not None for each in errors)
        status = 429 if "rate limit" in message.lower() else 400 if is_invalid_query else 502
    return ApiError(status, message, headers)


def is_empty_repository(error: ApiError) -> bool:
    """Whether the error means that the repository has no commit yet.

    Any other 409, such as that of a repository that is being restored, says nothing about the repository's refs.
    """
    return error.status == 409 and error.message == "Git Repository is empty."


def is_suspended(error: ApiError) -> bool:
    """Whether the GitHub App's installation is suspended."""
    return error.status == 403 and "suspended" in error.message.lower()


def is_too_large_to_compare(error: ApiError) -> bool:
    """Whether two commits differ in more than GitHub can compare in time; then every attempt gets a 500.

    See https://github.com/github-changelog-generator/github-changelog-generator/issues/920
    """
    return error.status >= 500 and "Sorry, this diff" in error.message


def _core_error(doing: str, repository: Repository, error: ApiError) -> DeployerError:
    message = error.message
    if (pause := rate_limit_seconds(error)) is not None:
        # GitHub did nothing, so this is no failed attempt
        return ThrottledError(f"{doing}: GitHub's rate limit is exceeded ({message})", retry_after=pause)
    if error.status >= 500:
        return TransientError(
            f"{doing}: GitHub answers {error.status} ({message})",
            retry_after=retry_after_seconds(error.headers.get("retry-after")),
        )
    if error.status == 404:
        return PermanentError(
            f"{doing}: GitHub does not find {repository} or the commit, or deployer has no access to the repository"
        )
    if error.status in _PERMANENT_STATUSES or is_empty_repository(error) or "archived" in message.lower():
        return PermanentError(f"{doing}: GitHub answers {error.status}: {message}")
    if error.status == 401:
        return TransientError(
            f"{doing}: GitHub refuses deployer's credentials ({message}); renew DEPLOYER_GITHUB_TOKEN or the App's key"
        )
    if error.status == 403 and error.remedy:
        return TransientError(f"{doing}: {error.remedy}")
    if error.status == 403:
        needs = error.headers.get("x-accepted-github-permissions")
        lacking = f"; it needs {needs}" if needs else ""
        return TransientError(
            f"{doing}: deployer's GitHub credentials lack a permission ({message}{lacking})"
        )
    return TransientError(f"{doing}: GitHub answers {error.status}: {message}")


def rate_limit_seconds(error: ApiError) -> float | None:
    """How many seconds to wait if the error is a rate limit; None for any other error.

    GitHub answers a primary as well as a secondary rate limit with 403 or 429.
    """
    if error.status not in {403, 429}:
        return None
    used_up = error.headers.get("x-ratelimit-remaining") == "0"
    message = error.message.lower()
    named = "rate limit" in message or "abuse detection" in message  # the former name of the secondary limit
    if not (error.status == 429 or used_up or "retry-after" in error.headers or named):
        return None
    asked = retry_after_seconds(error.headers.get("retry-after"))
    if asked is None and used_up:
        asked = seconds_until_reset(error.headers.get("x-ratelimit-reset"))
    return _RATE_LIMIT_PAUSE if asked is None else max(asked, 1.0)


def retry_after_seconds(value: str | None) -> float | None:
    """The number of seconds that a `Retry-After` header asks to wait; None if it names no usable number.

    Args:
        value: the header: a number of seconds or an HTTP date (RFC 9110, 10.2.3), or None.

    Returns:
        From 0 to `LONGEST_RETRY_AFTER`. None for a missing, negative or infinite number, `nan` and any other text.
    """
    if value is None:
        return None
    seconds = _finite_number(value)
    if seconds is None:
        try:
            seconds = max(parsedate_to_datetime(value).timestamp() - time.time(), 0)
        except (ValueError, OverflowError):
            return None
    return min(seconds, LONGEST_RETRY_AFTER) if seconds >= 0 else None


def seconds_until_reset(value: str | None) -> float | None:
    """The number of seconds until a time in epoch seconds, such as `x-ratelimit-reset`; None if the text is no number.

    Returns:
        From 1 to `LONGEST_RETRY_AFTER`, because the server's clock may differ from this machine's.
    """
    at = _finite_number(value or "")
    return None if at is None else min(max(at - time.time(), 1.0), LONGEST_RETRY_AFTER)


def _finite_number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def descriptor_remedy(error: BaseException) -> str:
    """The remedy if a connection failed because this process or machine has no file descriptor left.

    A library may hide this cause: without a descriptor a host name cannot be resolved either, and the resolver's error
    does not mention descriptors. Therefore the whole chain of causes is searched, and then a file is opened as a test.

    Args:
        error: the error that the attempt to connect raised.

    Returns:
        One sentence with the remedy; empty if descriptors are not the cause.
    """
    if not _is_caused_by_descriptors(error) and _can_open_a_file():
        return ""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        f"this process cannot open another file or socket (its limit is {limit:,}): raise the limit "
        "(ulimit -n, LimitNOFILE of systemd, ulimits of Compose)"
    )


def _is_caused_by_descriptors(error: BaseException) -> bool:
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop()
        if isinstance(each, OSError) and each.errno in _NO_DESCRIPTOR_LEFT:
            return True
        seen.add(id(each))
        causes = (each.__cause__, each.__context__, getattr(each, "reason", None), *each.args)
        waiting += [cause for cause in causes if isinstance(cause, BaseException) and id(cause) not in seen]
    return False


def _can_open_a_file() -> bool:
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return error.errno not in _NO_DESCRIPTOR_LEFT
    return True
