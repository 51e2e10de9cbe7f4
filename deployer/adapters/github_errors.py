"""What GitHub's errors mean for the core: which remedy each of them has.

Rules: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api and
https://docs.github.com/rest/using-the-rest-api/troubleshooting-the-rest-api
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import requests

from deployer.adapters.descriptors import exhausted
from deployer.adapters.github_answers import QueryError
from deployer.adapters.github_client import ApiError, Headers, UnexpectedAnswerError
from deployer.adapters.retry_after import seconds_asked, seconds_until
from deployer.environments import Repository
from deployer.errors import DeployerError, PermanentError, RightsError, TransientError

_RATE_LIMIT_PAUSE = 60.0  # what GitHub's best practices ask for where an answer names no time
# Everything else (rights of our token, a broken GitHub) is no fault of the repository's people
_THEIR_FAULT = frozenset({404, 410, 422, 451})
# What GraphQL answers with 200 and calls by a name, as the status that REST has for it. Both names of a spent limit
# are in use: https://github.com/yanyongyu/githubkit/issues/271
_QUERY_ERRORS = {"RATE_LIMITED": 429, "RATE_LIMIT": 429, "FORBIDDEN": 403, "INSUFFICIENT_SCOPES": 403}


@contextmanager
def translated(doing: str, repository: Repository) -> Iterator[None]:
    """Turn the errors of `github_client` and of requests into the core's; any other is a bug and stays what it is.

    Args:
        doing: what is being done, on what; the error's text begins with it.
        repository: whose people may be at fault.
    """
    try:
        yield
    except ApiError as error:
        raise _error(doing, repository, error) from error
    except UnexpectedAnswerError as error:
        raise TransientError(f"{doing}: GitHub's answer is not what its API promises ({error})") from error
    except requests.RequestException as error:
        if remedy := exhausted(error):
            raise TransientError(f"{doing}: {remedy}") from error
        raise TransientError(f"{doing}: GitHub cannot be reached ({type(error).__name__})") from error


@contextmanager
def rights(needed: str) -> Iterator[None]:
    """Take GitHub's refusal for what it is where deployer can do without: it answers 404 as well as 403."""
    try:
        yield
    except ApiError as error:
        if error.status not in {403, 404} or rate_limit(error) is not None or "archived" in error.message:
            raise
        raise RightsError(
            f"GitHub answers {error.status} ({error.message}); give deployer's token or App the right {needed}"
        ) from error


def query_error(errors: Sequence[QueryError], headers: Headers) -> ApiError:
    """What REST would have answered in place of a query's errors.

    One that has no name is GitHub's own failure, such as a time-out. If it points into the query and nowhere else, the
    query is not understood, which no repeat cures.
    """
    names = {each.type for each in errors}
    message = ": ".join(each.message for each in errors if each.message)
    status = next((code for name, code in _QUERY_ERRORS.items() if name in names), 0)
    if not status:
        lost = all(not each.type and each.locations is not None for each in errors)
        status = 429 if "rate limit" in message.lower() else 400 if lost else 502
    return ApiError(status, message, headers)


def is_empty(error: ApiError) -> bool:
    """Whether the repository has no commit yet.

    Any other 409, such as that of a repository that is being restored, says nothing about its refs.
    """
    return error.status == 409 and error.message == "Git Repository is empty."


def _error(doing: str, repository: Repository, error: ApiError) -> DeployerError:
    said = error.message
    if (pause := rate_limit(error)) is not None:
        return TransientError(f"{doing}: GitHub's rate limit is used up ({said})", retry_after=pause)
    if error.status >= 500:
        return TransientError(
            f"{doing}: GitHub answers {error.status} ({said})",
            retry_after=seconds_asked(error.headers.get("retry-after")),
        )
    if error.status == 404:
        return PermanentError(f"{doing}: {repository} or the commit is not found, or deployer has no access")
    if error.status in _THEIR_FAULT or is_empty(error) or "archived" in said.lower():
        return PermanentError(f"{doing}: GitHub answers {error.status}: {said}")
    if error.status == 401:
        return TransientError(f"{doing}: GitHub refuses deployer's credentials ({said})")
    if error.status == 403:
        needs = error.headers.get("x-accepted-github-permissions")
        lacking = f"; it needs {needs}" if needs else ""
        return TransientError(f"{doing}: deployer's GitHub credentials lack the right ({said}{lacking})")
    return TransientError(f"{doing}: GitHub answers {error.status}: {said}")


def rate_limit(error: ApiError) -> float | None:
    """Seconds to wait if this is a rate limit, primary or secondary; GitHub answers both with 403 or 429."""
    if error.status not in {403, 429}:
        return None
    spent = error.headers.get("x-ratelimit-remaining") == "0"
    said = error.message.lower()
    named = "rate limit" in said or "abuse detection" in said  # the secondary one's former name
    if not (error.status == 429 or spent or "retry-after" in error.headers or named):
        return None
    asked = seconds_asked(error.headers.get("retry-after"))
    if asked is None and spent:
        asked = seconds_until(error.headers.get("x-ratelimit-reset"))
    return _RATE_LIMIT_PAUSE if asked is None else max(asked, 1.0)
