"""GraphQL queries are really executed, and refused with GitHub's messages."""

from __future__ import annotations

from typing import Any

import pytest
from github_kit import WorkingCopy

from sandbox.github.server import GitHubServer

GRAPHQL = "/api/graphql"
SIGNED_IN = {"Authorization": "token sandbox"}


@pytest.fixture
def ask(call: Any, pushed: WorkingCopy) -> Any:
    """The answer to a query about acme/app."""
    assert pushed.path.is_dir()

    def do(fields: str, name: str = "app", **variables: Any) -> dict[str, Any]:
        kinds = {"first": "Int", "after": "String"}
        head = ", ".join(f"${each}: {kinds[each]}" for each in variables)
        query = f'query{f"({head})" if head else ""} {{ repository(owner: "acme", name: "{name}") {{ {fields} }} }}'
        body = {"query": query, "variables": variables}
        answer = call("POST", GRAPHQL, headers=SIGNED_IN, json=body)
        assert answer.status == 200
        return dict(answer.json())

    return do


def test_every_page_of_refs_with_their_objects(ask: Any, pushed: WorkingCopy) -> None:
    first = pushed("rev-parse", "HEAD")
    pushed("tag", "light")
    pushed("tag", "-a", "-m", "made", "v1")
    pushed("tag", "-a", "-m", "of a tag", "v2", "v1")
    pushed("push", "-q", "origin", "--tags")
    fields = """refs(refPrefix: "refs/tags/", first: $first, after: $after) {
      nodes { prefix name target { oid __typename ... on Tag { tagger { email } target { oid } } } }
      totalCount pageInfo { hasNextPage endCursor }
    }"""
    nodes, after = list[Any](), None
    while True:
        page = ask(fields, first=2, after=after)["data"]["repository"]["refs"]
        assert page["totalCount"] == 3
        nodes += page["nodes"]
        after = page["pageInfo"]["endCursor"]
        if not page["pageInfo"]["hasNextPage"]:
            break

    v1, v2 = (pushed("rev-parse", name) for name in ("v1", "v2"))
    tag = {"__typename": "Tag", "tagger": {"email": "ada@example.com"}}
    assert nodes == [
        {"prefix": "refs/tags/", "name": "light", "target": {"oid": first, "__typename": "Commit"}},
        {"prefix": "refs/tags/", "name": "v1", "target": {"oid": v1, **tag, "target": {"oid": first}}},
        {"prefix": "refs/tags/", "name": "v2", "target": {"oid": v2, **tag, "target": {"oid": v1}}},
    ]


def test_one_ref_is_found_by_its_full_or_short_name(ask: Any, pushed: WorkingCopy) -> None:
    main, name = pushed("rev-parse", "HEAD"), "x/refs/heads/main"
    pushed("push", "-q", "origin", f"HEAD:refs/heads/{name}", "HEAD:refs/tags/x")
    asked = {"a": "refs/heads/main", "b": name, "c": "x", "d": f"refs/tags/{name}", "e": "refs/heads/x"}
    fields = [
        f'{key}: ref(qualifiedName: "{each}") {{ prefix name target {{ oid }} }}'
        for key, each in asked.items()
    ]

    assert ask(" ".join(fields))["data"]["repository"] == {
        "a": {"prefix": "refs/heads/", "name": "main", "target": {"oid": main}},
        "b": {"prefix": "refs/heads/", "name": name, "target": {"oid": main}},
        "c": {"prefix": "refs/tags/", "name": "x", "target": {"oid": main}},
        "d": None,
        "e": None,
    }


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ('refs(refPrefix: "refs/heads/") { totalCount }', "MISSING_PAGINATION_BOUNDARIES", "provide a `first`"),
        ('refs(refPrefix: "refs/heads/", first: 101) { totalCount }', "EXCESSIVE_PAGINATION", "101 records"),
        ('refs(refPrefix: "x", first: 1, after: "?") { totalCount }', "INVALID_CURSOR_ARGUMENTS", "`?`"),
        ("stars", None, "'stars'"),
        ("isEmpty", "NOT_FOUND", "'acme/none'"),
    ],
)  # fmt: skip
def test_invalid_queries_are_refused(ask: Any, fields: str, kind: str | None, message: str) -> None:
    answer = ask(fields, name="none" if kind == "NOT_FOUND" else "app")

    (error,) = answer["errors"]
    assert (error.get("type"), message in error["message"]) == (kind, True)
    assert error["locations"]
    assert ("data" in answer) == (kind is not None), "a query that is not understood is not begun"


def test_graphql_has_the_faults_and_limits_of_rest(
    ask: Any, call: Any, server: GitHubServer, pushed: WorkingCopy
) -> None:
    assert pushed.path.is_dir()

    def status(**more: Any) -> Any:
        return call("POST", GRAPHQL, json={"query": "{ __typename }"}, **more)

    assert status().status == 401
    assert call("POST", GRAPHQL, headers=SIGNED_IN, json={}).status == 400
    server.hub.faults.merge({"secondary_rate_limit": {"count": 1, "retry_after": 7}})
    assert status(headers=SIGNED_IN).headers["Retry-After"] == "7"
    server.hub.faults.merge({"api": {"status": 502, "count": 1}})
    assert status(headers=SIGNED_IN).status == 502
    server.hub.faults.merge({"rate_limit": {"count": 2, "reset": 60}})
    spent = [status(headers=SIGNED_IN), call("GET", "/api/v3/repos/acme/app")]
    assert [(each.status, each.headers["X-RateLimit-Remaining"]) for each in spent] == [
        (200, "0"),
        (403, "0"),
    ]
    assert [each["type"] for each in spent[0].json()["errors"]] == ["RATE_LIMITED"]
    usual = status(headers=SIGNED_IN)
    assert usual.json() == {"data": {"__typename": "Query"}}
    assert usual.headers["X-RateLimit-Resource"] == "graphql"
    call("POST", "/_sandbox/repositories/acme/app", json={"action": "rename", "to": "new"})
    assert ask("nameWithOwner")["data"]["repository"] == {"nameWithOwner": "acme/new"}
