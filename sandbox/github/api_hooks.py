"""The REST calls on webhooks with their deliveries."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from flask import Blueprint, Response, jsonify, request

from sandbox.github import payloads, rest_json, tokens
from sandbox.github.hub import Hub, Repository
from sandbox.github.lookup import Lookup
from sandbox.github.responses import json_body, not_found, page_answer, raw_path, refuse, refuse_field
from sandbox.github.store import Row

_REPOSITORY = "/repos/<owner>/<name>/hooks"
_ORGANIZATION = "/orgs/<org>/hooks"
_APP = "/app/hook/deliveries"
_CLOCK_SKEW = 60.0  # seconds by which a client's clock may be ahead
_CURSOR = re.compile(r"v1_(\d{1,12})")


@dataclass(frozen=True)
class _HookOwner:
    """The owner of webhooks: a repository, or the organization with this login."""

    hub: Hub
    owner: Repository | str

    @property
    def repository(self) -> Repository | None:
        return None if isinstance(self.owner, str) else self.owner

    def hooks(self) -> list[Row]:
        store = self.hub.store
        return (
            store.organization_hooks(self.owner)
            if isinstance(self.owner, str)
            else store.hooks(self.owner.id)
        )

    def require_hook(self, hook_id: int) -> Row:
        """The owner's webhook with this id; ends the request with 404 if there is none."""
        return next((each for each in self.hooks() if each["id"] == hook_id), None) or not_found()

    def add_hook(self, url: str, secret: str, events: list[str]) -> int:
        if isinstance(self.owner, str):
            return self.hub.store.add_hook(0, url, secret, events, organization=self.owner)
        return self.hub.store.add_hook(self.owner.id, url, secret, events)

    def hook_json(self, row: Row) -> dict[str, Any]:
        return rest_json.hook_json(self.owner, row)


_FindHookOwner = Callable[..., _HookOwner]


