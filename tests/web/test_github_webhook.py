"""Tests of `POST /webhooks/github`: accepted and refused deliveries, and the resulting queue."""

import hashlib
import hmac
import json
from typing import Any
from urllib.parse import quote

import pytest

from deployer.model.environments import Repository
from deployer.model.outcomes import Outcome
from deployer.queue.items import Cause
from deployer.queue.step_results import Finished
from tests.web.site import OLD, SECRET, SHA, Site, push_payload, signature

ZERO = "0" * 40
PUSH = json.dumps(push_payload()).encode()


def without(*path: str) -> dict[str, Any]:
    """A push that lacks a field."""
    payload = push_payload()
    inner = payload
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return payload


def form(body: bytes) -> bytes:
    """JSON as GitHub sends it where the webhook's content type is a form."""
    return b"payload=" + quote(body, safe="").encode()


def refused(site: Site, answer: Any, code: int, caplog: pytest.LogCaptureFixture) -> str:
    """Check that a response is a one-line error, that nothing was stored, and that the log contains no secret."""
    assert answer.status_code == code
    assert list(answer.json) == ["error"]
    reason = str(answer.json["error"])
    assert reason
    assert reason.isprintable()
    assert site.untouched
    assert "Traceback" not in caplog.text
    for secret in (SECRET, "another-one"):
        assert secret not in caplog.text + reason
    return reason


# --- accepted -----------------------------------------------------------------------------------------------------


def test_a_push_is_queued_and_sent(site: Site) -> None:
    answer = site.push("feature/x")
    assert (answer.status_code, answer.json) == (
        202,
        {"delivery": "d-1", "outcome": "queued", "reason": ""},
    )
    (work,) = site.waiting
    assert (work.environment, work.cause) == ("development:refs/heads/feature/x", Cause.PUSH)
    assert (work.spec.ref, work.push.before, work.push.after) == ("refs/heads/feature/x", OLD, SHA)
    assert (work.deliveries, site.outcome()) == ("d-1", "queued")
    assert [each.environment for each in site.queue.sent] == [work.environment]


def test_the_installation_of_an_app_s_delivery_is_stored(site: Site) -> None:
    sharing, api = site.deployer.github_sharing, Repository("acme", "api")
    for number, installation in enumerate([{"id": 7}, {"id": 7}, {"id": 8}, {"id": "x"}, {}, None], 1):
        body = json.dumps({**push_payload(), "installation": installation}).encode()
        assert site.deliver(body, delivery=f"d-{number}").status_code == 202
        assert sharing.installation(api) == (7 if number < 3 else 8)
    assert sharing.redis.run_if_available(lambda r: r.ttl("deployer:{acme/api}:installation")) > 29 * 86_400


def test_the_installation_of_a_repository_that_is_not_served_is_not_stored(site: Site) -> None:
    body = json.dumps({**push_payload("others/api"), "installation": {"id": 7}}).encode()
    assert site.deliver(body).status_code == 202
    assert site.deployer.github_sharing.installation(Repository("others", "api")) == 0


def test_an_event_of_an_installation_discards_its_token(site: Site) -> None:
    sharing, api = site.deployer.github_sharing, Repository("acme", "api")
    listed = [{"full_name": "acme/api"}]
    for number, (action, known) in enumerate([("new_permissions_accepted", 7), ("suspend", 0)], 1):
        sharing.save_sealed_token(7, "sealed", 60)
        payload = {
            "action": action,
            "installation": {"id": 7, "account": {"login": "acme"}},
            "repositories": listed,
        }
        answer = site.deliver(json.dumps(payload).encode(), event="installation", delivery=f"d-{number}")
        assert answer.status_code == 202
        assert sharing.sealed_token(7) is None
        assert sharing.installation(api) == known


