"""What GitHub's errors mean for the core: which remedy each of them has.

Rules: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api and
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

from deployer.adapters.github_answers import QueryError
from deployer.environments import Repository
from deployer.errors import LONGEST_RETRY_AFTER, DeployerError, PermanentError, RightsError, TransientError

Headers = Mapping[str, str]
"""An answer's headers; their names are compared without case."""

_NO_DESCRIPTOR_LEFT = frozenset({errno.EMFILE, errno.ENFILE})
_RATE_LIMIT_PAUSE = 60.0  # what GitHub's best practices ask for where an answer names no time
# Everything else (rights of our token, a broken GitHub) is no fault of the repository's people
_PERMANENT_STATUSES = frozenset({404, 410, 422, 451})
# What GraphQL answers with 200 and calls by a name, as the status that REST has for it. Both names of a spent limit
# are in use: https://github.com/yanyongyu/githubkit/issues/271
_GRAPHQL_STATUSES = {"RATE_LIMITED": 429, "RATE_LIMIT": 429, "FORBIDDEN": 403, "INSUFFICIENT_SCOPES": 403}


class ApiError(Exception):
    """GitHub answered with an error of its own.

    Attributes:
        status: the HTTP status.
        message: GitHub's words; empty where there are none.
        headers: the answer's headers.
    """

    def __init__(self, status: int, message: str, headers: Headers) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message
        self.headers = headers


class UnexpectedAnswerError(Exception):
    """The answer is not what GitHub's API promises: a proxy's page, a body that was cut short, another shape."""


@contextmanager
def translate_errors(doing: str, repository: Repository) -> Iterator[None]:
    """Turn the errors of `github_client` and of requests into the core's; any other is a bug and stays what it is.

    Args:
        doing: what is being done, on what; the error's text begins with it.
        repository: whose people may be at fault.
    """
    try:
        yield
    except ApiError as error:
        raise _core_error(doing, repository, error) from error
    except UnexpectedAnswerError as error:
        raise TransientError(f"{doing}: GitHub's answer is not what its API promises ({error})") from error
    except requests.RequestException as error:
        if remedy := descriptor_remedy(error):
            raise TransientError(f"{doing}: {remedy}") from error
        raise TransientError(f"{doing}: GitHub cannot be reached ({type(error).__name__})") from error


@contextmanager
def requires_permission(needed: str) -> Iterator[None]:
    """Take GitHub's refusal for what it is where deployer can do without: it answers 404 as well as 403."""
    try:
        yield
    except ApiError as error:
        if (
            error.status not in {403, 404}
            or rate_limit_seconds(error) is not None
            or "archived" in error.message
        ):
            raise
        raise RightsError(
            f"GitHub answers {error.status} ({error.message}); give deployer's token or App the right {needed}"
        ) from error


def graphql_error(errors: Sequence[QueryError], headers: Headers) -> ApiError:
    """What REST would have answered in place of a query's errors.

    One that has no name is GitHub's own failure, such as a time-out. If it points into the query and nowhere else, the
    query is not understood, which no repeat cures.
    """
    names = {each.type for each in errors}
    message = ": ".join(each.message for each in errors if each.message)
    status = next((code for name, code in _GRAPHQL_STATUSES.items() if name in names), 0)
    if not status:
        is_invalid_query = all(not each.type and each.locations is not None for each in errors)
        status = 429 if "rate limit" in message.lower() else 400 if is_invalid_query else 502
    return ApiError(status, message, headers)


def is_empty_repository(error: ApiError) -> bool:
    """Whether the repository has no commit yet.

    Any other 409, such as that of a repository that is being restored, says nothing about its refs.
    """
    return error.status == 409 and error.message == "Git Repository is empty."


def is_too_large_to_compare(error: ApiError) -> bool:
    """Whether two commits differ in more than GitHub can tell in time: it answers 500, however often it is asked.

    See https://github.com/github-changelog-generator/github-changelog-generator/issues/920
    """
    return error.status >= 500 and "Sorry, this diff" in error.message


def _core_error(doing: str, repository: Repository, error: ApiError) -> DeployerError:
    message = error.message
    if (pause := rate_limit_seconds(error)) is not None:
        return TransientError(f"{doing}: GitHub's rate limit is used up ({message})", retry_after=pause)
    if error.status >= 500:
        return TransientError(
            f"{doing}: GitHub answers {error.status} ({message})",
            retry_after=retry_after_seconds(error.headers.get("retry-after")),
        )
    if error.status == 404:
        return PermanentError(f"{doing}: {repository} or the commit is not found, or deployer has no access")
    if error.status in _PERMANENT_STATUSES or is_empty_repository(error) or "archived" in message.lower():
        return PermanentError(f"{doing}: GitHub answers {error.status}: {message}")
    if error.status == 401:
        return TransientError(f"{doing}: GitHub refuses deployer's credentials ({message})")
    if error.status == 403:
        needs = error.headers.get("x-accepted-github-permissions")
        lacking = f"; it needs {needs}" if needs else ""
        return TransientError(f"{doing}: deployer's GitHub credentials lack the right ({message}{lacking})")
    return TransientError(f"{doing}: GitHub answers {error.status}: {message}")


def rate_limit_seconds(error: ApiError) -> float | None:
    """Seconds to wait if this is a rate limit, primary or secondary; GitHub answers both with 403 or 429."""
    if error.status not in {403, 429}:
        return None
    used_up = error.headers.get("x-ratelimit-remaining") == "0"
    message = error.message.lower()
    named = "rate limit" in message or "abuse detection" in message  # the secondary one's former name
    if not (error.status == 429 or used_up or "retry-after" in error.headers or named):
        return None
    asked = retry_after_seconds(error.headers.get("retry-after"))
    if asked is None and used_up:
        asked = seconds_until_reset(error.headers.get("x-ratelimit-reset"))
    return _RATE_LIMIT_PAUSE if asked is None else max(asked, 1.0)


def retry_after_seconds(value: str | None) -> float | None:
    """The seconds that a `Retry-After` header asks for; None where it asks for nothing that can be waited for.

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
    """The seconds until a time given as epoch seconds, such as `x-ratelimit-reset`; None where it is no time.

    Returns:
        From 1 to `LONGEST_RETRY_AFTER`: the server's clock may differ from this machine's.
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
    """What is to be done where a connection failed because this process or machine has no file descriptor left.

    A library may hide the cause: without a descriptor a host name cannot be looked up either, and that error says
    nothing of descriptors. So the whole chain of causes is read, and then a file is opened.

    Args:
        error: what the attempt to connect raised.

    Returns:
        One sentence with the remedy; empty where descriptors are not the cause.
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
