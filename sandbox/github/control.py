"""The sandbox's own calls under `/_sandbox`, which create repositories, inject faults or show what happened."""

from __future__ import annotations

import json
from typing import Any

from flask import Blueprint, Response, jsonify, request

from sandbox.github import payloads
from sandbox.github.hub import BadNameError, Hub
from sandbox.github.installations import LEVELS
from sandbox.github.rest import Calls
from sandbox.github.seed import push_sample


def blueprint(hub: Hub, calls: Calls) -> Blueprint:
    """The routes below `/_sandbox`."""
    pages = Blueprint("control", __name__, url_prefix="/_sandbox")

    @pages.get("/health")
    def show_health() -> Response:
        return jsonify({"status": "ok", "repositories": len(hub.repositories())})

    _add_repositories(pages, hub)
    _add_faults(pages, hub)
    _add_access(pages, hub)
    _add_webhooks(pages, hub)
    _add_records(pages, hub, calls)
    return pages


def _add_repositories(pages: Blueprint, hub: Hub) -> None:
    @pages.get("/repositories")
    def list_repositories() -> Response:
        return jsonify([payloads.repository_json(repo, hub.url) for repo in hub.repositories()])

    @pages.post("/repositories")
    def create_repository() -> Response:
        data = _json_object()
        if data is None or not isinstance(data.get("full_name"), str):
            return _bad_request('the body must be JSON such as {"full_name": "owner/repo"}')
        try:
            repo, new = hub.create(data["full_name"])
        except BadNameError as error:
            return _bad_request(str(error))
        if data.get("sample") is True:
            push_sample(hub, repo)
        answer = jsonify(payloads.repository_json(repo, hub.url))
        answer.status_code = 201 if new else 200
        return answer

    @pages.post("/repositories/<owner>/<name>")
    def change_repository(owner: str, name: str) -> Response:
        repo, data = hub.get(f"{owner}/{name}"), _json_object()
        if repo is None or data is None or not isinstance(data.get("action"), str):
            return _bad_request(
                'the body must be JSON such as {"action": "rename", "to": "name"}, and the repository must exist'
            )
        try:
            hub.change_repository(repo, data["action"], str(data.get("to") or ""))
        except BadNameError as error:
            return _bad_request(str(error))
        return jsonify(payloads.repository_json(repo, hub.url) if data["action"] != "delete" else {})


def _add_faults(pages: Blueprint, hub: Hub) -> None:
    @pages.get("/faults")
    def get_faults() -> Response:
        return jsonify(hub.faults.orders())

    @pages.post("/faults")
    def set_faults() -> Response:
        data = _json_object()
        if data is None:
            return _bad_request("the body must be a JSON object")
        try:
            hub.faults.merge(data)
        except ValueError as error:
            return _bad_request(str(error))
        return jsonify(hub.faults.orders())

    @pages.delete("/faults")
    def clear_faults() -> Response:
        hub.faults.clear()
        return Response(status=204)


def _add_access(pages: Blueprint, hub: Hub) -> None:
    """Add the calls that change who may do what, and how much."""

    @pages.post("/app")
    def change_app() -> Response:
        data = _json_object()
        if data is None or not _is_permissions(data.get("permissions")):
            return _bad_request('the body must be JSON such as {"permissions": {"contents": "read"}}')
        hub.installations.request_permissions(
            data["permissions"], [each.owner for each in hub.repositories()]
        )
        return jsonify(data)

    @pages.post("/installations/<owner>")
    def change_installation(owner: str) -> Response:
        data = _json_object() or {}
        known = [each.owner for each in hub.repositories() if each.owner.lower() == owner.lower()]
        action, permissions = data.get("action"), data.get("permissions")
        if not known:
            return _bad_request("the owner has no repository")
        if action in {"suspend", "unsuspend", "new_permissions_accepted"}:
            hub.change_installation(known[0], action)
        elif action == "revoke_tokens":
            hub.installations.revoke_tokens(known[0])
        elif action in {"require_sign_on", "require_no_sign_on"}:
            hub.installations.require_sign_on(known[0], required=action == "require_sign_on")
        elif _is_permissions(permissions):
            hub.installations.accept_permissions(known[0], permissions)
        else:
            return _bad_request(
                'the body must be JSON such as {"action": "suspend"}; the actions are suspend, unsuspend,'
                " new_permissions_accepted, revoke_tokens, require_sign_on and require_no_sign_on; or"
                ' {"permissions": {"contents": "read"}}'
            )
        return jsonify(payloads.installation_json(hub.installations.of(known[0]), hub.url))

    @pages.get("/limits")
    def show_limits() -> Response:
        return jsonify({"limits": vars(hub.limits.allowed), "used": hub.limits.counts()})

    @pages.post("/limits")
    def set_limits() -> Response:
        try:
            hub.limits.allowed = hub.limits.allowed.with_changes(_json_object() or {})
        except ValueError as error:
            return _bad_request(str(error))
        return jsonify(vars(hub.limits.allowed))

    @pages.delete("/limits")
    def forget_requests() -> Response:
        hub.limits.forget()
        return Response(status=204)


def _is_permissions(value: Any) -> bool:
    return isinstance(value, dict) and all(level in LEVELS for level in value.values())


def _add_webhooks(pages: Blueprint, hub: Hub) -> None:
    @pages.post("/webhooks")
    def hold_webhooks() -> Response:
        data = _json_object()
        if data is None or not isinstance(data.get("hold"), bool):
            return _bad_request('the body must be JSON: {"hold": true} or {"hold": false}')
        hub.sender.hold(data["hold"])
        return jsonify(data)

    @pages.get("/deliveries")
    def list_deliveries() -> Response:
        rows = hub.store.deliveries(_repository_id(hub), since=request.args.get("since", 0, type=int))
        return jsonify([_delivery_json(row) for row in rows])

    @pages.post("/repositories/<owner>/<name>/deliveries")
    def date_back(owner: str, name: str) -> Response:
        repo, data = hub.get(f"{owner}/{name}"), _json_object()
        seconds = data.get("seconds_ago") if data else None
        if repo is None or isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            return _bad_request(
                'the body must be JSON such as {"seconds_ago": 60}, and the repository must exist'
            )
        hub.store.date_back(repo.id, seconds)
        return jsonify({})


def _add_records(pages: Blueprint, hub: Hub, calls: Calls) -> None:
    @pages.get("/statuses")
    def list_statuses() -> Response:
        rows = hub.store.all_statuses(_repository_id(hub), request.args.get("sha"))
        hidden = {"repository_id"}
        return jsonify([{k: v for k, v in row.items() if k not in hidden} for row in rows])

    @pages.get("/calls")
    def list_calls() -> Response:
        return jsonify(calls.since(request.args.get("since", 0, type=int)))


def _json_object() -> dict[str, Any] | None:
    data = request.get_json(force=True, silent=True)
    return data if isinstance(data, dict) else None


def _bad_request(reason: str) -> Response:
    answer = jsonify({"message": reason})
    answer.status_code = 400
    return answer


def _repository_id(hub: Hub) -> int | None:
    name = request.args.get("repository")
    if not name:
        return None
    repo = hub.get(name)
    return repo.id if repo else -1  # no repository has this id, so nothing is found


def _delivery_json(row: dict[str, Any]) -> dict[str, Any]:
    parsed = {name: json.loads(row[name]) for name in ("payload", "request_headers", "response_headers")}
    return {**row, **parsed, "redelivery": bool(row["redelivery"]), "attempts": row["attempt"]}
