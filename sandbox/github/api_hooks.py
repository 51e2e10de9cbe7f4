"""The REST calls on webhooks and their deliveries."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify

from sandbox.github import payloads, shapes
from sandbox.github.hub import Hub, Repository
from sandbox.github.lookup import Lookup
from sandbox.github.responses import body, invalid, not_found, paged
from sandbox.github.store import Row

_HOOKS = "/repos/<owner>/<name>/hooks"
_Find = Callable[[str, str, int], tuple[Repository, Row]]


def add_routes(pages: Blueprint, hub: Hub, look: Lookup) -> None:
    """Add `hooks/...` below `/repos/{owner}/{repo}`."""

    def find(owner: str, name: str, hook_id: int) -> tuple[Repository, Row]:
        repo = look.repository(owner, name)
        return repo, hub.store.hook(repo.id, hook_id) or not_found()

    _add_hooks(pages, hub, look, find)
    _add_deliveries(pages, hub, find)


def _add_hooks(pages: Blueprint, hub: Hub, look: Lookup, find: _Find) -> None:

    @pages.get(_HOOKS)
    def list_hooks(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        return paged(hub.store.hooks(repo.id), lambda it: shapes.hook(repo, it))

    @pages.post(_HOOKS)
    def create_hook(owner: str, name: str) -> Response:
        repo = look.repository(owner, name)
        data = body()
        config = _config(data)
        if any(it["url"] == config.get("url") for it in hub.store.hooks(repo.id)):
            invalid("Hook", "config", "Hook already exists on this repository")
        if not str(config.get("url", "")).startswith(("http://", "https://")):
            invalid("Hook", "url", "url is missing or not a http(s) address")
        secret = str(config.get("secret") or "")
        hook_id = hub.store.add_hook(repo.id, config["url"], secret, _events(data) or ["push"])
        values = {"content_type": config.get("content_type", "form"), "active": int(data.get("active", True))}
        hub.store.update_hook(hook_id, **values)
        row = hub.store.hook(repo.id, hook_id) or not_found()
        _ping(hub, repo, row)
        answer = jsonify(shapes.hook(repo, row))
        answer.status_code = 201
        return answer

    @pages.get(f"{_HOOKS}/<int:hook_id>")
    def get_hook(owner: str, name: str, hook_id: int) -> Response:
        return jsonify(shapes.hook(*find(owner, name, hook_id)))

    @pages.patch(f"{_HOOKS}/<int:hook_id>")
    def edit_hook(owner: str, name: str, hook_id: int) -> Response:
        repo, row = find(owner, name, hook_id)
        data = body()
        config = _config(data)
        changed: dict[str, Any] = {
            k: str(config[k]) for k in ("url", "secret", "content_type") if config.get(k)
        }
        events = _events(data) or row["events"]
        gone = data.get("remove_events") or []
        changed["events"] = [e for e in [*events, *(data.get("add_events") or [])] if e not in gone]
        if "active" in data:
            changed["active"] = int(bool(data["active"]))
        hub.store.update_hook(hook_id, **changed)
        return jsonify(shapes.hook(repo, hub.store.hook(repo.id, hook_id) or not_found()))

    @pages.delete(f"{_HOOKS}/<int:hook_id>")
    def delete_hook(owner: str, name: str, hook_id: int) -> Response:
        find(owner, name, hook_id)
        hub.store.delete_hook(hook_id)
        return Response(status=204)

    @pages.post(f"{_HOOKS}/<int:hook_id>/pings")
    def ping(owner: str, name: str, hook_id: int) -> Response:
        _ping(hub, *find(owner, name, hook_id))
        return Response(status=204)


def _add_deliveries(pages: Blueprint, hub: Hub, find: _Find) -> None:
    @pages.get(f"{_HOOKS}/<int:hook_id>/deliveries")
    def list_deliveries(owner: str, name: str, hook_id: int) -> Response:
        repo, hook = find(owner, name, hook_id)
        sent = [row for row in hub.store.deliveries(repo.id, hook["id"]) if row["state"] != "pending"]
        return paged(sent[::-1], delivery)

    @pages.get(f"{_HOOKS}/<int:hook_id>/deliveries/<int:delivery_id>")
    def get_delivery(owner: str, name: str, hook_id: int, delivery_id: int) -> Response:
        _, hook = find(owner, name, hook_id)
        row = hub.store.delivery(delivery_id)
        if row is None or row["hook_id"] != hook["id"]:
            not_found()
        return jsonify(
            {
                **delivery(row),
                "url": hook["url"],
                "request": {
                    "headers": json.loads(row["request_headers"]),
                    "payload": json.loads(row["payload"]),
                },
                "response": {"headers": json.loads(row["response_headers"]), "payload": row["response"]},
            }
        )

    @pages.post(f"{_HOOKS}/<int:hook_id>/deliveries/<int:delivery_id>/attempts")
    def redeliver(owner: str, name: str, hook_id: int, delivery_id: int) -> Response:
        _, hook = find(owner, name, hook_id)
        row = hub.store.delivery(delivery_id)
        if row is None or row["hook_id"] != hook["id"]:
            not_found()
        hub.sender.redeliver(delivery_id)
        answer = jsonify({})
        answer.status_code = 202
        return answer


def delivery(row: Row) -> dict[str, Any]:
    """A delivery as the list of them shows it."""
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
        "repository_id": row["repository_id"],
        "throttled_at": None,
        "url": "",
    }


def _config(data: dict[str, Any]) -> dict[str, Any]:
    config = data.get("config", {})
    return config if isinstance(config, dict) else invalid("Hook", "config", "config must be an object")


def _events(data: dict[str, Any]) -> list[str]:
    events = data.get("events", [])
    if not isinstance(events, list):
        invalid("Hook", "events", "events must be an array")
    return [str(event) for event in events]


def _ping(hub: Hub, repo: Repository, row: Row) -> None:
    payload = {
        "zen": "Design for failure.",
        "hook_id": row["id"],
        "hook": shapes.hook(repo, row),
        "repository": payloads.repository(repo, hub.url),
        "sender": payloads.user(payloads.LOGIN, hub.url),
    }
    hub.sender.enqueue(row, "ping", payload)
