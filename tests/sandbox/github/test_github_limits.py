"""The simulated GitHub's rate limits: the hour's requests, points, and requests that create content."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from github_kit import WorkingCopy

from sandbox.github.limits import Allowed, RateLimits
from sandbox.github.server import GitHubServer

Call = Callable[..., Any]
ENFORCED = Allowed(enforced=True)


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admitted(
    limits: RateLimits, count: int, *, account: str = "a", writes: bool = False, content: bool = False
) -> int:
    """How many of some requests are admitted."""
    return sum(limits.admit(account, "core", writes=writes, content=content) is None for _ in range(count))


def test_an_hour_has_so_many_requests(clock: Clock) -> None:
    limits = RateLimits(ENFORCED.with_changes({"core": 10, "points": 10_000}), clock)
    assert admitted(limits, 12) == 10
    assert limits.shown("a", "core")["remaining"] == 0
    assert limits.shown("a", "graphql")["remaining"] == 5000
    assert admitted(limits, 3, account="b") == 3
    clock.now += 3600
    assert admitted(limits, 1) == 1


def test_a_minute_has_900_points_of_which_a_write_costs_5(clock: Clock) -> None:
    limits = RateLimits(ENFORCED, clock)
    assert admitted(limits, 150, writes=True) + admitted(limits, 200) == 150 + 150
    refusal = limits.admit("a", "core", writes=False, content=False)
    assert refusal is not None
    assert refusal.retry_after == 60
    clock.now += 61
    assert admitted(limits, 1) == 1


def test_80_requests_a_minute_and_500_an_hour_create_content(clock: Clock) -> None:
    limits = RateLimits(ENFORCED, clock)
    assert admitted(limits, 90, writes=True, content=True) == 80
    total = 80
    while total < 500:
        clock.now += 61
        total += admitted(limits, 70, writes=True, content=True)
    clock.now += 61
    refusal = limits.admit("a", "core", writes=True, content=True)
    assert refusal is not None
    assert "content creation" in refusal.message
    assert 60 < (refusal.retry_after or 0) <= 3600


def test_a_faster_sandbox_allows_as_much_more(clock: Clock) -> None:
    limits = RateLimits(ENFORCED.times(10), clock)
    assert limits.allowed.enforced is True
    assert (limits.allowed.core, limits.allowed.content_minute) == (50_000, 800)


def test_limits_that_are_not_enforced_only_count(clock: Clock) -> None:
    limits = RateLimits(Allowed(core=2), clock)
    assert admitted(limits, 5) == 5
    assert limits.shown("a", "core") == {
        "limit": 2, "used": 5, "remaining": 1, "reset": 1_003_600, "resource": "core",
    }  # fmt: skip


@pytest.mark.parametrize(
    "changes", [{"cores": 1}, {"core": "1"}, {"core": True}, {"core": -1}, {"enforced": 1}]
)
def test_a_wrong_limit_is_refused(call: Call, server: GitHubServer, changes: dict[str, Any]) -> None:
    assert call("POST", "/_sandbox/limits", body=json.dumps(changes)).status == 400
    assert server.hub.limits.allowed == Allowed()


def test_a_spent_hour_and_a_secondary_limit_over_http(call: Call, pushed: WorkingCopy) -> None:
    head = pushed("rev-parse", "HEAD")

    def read(**more: Any) -> Any:
        return call("GET", "/api/v3/repos/acme/app", headers={"Authorization": "token sandbox"}, **more)

    def write() -> Any:
        return call(
            "POST",
            f"/api/v3/repos/acme/app/statuses/{head}",
            body=json.dumps({"state": "success"}),
            headers={"Authorization": "token sandbox"},
        )

    assert (
        call(
            "POST", "/_sandbox/limits", body=json.dumps({"enforced": True, "core": 4, "content_minute": 1})
        ).status
        == 200
    )
    assert [read().status, write().status] == [200, 201]
    blocked = write()
    assert (blocked.status, "secondary rate limit" in blocked.data.decode()) == (403, True)
    assert 0 < int(blocked.headers["Retry-After"]) <= 60
    assert blocked.headers["X-RateLimit-Remaining"] == "1"
    last, refused = read(), read()
    assert (last.status, last.headers["X-RateLimit-Remaining"]) == (200, "0")
    assert (refused.status, refused.headers.get("Retry-After")) == (403, None)
    assert "API rate limit exceeded" in refused.data.decode()
    assert call("GET", "/api/v3/repos/acme/app").status == 200, "people with a browser are not limited"
    assert call("DELETE", "/_sandbox/limits").status == 204
    assert read().status == 200


def test_the_version_of_the_api_is_checked_and_recorded(call: Call, server: GitHubServer) -> None:
    server.hub.create("acme/app")
    for version, status in {"2022-11-28": 200, "2019-01-01": 400, "": 400}.items():
        answer = call("GET", "/api/v3/repos/acme/app", headers={"X-GitHub-Api-Version": version})
        assert answer.status == status
    assert call("GET", "/api/v3/repos/acme/app").headers["X-GitHub-Api-Version-Selected"] == "2022-11-28"
    assert server.calls.since(0)[0]["version"] == "2022-11-28"
