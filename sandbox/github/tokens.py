"""Who sends a request, and what they may do: installation tokens of a GitHub App, and personal tokens.

https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app

An installation token contains its own grant, so that it stays valid after a restart of the simulator. It is signed with
a public key, like all secrets here. It has the permissions that the installation had when the token was issued, or
those of them that the request for it named. A request without credentials may do everything, because tests and people
with a browser change the simulator so.
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
from sandbox.github.installations import LEVELS
from sandbox.github.people import Person, find_person
from sandbox.github.responses import error_answer, not_found, refuse

_PREFIX = "ghs_"
_KEY = "the key of the sandbox, public on purpose"
_SECONDS = 3600
PROTECTED = (
    "Resource protected by organization SAML enforcement. You must grant your Personal Access token access to this"
    " organization."
)
SUSPENDED = "This installation has been suspended"
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
        permissions: the level of each permission.
        issued_at: when the token was issued, in epoch seconds.
    """

    owner: str
    repositories: tuple[int, ...] | None
    permissions: Mapping[str, str]
    issued_at: float

    def opens(self, repository: Repository) -> bool:
        """Whether the token grants access to the repository."""
        is_owner = repository.owner.lower() == self.owner.lower()
        return is_owner and (self.repositories is None or repository.id in self.repositories)

    def allows(self, permission: str, level: str) -> bool:
        """Whether the token grants the permission at this level; metadata can always be read."""
        if (permission, level) == ("metadata", "read"):
            return True
        held = self.permissions.get(permission)
        return held is not None and LEVELS[held] >= LEVELS[level]


def issue_token(hub: Hub, installation: int, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Make a token with the limits of the request's body; ends the request if that is impossible."""
    known = [each for each in hub.repositories() if payloads.user_id(each.owner) == installation]
    if not known:
        not_found()
    installed = [each for each in known if not each.uninstalled]
    current = hub.installations.of(known[0].owner)
    if current.suspended_at:
        refuse(403, SUSPENDED)
    selected = None
    if "repositories" in asked or "repository_ids" in asked:
        selected = _requested_repositories(installed, asked)
    permissions = asked.get("permissions", dict(current.permissions))
    _check_permissions(permissions, current.permissions)
    issued_at = time.time()
    expires = int(issued_at) + _SECONDS
    claims = {
        "owner": known[0].owner,
        "repositories": None if selected is None else [each.id for each in selected],
        "permissions": permissions,
        "issued_at": issued_at,
        "exp": expires,
    }
    return {
        "token": _PREFIX + jwt.encode(claims, _KEY, "HS256"),
        "expires_at": datetime.fromtimestamp(expires, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "permissions": permissions,
        "repository_selection": "all" if selected is None else "selected",
    }


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


def _check_permissions(permissions: Any, held: Mapping[str, str]) -> None:
    """End the request unless the installation holds the permissions that the request names."""
    if not isinstance(permissions, dict) or any(
        level not in LEVELS or name not in held or LEVELS[held[name]] < LEVELS[level]
        for name, level in permissions.items()
    ):
        refuse(422, "The permissions requested are not granted to this installation.")


def check_request_token(hub: Hub) -> Response | None:
    """Refuse a request whose token does not grant it; None if the request is allowed.

    Sets `g.account` to whose rate limits the request counts towards; without credentials there is no such account.
    """
    token = _sent_token()
    if token.startswith(_PREFIX):
        return _check_installation_token(hub, token)
    if token.count(".") == 2:  # a JSON web token, which the routes of the App check
        g.account = "app"
        return None
    if not token or not request.path.startswith("/api/"):
        return None
    person = find_person(token)
    if person is None:
        return _refusal_answer(401, "Bad credentials")
    g.account, g.person = f"user-{person.login}", person
    return _check_person(hub, person)


def _check_installation_token(hub: Hub, token: str) -> Response | None:
    grant = _decode_token(token)
    installation = hub.installations.of(grant.owner) if grant else None
    if grant is None or installation is None or grant.issued_at < installation.tokens_since:
        return _refusal_answer(401, "Bad credentials")
    g.grant, g.account = grant, f"installation-{payloads.user_id(grant.owner)}"
    if installation.suspended_at:
        return _refusal_answer(403, SUSPENDED)
    named = request.view_args or {}
    if "org" in named:
        if named["org"].lower() != grant.owner.lower():
            return _refusal_answer(404, "Not Found")
        return _permission_refusal(
            grant, "organization_hooks", "read" if request.method in _READS else "write"
        )
    repository = _named_repository(hub)
    if repository is None:
        return None  # the route itself answers 404
    if not grant.opens(repository):
        return _refusal_answer(404, "Not Found")
    return _permission_refusal(grant, *_needed_permission())


def _check_person(hub: Hub, person: Person) -> Response | None:
    repository = _named_repository(hub)
    if repository is None:
        return None
    if hub.installations.of(repository.owner).requires_sign_on:
        return sign_on_refusal(repository.owner)
    permission, level = _needed_permission()
    if permission in {"repository_hooks", "administration"} and not person.has("admin"):
        return _refusal_answer(404, "Not Found")  # GitHub hides what only administrators may see
    if level == "write" and not person.has("push"):
        return _refusal_answer(403, "Resource not accessible by personal access token")
    return None


def _named_repository(hub: Hub) -> Repository | None:
    """The repository that the request's path names, also by a former name."""
    named = request.view_args or {}
    if not {"owner", "name"} <= named.keys():
        return None
    full_name = f"{named['owner']}/{str(named['name']).removesuffix('.git')}"
    return hub.get(full_name) or hub.find_renamed(full_name)


def sign_on_refusal(owner: str) -> Response:
    """The answer to a personal token that its owner has not authorized for an organization's single sign-on."""
    answer = _refusal_answer(403, PROTECTED)
    announce_sign_on(owner)
    return answer


def announce_sign_on(owner: str) -> None:
    """Add the header `X-GitHub-SSO` to the answer, with the page on which the token is authorized."""
    link = f"{request.host_url.rstrip('/')}/orgs/{owner}/sso?authorization_request=A1B2C3"
    g.sign_on = f"required; url={link}"


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
    """The request's token, sent as `token`, `Bearer` or a part of HTTP Basic; empty if there is none."""
    given = request.authorization
    if given is None:
        return ""
    found = [each for each in (given.token, given.password, given.username) if each]
    return next((each for each in found if each.startswith(_PREFIX)), next(iter(found), ""))


def _decode_token(token: str) -> Grant | None:
    try:
        claims = jwt.decode(token.removeprefix(_PREFIX), _KEY, ["HS256"], options={"require": ["exp"]})
        selected = claims["repositories"]
        repositories = None if selected is None else tuple(selected)
        return Grant(claims["owner"], repositories, claims["permissions"], claims["issued_at"])
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
