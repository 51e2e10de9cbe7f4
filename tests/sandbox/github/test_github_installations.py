"""What an owner changes about the App's installation, as the simulator's own calls do it."""

import json
import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest
from github_kit import Receiver, WorkingCopy

from sandbox.github import payloads
from sandbox.github.server import GitHubServer

Call = Callable[..., Any]
ACME = payloads.user_id("acme")
KEY = "any key of the length that is asked for"


def post(call: Call, path: str, body: object) -> Any:
    answer = call("POST", path, body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    return answer.status, json.loads(answer.data)


def as_app(call: Call, method: str, path: str, *, ahead: int = 0, lasts: int = 60) -> Any:
    issued = int(time.time()) + ahead
    signed = jwt.encode({"iat": issued, "exp": issued + lasts, "iss": "1"}, KEY, "HS256")
    answer = call(method, path, headers={"Authorization": f"Bearer {signed}"})
    return answer.status, json.loads(answer.data)


def read(call: Call, token: str) -> int:
    answer = call("GET", "/api/v3/repos/acme/app", headers={"Authorization": f"token {token}"})
    return int(answer.status)


@pytest.fixture
def token(call: Call, pushed: WorkingCopy) -> str:
    assert pushed.path.is_dir()
    status, made = as_app(call, "POST", f"/api/v3/app/installations/{ACME}/access_tokens")
    assert status == 201
    assert made["permissions"] == {
        "contents": "read", "metadata": "read", "pull_requests": "write", "statuses": "write",
    }  # fmt: skip
    return str(made["token"])


def test_a_suspended_installation_refuses_its_tokens_and_makes_none(
    call: Call, token: str, receiver: Receiver, server: GitHubServer
) -> None:
    assert read(call, token) == 200
    status, shown = post(call, "/_sandbox/installations/acme", {"action": "suspend"})
    assert (status, bool(shown["suspended_at"])) == (200, True)
    assert read(call, token) == 403
    refused, said = as_app(call, "POST", f"/api/v3/app/installations/{ACME}/access_tokens")
    assert (refused, said["message"]) == (403, "This installation has been suspended")
    found, described = as_app(call, "GET", "/api/v3/repos/acme/app/installation")
    assert (found, described["html_url"]) == (
        200, f"{server.url}/organizations/acme/settings/installations/{ACME}",
    )  # fmt: skip
    post(call, "/_sandbox/installations/acme", {"action": "unsuspend"})
    assert read(call, token) == 200
    assert server.wait_idle()
    sent = [each.payload for each in receiver.received if each.event == "installation"]
    assert [each["action"] for each in sent] == ["suspend", "unsuspend"]
    assert {each["installation"]["id"] for each in sent} == {ACME}


def test_revoked_tokens_are_refused(call: Call, token: str) -> None:
    post(call, "/_sandbox/installations/acme", {"action": "revoke_tokens"})
    assert read(call, token) == 401


def test_new_permissions_count_once_the_owner_accepts_them(call: Call, token: str) -> None:
    assert token
    more = {"contents": "read", "checks": "write"}
    assert post(call, "/_sandbox/app", {"permissions": more}) == (200, {"permissions": more})
    assert as_app(call, "GET", "/api/v3/app")[1]["permissions"] == more
    assert "checks" not in as_app(call, "GET", "/api/v3/repos/acme/app/installation")[1]["permissions"]
    post(call, "/_sandbox/installations/acme", {"action": "new_permissions_accepted"})
    assert as_app(call, "GET", "/api/v3/repos/acme/app/installation")[1]["permissions"] == more


@pytest.mark.parametrize(("ahead", "lasts"), [(0, 700), (120, 60), (-120, 60)])
def test_a_json_web_token_of_another_time_is_refused(call: Call, token: str, ahead: int, lasts: int) -> None:
    assert token
    assert as_app(call, "GET", "/api/v3/app", ahead=ahead, lasts=lasts)[0] == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/_sandbox/app", {}),
        ("/_sandbox/app", {"permissions": {"contents": "all"}}),
        ("/_sandbox/installations/acme", {"action": "sneeze"}),
        ("/_sandbox/installations/nobody", {"action": "suspend"}),
    ],
)
def test_a_wrong_change_is_refused(call: Call, token: str, path: str, body: object) -> None:
    assert token
    assert post(call, path, body)[0] == 400


def test_deliveries_to_the_app_name_its_installation(
    call: Call, pushed: WorkingCopy, receiver: Receiver, server: GitHubServer
) -> None:
    assert pushed.path.is_dir()
    assert server.wait_idle()
    pushes = [each.payload for each in receiver.received if each.event == "push"]
    assert {each["installation"]["id"] for each in pushes} == {ACME}
    assert call("GET", "/api/v3/repos/acme/app").status == 200