def add_routes(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    """Add the routes `hooks/...` of repositories and organizations, and those of a GitHub App."""

    def repository_owner(owner: str, name: str) -> _HookOwner:
        return _HookOwner(hub, lookup.find_repository(owner, name))

    def organization_owner(org: str) -> _HookOwner:
        known = [each.owner for each in hub.repositories() if each.owner.lower() == org.lower()]
        # a person has no webhooks; GitHub answers that it does not find such an organization
        return _HookOwner(hub, known[0]) if known and payloads.is_organization(org) else not_found()

    for path, find_hook_owner, kind in (
        (_REPOSITORY, repository_owner, "repository"),
        (_ORGANIZATION, organization_owner, "organization"),
    ):
        _add_hooks(pages, hub, path, find_hook_owner, kind)
        _add_deliveries(pages, hub, path, find_hook_owner, kind)
    _add_app(pages, hub, lookup)


def _add_hooks(pages: Blueprint, hub: Hub, path: str, find_hook_owner: _FindHookOwner, kind: str) -> None:

    @pages.get(path, endpoint=f"list_{kind}_hooks")
    def list_hooks(**named: str) -> Response:
        hook_owner = find_hook_owner(**named)
        return page_answer(hook_owner.hooks(), hook_owner.hook_json)

    @pages.post(path, endpoint=f"create_{kind}_hook")
    def create_hook(**named: str) -> Response:
        hook_owner = find_hook_owner(**named)
        data = json_body()
        config = _new_hook_config(hook_owner, data, kind)
        secret = str(config.get("secret") or "")
        hook_id = hook_owner.add_hook(config["url"], secret, _hook_events(data) or ["push"])
        values = {"content_type": config.get("content_type", "form"), "active": int(data.get("active", True))}
        hub.store.update_hook(hook_id, **values)
        row = hook_owner.require_hook(hook_id)
        _send_ping(hub, hook_owner, row)
        answer = jsonify(hook_owner.hook_json(row))
        answer.status_code = 201
        return answer

    @pages.get(f"{path}/<int:hook_id>", endpoint=f"get_{kind}_hook")
    def get_hook(hook_id: int, **named: str) -> Response:
        hook_owner = find_hook_owner(**named)
        return jsonify(hook_owner.hook_json(hook_owner.require_hook(hook_id)))

    @pages.patch(f"{path}/<int:hook_id>", endpoint=f"edit_{kind}_hook")
    def edit_hook(hook_id: int, **named: str) -> Response:
        hook_owner = find_hook_owner(**named)
        row = hook_owner.require_hook(hook_id)
        data = json_body()
        hub.store.update_hook(hook_id, **_changed_hook_values(row, data))
        return jsonify(hook_owner.hook_json(hook_owner.require_hook(hook_id)))

    @pages.delete(f"{path}/<int:hook_id>", endpoint=f"delete_{kind}_hook")
    def delete_hook(hook_id: int, **named: str) -> Response:
        find_hook_owner(**named).require_hook(hook_id)
        hub.store.delete_hook(hook_id)
        return Response(status=204)

    @pages.post(f"{path}/<int:hook_id>/pings", endpoint=f"ping_{kind}_hook")
    def ping_hook(hook_id: int, **named: str) -> Response:
        hook_owner = find_hook_owner(**named)
        _send_ping(hub, hook_owner, hook_owner.require_hook(hook_id))
        return Response(status=204)


def _add_deliveries(
    pages: Blueprint, hub: Hub, path: str, find_hook_owner: _FindHookOwner, kind: str
) -> None:
    @pages.get(f"{path}/<int:hook_id>/deliveries", endpoint=f"list_{kind}_deliveries")
    def list_deliveries(hook_id: int, **named: str) -> Response:
        return _by_cursor(hub.store.deliveries(hook_id=find_hook_owner(**named).require_hook(hook_id)["id"]))

    @pages.get(f"{path}/<int:hook_id>/deliveries/<int:delivery_id>", endpoint=f"get_{kind}_delivery")
    def get_delivery(hook_id: int, delivery_id: int, **named: str) -> Response:
        hook = find_hook_owner(**named).require_hook(hook_id)
        return jsonify(_in_full(_require_delivery(hub, delivery_id, hook["id"]), hook))

    @pages.post(f"{path}/<int:hook_id>/deliveries/<int:delivery_id>/attempts", endpoint=f"redeliver_{kind}")
    def redeliver_delivery(hook_id: int, delivery_id: int, **named: str) -> Response:
        return _redelivery_answer(
            hub, _require_delivery(hub, delivery_id, find_hook_owner(**named).require_hook(hook_id)["id"])
        )


def _add_app(pages: Blueprint, hub: Hub, lookup: Lookup) -> None:
    """Add the routes that an App calls with a token that it signed; the standard hooks act as the App's one webhook."""

    @pages.get("/repos/<owner>/<name>/installation")
    def get_installation(owner: str, name: str) -> Response:
        _require_app()
        owner = lookup.find_repository(owner, name).owner
        return jsonify(payloads.installation_json(hub.installations.of(owner), rest_json.root_url()))

    @pages.post("/app/installations/<int:installation>/access_tokens")
    def create_token(installation: int) -> Response:
        _require_app()
        answer = jsonify(tokens.issue_token(hub, installation, json_body()))
        answer.status_code = 201
        return answer

    @pages.get("/app")
    def get_app() -> Response:
        _require_app()
        return jsonify(payloads.app_json(hub.installations.requested, rest_json.root_url()))

    @pages.get("/app/hook/config")
    def get_app_hook() -> Response:
        _require_app()
        return jsonify(
            {"content_type": "json", "insecure_ssl": "0", "secret": "********", "url": hub.webhook_url}
        )

    @pages.get(_APP)
    def list_app_deliveries() -> Response:
        _require_app()
        return _by_cursor(hub.store.app_deliveries())

    @pages.get(f"{_APP}/<int:delivery_id>")
    def get_app_delivery(delivery_id: int) -> Response:
        _require_app()
        row = _require_delivery(hub, delivery_id)
        return jsonify(_in_full(row, hub.store.standard_hook(row["hook_id"]) or not_found()))

    @pages.post(f"{_APP}/<int:delivery_id>/attempts")
    def redeliver_app(delivery_id: int) -> Response:
        _require_app()
        row = _require_delivery(hub, delivery_id)
        if hub.store.standard_hook(row["hook_id"]) is None:
            not_found()
        return _redelivery_answer(hub, row)


def _require_app() -> None:
    """End the request unless it has an App's JSON web token that has begun and is valid for at most ten minutes.

    The signature is not checked, because the simulator does not know the App's key.
    https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    try:
        claims = jwt.decode(
            token, options={"verify_signature": False, "verify_exp": True, "require": ["exp", "iat", "iss"]}
        )
    except jwt.PyJWTError as error:
        refuse(401, f"A JSON web token could not be decoded: {error}")
    if claims["iat"] > time.time() + _CLOCK_SKEW:
        refuse(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        )
    if scheme != "Bearer" or claims["exp"] > time.time() + 600:
        refuse(401, "'Expiration time' claim ('exp') is too far in the future")


def _require_delivery(hub: Hub, delivery_id: int, hook_id: int = 0) -> Row:
    row = hub.store.delivery(delivery_id)
    return row if row and hook_id in {0, row["hook_id"]} else not_found()


def _redelivery_answer(hub: Hub, row: Row) -> Response:
    hub.sender.redeliver(row["id"])
    answer = jsonify({})
    answer.status_code = 202
    return answer


def _by_cursor(rows: list[Row]) -> Response:
    """One page of the sent deliveries, newest first. GitHub's pages have a cursor here: the id of the last delivery."""
    cursor = _CURSOR.fullmatch(request.args.get("cursor", ""))
    sent = [row for row in rows[::-1] if row["state"] != "pending"]
    if cursor:
        sent = [row for row in sent if row["id"] < int(cursor.group(1))]
    asked = request.args.get("per_page", "")
    shown = sent[: min(max(int(asked) if asked.isdecimal() else 30, 1), 100)]
    answer = jsonify([delivery_json(row) for row in shown])
    if len(sent) > len(shown):
        url = f"{rest_json.root_url()}{raw_path()}?per_page={len(shown)}&cursor=v1_{shown[-1]['id']}"
        answer.headers["Link"] = f'<{url}>; rel="next"'
    return answer


def _in_full(row: Row, hook: Row) -> dict[str, Any]:
    """A delivery with its request and response."""
    return {
        **delivery_json(row),
        "url": hook["url"],
        "request": {"headers": json.loads(row["request_headers"]), "payload": json.loads(row["payload"])},
        "response": {"headers": json.loads(row["response_headers"]), "payload": row["response"]},
    }


def delivery_json(row: Row) -> dict[str, Any]:
    """A delivery as the list of deliveries shows it."""
    return {
        "id": row["id"],
        "guid": row["guid"],
        "delivered_at": row["delivered_at"] or row["created_at"],
        "redelivery": bool(row["redelivery"]),
        "duration": row["duration"],
        "status": row["status"],
        "status_code": row["status_code"],
        "event": row["event"],
        "action": row["action"],
        "installation_id": None,
        "repository_id": row["repository_id"] or None,
        "throttled_at": None,
        "url": "",
    }


def _hook_config(data: dict[str, Any]) -> dict[str, Any]:
    config = data.get("config", {})
    return config if isinstance(config, dict) else refuse_field("Hook", "config", "config must be an object")


def _new_hook_config(hook_owner: _HookOwner, data: dict[str, Any], kind: str) -> dict[str, Any]:
    """The configuration of a hook to create; ends the request if GitHub would refuse it."""
    if hook_owner.repository and hook_owner.repository.archived:
        refuse(403, "Repository was archived so is read-only.")
    config = _hook_config(data)
    if any(it["url"] == config.get("url") for it in hook_owner.hooks()):
        refuse_field("Hook", "config", f"Hook already exists on this {kind}")
    if not str(config.get("url", "")).startswith(("http://", "https://")):
        refuse_field("Hook", "url", "url is missing or not a http(s) address")
    if kind == "organization" and data.get("name") != "web":
        refuse_field("Hook", "name", 'name must be "web"')
    return config


def _changed_hook_values(row: Row, data: dict[str, Any]) -> dict[str, Any]:
    """The columns of a hook that a request to edit it changes, with their new values."""
    config = _hook_config(data)
    changed: dict[str, Any] = {k: str(config[k]) for k in ("url", "secret", "content_type") if config.get(k)}
    events = _hook_events(data) or row["events"]
    removed = data.get("remove_events") or []
    changed["events"] = [e for e in [*events, *(data.get("add_events") or [])] if e not in removed]
    if "active" in data:
        changed["active"] = int(bool(data["active"]))
    return changed


def _hook_events(data: dict[str, Any]) -> list[str]:
    events = data.get("events", [])
    if not isinstance(events, list):
        refuse_field("Hook", "events", "events must be an array")
    return [str(event) for event in events]


def _send_ping(hub: Hub, hook_owner: _HookOwner, row: Row) -> None:
    payload: dict[str, Any] = {
        "zen": "Design for failure.",
        "hook_id": row["id"],
        "hook": hook_owner.hook_json(row),
        "sender": payloads.user_json(payloads.LOGIN, hub.url),
    }
    if hook_owner.repository:
        payload["repository"] = payloads.repository_json(hook_owner.repository, hub.url)
    else:
        payload |= payloads.organization_fields(row["organization"], hub.url)
    hub.sender.enqueue(row, "ping", payload)
