"""Tests of `POST /webhooks/aws` with events as EventBridge sends them."""

from typing import Any

import pytest

from deployer.queue.items import Cause, Task
from tests.web.site import AWS_KEY, Site, record

STACK = record("feature/x").stack_name
ARN = "arn:aws:cloudformation:us-east-1:123456789012:stack/{}/1c2fa620-982a-11e3-aff7-50e2416294e0"


def event(source: str, detail_type: str, detail: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What EventBridge wraps around a detail."""
    return {
        "version": "0",
        "id": "e-1",
        "detail-type": detail_type,
        "source": source,
        "account": "123456789012",
        "time": "2026-01-02T03:04:05Z",
        "region": "us-east-1",
        "resources": [],
        "detail": detail,
        **changes,
    }


def stage(state: str = "SUCCEEDED", pipeline: str = STACK) -> dict[str, Any]:
    detail = {
        "pipeline": pipeline,
        "execution-id": "01234567-0123-0123-0123-012345678901",
        "stage": "Build",
        "state": state,
        "version": 1.0,
    }
    return event("aws.codepipeline", "CodePipeline Stage Execution State Change", detail)


def execution(state: str = "FAILED") -> dict[str, Any]:
    detail = {"pipeline": STACK, "execution-id": "01234567", "state": state, "version": 1.0}
    return event("aws.codepipeline", "CodePipeline Pipeline Execution State Change", detail)


def stack(status: str = "CREATE_COMPLETE", arn: str = ARN.format(STACK)) -> dict[str, Any]:
    detail = {
        "stack-id": arn,
        "status-details": {"status": status, "status-reason": ""},
        "client-request-token": "t",
    }
    return event("aws.cloudformation", "CloudFormation Stack Status Change", detail)


def without(payload: dict[str, Any], *path: str) -> dict[str, Any]:
    inner = payload
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return payload


@pytest.mark.parametrize(
    ("payload", "outcome"),
    [
        (stage(), "queued"),
        (stack(), "queued"),
        ({**stage(), "account": "999999999999"}, "ignored"),
        ({**stage(), "region": "eu-west-1"}, "ignored"),
        # the account and region in the stack's ARN count, not those of the event
        (stack(arn=ARN.format(STACK).replace("123456789012", "999999999999")), "ignored"),
        (stack(arn=ARN.format(STACK).replace("us-east-1", "eu-west-1")), "ignored"),
        (without(stage(), "account"), "queued"),
    ],
)
def test_an_event_counts_for_the_account_and_region_of_the_stack(
    site: Site, payload: dict[str, Any], outcome: str
) -> None:
    site.put(record("feature/x").but(stack_arn=ARN.format(STACK), region="us-east-1"))
    answer = site.aws(payload)
    assert (answer.status_code, answer.json["outcome"]) == (202, outcome)
    if outcome == "ignored":
        assert "is not the stack of acme/api feature/x, which is in" in answer.json["reason"]


@pytest.mark.parametrize(("name", "value"), [("account", 1), ("region", None)])
def test_account_and_region_of_an_event_must_be_text(site: Site, name: str, value: Any) -> None:
    answer = site.aws({**stage(), name: value})
    assert (answer.status_code, name in answer.json["error"]) == (400, True)


@pytest.fixture
def known(site: Site) -> Site:
    """A site that has an environment for `feature/x`, with nothing left to do."""
    site.put(record("feature/x"))
    return site


@pytest.mark.parametrize(
    ("payload", "about"),
    [
        (stage(), "stage Build: SUCCEEDED"),
        (stage("STARTED"), "stage Build: STARTED"),
        (execution(), "execution: FAILED"),
        (stack(), "stack: CREATE_COMPLETE"),
        (stack("ROLLBACK_COMPLETE"), "stack: ROLLBACK_COMPLETE"),
        (stack(arn=ARN.format(STACK).replace("arn:aws:", "arn:aws-us-gov:")), "stack: CREATE_COMPLETE"),
    ],
)
def test_an_event_of_an_environment_is_queued(known: Site, payload: dict[str, Any], about: str) -> None:
    answer = known.aws(payload)
    assert (answer.status_code, answer.json) == (
        202,
        {"delivery": "e-1", "outcome": "queued", "reason": ""},
    )
    (work,) = known.waiting
    assert (work.environment, work.task, work.cause) == (
        "development:refs/heads/feature/x",
        Task.NOTIFY,
        Cause.EVENT,
    )
    found = known.lanes.delivery("e-1")
    assert found is not None
    assert (found.outcome, found.event) == ("queued", about)


def test_an_event_counts_once(known: Site) -> None:
    known.aws(stage())
    assert known.aws(stage()).json["outcome"] == "duplicate"
    assert len(known.waiting) == 1


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (stage(pipeline="somebody-elses"), "somebody-elses is no environment's"),
        (stack(arn=ARN.format("somebody-elses")), "somebody-elses is no environment's"),
        (
            event("aws.codepipeline", "CodePipeline Action Execution State Change", {"pipeline": STACK}),
            "repeats its stage's event",
        ),
        (
            event("aws.cloudformation", "CloudFormation Resource Status Change", {}),
            "is not an event of a pipeline",
        ),
        (event("aws.s3", "Object Created", {}), "aws.s3 Object Created is not an event"),
    ],
)
def test_any_other_event_is_ignored_with_a_reason(known: Site, payload: dict[str, Any], reason: str) -> None:
    answer = known.aws(payload)
    assert (answer.status_code, answer.json["outcome"]) == (202, "ignored")
    assert reason in answer.json["reason"]
    assert known.outcome("e-1") == "ignored"
    assert not known.waiting


@pytest.mark.parametrize("key", [None, "", "wrong", AWS_KEY + "x", AWS_KEY.upper(), "\u00fc"])
def test_a_missing_or_wrong_key_is_refused(
    known: Site, key: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    answer = known.aws(stage(), key=key)
    assert answer.status_code == 401
    assert "X-Deployer-Event-Key" in answer.json["error"]
    assert (known.waiting, known.outcome("e-1")) == ([], None)
    assert AWS_KEY not in caplog.text + answer.text


def test_without_a_key_in_the_settings_nothing_is_accepted() -> None:
    site = Site({"DEPLOYER_AWS_EVENT_KEY": ""})
    for key in (None, ""):
        answer = site.aws(stage(), key=key)
        assert (answer.status_code, "DEPLOYER_AWS_EVENT_KEY" in answer.json["error"]) == (401, True)
    assert site.untouched


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "not JSON"),
        (b'{"id":', "not JSON"),
        (b'{"id": "\xff"}', "not UTF-8"),
        ([stage()], "not a JSON object"),
        ({}, "field id is missing"),
        (stage() | {"id": "a b"}, "field id is malformed"),
        (stage() | {"id": 1}, "field id is not text"),
        (without(stage(), "source"), "field source is missing"),
        (without(stage(), "detail-type"), "field detail-type is missing"),
        (without(stage(), "detail"), "field detail is missing"),
        (stage() | {"detail": "text"}, "field detail is not an object"),
        (without(stage(), "detail", "pipeline"), "field pipeline is missing"),
        (without(stage(), "detail", "stage"), "field stage is missing"),
        (without(stage(), "detail", "state"), "field state is missing"),
        (without(execution(), "detail", "execution-id"), "field execution-id is missing"),
        (without(stack(), "detail", "stack-id"), "field stack-id is missing"),
        (without(stack(), "detail", "status-details"), "field status-details is missing"),
        (without(stack(), "detail", "status-details", "status"), "field status is missing"),
        (stack(arn=STACK), "not a stack's ARN"),
        (stage("S" * 1025), "field state is longer than 1,024 characters"),
        (stack("S" * 1025), "field status is longer than 1,024 characters"),
    ],
)
def test_a_malformed_event_is_refused(
    known: Site, payload: object, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = known.aws(payload)
    assert (answer.status_code, list(answer.json)) == (400, ["error"])
    assert reason in answer.json["error"]
    assert (known.waiting, known.outcome("e-1")) == ([], None)
    assert "Traceback" not in caplog.text


def test_another_content_type_is_refused(known: Site) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    assert known.aws(stage(), **headers).status_code == 415
    assert not known.waiting


def test_without_redis_nothing_is_marked_as_seen(known: Site) -> None:
    with known.redis_away():
        answer = known.aws(stage())
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
    assert known.outcome("e-1") is None
    assert known.aws(stage()).json["outcome"] == "queued"


def test_the_event_key_of_aws_opens_no_other_endpoint(site: Site) -> None:
    headers = {"X-Deployer-Event-Key": AWS_KEY, "X-Hub-Signature-256": None}
    assert site.deliver({}, headers=headers).status_code == 401
    assert site.api("GET", "/environments", token=AWS_KEY).status_code == 401


def test_an_event_is_taken_although_the_record_of_its_environment_is_damaged(known: Site) -> None:
    known.redis.hset("deployer:{acme/api}:environments", "development:refs/heads/feature/x", "no JSON")
    answer = known.aws(stage())
    assert (answer.status_code, answer.json["outcome"]) == (202, "queued"), (
        "else EventBridge repeats it for a day"
    )
