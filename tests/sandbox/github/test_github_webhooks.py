"""The webhooks that a push sends."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pytest
from github_kit import DEADLINE, SECRET, Receiver, WorkingCopy, git

from sandbox.github.payloads import user_id
from sandbox.github.server import GitHubServer, create

ZERO = "0" * 40


def test_a_first_push_of_a_branch(pushed: WorkingCopy, receiver: Receiver, server: GitHubServer) -> None:
    sha = pushed("rev-parse", "HEAD")
    created, push = receiver.wait(2)
    assert [created.event, push.event] == ["create", "push"]
    assert {created.payload["ref"], created.payload["ref_type"]} == {"main", "branch"}
    payload = push.payload
    assert payload["ref"] == "refs/heads/main"
    assert (payload["before"], payload["after"]) == (ZERO, sha)
    assert (payload["created"], payload["deleted"], payload["forced"]) == (True, False, False)
    assert payload["base_ref"] is None
    assert payload["head_commit"] == payload["commits"][0]
    commit = payload["head_commit"]
    assert (commit["id"], commit["message"], commit["added"]) == (sha, "first", ["README.md"])
    assert commit["tree_id"] == pushed("rev-parse", "HEAD^{tree}")
    assert commit["author"]["email"] == "ada@example.com"
    repository = payload["repository"]
    assert (repository["full_name"], repository["default_branch"]) == ("acme/app", "main")
    assert repository["owner"]["name"] == repository["owner"]["login"] == "acme"
    assert repository["clone_url"] == f"{server.url}/acme/app.git"
    assert isinstance(repository["pushed_at"], int)
    assert payload["installation"]["id"] == user_id("acme"), "an App's webhook sends it"


def test_a_payload_has_the_time_of_its_own_push(
    pushed: WorkingCopy, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.wait(2)
    monkeypatch.setattr("sandbox.github.store.now", lambda: "2030-01-01T00:00:00Z")
    pushed("push", "--quiet", "origin", "main:refs/tags/v1")
    pushes = [each.payload for each in receiver.wait(4) if each.event == "push"]
    assert pushes[-1]["ref"] == "refs/tags/v1"
    assert pushes[-1]["repository"]["pushed_at"] == 1893456000


def test_the_headers_are_github_s(pushed: WorkingCopy, receiver: Receiver) -> None:
    assert pushed.path.is_dir()
    for request in receiver.wait(2):
        request.check()
        assert str(uuid.UUID(request.guid)) == request.guid
        assert request.headers["Content-Type"] == "application/json"
        assert request.headers["User-Agent"].startswith("GitHub-Hookshot/")
        assert request.headers["X-GitHub-Hook-ID"].isdecimal()


def test_a_further_push_lists_its_commits_oldest_first(pushed: WorkingCopy, receiver: Receiver) -> None:
    before = pushed("rev-parse", "HEAD")
    pushed.commit("a.txt", "1", "add")
    pushed.commit("a.txt", "2", "change\n\nwith a body")
    (pushed.path / "README.md").unlink()
    after = pushed.commit("ü/b.txt", "1", "move")
    pushed("push", "-q", "origin", "main")
    payload = receiver.push(2)
    assert (payload["before"], payload["after"]) == (before, after)
    assert [c["message"] for c in payload["commits"]] == ["add", "change\n\nwith a body", "move"]
    assert [c["modified"] for c in payload["commits"]] == [[], ["a.txt"], []]
    assert payload["commits"][2]["added"] == ["ü/b.txt"]
    assert payload["commits"][2]["removed"] == ["README.md"]
    assert payload["compare"].endswith(f"/compare/{before[:12]}...{after[:12]}")
    assert len(receiver.wait(1, "create")) == 1


def test_a_push_event_has_at_most_the_twenty_newest_commits(pushed: WorkingCopy, receiver: Receiver) -> None:
    for number in range(23):
        pushed("commit", "-q", "--allow-empty", "-m", f"number {number}")
    pushed("push", "-q", "origin", "main")
    commits = receiver.push(2)["commits"]
    assert [c["message"] for c in commits] == [f"number {n}" for n in range(3, 23)]


def test_a_forced_push_is_marked_as_forced(pushed: WorkingCopy, receiver: Receiver) -> None:
    pushed.commit("a", "1")
    pushed("push", "-q", "origin", "main")
    pushed("reset", "-q", "--hard", "HEAD~1")
    pushed.commit("b", "1")
    pushed("push", "-q", "--force", "origin", "main")
    assert receiver.push(2)["forced"] is False
    assert receiver.push(3)["forced"] is True


def test_a_new_branch_at_a_known_commit(pushed: WorkingCopy, receiver: Receiver) -> None:
    pushed("push", "-q", "origin", "HEAD:refs/heads/feature/ü#1")
    payload = receiver.push(2)
    assert payload["ref"] == "refs/heads/feature/ü#1"
    assert payload["base_ref"] == "refs/heads/main"
    assert payload["commits"] == []
    assert payload["head_commit"]["id"] == pushed("rev-parse", "HEAD")


def test_a_deleted_branch(pushed: WorkingCopy, receiver: Receiver) -> None:
    pushed("push", "-q", "origin", "HEAD:refs/heads/topic")
    pushed("push", "-q", "origin", ":topic")
    payload = receiver.push(3)
    assert (payload["before"], payload["after"]) == (pushed("rev-parse", "HEAD"), ZERO)
    assert (payload["created"], payload["deleted"]) == (False, True)
    assert payload["head_commit"] is None
    assert payload["commits"] == []
    deleted = receiver.wait(1, "delete")[0].payload
    assert (deleted["ref"], deleted["ref_type"], deleted["pusher_type"]) == ("topic", "branch", "user")


def test_the_event_of_an_annotated_tag_has_the_tag_object(pushed: WorkingCopy, receiver: Receiver) -> None:
    pushed("tag", "-a", "v1", "-m", "one")
    pushed("tag", "light")
    pushed("push", "-q", "origin", "v1", "light")
    found = {p["ref"]: p for p in (receiver.push(2), receiver.push(3))}
    commit = pushed("rev-parse", "HEAD")
    assert found["refs/tags/v1"]["after"] == pushed("rev-parse", "refs/tags/v1") != commit
    assert found["refs/tags/v1"]["head_commit"]["id"] == commit
    assert found["refs/tags/v1"]["commits"] == []
    assert found["refs/tags/light"]["after"] == commit
    assert [r.payload["ref_type"] for r in receiver.wait(3, "create")[1:]] == ["tag", "tag"]


def test_a_push_of_more_than_three_tags_sends_no_event(
    pushed: WorkingCopy, receiver: Receiver, server: GitHubServer
) -> None:
    for number in range(4):
        pushed("tag", f"v{number}")
    pushed.commit("a", "1")
    pushed("push", "-q", "origin", "main", "--tags")
    assert receiver.push(2)["ref"] == "refs/heads/main"
    assert server.wait_idle(DEADLINE)
    assert not [r for r in receiver.received if "tags" in r.payload["ref"]]
    for number in range(4, 7):
        pushed("tag", f"v{number}")
    pushed("push", "-q", "origin", "--tags")
    assert {receiver.push(n)["ref"] for n in (3, 4, 5)} == {f"refs/tags/v{n}" for n in (4, 5, 6)}


def test_deliveries_come_in_the_order_of_the_pushes(pushed: WorkingCopy, receiver: Receiver) -> None:
    shas = []
    for number in range(6):
        shas.append(pushed.commit("a", str(number)))
        pushed("push", "-q", "origin", "main")
    receiver.wait(7, "push")
    assert [receiver.push(n)["after"] for n in range(2, 8)] == shas


def test_a_failed_delivery_is_recorded_and_not_repeated(
    copy: WorkingCopy, receiver: Receiver, server: GitHubServer, call: Any
) -> None:
    receiver.status = 503
    copy.commit("a", "1")
    copy("push", "-q", "origin", "main")
    assert server.wait_idle(DEADLINE)
    assert len(receiver.received) == 2
    hook = call("GET", "/api/v3/repos/acme/app/hooks").json()[0]["id"]
    base = f"/api/v3/repos/acme/app/hooks/{hook}/deliveries"
    failed = call("GET", base).json()
    assert [(d["event"], d["status_code"], d["redelivery"]) for d in failed] == [
        ("push", 503, False),
        ("create", 503, False),
    ]

    receiver.status = 202
    assert call("POST", f"{base}/{failed[0]['id']}/attempts").status == 202
    repeated = receiver.wait(2, "push")
    assert repeated[0].guid == repeated[1].guid == failed[0]["guid"]
    assert repeated[0].body == repeated[1].body
    assert server.wait_idle(DEADLINE)
    newest = call("GET", f"{base}?per_page=1").json()[0]
    assert (newest["guid"], newest["status_code"], newest["redelivery"]) == (failed[0]["guid"], 202, True)
    shown = call("GET", f"{base}/{newest['id']}").json()
    assert shown["request"]["payload"]["ref"] == "refs/heads/main"
    assert shown["request"]["headers"]["X-GitHub-Delivery"] == newest["guid"]
    assert shown["response"]["payload"] == '{"outcome":"queued"}'
    assert call("POST", f"{base}/999999/attempts").status == 404
    ours = call("GET", "/_sandbox/deliveries?repository=acme/app").json()
    assert [(d["event"], d["attempts"], d["state"]) for d in ours] == [
        ("create", 1, "failed"),
        ("push", 1, "failed"),
        ("push", 2, "delivered"),
    ]
    newer = call("GET", f"/_sandbox/deliveries?since={ours[1]['id']}").json()
    assert [d["id"] for d in newer] == [ours[2]["id"]]


def test_a_push_succeeds_without_a_receiver(server: GitHubServer, copy: WorkingCopy, call: Any) -> None:
    server.set_webhook("http://127.0.0.1:9/nobody")
    copy.commit("a", "1")
    copy("push", "-q", "origin", "main")
    assert server.wait_idle(DEADLINE)
    states = call("GET", "/_sandbox/deliveries").json()
    assert [(d["state"], d["status_code"]) for d in states] == [("failed", 0), ("failed", 0)]


def test_a_redirect_is_not_followed(copy: WorkingCopy, receiver: Receiver, server: GitHubServer) -> None:
    receiver.status = 302
    copy.commit("a", "1")
    copy("push", "-q", "origin", "main")
    assert server.wait_idle(DEADLINE)
    assert {row["status_code"] for row in server.hub.store.deliveries()} == {302}


def test_state_survives_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    first = create(0, data_dir=tmp_path / "d", webhook_url="http://127.0.0.1:9/", webhook_secret="old")
    assert first.ensure_sample()  # the server is never started, so its deliveries stay pending
    first.stop()
    second = create(0, data_dir=tmp_path / "d", webhook_url=receiver.url, webhook_secret=SECRET)
    second.start()
    try:
        assert not second.ensure_sample()
        create_event, push = receiver.wait(2)
        push.check()
        assert (create_event.event, push.event) == ("create", "push")
        copy = WorkingCopy.clone(f"{second.url}/acme/hello.git", tmp_path / "hello")
        assert copy("rev-parse", "HEAD") == push.payload["after"]
        assert second.wait_idle(DEADLINE)
        assert git("-C", str(copy.path), "status", "--porcelain") == ""
    finally:
        second.stop()


def test_more_webhooks_can_be_installed(
    pushed: WorkingCopy, receiver: Receiver, server: GitHubServer, call: Any
) -> None:
    hooks = "/api/v3/repos/acme/app/hooks"
    receiver.wait(2)
    config = {"url": f"{receiver.url}2", "content_type": "json", "secret": "other"}
    body = {"name": "web", "config": config, "events": ["push"]}
    made = call("POST", hooks, json=body)
    assert made.status == 201
    assert made.json()["config"]["secret"] == "********"
    assert call("POST", hooks, json=body).status == 422
    assert receiver.wait(1, "ping")[0].payload["hook_id"] == made.json()["id"]
    own = f"{hooks}/{made.json()['id']}"
    assert call("PATCH", own, json={"active": False, "add_events": ["create"]}).json()["events"] == [
        "push",
        "create",
    ]
    pushed.commit("a", "1")
    pushed("push", "-q", "origin", "main")
    assert server.wait_idle(DEADLINE)
    assert len(receiver.wait(1, "push")) == 2
    assert call("DELETE", own).status == 204
    assert call("GET", own).status == 404
    assert call("POST", f"{hooks}/1/pings").status == 204
    receiver.wait(2, "ping")[1].check()


def test_held_deliveries_are_sent_after_their_release(
    copy: WorkingCopy, receiver: Receiver, server: GitHubServer
) -> None:
    def order(body: object) -> int:
        made = urllib.request.Request(  # noqa: S310  to this machine only
            f"{server.url}/_sandbox/webhooks", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(made, timeout=5) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    assert order({"hold": True}) == 200
    copy.commit("README.md", "hello\n", "first")
    copy("push", "--quiet", "origin", "main")
    assert not server.wait_idle(0.2)
    assert receiver.received == []
    assert [order(body) for body in ({}, {"hold": 1}, [])] == [400] * 3
    assert order({"hold": False}) == 200
    assert receiver.push()["ref"] == "refs/heads/main"