@pytest.mark.parametrize(
    ("ref", "after", "environment", "cause"),
    [
        ("refs/heads/main", SHA, "staging", Cause.PUSH),
        ("refs/tags/v1", SHA, "production", Cause.PUSH),
        ("refs/tags/main", SHA, "production", Cause.PUSH),
        ("refs/heads/hotfix/main", SHA, "development:refs/heads/hotfix/main", Cause.PUSH),
        ("refs/heads/refs/tags/v1", SHA, "development:refs/heads/refs/tags/v1", Cause.PUSH),
        ("refs/heads/feature/ü#1", SHA, "development:refs/heads/feature/ü#1", Cause.PUSH),
        ("refs/heads/x", ZERO, "development:refs/heads/x", Cause.DELETION),
        ("refs/heads/x", "0" * 64, "development:refs/heads/x", Cause.DELETION),
    ],
)
def test_a_ref_drives_its_environment(
    site: Site, ref: str, after: str, environment: str, cause: Cause
) -> None:
    assert site.deliver(push_payload(ref=ref, after=after)).status_code == 202
    assert [(work.environment, work.cause) for work in site.waiting] == [(environment, cause)]


def test_a_form_is_accepted_with_its_signature_over_the_raw_bytes(site: Site) -> None:
    body = form(PUSH)
    answer = site.deliver(body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (answer.status_code, site.outcome()) == (202, "queued")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_a_content_type_may_have_parameters_and_capitals(site: Site, content_type: str) -> None:
    assert site.deliver(PUSH, headers={"Content-Type": content_type}).status_code == 202


@pytest.mark.parametrize("secret", ["another-one", SECRET])
def test_each_secret_in_force_is_accepted(site: Site, secret: str) -> None:
    answer = site.deliver(PUSH, headers={"X-Hub-Signature-256": signature(PUSH, secret)})
    assert answer.status_code == 202


def test_a_retired_secret_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    site = Site({"DEPLOYER_GITHUB_WEBHOOK_SECRET": "new"})
    refused(site, site.deliver(PUSH), 401, caplog)


def test_a_delivery_counts_once(site: Site) -> None:
    site.push()
    answer = site.push()
    assert (answer.status_code, answer.json["outcome"]) == (202, "duplicate")
    assert "queued" in answer.json["reason"]
    assert len(site.waiting) == len(site.queue.sent) == 1


def test_a_duplicate_has_the_outcome_of_the_first_delivery(site: Site) -> None:
    site.push()
    site.finish(Finished("deployed", "went through every stage"))
    assert "deployed" in site.push().json["reason"]


def test_a_redelivery_of_what_failed_is_queued_again(site: Site) -> None:
    site.push()
    site.finish(Finished(Outcome.FAILED, "their template is wrong"))
    assert site.push().json["outcome"] == "queued"
    assert [work.deliveries for work in site.waiting] == ["d-1"]


def test_a_newer_push_to_the_same_branch_supersedes(site: Site) -> None:
    site.push("other", delivery="d-0")
    site.push(delivery="d-1")
    site.push(delivery="d-2", after="b" * 40)
    assert (site.outcome("d-1"), site.outcome("d-2")) == ("superseded", "queued")
    assert [work.push.after for work in site.waiting] == [SHA, "b" * 40]


# --- ignored ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "payload", "reason"),
    [
        ("create", {"ref": "x", "ref_type": "branch"}, "a push event also reports"),
        ("delete", {"ref": "x", "ref_type": "branch"}, "a push event also reports"),
        ("star", {}, "event star requires no work"),
        ("push", push_payload("other/repo"), "DEPLOYER_REPOSITORIES"),
        ("push", push_payload(ref="refs/notes/commits"), "neither a branch nor a tag"),
    ],
)
def test_an_irrelevant_event_is_ignored_with_a_reason(
    site: Site, event: str, payload: dict[str, Any], reason: str
) -> None:
    answer = site.deliver(payload, event=event)
    assert (answer.status_code, answer.json["outcome"]) == (202, "ignored")
    assert reason in answer.json["reason"]
    assert not site.waiting
    assert not site.queue.sent
    found = site.lanes.delivery("d-1")
    assert found is not None
    assert (found.outcome, found.reason) == ("ignored", answer.json["reason"])


