"""Webhooks of organizations, as strict as on GitHub."""

from __future__ import annotations

import time
from typing import Any

import jwt
import pytest
from github_kit import DEADLINE, Receiver, WorkingCopy

from sandbox.github import payloads
from sandbox.github.server import GitHubServer

HOOKS = "/api/v3/orgs/acme/hooks"


def body(url: str, **more: Any) -> dict[str, Any]:
    config = {"url": url, "content_type": "json", "secret": "sandbox"}
    return {"name": "web", "active": True, "events": ["push"], "config": config, **more}


def test_an_organization_s_webhook_sends_events_of_all_its_repositories(
    pushed: WorkingCopy, receiver: Receiver, server: GitHubServer, call: Any
) -> None:
    server.wait_idle(DEADLINE)
    before = len(receiver.received)
    made = call("POST", HOOKS, json=body(f"{receiver.url}2"))
    assert (made.status, made.json()["type"]) == (201, "Organization")
    assert made.json()["url"] == f"{server.url}{HOOKS}/{made.json()['id']}"
    assert call("POST", HOOKS, json=body(f"{receiver.url}2")).status == 422, "it exists already"
    assert call("POST", HOOKS, json=body(f"{receiver.url}3", name="x")).status == 422

    pushed.commit("a", "1")
    pushed("push", "-q", "origin", "main")
    assert server.wait_idle(DEADLINE)
    sent = [
        each
        for each in receiver.received[before:]
        if each.headers["X-GitHub-Hook-ID"] == str(made.json()["id"])
    ]
    assert [each.event for each in sent] == ["ping", "push"]
    assert {each.headers["X-GitHub-Hook-Installation-Target-Type"] for each in sent} == {"organization"}
    assert [each.payload["organization"]["login"] for each in sent] == ["acme", "acme"]
    assert sent[1].payload["repository"]["full_name"] == "acme/app"

    own = f"{HOOKS}/{made.json()['id']}"
    log = call("GET", f"{own}/deliveries").json()
    assert [(each["event"], bool(each["repository_id"])) for each in log] == [("push", True), ("ping", False)]
    full = call("GET", f"{own}/deliveries/{log[0]['id']}").json()
    assert full["request"]["payload"]["ref"] == "refs/heads/main"
    assert call("POST", f"{own}/deliveries/{log[0]['id']}/attempts").status == 202
    assert server.wait_idle(DEADLINE)
    assert call("GET", f"{own}/deliveries").json()[0]["redelivery"] is True
    assert call("DELETE", own).status == 204
    assert call("GET", own).status == 404


@pytest.mark.parametrize("owner", ["octocat", "nobody", "globex"])
def test_only_an_organization_has_webhooks(owner: str, server: GitHubServer, call: Any) -> None:
    """For a person's account GitHub answers that it finds no such organization."""
    server.hub.create("octocat/app")
    server.hub.create("acme/app")
    made = call("POST", HOOKS, json=body("http://127.0.0.1:9/x")).json()
    for path in ("", f"/{made['id']}", f"/{made['id']}/deliveries"):
        assert call("GET", f"/api/v3/orgs/{owner}/hooks{path}").status == 404
    assert call("GET", f"/api/v3/repos/acme/app/hooks/{made['id']}").status == 404
    assert [each["type"] for each in call("GET", HOOKS).json()] == ["Organization"]


@pytest.mark.parametrize(
    ("permissions", "reads", "writes"),
    [
        (None, 200, 201),
        ({"repository_hooks": "write"}, 403, 403),
        ({"organization_hooks": "read"}, 200, 403),
        ({"organization_hooks": "write"}, 200, 201),
    ],
)
def test_a_token_of_an_installation_needs_the_permission(
    permissions: dict[str, str] | None, reads: int, writes: int, server: GitHubServer, call: Any
) -> None:
    server.hub.create("acme/app")
    server.hub.create("globex/app")
    held = {"organization_hooks": "write", "repository_hooks": "write"}
    server.hub.installations.accept_permissions("acme", held)
    soon = {"iss": "1", "iat": int(time.time()) - 1, "exp": time.time() + 60}
    headers = {"Authorization": f"Bearer {jwt.encode(soon, 'x' * 32)}"}
    path = f"/api/v3/app/installations/{payloads.user_id('acme')}/access_tokens"
    asked = {"permissions": permissions} if permissions else {}
    token = call("POST", path, json=asked, headers=headers).json()["token"]
    signed = {"Authorization": f"token {token}"}
    assert call("GET", HOOKS, headers=signed).status == reads
    assert call("POST", HOOKS, json=body("http://127.0.0.1:9/x"), headers=signed).status == writes
    assert call("GET", "/api/v3/orgs/globex/hooks", headers=signed).status == 404
    assert call("GET", "/api/v3/app/hook/config", headers=headers).json()["url"] == server.hub.webhook_url
    assert call("GET", "/api/v3/app/hook/config", headers=signed).status == 401
