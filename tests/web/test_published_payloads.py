"""Tests with GitHub's published payloads, from the webhook to the queue."""

import json
from typing import Any
from urllib.parse import quote

import pytest

from deployer.queue.items import Cause
from tests.web.site import PAYLOADS, SHA, Site, published

ZERO = "0" * 40
NAMES = sorted(path.stem for path in PAYLOADS.glob("*.json"))
PUSHES = [name for name in NAMES if name.startswith("push-")]


def event_of(name: str) -> str:
    return name.partition("-")[0]


@pytest.mark.parametrize(
    ("name", "environment", "cause", "before", "after"),
    [
        ("push-branch-created", "staging", Cause.PUSH, ZERO, SHA),
        ("push-tag-created", "production", Cause.PUSH, ZERO, SHA),
        ("push-tag-deleted", "production", Cause.DELETION, SHA, ZERO),
        ("push-tag-deleted-installation", "production", Cause.DELETION, SHA, ZERO),
        ("push-tag-deleted-organization", "production", Cause.DELETION, SHA, ZERO),
    ],
)
def test_a_push_is_queued(
    site: Site, name: str, environment: str, cause: Cause, before: str, after: str
) -> None:
    payload = published(name)
    answer = site.deliver(payload)
    assert (answer.status_code, answer.json["outcome"]) == (202, "queued")
    (work,) = site.waiting
    assert (work.environment, work.cause) == (environment, cause)
    assert (work.spec.ref, work.push.before, work.push.after) == (payload["ref"], before, after)
    assert work.push.default_branch == "master"
    assert [str(each) for each in site.lanes.repositories()] == ["Codertocat/Hello-World"]


@pytest.mark.parametrize("name", PUSHES)
def test_a_push_is_read_alike_from_a_form(site: Site, name: str) -> None:
    site.deliver(published(name), delivery="d-json")
    (by_json,) = site.waiting
    site.redis.flushall()
    body = b"payload=" + quote(json.dumps(published(name))).encode()
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert site.deliver(body, delivery="d-json", headers=headers).status_code == 202
    (by_form,) = site.waiting
    assert by_form.but(accepted_at=0) == by_json.but(accepted_at=0)


@pytest.mark.parametrize(
    ("changes", "environment", "cause"),
    [
        ({"ref": "refs/heads/feature/x"}, "development:refs/heads/feature/x", Cause.PUSH),
        (
            {"ref": "refs/heads/feature/x", "before": SHA, "after": ZERO, "deleted": True, "created": False},
            "development:refs/heads/feature/x",
            Cause.DELETION,
        ),
        ({"before": "a" * 40, "forced": True, "created": False}, "staging", Cause.PUSH),
    ],
)
def test_a_push_of_another_branch(
    site: Site, changes: dict[str, Any], environment: str, cause: Cause
) -> None:
    assert site.deliver(published("push-branch-created") | changes).status_code == 202
    assert [(work.environment, work.cause) for work in site.waiting] == [(environment, cause)]


@pytest.mark.parametrize("name", [name for name in NAMES if event_of(name) in {"create", "delete"}])
def test_a_creation_or_deletion_is_left_to_its_push(site: Site, name: str) -> None:
    answer = site.deliver(published(name), event=event_of(name))
    assert (answer.status_code, answer.json["outcome"]) == (202, "ignored")
    assert "a push event also reports" in answer.json["reason"]
    assert not site.waiting


@pytest.mark.parametrize("name", [name for name in NAMES if event_of(name) == "ping"])
def test_a_ping_is_answered(site: Site, name: str) -> None:
    assert site.deliver(published(name), event="ping").status_code == 200
    assert (
        site.deliver(published(name), event="ping", headers={"X-Hub-Signature-256": None}).status_code == 401
    )
    assert site.untouched


@pytest.mark.parametrize("name", NAMES)
def test_without_its_signature_none_is_accepted(site: Site, name: str) -> None:
    answer = site.deliver(published(name), event=event_of(name), headers={"X-Hub-Signature-256": None})
    assert answer.status_code == 401
    assert site.untouched


def test_the_examples_are_the_kinds_that_the_tests_speak_of() -> None:
    assert {event_of(name) for name in NAMES} == {"push", "create", "delete", "ping"}
    assert "installation" in published("push-tag-deleted-installation")
    assert "organization" in published("push-tag-deleted-organization")