def test_each_delivery_is_one_line_in_the_log(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    site.push(delivery="d-1")
    site.deliver(push_payload(ref="refs/notes/a\nERROR forged\x1b[2J"), delivery="d-2")
    news, queued, ignored = caplog.messages
    assert news == f"acme/api feature/x: pushed {SHA[:8]}"  # for people, where `deployer up` shows it
    assert queued == "delivery d-1: queued"
    assert ignored.startswith("delivery d-2: ignored, refs/notes/a ERROR forged")
    assert ignored.isprintable()


def test_repositories_are_matched_without_case(site: Site) -> None:
    assert site.push(repository="ACME/Api").json["outcome"] == "queued"


def test_a_signed_ping_is_answered_and_kept_nowhere(site: Site) -> None:
    answer = site.deliver({"zen": "Keep it logically awesome."}, event="ping")
    assert (answer.status_code, answer.json["outcome"]) == (200, "pong")
    assert site.untouched


def test_a_ping_needs_no_redis(site: Site) -> None:
    with site.redis_away():
        assert site.deliver({}, event="ping").status_code == 200


# --- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Hub-Signature-256": None},
        {"X-Hub-Signature-256": ""},
        {"X-Hub-Signature-256": "sha256="},
        {"X-Hub-Signature-256": "sha256=" + "0" * 64},
        {"X-Hub-Signature-256": signature(PUSH, "a guess")},
        {"X-Hub-Signature-256": signature(PUSH + b" ")},
        {"X-Hub-Signature-256": signature(PUSH).removeprefix("sha256=")},
        {"X-Hub-Signature-256": signature(PUSH).upper()},
        {"X-Hub-Signature-256": "sha256=\u00fc"},
        {
            "X-Hub-Signature-256": None,
            "X-Hub-Signature": "sha1=" + hmac.new(SECRET.encode(), PUSH, hashlib.sha1).hexdigest(),
        },
    ],
)
def test_a_missing_or_wrong_signature_is_refused(
    site: Site, headers: dict[str, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    for event in ("push", "ping", "star"):
        reason = refused(site, site.deliver(PUSH, event=event, headers=headers), 401, caplog)
        assert "X-Hub-Signature-256" in reason


def test_a_form_signed_over_its_json_is_refused(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Hub-Signature-256": signature(PUSH),
    }
    refused(site, site.deliver(form(PUSH), headers=headers), 401, caplog)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"hello", "not JSON"),
        (PUSH[:-10], "not JSON"),
        (PUSH + b"{}", "not JSON"),
        (b"\xef\xbb\xbf" + PUSH, "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"push"', "not a JSON object"),
        (b'{"ref": "\xff"}', "not UTF-8"),
        (PUSH.decode().encode("utf-16"), "not UTF-8"),
    ],
)
def test_a_body_that_is_not_an_object_is_refused(
    site: Site, body: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    for event in ("push", "ping", "star"):
        assert reason in refused(site, site.deliver(body, event=event), 400, caplog)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ({}, "field repository is missing"),
        (without("repository"), "field repository is missing"),
        (without("repository", "full_name"), "field full_name is missing"),
        (without("repository", "default_branch"), "field default_branch is missing"),
        (without("ref"), "field ref is missing"),
        (without("before"), "field before is missing"),
        (without("after"), "field after is missing"),
        (push_payload() | {"ref": None}, "field ref is not text"),
        (push_payload() | {"ref": ["refs/heads/x"]}, "field ref is not text"),
        (push_payload() | {"repository": "acme/api"}, "field repository is not an object"),
        (push_payload() | {"repository": None}, "field repository is not an object"),
        (push_payload("acme"), "not a repository"),
        (push_payload("../.."), "not a repository"),
        (push_payload("acme/api/x"), "not a repository"),
        (push_payload("acme/{api}"), "not a repository"),
        (
            push_payload() | {"repository": {"full_name": "acme/api", "default_branch": ""}},
            "not a name that git",
        ),
        (push_payload(ref="refs/heads/a b"), "not a name that git allows"),
        (push_payload(ref="refs/heads/"), "not a name that git allows"),
        (push_payload(ref="refs/heads/" + "x" * 1024), "field ref is longer than 1,024 characters"),
        (push_payload(ref="refs/heads/a\nforged"), "not a name that git allows"),
        (push_payload(ref="refs/heads/\ud800"), "not valid Unicode"),
        (push_payload(before=""), "not a full commit id"),
        (push_payload(after="abc123"), "not a full commit id"),
        (push_payload(after=SHA.upper()), "not a full commit id"),
    ],
)
def test_a_push_with_a_missing_or_malformed_field_is_refused(
    site: Site, payload: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert reason in refused(site, site.deliver(payload), 400, caplog)


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        ({"X-GitHub-Event": None}, "X-GitHub-Event"),
        ({"X-GitHub-Event": ""}, "X-GitHub-Event"),
        ({"X-GitHub-Delivery": None}, "X-GitHub-Delivery"),
        ({"X-GitHub-Delivery": ""}, "X-GitHub-Delivery"),
        ({"X-GitHub-Delivery": "a b"}, "X-GitHub-Delivery"),
        ({"X-GitHub-Delivery": "x" * 101}, "X-GitHub-Delivery"),
        ({"X-GitHub-Delivery": "d-1,d-2"}, "X-GitHub-Delivery"),
    ],
)
def test_a_missing_or_malformed_header_is_refused(
    site: Site, headers: dict[str, str | None], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert name in refused(site, site.deliver(PUSH, headers=headers), 400, caplog)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "no field payload"),
        (b"payload=", "no field payload"),
        (b"other=1", "no field payload"),
        (form(b"[]"), "not a JSON object"),
        (form(PUSH)[:-10], "not JSON"),
        (b"payload=\xff", "cannot be read"),
        (form(PUSH.replace(b"feature/x", b"feature/\xff")), "not UTF-8"),
        (b"&".join(b"a=%d" % number for number in range(100)), "cannot be read"),
    ],
)
def test_a_form_without_an_object_is_refused(
    site: Site, body: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert reason in refused(site, site.deliver(body, headers=headers), 400, caplog)


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "multipart/form-data; boundary=x", "text/json"]
)
def test_another_content_type_is_refused(
    site: Site, content_type: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    answer = site.deliver(PUSH, headers={"Content-Type": content_type})
    assert "application/json" in refused(site, answer, 415, caplog)


def test_another_method_is_refused(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    answer = site.client.get("/webhooks/github")
    refused(site, answer, 405, caplog)
    assert "POST" in answer.headers["Allow"]


# --- Redis does not answer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "payload"), [("push", push_payload()), ("push", push_payload("other/repo")), ("star", {})]
)
def test_without_redis_nothing_is_marked_as_seen(
    site: Site, event: str, payload: object, caplog: pytest.LogCaptureFixture
) -> None:
    with site.redis_away():
        answer = site.deliver(payload, event=event)
    refused(site, answer, 503, caplog)
    assert int(answer.headers["Retry-After"]) > 0


def test_a_redelivery_after_an_outage_is_queued(site: Site) -> None:
    with site.redis_away():
        assert site.push().status_code == 503
    assert site.push().json["outcome"] == "queued"
    assert (len(site.waiting), site.outcome()) == (1, "queued")


def test_a_reason_that_quotes_megabytes_is_cut(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    answer = site.deliver(push_payload(ref="refs/heads/" + "x" * 2_000_000))
    assert len(refused(site, answer, 400, caplog)) <= 500
    assert len(caplog.text) < 1000
