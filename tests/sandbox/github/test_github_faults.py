"""Injected faults happen as requested and end when they are removed."""

from __future__ import annotations

import time
from typing import Any

from github_kit import DEADLINE, Receiver, WorkingCopy

from sandbox.github.faults import Faults
from sandbox.github.server import GitHubServer

API = "/api/v3/repos/acme/app"
FAULTS = "/_sandbox/faults"


def push(copy: WorkingCopy, text: str) -> str:
    sha = copy.commit("a", text)
    copy("push", "-q", "origin", "main")
    return sha


def test_lost_webhooks_can_be_redelivered(
    pushed: WorkingCopy, receiver: Receiver, server: GitHubServer, call: Any
) -> None:
    receiver.wait(2)
    call("POST", FAULTS, json={"webhooks": {"lose": 1}})
    push(pushed, "1")
    assert server.wait_idle(DEADLINE)
    assert len(receiver.received) == 2
    lost = call("GET", "/_sandbox/deliveries").json()[-1]
    assert (lost["state"], lost["status_code"]) == ("lost", 0)
    assert call("DELETE", FAULTS).status == 204
    call("POST", f"{API}/hooks/{lost['hook_id']}/deliveries/{lost['id']}/attempts")
    assert receiver.wait(3)[2].guid == lost["guid"]


def test_duplicated_webhooks_have_the_same_guid(pushed: WorkingCopy, receiver: Receiver, call: Any) -> None:
    receiver.wait(2)
    call("POST", FAULTS, json={"webhooks": {"duplicate": 1}})
    push(pushed, "1")
    first, second = receiver.wait(4)[2:]
    assert (first.guid, first.body) == (second.guid, second.body)


def test_webhooks_out_of_order(pushed: WorkingCopy, receiver: Receiver, call: Any) -> None:
    receiver.wait(2)
    call("POST", FAULTS, json={"webhooks": {"reorder": 1}})
    shas = [push(pushed, str(number)) for number in range(2)]
    assert [r.payload["after"] for r in receiver.wait(4)[2:]] == shas[::-1]
    alone = push(pushed, "alone")  # held back for some time, but not forever
    assert receiver.push(4)["after"] == alone


def test_late_webhooks(pushed: WorkingCopy, receiver: Receiver, call: Any) -> None:
    receiver.wait(2)
    call("POST", FAULTS, json={"webhooks": {"delay": 0.2}})
    started = time.monotonic()
    push(pushed, "1")
    receiver.wait(3)
    assert time.monotonic() - started >= 0.2


def test_the_api_fails_as_often_as_injected(pushed: WorkingCopy, call: Any) -> None:
    assert pushed.path.is_dir()
    call("POST", FAULTS, json={"api": {"status": 502, "count": 2}})
    assert [call("GET", API).status for _ in range(3)] == [502, 502, 200]
    for nothing in (None, []):
        call("POST", FAULTS, json={"api": {"status": 500}})
        assert {call("GET", API).status for _ in range(3)} == {500}
        call("POST", FAULTS, json={"api": nothing})
        assert call("GET", API).status == 200


def test_writes_fail_while_reads_succeed(pushed: WorkingCopy, call: Any) -> None:
    assert pushed.path.is_dir()
    status = f"{API}/statuses/{call('GET', f'{API}/commits/main').json()['sha']}"
    call("POST", FAULTS, json={"writes": {"status": 502, "count": 1}})
    body = {"state": "success", "context": "ci"}
    assert call("GET", API).status == 200
    assert [call("POST", status, json=body).status for _ in range(2)] == [502, 201]


def test_a_secondary_rate_limit(pushed: WorkingCopy, call: Any) -> None:
    assert pushed.path.is_dir()
    call("POST", FAULTS, json={"secondary_rate_limit": {"count": 1, "retry_after": 7}})
    limited = call("GET", API)
    assert (limited.status, limited.headers["Retry-After"]) == (403, "7")
    assert "secondary rate limit" in limited.json()["message"]
    assert call("GET", API).status == 200


def test_a_slow_api(pushed: WorkingCopy, call: Any) -> None:
    assert pushed.path.is_dir()
    call("POST", FAULTS, json={"slow": 0.1})
    started = time.monotonic()
    assert call("GET", API).status == 200
    assert time.monotonic() - started >= 0.1


def test_stale_reads(pushed: WorkingCopy, call: Any) -> None:
    old = pushed("rev-parse", "HEAD")
    call("POST", FAULTS, json={"stale_reads": 60})
    new = push(pushed, "1")
    pushed("push", "-q", "origin", "main:topic")

    def seen() -> list[str]:
        return [
            call("GET", f"{API}/branches/main").json()["commit"]["sha"],
            call("GET", f"{API}/git/ref/heads/main").json()["object"]["sha"],
            call("GET", f"{API}/commits/main").json()["sha"],
        ]

    # main was created just now, so before its last move it pointed to the first commit
    assert seen() == [old] * 3
    assert call("GET", f"{API}/git/ref/heads/topic").status == 404
    assert call("GET", f"{API}/commits/{new}").json()["sha"] == new
    assert pushed("ls-remote", "origin", "main").split()[0] == new
    call("DELETE", FAULTS)
    assert seen() == [new] * 3
    assert call("GET", f"{API}/git/ref/heads/topic").status == 200


def test_stale_reads_end_after_their_time(pushed: WorkingCopy, call: Any) -> None:
    call("POST", FAULTS, json={"stale_reads": 0.2})
    new = push(pushed, "1")
    deadline = time.monotonic() + DEADLINE
    while call("GET", f"{API}/branches/main").json()["commit"]["sha"] != new:
        assert time.monotonic() < deadline


def test_invalid_faults_are_refused_together(server: GitHubServer, call: Any) -> None:
    orders: list[dict[str, Any]] = [
        {"nothing": 1},
        {"webhooks": 1},
        {"webhooks": {"lose": 2}},
        {"webhooks": {"eat": 1}},
        {"api": {"status": 200}},
        {"api": {}},
        {"writes": {"status": 200}},
        {"slow": -1},
        {"slow": "1"},
        {"seed": "x"},
        {"secondary_rate_limit": {"count": True}},
    ]
    for body in ([], *({"stale_reads": 1, **order} for order in orders)):
        answer = call("POST", FAULTS, json=body)
        assert answer.status == 400, body
        assert "\n" not in answer.json()["message"]
    assert server.hub.faults.orders() == {}


def test_a_seed_makes_faults_repeatable() -> None:
    faults = Faults()

    def draws() -> list[bool]:
        faults.merge({"webhooks": {"lose": 0.5}, "seed": 7})
        return [faults.hits_webhook("lose") for _ in range(50)]

    first = draws()
    assert first == draws()
    assert set(first) == {True, False}
