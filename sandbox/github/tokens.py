"""The installation tokens of a GitHub App, with the repositories or permissions that they grant.

https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app

A token contains its own grant, so that it stays valid after a restart of the simulator. It is signed with a public key,
like all secrets here. A token that was requested without limits may do everything in its owner's repositories. The
simulator accepts all other credentials without a check.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from flask import Response, g, request

from sandbox.github import payloads
from sandbox.github.hub import Hub, Repository
from sandbox.github.responses import error_answer, not_found, refuse

_PREFIX = "ghs_"
_KEY = "the key of the sandbox, public on purpose"
_SECONDS = 3600
_LEVELS = {"read": 0, "write": 1, "admin": 2}
_READS = {"GET", "HEAD"}
# The rest of a path after the repository's name -> the permission that it needs; the first match counts
_RESOURCES = [
    (re.compile(r"/hooks(/|$)"), "repository_hooks"),
    (re.compile(r"/(pulls|issues)(/|$)"), "pull_requests"),
    (re.compile(r"/statuses(/|$)|/commits/.+/status(es)?$"), "statuses"),
    (re.compile(r"^$"), "metadata"),
]


@dataclass(frozen=True)
class Grant:
    """The repositories and permissions that a token grants.

    Attributes:
        owner: the owner of the repositories.
        repositories: the ids of the repositories; None for all of the owner's.
        permissions: the level of each permission; None for all permissions.
    """

    owner: str
    repositories: tuple[int, ...] | None = None
    permissions: Mapping[str, str] | None = None

    def opens(self, repository: Repository) -> bool:
        """Whether the token grants access to the repository."""
        is_owner = repository.owner.lower() == self.owner.lower()
        return is_owner and (self.repositories is None or repository.id in self.repositories)

    def allows(self, permission: str, level: str) -> bool:
        """Whether the token grants the permission at this level; metadata can always be read."""
        if self.permissions is None or (permission, level) == ("metadata", "read"):
            return True
        held = self.permissions.get(permission)
        return held is not None and _LEVELS[held] >= _LEVELS[level]


def issue_token(hub: Hub, installation: int, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Make a token with the limits of the request's body; ends the request if that is impossible."""
    known = [each for each in hub.repositories() if payloads.user_id(each.owner) == installation]
    if not known:
        not_found()
    installed = [each for each in known if not each.uninstalled]
    selected = None
    if "repositories" in asked or "repository_ids" in asked:
        selected = _requested_repositories(installed, asked)
    permissions = asked.get("permissions")
    if permissions is not None:
        _check_permissions(permissions)
    expires = int(time.time()) + _SECONDS
    claims = {
        "owner": known[0].owner,
        "repositories": None if selected is None else [each.id for each in selected],
        "permissions": permissions,
        "exp": expires,
    }
    answer: dict[str, Any] = {
        "token": _PREFIX + jwt.encode(claims, _KEY, "HS256"),
        "expires_at": datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "repository_selection": "all" if selected is None else "selected",
    }
    return answer | ({"permissions": permissions} if permissions is not None else {})


def _requested_repositories(installed: list[Repository], asked: Mapping[str, Any]) -> list[Repository]:
    """The repositories that a request selects by name or id; ends the request if one of them is not installed."""
    names = {str(each).lower() for each in asked.get("repositories") or []}
    ids = set(asked.get("repository_ids") or [])
    selected = [each for each in installed if each.name.lower() in names or each.id in ids]
    if len(selected) != len(names) + len(ids):
        refuse(
            422,
            "There is at least one repository that does not exist or is not accessible to the parent"
            " installation.",
        )
    return selected


def _check_permissions(permissions: Any) -> None:
    """End the request unless its permissions are a mapping to known levels."""
    if not isinstance(permissions, dict) or set(permissions.values()) - set(_LEVELS):
        refuse(422, "The permissions requested are not granted to this installation.")


def check_request_token(hub: Hub) -> Response | None:
    """Refuse a request whose installation token does not grant it; None if the request is allowed."""
    token = _sent_token()
    if not token:
        return None
    grant = _decode_token(token)
    if grant is None:
        return _refusal_answer(401, "Bad credentials")
    g.grant = grant
    named = request.view_args or {}
    if "org" in named:
        if named["org"].lower() != grant.owner.lower():
            return _refusal_answer(404, "Not Found")
        return _permission_refusal(
            grant, "organization_hooks", "read" if request.method in _READS else "write"
        )
    if not {"owner", "name"} <= named.keys():
        return None
    full_name = f"{named['owner']}/{str(named['name']).removesuffix('.git')}"
    repository = hub.get(full_name) or hub.find_renamed(full_name)
    if repository is None:
        return None  # the route itself answers 404
    if not grant.opens(repository):
        return _refusal_answer(404, "Not Found")
    return _permission_refusal(grant, *_needed_permission())


def _permission_refusal(grant: Grant, permission: str, level: str) -> Response | None:
    if grant.allows(permission, level):
        return None
    answer = _refusal_answer(403, "Resource not accessible by integration")
    answer.headers["X-Accepted-GitHub-Permissions"] = f"{permission}={level}"
    return answer


def token_opens(repository: Repository) -> bool:
    """Whether this request may see the repository: it has no installation token, or one that grants access."""
    grant: Grant | None = g.get("grant")
    return grant is None or grant.opens(repository)


def _sent_token() -> str:
    """The request's installation token, sent as `token`, `Bearer` or a part of HTTP Basic; empty if there is none."""
    given = request.authorization
    if given is None:
        return ""
    found = (given.token, given.username, given.password)
    return next((each for each in found if each and each.startswith(_PREFIX)), "")


def _decode_token(token: str) -> Grant | None:
    try:
        claims = jwt.decode(token.removeprefix(_PREFIX), _KEY, ["HS256"], options={"require": ["exp"]})
        selected = claims["repositories"]
        return Grant(claims["owner"], None if selected is None else tuple(selected), claims["permissions"])
    except (jwt.PyJWTError, KeyError, TypeError):
        return None


def _needed_permission() -> tuple[str, str]:
    """The permission with its level that this request needs."""
    service = request.args.get("service") or request.path.rpartition("/")[2]
    if service in {"git-upload-pack", "git-receive-pack"}:
        return "contents", "read" if service == "git-upload-pack" else "write"
    rest = request.path.partition("/repos/")[2].partition("/")[2].partition("/")
    path = f"{rest[1]}{rest[2]}"
    permission = next((name for pattern, name in _RESOURCES if pattern.match(path)), "contents")
    if permission == "metadata" and request.method not in _READS:
        return "administration", "write"
    if permission == "contents" and path.endswith("/comments"):
        return permission, "read"  # a comment on a commit needs only read access to the commit
    return permission, "read" if request.method in _READS else "write"


def _refusal_answer(status: int, message: str) -> Response:
    if request.path.startswith("/api/"):
        return error_answer(status, message)
    return Response(f"{message}\n", status, mimetype="text/plain")
