"""The GraphQL API with the part of GitHub's schema that describes a repository.

graphql-core executes each query against this part of GitHub's own schema, so a misspelt or missing field is refused as
GitHub refuses it. https://docs.github.com/graphql/reference
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from functools import cache
from typing import Any

from flask import Flask, Response, g, jsonify, request
from graphql import GraphQLError, build_schema, graphql_sync

from sandbox.github import rest_json, tokens
from sandbox.github.git import Ref
from sandbox.github.hub import Hub, Repository
from sandbox.github.responses import error_answer, json_body

PATH = "/api/graphql"
_MOST = 100
_SCHEMA = build_schema(
    """
    scalar DateTime
    scalar GitObjectID
    scalar GitTimestamp
    type Query {
      repository(owner: String!, name: String!, followRenames: Boolean = true): Repository
    }
    type Repository {
      databaseId: Int
      nameWithOwner: String!
      isArchived: Boolean!
      isPrivate: Boolean!
      isEmpty: Boolean!
      defaultBranchRef: Ref
      ref(qualifiedName: String!): Ref
      refs(refPrefix: String!, first: Int, after: String): RefConnection
    }
    type RefConnection { nodes: [Ref] pageInfo: PageInfo! totalCount: Int! }
    type PageInfo { hasNextPage: Boolean! endCursor: String }
    type Ref { name: String! prefix: String! target: GitObject }
    interface GitObject { oid: GitObjectID! }
    type Commit implements GitObject { oid: GitObjectID! message: String! committedDate: DateTime! }
    type Tag implements GitObject { oid: GitObjectID! name: String! target: GitObject! tagger: GitActor }
    type Tree implements GitObject { oid: GitObjectID! }
    type Blob implements GitObject { oid: GitObjectID! }
    type GitActor { name: String email: String date: GitTimestamp }
    """
)
_Fields = dict[str, Any]


class _RefusedError(Exception):
    """GitHub refuses to answer a part of a query.

    Args:
        kind: GitHub's name of the reason.
        message: the reason in words.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def add_routes(app: Flask, hub: Hub) -> None:
    """Add the one route of the API."""

    @app.post(PATH)
    def execute_query() -> Response:
        if not request.headers.get("Authorization"):
            return error_answer(401, "This endpoint requires you to be authenticated.")
        data = json_body()
        asked, given = data.get("query"), data.get("variables") or {}
        if not isinstance(asked, str) or not isinstance(given, dict):
            return errors_answer("A query attribute must be specified and must be a string.", status=400)
        found = graphql_sync(_SCHEMA, asked, {"repository": _repository_resolver(hub)}, variable_values=given)
        answer: _Fields = {} if found.data is None and found.errors else {"data": found.data}
        if found.errors:
            answer["errors"] = [_error_fields(each) for each in found.errors]
        return jsonify(answer)


def errors_answer(message: str, kind: str = "", status: int = 200) -> Response:
    """An answer that contains only an error; GraphQL sends most errors with status 200."""
    answer = jsonify({"errors": [({"type": kind} if kind else {}) | {"message": message}]})
    answer.status_code = status
    return answer


def _error_fields(found: GraphQLError) -> _Fields:
    cause = found.original_error
    return ({"type": cause.kind} if isinstance(cause, _RefusedError) else {}) | dict(found.formatted)


def _repository_resolver(hub: Hub) -> Callable[..., _Fields]:
    def resolve_repository(_info: object, owner: str, name: str, **options: Any) -> _Fields:
        full_name = f"{owner}/{name}"
        repo = hub.get(full_name) or (hub.find_renamed(full_name) if options["followRenames"] else None)
        if repo is None or repo.uninstalled or not tokens.token_opens(repo):
            raise _RefusedError(
                "NOT_FOUND", f"Could not resolve to a Repository with the name '{full_name}'."
            )
        if "person" in g and hub.installations.of(repo.owner).requires_sign_on:
            tokens.announce_sign_on(repo.owner)
            raise _RefusedError("FORBIDDEN", tokens.PROTECTED)
        return _repository_fields(hub, repo)

    return resolve_repository


def _repository_fields(hub: Hub, repo: Repository) -> _Fields:
    refs, target = hub.refs(repo), _object_reader(repo)

    def ref_fields(it: Ref) -> _Fields:
        prefix = "/".join(it.name.split("/")[:2]) + "/"
        return {"name": it.name.removeprefix(prefix), "prefix": prefix, "target": target(it.sha, it.kind)}

    def find_ref(_info: object, **asked: str) -> _Fields | None:
        """A ref by its full name, or else by its short name."""
        names = (f"{prefix}{asked['qualifiedName']}" for prefix in ("", "refs/heads/", "refs/tags/"))
        return next((ref_fields(refs[name]) for name in names if name in refs), None)

    def page_of_refs(_info: object, **asked: Any) -> _Fields:
        first, begin = asked.get("first"), _decode_cursor(asked.get("after"))
        if first is None:
            raise _RefusedError(
                "MISSING_PAGINATION_BOUNDARIES",
                "You must provide a `first` or `last` value to properly paginate the `refs` connection.",
            )
        if not 0 < first <= _MOST:
            raise _RefusedError(
                "EXCESSIVE_PAGINATION",
                f"Requesting {first} records on the `refs` connection exceeds the `first` limit of {_MOST} records.",
            )
        under = [it for name, it in refs.items() if name.startswith(asked["refPrefix"])]
        end = min(begin + first, len(under))
        return {
            "nodes": [ref_fields(it) for it in under[begin:end]],
            "pageInfo": {
                "hasNextPage": end < len(under),
                "endCursor": _encode_cursor(end) if end > begin else None,
            },
            "totalCount": len(under),
        }

    default = refs.get(f"refs/heads/{repo.default_branch}")
    return {
        "databaseId": repo.id,
        "nameWithOwner": repo.full_name,
        "isArchived": repo.archived,
        "isPrivate": repo.private,
        "isEmpty": not refs,
        "defaultBranchRef": ref_fields(default) if default else None,
        "ref": find_ref,
        "refs": page_of_refs,
    }


def _object_reader(repo: Repository) -> Callable[[str, str], _Fields]:
    """A function that reads git objects by id. An object that several refs point to is read once."""

    @cache
    def read_commit(sha: str) -> Any:
        return repo.git.read_commit(sha)

    @cache
    def read_tag(sha: str) -> Any:
        return repo.git.read_tag(sha)

    def object_fields(sha: str, kind: str) -> _Fields:
        # functions, so that fields which the query does not name are not read
        fields: dict[str, _Fields] = {
            "commit": {
                "message": lambda _: read_commit(sha).message,
                "committedDate": lambda _: rest_json.utc_time(read_commit(sha).committer.date),
            },
            "tag": {
                "name": lambda _: read_tag(sha).name,
                "tagger": lambda _: vars(read_tag(sha).tagger),
                "target": lambda _: object_fields(read_tag(sha).target, read_tag(sha).target_kind),
            },
        }
        return {"oid": sha, "__typename": kind.capitalize()} | fields.get(kind, {})

    return object_fields


def _encode_cursor(place: int) -> str:
    """The cursor of the next page. It is a position, as on GitHub: a ref deleted between two pages hides another."""
    return base64.b64encode(str(place).encode()).decode().rstrip("=")


def _decode_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    try:
        return int(base64.b64decode(cursor + "=" * (-len(cursor) % 4), validate=True))
    except (binascii.Error, ValueError):
        raise _RefusedError(
            "INVALID_CURSOR_ARGUMENTS", f"`{cursor}` does not appear to be a valid cursor."
        ) from None
