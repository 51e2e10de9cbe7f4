"""Changes of a whole repository send webhooks and show in the API, as on GitHub."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import jwt
import pytest
from github import Github
from github_kit import Receiver, WorkingCopy

from sandbox.github.hub import BadNameError
from sandbox.github.server import GitHubServer

API = "/api/v3/repos/acme/app"


@pytest.fixture
def change(call: Any, pushed: WorkingCopy, server: GitHubServer, receiver: Receiver) -> Any:
    """A function that changes acme/app, or another repository, and returns the events of its webhook, oldest first."""
    assert pushed.path.is_dir()

    def change_repository(
        action: str, to: str = "", name: str = "acme/app"
    ) -> list[tuple[str, dict[str, Any]]]:
        server.wait_idle()
        before = len(receiver.received)
        body = json.dumps({"action": action, "to": to})
        answer = call("POST", f"/_sandbox/repositories/{name}", body=body)
        assert answer.status == 200, answer.data
        server.wait_idle()
        return [(each.event, each.payload) for each in receiver.received[before:]]

    return change_repository


def test_a_renamed_repository_is_found_under_both_names(
    change: Any, call: Any, client: Github, pushed: WorkingCopy
) -> None:
    identity = client.get_repo("acme/app").id
    ((event, payload),) = change("rename", "shop")

    assert (event, payload["action"]) == ("repository", "renamed")
    assert payload["changes"] == {"repository": {"name": {"from": "app"}}}
    assert (payload["repository"]["id"], payload["repository"]["full_name"]) == (identity, "acme/shop")
    moved = call("GET", f"{API}/git/matching-refs/heads/?per_page=7")
    assert moved.status == 301
    assert moved.headers["Location"].endswith(
        f"/api/v3/repositories/{identity}/git/matching-refs/heads/?per_page=7"
    )
    assert client.get_repo("acme/app").full_name == "acme/shop"
    assert client.get_repo("acme/app").get_branch("main").name == "main"
    assert call("POST", f"{API}/statuses/{'0' * 40}", body="{}").status == 307
    pushed.commit("a", "a", "after")
    pushed("push", "--quiet", "origin", "main")  # to the former name


def test_a_former_name_belongs_to_the_repository_that_gets_it(change: Any, call: Any, client: Github) -> None:
    identity = client.get_repo("acme/app").id
    change("rename", "shop")
    call("POST", "/_sandbox/repositories", body=json.dumps({"full_name": "acme/app"}))

    other = client.get_repo("acme/app")
    assert (other.full_name, other.id == identity) == ("acme/app", False)


def test_the_event_of_a_transfer_names_the_former_owner(change: Any, client: Github) -> None:
    ((event, payload),) = change("transfer", "other")

    assert (event, payload["action"]) == ("repository", "transferred")
    assert payload["changes"]["owner"]["from"]["user"]["login"] == "acme"
    assert client.get_repo("acme/app").full_name == "other/app"


def test_a_repository_can_be_renamed_back(change: Any, client: Github) -> None:
    change("rename", "shop")
    change("rename", "app", name="acme/shop")

    assert client.get_repo("acme/shop").full_name == "acme/app"
    assert client.get_repo("acme/app").full_name == "acme/app"


def test_a_change_of_the_default_branch(change: Any, pushed: WorkingCopy) -> None:
    pushed("push", "--quiet", "origin", "main:trunk")
    ((event, payload),) = change("default_branch", "trunk")

    assert (event, payload["action"]) == ("repository", "edited")
    assert payload["changes"] == {"default_branch": {"from": "main"}}
    assert payload["repository"]["default_branch"] == "trunk"


def test_archiving_and_visibility(change: Any, call: Any) -> None:
    ((_, payload),) = change("archive")
    assert (payload["action"], payload["repository"]["archived"]) == ("archived", True)
    assert call("POST", f"{API}/hooks", body="{}").status == 403
    assert [p["action"] for _, p in change("unarchive")] == ["unarchived"]
    ((_, payload),) = change("privatize")
    assert (payload["action"], payload["repository"]["visibility"]) == ("privatized", "private")
    assert [event for event, _ in change("publicize")] == ["public", "repository"]


def test_a_repository_without_the_app_is_not_found_and_sends_nothing(
    change: Any, call: Any, pushed: WorkingCopy, server: GitHubServer, receiver: Receiver
) -> None:
    ((event, payload),) = change("uninstall")
    assert (event, payload["action"]) == ("installation_repositories", "removed")
    assert [each["full_name"] for each in payload["repositories_removed"]] == ["acme/app"]
    assert call("GET", API).status == 404
    before = len(receiver.received)
    pushed.commit("a", "a", "unseen")
    pushed("push", "--quiet", "origin", "main")
    server.wait_idle()
    assert len(receiver.received) == before

    ((_, payload),) = change("install")
    assert [each["full_name"] for each in payload["repositories_added"]] == ["acme/app"]
    assert call("GET", API).status == 200


def test_an_app_is_uninstalled_by_an_owner(change: Any, call: Any) -> None:
    for name in ("acme/second", "other/app"):
        call("POST", "/_sandbox/repositories", body=json.dumps({"full_name": name}))
    ((event, payload),) = change("uninstall_owner")
    assert (event, payload["action"]) == ("installation", "deleted")
    assert [each["full_name"] for each in payload["repositories"]] == ["acme/app", "acme/second"]
    repos = ("acme/app", "acme/second", "other/app")
    assert [call("GET", f"/api/v3/repos/{each}").status for each in repos] == [404, 404, 200]
    ((event, payload),) = change("install_owner")
    assert (event, payload["action"], len(payload["repositories"])) == ("installation", "created", 2)
    assert [call("GET", f"/api/v3/repos/{each}").status for each in repos] == [200, 200, 200]


def test_a_deleted_repository_is_gone_and_its_name_is_free(change: Any, call: Any) -> None:
    ((event, payload),) = change("delete")

    assert (event, payload["action"]) == ("repository", "deleted")
    assert call("GET", API).status == 404
    assert call("POST", "/_sandbox/repositories", body=json.dumps({"full_name": "acme/app"})).status == 201


def test_a_copied_repository_has_the_same_refs_but_is_independent(
    pushed: WorkingCopy, server: GitHubServer, call: Any, receiver: Receiver
) -> None:
    original = server.hub.get("acme/app")
    assert original
    assert original.git.refs()["refs/heads/main"].sha == pushed("rev-parse", "HEAD").strip()
    server.wait_idle()
    before = len(receiver.received)

    made = server.hub.copy_repository(original, "acme/twin")

    assert made.git.refs() == original.git.refs()
    assert len(receiver.received) == before  # a copy sends no events, because nothing is pushed
    sha = original.git.refs()["refs/heads/main"].sha
    body = json.dumps({"ref": "refs/heads/more", "sha": sha})
    assert call("POST", "/api/v3/repos/acme/twin/git/refs", body=body).status == 201
    assert "refs/heads/more" not in original.git.refs()
    server.wait_idle()
    repositories_in_events = {each.payload["repository"]["full_name"] for each in receiver.received[before:]}
    assert repositories_in_events == {"acme/twin"}
    with pytest.raises(BadNameError, match="is taken"):
        server.hub.copy_repository(original, "acme/twin")


def test_deliveries_are_paged_by_cursor_newest_first(change: Any, call: Any) -> None:
    for action in ("archive", "unarchive", "archive"):
        change(action)
    hook = call("GET", f"{API}/hooks").json()[0]["id"]
    signed, headers, long = [
        {"Authorization": f"{scheme} {jwt.encode(claims, 'any key will do: it is not known', 'HS256')}"}
        for scheme, seconds in (("token", 60), ("Bearer", 60), ("Bearer", 3600))
        for claims in [{"iss": "1", "iat": int(time.time()), "exp": int(time.time()) + seconds}]
    ]
    for nobody in ({}, signed, long):
        assert call("GET", "/api/v3/app/hook/deliveries", headers=nobody).status == 401
    for path in (f"{API}/hooks/{hook}/deliveries", "/api/v3/app/hook/deliveries"):
        first = call("GET", f"{path}?per_page=2", headers=headers)
        assert [each["action"] for each in first.json()] == ["archived", "unarchived"]
        assert {each["status"] for each in first.json()} == {"OK"}
        following = first.headers["Link"].partition("<")[2].partition(">")[0]
        second = call("GET", f"/api/v3{following.partition('/api/v3')[2]}", headers=headers)
        assert second.json()[0]["action"] == "archived"
        assert len({each["id"] for each in first.json() + second.json()}) == 4
        detail = call("GET", f"{path}/{first.json()[0]['id']}", headers=headers).json()
        assert detail["request"]["payload"]["action"] == "archived"


def test_deliveries_can_be_dated_back(change: Any, call: Any) -> None:
    change("archive")
    hook = call("GET", f"{API}/hooks").json()[0]["id"]

    def delivered_at() -> float:
        first = call("GET", f"{API}/hooks/{hook}/deliveries").json()[0]
        return datetime.fromisoformat(first["delivered_at"]).timestamp()

    before = delivered_at()
    path = "/_sandbox/repositories/acme/app/deliveries"
    assert call("POST", path, body=json.dumps({"seconds_ago": 90})).status == 200
    assert delivered_at() == before - 90
    assert call("POST", path, body=json.dumps({"seconds_ago": -1})).status == 400
