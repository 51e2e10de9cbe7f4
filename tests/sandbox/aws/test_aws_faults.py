"""Injected faults of the simulated AWS."""

from __future__ import annotations

import json

import pytest
from aws_harness import BUCKET, Aws, Receiver, Repository, eventually
from botocore.exceptions import ClientError, ConnectionClosedError

STACK_EVENTS = "CloudFormation Stack Status Change"


def test_throttled_calls_have_the_error_of_their_service(aws: Aws) -> None:
    aws.inject_faults(throttle=[{"operation": "*", "count": 3}])
    for call, code in (
        (aws.cloudformation.describe_stacks, "Throttling"),
        (aws.codepipeline.list_pipelines, "ThrottlingException"),
        (aws.s3.list_buckets, "SlowDown"),
    ):
        with pytest.raises(ClientError, match="Rate exceeded") as refusal:
            call()
        assert refusal.value.response["Error"]["Code"] == code
    aws.cloudformation.describe_stacks()


def test_calls_above_the_rate_are_throttled(aws: Aws) -> None:
    aws.inject_faults(throttle=[{"service": "cloudformation", "rate": 0.01, "burst": 2}])
    aws.cloudformation.describe_stacks()
    aws.cloudformation.describe_stacks()
    with pytest.raises(ClientError, match="Rate exceeded"):
        aws.cloudformation.describe_stacks()
    aws.codepipeline.list_pipelines()


def test_the_call_takes_effect_only_if_the_error_comes_after_it(aws: Aws) -> None:
    aws.inject_faults(errors=[{"operation": "CreateStack", "mode": "before", "status": 503}])
    with pytest.raises(ClientError, match="ServiceUnavailable"):
        aws.create("one", BUCKET)
    assert aws.cloudformation.describe_stacks()["Stacks"] == []

    aws.inject_faults(operation="CreateStack", mode="after", error="InternalFailure", status=500)
    with pytest.raises(ClientError, match="InternalFailure"):
        aws.create("one", BUCKET, ClientRequestToken="t")
    assert aws.wait_until_stable("one") == "CREATE_COMPLETE"
    assert aws.create("one", BUCKET, ClientRequestToken="t")

    aws.inject_faults(errors={"operation": "DeleteStack", "mode": "after", "drop": True})
    with pytest.raises(ConnectionClosedError):
        aws.cloudformation.delete_stack(StackName="one")
    eventually(lambda: aws.cloudformation.describe_stacks()["Stacks"] == [])
    codes = [c["code"] for c in json.loads(aws.get("/_sandbox/calls?operation=CreateStack")[1])["calls"]]
    assert codes == ["ServiceUnavailable", "InternalFailure", "OK"]


