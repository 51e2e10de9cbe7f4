"""The shortcut for pushes gives the same answer and leaves the same state as the Flask application behind it."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from werkzeug.test import TestResponse

from tests.web.site import SHA, Site, published, push_payload, signature
from tests.web.test_webhook_properties import PUSHES

COMPLETE = {"wsgi.input_terminated": True}  # as deployer's own server receives a request
PATH = "/webhooks/github"
TIMES = re.compile(r"\b\d{10}(\.\d+)?(e\+\d+)?\b|\b\d{13}\b|\b1\.\d+e9\b")


class Pair:
    """One application with the shortcut, and one without it."""

    def __init__(self, **env: str) -> None:
        self.quick, self.plain = Site(env), Site(env)
        shortcut: Any = self.plain.app.wsgi_app
        self.plain.app.wsgi_app = shortcut._application  # type: ignore[method-assign]
        self.answered = 0
        inner: Any = self.quick.app.wsgi_app
        behind = inner._application

        def count_passed(environ: Any, start_response: Any) -> Any:
            self.answered -= 1
            return behind(environ, start_response)

        inner._application = count_passed

    def send(self, body: bytes, headers: Mapping[str, str], **options: Any) -> TestResponse:
        """Send one request to both, and compare everything that people or programs can see."""
        self.answered += 1
        quick, plain = (
            each.client.post(PATH, data=body, headers=dict(headers), environ_overrides=COMPLETE, **options)
            for each in (self.quick, self.plain)
        )
        assert quick.status == plain.status
        assert quick.data == plain.data
        assert sorted(quick.headers.items()) == sorted(plain.headers.items())
        assert [(each.environment, each.task) for each in self.quick.queue.sent] == [
            (each.environment, each.task) for each in self.plain.queue.sent
        ]
        assert state(self.quick) == state(self.plain)
        return quick


def state(site: Site) -> dict[str, Any]:
    """All that Redis holds, without times and the ids of requests."""
    found: dict[str, Any] = {}
    for key in site.redis.keys("*"):
        if ":answer:" in key:
            continue
        read = {
            "string": site.redis.get,
            "hash": lambda name: sorted(site.redis.hgetall(name).items()),
            "set": lambda name: sorted(site.redis.smembers(name)),
            "list": lambda name: site.redis.lrange(name, 0, -1),
            "zset": lambda name: site.redis.zrange(name, 0, -1),
        }[site.redis.type(key)]
        found[key] = TIMES.sub("TIME", json.dumps(read(key), sort_keys=True))
    return found


def headers_of(body: bytes, **changes: str | None) -> dict[str, str]:
    """The headers of a push; None removes one."""
    headers = {
        "Content-Type": "application/json",
        "X-GitHub-Event": "push",
        "X-GitHub-Delivery": "d-1",
        "X-Hub-Signature-256": signature(body),
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return {name: value for name, value in headers.items() if value is not None}


def body_of(**changes: Any) -> bytes:
    return json.dumps(push_payload(**changes)).encode()


def test_a_push_is_answered_without_flask() -> None:
    pair = Pair()
    body = body_of()
    assert pair.send(body, headers_of(body)).json == {"delivery": "d-1", "outcome": "queued", "reason": ""}
    assert pair.send(body, headers_of(body)).json["outcome"] == "duplicate"
    assert pair.answered == 2


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"X_Hub_Signature_256": "sha256=00"}, {}),
        ({"X_Hub_Signature_256": None}, {}),
        ({"X_Hub_Signature_256": "sha256=\u00fc"}, {}),
        ({"X_GitHub_Event": "ping"}, {}),
        ({"X_GitHub_Event": "create"}, {}),
        ({"X_GitHub_Event": None}, {}),
        ({"X_GitHub_Delivery": None}, {}),
        ({"X_GitHub_Delivery": "a b"}, {}),
        ({"Content_Type": "text/plain"}, {}),
        ({"Content_Type": "application/json; charset=utf-8"}, {}),
        ({"Content_Type": "application/x-www-form-urlencoded"}, {}),
        ({}, {"method": "PUT"}),
        ({}, {"query_string": "a=b"}),
        ({}, {"content_length": 5}),
    ],
)
def test_other_requests_are_answered_as_before(changes: dict[str, Any], options: dict[str, Any]) -> None:
    pair = Pair()
    body = body_of()
    pair.send(body, headers_of(body, **changes), **options)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b"\xff",
        body_of(repository="other/x"),
        body_of(ref="refs/heads/NOBUILD-x"),
        body_of(ref="refs/notes/x"),
        body_of(after="0" * 40),
        body_of(ref="refs/tags/v1"),
        body_of(ref="refs/heads/main"),
        json.dumps(push_payload(head_commit={"id": SHA, "message": "x [skip ci]"})).encode(),
        json.dumps(published("push-branch-created")).encode(),
    ],
    ids=lambda body: body[:20].decode(errors="replace") + str(len(body)),
)
def test_any_push_is_answered_as_before(body: bytes) -> None:
    pair = Pair()
    pair.send(body, headers_of(body))


@settings(deadline=None)
@given(PUSHES)
def test_random_pushes_are_answered_as_before(payload: Any) -> None:
    body = json.dumps(payload).encode()
    PAIR.send(body, headers_of(body))
    for site in (PAIR.quick, PAIR.plain):
        site.redis.flushall()
        site.queue.sent.clear()


def test_a_webhook_port_applies_to_both() -> None:
    pair = Pair(DEPLOYER_WEBHOOK_PORT="9001")
    body = body_of()
    assert pair.send(body, headers_of(body)).status_code == 404
    assert pair.send(body, headers_of(body), base_url="http://localhost:9001").status_code == 202


def test_redis_away_is_a_503_and_the_push_is_submitted_once(caplog: pytest.LogCaptureFixture) -> None:
    pair = Pair()
    body = body_of()
    pair.quick.server.connected = pair.plain.server.connected = False
    quick, plain = (
        each.client.post(PATH, data=body, headers=headers_of(body), environ_overrides=COMPLETE)
        for each in (pair.quick, pair.plain)
    )
    assert (quick.status, quick.data) == (plain.status, plain.data)
    assert quick.status_code == 503
    assert sorted(quick.headers.items()) == sorted(plain.headers.items())
    assert sum("503" in each.getMessage() for each in caplog.records) == 2


def test_the_answers_are_counted() -> None:
    site = Site()
    body = body_of()
    site.client.post(PATH, data=body, headers=headers_of(body), environ_overrides=COMPLETE)
    assert (
        'deployer_webhook_answers_total{code="202",source="github"} 1.0' in site.client.get("/metrics").text
    )


PAIR = Pair()
