"""Reads from an answer of GitHub what it says about rate limits."""

from dataclasses import dataclass

from deployer.github.errors import ApiError, Headers, rate_limit_seconds, seconds_until_reset

_MAX_DIGITS = 10  # Python refuses to parse a number of thousands of digits


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What an answer says about the rate limits of an account.

    Attributes:
        resource: `core` for the REST API, `graphql`, or another name that GitHub gives.
        quota: the limit of an hour, the remaining requests and the end of the hour in epoch seconds; None if the answer
            lacks one of them, as those of an Enterprise Server without rate limits do.
        refused_seconds: for how long GitHub refuses further requests; None if it does not.
        refuses_all: whether that concerns every resource, as a secondary rate limit does.
    """

    resource: str
    quota: tuple[int, int, float] | None
    refused_seconds: float | None
    refuses_all: bool


def read_rate_limits(resource: str, headers: Headers, error: ApiError | None = None) -> RateLimits:
    """Read the rate limits from an answer's headers.

    Args:
        resource: the resource whose rate limit the request counted towards, if the answer does not name it.
        headers: the answer's headers.
        error: the error that the answer is, if it is one.
    """
    named = headers.get("x-ratelimit-resource", "")
    resource = named if named.isascii() and named.isidentifier() and len(named) <= 40 else resource
    numbers = [_whole_number(headers.get(f"x-ratelimit-{name}")) for name in ("limit", "remaining", "reset")]
    limit, remaining, reset = numbers
    quota = None
    if limit is not None and remaining is not None and reset is not None:
        quota = (limit, remaining, float(reset))
    refused = rate_limit_seconds(error) if error else None
    is_spent = remaining == 0 and "retry-after" not in headers
    if refused is None and is_spent:  # the last request that GitHub accepted
        refused = seconds_until_reset(headers.get("x-ratelimit-reset"))
    return RateLimits(resource, quota, refused, refused is not None and not is_spent)


def _whole_number(text: str | None) -> int | None:
    usable = text and len(text) <= _MAX_DIGITS and text.isascii() and text.isdecimal()
    return int(text) if usable and text else None