def test_an_action_fails_by_an_injected_fault(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    aws.inject_faults(fail_actions={"Compile": "no luck"})
    aws.create_pipeline()
    assert aws.wait_until_ended()["status"] == "Failed"
    assert aws.action("Compile")["output"]["executionResult"]["errorDetails"]["message"] == "no luck"


def test_a_delete_fails_by_an_injected_fault(aws: Aws) -> None:
    stack_id = aws.create("one", BUCKET)
    aws.wait_until_stable("one")
    aws.inject_faults(
        fail_resources={"resource": "AWS::S3::Bucket", "on": "delete", "reason": "no luck", "count": 1}
    )
    aws.cloudformation.delete_stack(StackName="one")
    assert aws.wait_until_stable("one") == "DELETE_FAILED"
    aws.cloudformation.delete_stack(StackName="one")
    eventually(lambda: aws.status(stack_id) == "DELETE_COMPLETE")


def test_events_are_lost_duplicated_and_repeated_until_accepted(aws: Aws, receiver: Receiver) -> None:
    aws.inject_faults(events={"lose": 1.0})
    aws.create("one", BUCKET)
    aws.wait_until_stable("one")
    aws.inject_faults(events={"lose": 0.0, "duplicate": 1.0})
    receiver.refuse = 2
    aws.create("two", BUCKET)
    aws.wait_until_stable("two")
    eventually(lambda: len(receiver.events) == 4)
    assert sorted(receiver.event_states(STACK_EVENTS)) == ["CREATE_COMPLETE"] * 2 + ["CREATE_IN_PROGRESS"] * 2
    assert len({e["id"] for e in receiver.events}) == 2
    assert all("/two/" in e["resources"][0] for e in receiver.events)


def test_faults_are_shown_checked_and_cleared(aws: Aws) -> None:
    aws.inject_faults(slow=[{"operation": "ListStacks", "seconds": 0.05}], seed=7)
    shown = json.loads(aws.get("/_sandbox/faults")[1])
    assert shown["slow"] == [{"operation": "ListStacks", "seconds": 0.05}]
    assert shown["seed"] == 7
    aws.cloudformation.list_stacks()
    (call,) = json.loads(aws.get("/_sandbox/calls?operation=ListStacks")[1])["calls"]
    assert call["seconds"] >= 0.05
    assert call["seq"] > 0
    for wrong in ({"thunder": 1}, {"errors": [{"mode": "never"}]}, {"throttle": [{"rate": 0}]}, [1]):
        assert aws.request("POST", "/_sandbox/faults", wrong)[0] == 400
    aws.request("DELETE", "/_sandbox/faults")
    assert json.loads(aws.get("/_sandbox/faults")[1])["slow"] == []
    assert aws.get("/_sandbox/nothing")[0] == 404
    assert aws.get("/_sandbox/logs/none")[0] == 404


def test_null_removes_the_rules_of_a_kind(aws: Aws) -> None:
    none = json.loads(aws.get("/_sandbox/faults")[1])
    orders = {
        "slow": [{"seconds": 0}],
        "errors": [{"operation": "CreateStack"}],
        "events": {"lose": 1},
        "rates": {"s3": {"*": 1000}},
        "seed": 7,
    }
    for nothing in (None, []):
        aws.inject_faults(**orders)
        aws.inject_faults(errors=nothing)
        shown = json.loads(aws.get("/_sandbox/faults")[1])
        assert shown["errors"] == []
        assert shown["slow"] == orders["slow"]
        aws.inject_faults(**dict.fromkeys(orders, nothing))
        assert json.loads(aws.get("/_sandbox/faults")[1]) == none
    assert aws.request("POST", "/_sandbox/faults", {"thunder": None})[0] == 400


def test_calls_are_recorded_and_state_is_shown(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    aws.create_pipeline()
    execution = aws.wait_until_ended()
    aws.codepipeline.start_pipeline_execution(name="pipe", clientRequestToken="my-token")
    (call,) = json.loads(aws.get("/_sandbox/calls?operation=StartPipelineExecution")[1])["calls"]
    assert (call["service"], call["name"], call["token"]) == ("codepipeline", "pipe", "my-token")
    state = json.loads(aws.get("/_sandbox/state")[1])
    assert [s["name"] for s in state["stacks"]] == ["pipe", "pipe-app"]
    (pipeline,) = state["pipelines"]
    assert pipeline["executions"][0]["sha"] == execution["artifactRevisions"][0]["revisionId"]
    assert [e["trigger"] for e in pipeline["executions"]] == ["CreatePipeline", "StartPipelineExecution"]
    later = json.loads(aws.get(f"/_sandbox/calls?since={call['seq']}")[1])["calls"]
    assert all(each["seq"] > call["seq"] for each in later)
    aws.cloudformation.delete_stack(StackName="pipe")
    eventually(lambda: "pipe" not in [s["name"] for s in json.loads(aws.get("/_sandbox/state")[1])["stacks"]])
    history = json.loads(aws.get("/_sandbox/executions")[1])["executions"]
    assert [(e["pipeline"], e["id"]) for e in history] == [("pipe", e["id"]) for e in pipeline["executions"]]


def test_s3_calls_are_logged_with_their_operation(aws: Aws) -> None:
    aws.s3.create_bucket(Bucket="files")
    aws.s3.put_object(Bucket="files", Key="a/b.html", Body=b"text")
    aws.inject_faults(
        errors=[{"service": "s3", "operation": "DeleteObjects", "error": "AccessDenied", "status": 403}]
    )
    with pytest.raises(ClientError, match="AccessDenied"):
        aws.s3.delete_objects(Bucket="files", Delete={"Objects": [{"Key": "a/b.html"}]})
    aws.s3.list_object_versions(Bucket="files")
    calls = json.loads(aws.get("/_sandbox/calls?service=s3")[1])["calls"]
    assert [(c["operation"], c["name"]) for c in calls] == [
        (operation, "files")
        for operation in ("CreateBucket", "PutObject", "DeleteObjects", "ListObjectVersions")
    ]
    assert aws.request("HEAD", "/files/a/b.html") == (200, "")
    assert aws.get("/files/a/b.html") == (200, "text")
    assert aws.get("/files/none.html")[0] == 404
