"""Property tests: for any input with a valid signature or key, the receiver never fails and accepts all or nothing."""

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.web.site import SHA, Site, push_payload

SITE = Site()  # one for all: what is sent before may not matter either
CALM = settings(deadline=None)  # a busy machine is no finding
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
REFS = st.builds(
    "{}{}".format,
    st.sampled_from(["refs/heads/", "refs/tags/", "refs/", ""]),
    st.text(st.characters(), max_size=40),
)
PUSHES = st.fixed_dictionaries(
    {},
    optional={
        "ref": REFS | JSON,
        "before": st.sampled_from(["0" * 40, SHA, ""]) | JSON,
        "after": st.sampled_from(["0" * 40, SHA, "b" * 64]) | JSON,
        "repository": st.fixed_dictionaries(
            {},
            optional={
                "full_name": st.sampled_from(["acme/api", "other/x"]) | st.text() | JSON,
                "default_branch": st.sampled_from(["main", ""]) | st.text(st.characters()) | JSON,
            },
        )
        | JSON,
    },
)
NAMES = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=30)
EVENTS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.text() | JSON,
        "source": st.sampled_from(["aws.codepipeline", "aws.cloudformation"]) | st.text(),
        "detail-type": st.sampled_from(
            ["CodePipeline Stage Execution State Change", "CloudFormation Stack Status Change"]
        )
        | st.text(st.characters()),
        "detail": st.dictionaries(
            st.sampled_from(["pipeline", "execution-id", "stage", "state", "stack-id", "status-details"]),
            JSON,
        )
        | JSON,
    },
)


def told(answer: Any) -> None:
    """Insist on a sound answer, and that what is in the lanes is what was said to be queued."""
    if answer.status_code == 202:
        assert answer.json["outcome"] in {"queued", "duplicate", "ignored"}
        record = SITE.lanes.delivery(answer.json["delivery"])
        assert record is not None
        assert record.outcome in {"queued", "ignored", "superseded"}
        assert (record.outcome == "ignored") == (answer.json["outcome"] == "ignored")
    elif answer.status_code != 200:
        assert answer.status_code == 400
        assert answer.json["error"].isprintable()
    SITE.redis.flushall()


@CALM
@given(st.binary(), st.sampled_from(["push", "ping", "create", "x"]), st.booleans())
@example(b"", "push", True)
@example(b"payload=%7B%7D", "push", True)
@example(b"[" * 100_000, "push", False)
def test_any_bytes_to_github(body: bytes, event: str, form: bool) -> None:
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    told(SITE.deliver(body, event=event, headers={"Content-Type": kind}))


@CALM
@given(JSON | PUSHES | PUSHES.map(lambda changes: push_payload() | changes))
def test_any_json_to_github(payload: object) -> None:
    told(SITE.deliver(payload))


@CALM
@given(NAMES, NAMES)
def test_any_headers_to_github(event: str, delivery: str) -> None:
    told(SITE.deliver(push_payload(), event=event, delivery=delivery))


@CALM
@given(st.binary() | JSON | EVENTS)
def test_anything_to_aws(payload: object) -> None:
    told(SITE.aws(payload))


@CALM
@given(st.binary())
def test_an_unsigned_body_is_never_read(body: bytes) -> None:
    answer = SITE.deliver(body, headers={"X-Hub-Signature-256": "sha256=" + "0" * 64})
    assert answer.status_code == 401
    assert not SITE.redis.keys("*")


@CALM
@given(st.text(st.characters()))
def test_any_json_text_is_stored_unchanged(text: str) -> None:
    answer = SITE.deliver(json.dumps({"zen": text}).encode(), event="ping")
    assert answer.status_code == 200
