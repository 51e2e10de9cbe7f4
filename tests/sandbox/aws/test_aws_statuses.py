"""Every status of a stack: how a stack reaches it, what follows, which calls it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aws_harness import BUCKET, PARAMETER, Aws, Receiver, eventually, expect_error, given, statuses
from botocore.session import get_session

STATUSES = get_session().get_service_model("cloudformation").shape_for("StackStatus").enum
# The status that follows by itself; all other statuses stay.
FOLLOWING = {
    "CREATE_IN_PROGRESS": ["CREATE_COMPLETE"],
    "ROLLBACK_IN_PROGRESS": ["ROLLBACK_COMPLETE"],
    "DELETE_IN_PROGRESS": ["DELETE_COMPLETE"],
    "UPDATE_IN_PROGRESS": ["UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"],
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS": ["UPDATE_COMPLETE"],
    "UPDATE_ROLLBACK_IN_PROGRESS": [
        "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
        "UPDATE_ROLLBACK_COMPLETE",
    ],
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS": ["UPDATE_ROLLBACK_COMPLETE"],
    "IMPORT_IN_PROGRESS": ["IMPORT_COMPLETE"],
    "IMPORT_ROLLBACK_IN_PROGRESS": ["IMPORT_ROLLBACK_COMPLETE"],
}
UPDATABLE = {
    "CREATE_COMPLETE",
    "UPDATE_COMPLETE",
    "UPDATE_ROLLBACK_COMPLETE",
    "IMPORT_COMPLETE",
    "IMPORT_ROLLBACK_COMPLETE",
}
UNDELETABLE = {
    "UPDATE_IN_PROGRESS",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_ROLLBACK_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    "IMPORT_IN_PROGRESS",
    "IMPORT_ROLLBACK_IN_PROGRESS",
}
EVENT = "CloudFormation Stack Status Change"


def force_status(aws: Aws, stack: str, **order: Any) -> None:
    """Set the status of a stack."""
    status, answer = aws.request("POST", f"/_sandbox/stacks/{stack}", order)
    assert status == 200, answer


def outcome(call: Any, **parameters: Any) -> str:
    """Either "accepted", or the error message without the stack's ARN."""
    try:
        call(**parameters)
    except call.__self__.exceptions.ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        assert code == "ValidationError"
        return " ".join(word for word in message.split() if not word.startswith("Stack:arn:"))
    return "accepted"


def expected_update(status: str) -> str:
    if status in UPDATABLE:
        return "accepted"
    if status in ("CREATE_FAILED", "UPDATE_FAILED"):
        return (
            f"This stack is currently in a non-terminal [{status}] state. To update the stack from this state, please "
            "use the disable-rollback parameter with update-stack API. To rollback to the last known good state, use "
            "the rollback-stack API"
        )
    if status == "DELETE_COMPLETE":
        return "Stack [one] does not exist"
    return f"is in {status} state and can not be updated."


def expected_continue(status: str) -> str:
    if status == "UPDATE_ROLLBACK_FAILED":
        return "accepted"
    if status == "DELETE_COMPLETE":
        return "Stack [one] does not exist"
    return f"is in {status} state and can not continue an update rollback."


def expected_cancel(status: str) -> str:
    if status == "UPDATE_IN_PROGRESS":
        return "accepted"
    if status == "DELETE_COMPLETE":
        return "Stack [one] does not exist"
    return f"CancelUpdateStack cannot be called from current stack status {status}"


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_accepts_the_same_calls_as_in_cloudformation(aws: Aws, status: str) -> None:
    stack_id = aws.create("one", BUCKET)
    eventually(lambda: aws.status("one") == "CREATE_COMPLETE")
    force_status(aws, "one", status=status, seconds=600)
    assert aws.status(stack_id) == status
    two = BUCKET.replace("Site", "Other")

    calls = aws.cloudformation
    updated = outcome(calls.update_stack, StackName=stack_id, TemplateBody=two)
    assert updated == expected_update(status)
    if updated == "accepted":
        force_status(aws, "one", status=status, seconds=600)
    continued = outcome(calls.continue_update_rollback, StackName=stack_id)
    assert continued == expected_continue(status)
    if continued == "accepted":
        force_status(aws, "one", status=status, seconds=600)
    cancelled = outcome(calls.cancel_update_stack, StackName=stack_id)
    assert cancelled == expected_cancel(status)
    if cancelled == "accepted":
        assert aws.status(stack_id).startswith("UPDATE_ROLLBACK_")
        force_status(aws, "one", status=status, seconds=600)
    if status not in ("DELETE_FAILED", "DELETE_COMPLETE", "DELETE_IN_PROGRESS", *UNDELETABLE):
        retained = outcome(calls.delete_stack, StackName=stack_id, RetainResources=["Site"])
        assert "when the stack is in the DELETE_FAILED state" in retained
    deleted = outcome(calls.delete_stack, StackName=stack_id)
    if status in UNDELETABLE:
        assert deleted == f"is in {status} state and can not be deleted."
        assert aws.status(stack_id) == status
    else:
        assert deleted == "accepted"
        if status != "DELETE_IN_PROGRESS":
            eventually(lambda: aws.status(stack_id) == "DELETE_COMPLETE")


def test_a_forced_status_continues_as_in_the_service_and_sends_events(aws: Aws, receiver: Receiver) -> None:
    stacks = {f"s-{s.lower().replace('_', '-')}": s for s in STATUSES}
    ids = {name: aws.create(name, BUCKET) for name in stacks}
    eventually(lambda: all(aws.status(name) == "CREATE_COMPLETE" for name in stacks))

    for name, status in stacks.items():
        force_status(aws, name, status=status, reason="a person")

    for name, status in stacks.items():
        following = FOLLOWING.get(status, [])
        wanted = ["CREATE_IN_PROGRESS", "CREATE_COMPLETE", status, *following]
        eventually(lambda arn=ids[name], end=wanted[-1]: aws.status(arn) == end)
        assert statuses(aws, ids[name]) == wanted
        told = {"stack-id": ids[name]}
        eventually(
            lambda told=told, wanted=wanted: receiver.event_states(EVENT, **told)[: len(wanted)] == wanted
        )
    kept = {b["Name"] for b in aws.s3.list_buckets()["Buckets"]}
    assert len(kept) == len(STATUSES) - 3  # rolled back, deleting, deleted
    events = aws.cloudformation.describe_stack_events(StackName="s-update-failed")["StackEvents"]
    assert events[0]["ResourceStatusReason"] == "a person"


def test_invalid_requests_for_a_status_are_refused(aws: Aws) -> None:
    aws.create("one", BUCKET)
    for order in ({"status": "FINE"}, {"status": "CREATE_FAILED", "seconds": "1"}, {"state": "x"}, [1]):
        assert aws.request("POST", "/_sandbox/stacks/one", order)[0] == 400
    assert aws.request("POST", "/_sandbox/stacks/none", {"status": "CREATE_FAILED"})[0] == 404


def test_a_failure_with_rollback_disabled_can_be_updated_or_rolled_back(aws: Aws, receiver: Receiver) -> None:
    aws.create("one", PARAMETER)
    assert aws.wait_until_stable("one") == "CREATE_COMPLETE"
    update = {"StackName": "one", "TemplateBody": PARAMETER}
    aws.inject_faults(fail_resources=[{"resource": "Second", "on": "update", "count": 2}])

    for token in ("first", "again"):
        aws.cloudformation.update_stack(
            **update, Parameters=given(Value="two"), DisableRollback=True, ClientRequestToken=token
        )
        assert aws.wait_until_stable("one") == "UPDATE_FAILED"
    ssm = aws.client("ssm")
    assert ssm.get_parameter(Name="/first")["Parameter"]["Value"] == "two"
    aws.cloudformation.rollback_stack(StackName="one")
    assert aws.wait_until_stable("one") == "UPDATE_ROLLBACK_COMPLETE"
    assert ssm.get_parameter(Name="/first")["Parameter"]["Value"] == "one"
    with expect_error("ValidationError", "can not be rolled back"):
        aws.cloudformation.rollback_stack(StackName="one")
    assert "UPDATE_FAILED" in receiver.event_states(EVENT)

    aws.inject_faults(fail_resources=[{"resource": "Site", "on": "create", "count": 1}])
    aws.create("two", BUCKET, DisableRollback=True)
    assert aws.wait_until_stable("two") == "CREATE_FAILED"
    aws.cloudformation.update_stack(StackName="two", TemplateBody=BUCKET, DisableRollback=True)
    assert aws.wait_until_stable("two") == "UPDATE_COMPLETE"


@pytest.mark.parametrize(
    ("operation", "failing", "status"),
    [
        ("create", [("Second", "create", 0), ("First", "delete", 0)], "ROLLBACK_FAILED"),
        ("update", [("Second", "update", 0), ("First", "update", 1)], "UPDATE_ROLLBACK_FAILED"),
        ("delete", [("First", "delete", 0)], "DELETE_FAILED"),
    ],
)
def test_a_failed_repair_has_its_own_status(
    aws: Aws, operation: str, failing: list[tuple[str, str, int]], status: str
) -> None:
    if operation != "create":
        aws.create("one", PARAMETER)
        aws.wait_until_stable("one")
    aws.inject_faults(
        fail_resources=[{"resource": name, "on": verb, "skip": skip} for name, verb, skip in failing]
    )
    if operation == "create":
        aws.create("one", PARAMETER)
    elif operation == "update":
        two = given(Value="two")
        aws.cloudformation.update_stack(StackName="one", TemplateBody=PARAMETER, Parameters=two)
    else:
        aws.cloudformation.delete_stack(StackName="one")
    assert aws.wait_until_stable("one") == status


def test_a_change_set_creates_a_stack_under_review(aws: Aws, receiver: Receiver) -> None:
    calls = aws.cloudformation
    made = calls.create_change_set(
        StackName="one",
        ChangeSetName="first",
        ChangeSetType="CREATE",
        TemplateBody=BUCKET,
        Tags=[{"Key": "a", "Value": "b"}],
    )
    assert aws.status("one") == "REVIEW_IN_PROGRESS"
    with expect_error("AlreadyExistsException", "already exists"):
        aws.create("one", BUCKET)
    eventually(lambda: calls.describe_change_set(ChangeSetName=made["Id"])["Status"] == "CREATE_COMPLETE")
    change = calls.describe_change_set(StackName="one", ChangeSetName="first")
    assert change["ExecutionStatus"] == "AVAILABLE"
    assert change["Changes"][0]["ResourceChange"]["Action"] == "Add"
    calls.execute_change_set(StackName="one", ChangeSetName="first")
    assert aws.wait_until_stable("one") == "CREATE_COMPLETE"
    assert calls.describe_stacks(StackName="one")["Stacks"][0]["Tags"] == [{"Key": "a", "Value": "b"}]
    with expect_error("InvalidChangeSetStatus", "EXECUTE_COMPLETE"):
        calls.execute_change_set(StackName="one", ChangeSetName="first")
    assert receiver.event_states(EVENT)[0] == "REVIEW_IN_PROGRESS"
    with expect_error("ValidationError", "cannot be created again"):
        calls.create_change_set(
            StackName="one", ChangeSetName="x", ChangeSetType="CREATE", TemplateBody=BUCKET
        )

    calls.create_change_set(StackName="one", ChangeSetName="same", TemplateBody=BUCKET)
    eventually(lambda: calls.describe_change_set(StackName="one", ChangeSetName="same")["Status"] == "FAILED")
    with expect_error("InvalidChangeSetStatus", "UNAVAILABLE"):
        calls.execute_change_set(StackName="one", ChangeSetName="same")
    calls.delete_change_set(StackName="one", ChangeSetName="same")
    assert [c["ChangeSetName"] for c in calls.list_change_sets(StackName="one")["Summaries"]] == ["first"]
    with expect_error("ChangeSetNotFound", "same"):
        calls.describe_change_set(StackName="one", ChangeSetName="same")


def test_a_stack_under_review_can_be_deleted(aws: Aws) -> None:
    made = aws.cloudformation.create_change_set(
        StackName="one", ChangeSetName="first", ChangeSetType="CREATE", TemplateBody=BUCKET
    )
    aws.cloudformation.delete_change_set(StackName="one", ChangeSetName="first")
    assert aws.status("one") == "REVIEW_IN_PROGRESS"
    aws.cloudformation.delete_stack(StackName="one")
    eventually(lambda: aws.status(made["StackId"]) == "DELETE_COMPLETE")


@pytest.mark.parametrize(
    ("failing", "status"),
    [
        ([], "IMPORT_COMPLETE"),
        (["import"], "IMPORT_ROLLBACK_COMPLETE"),
        (["import", "import_rollback"], "IMPORT_ROLLBACK_FAILED"),
    ],
)
def test_resources_are_imported(aws: Aws, failing: list[str], status: str) -> None:
    for name in ("found", "also"):
        aws.s3.create_bucket(Bucket=name)
    aws.create("one", BUCKET)
    assert aws.wait_until_stable("one") == "CREATE_COMPLETE"
    declared = "{Type: AWS::S3::Bucket, DeletionPolicy: Delete}"
    aws.cloudformation.create_change_set(
        StackName="one",
        ChangeSetName="take",
        ChangeSetType="IMPORT",
        TemplateBody=f"{BUCKET}  Found: {declared}\n  Also: {declared}\n",
        ResourcesToImport=[
            {
                "ResourceType": "AWS::S3::Bucket",
                "LogicalResourceId": name,
                "ResourceIdentifier": {"BucketName": name.lower()},
            }
            for name in ("Found", "Also")
        ],
    )
    aws.inject_faults(fail_resources=[{"resource": "Also", "on": verb} for verb in failing])
    calls = aws.cloudformation
    eventually(
        lambda: (
            calls.describe_change_set(StackName="one", ChangeSetName="take")["ExecutionStatus"] == "AVAILABLE"
        )
    )

    calls.execute_change_set(StackName="one", ChangeSetName="take")

    assert aws.wait_until_stable("one") == status
    (stack,) = json.loads(aws.get("/_sandbox/state")[1])["stacks"]
    assert sorted(stack["resources"]) == (["Site"] if failing else ["Also", "Found", "Site"])
    aws.cloudformation.delete_stack(StackName="one")
    eventually(lambda: aws.status(stack["id"]) == "DELETE_COMPLETE")
    assert {b["Name"] for b in aws.s3.list_buckets()["Buckets"]} == ({"also", "found"} if failing else set())


NESTED = """\
Parameters: {Value: {Type: String, Default: one}}
Resources:
  Inner:
    Type: AWS::CloudFormation::Stack
    Properties:
      TemplateURL: https://templates.s3.amazonaws.com/inner.yml
      Parameters: {Value: !Ref Value}
Outputs:
  Said: {Value: !GetAtt Inner.Outputs.Said}
"""


def nested(aws: Aws, **more: Any) -> tuple[str, str]:
    """Create a stack with a nested stack; return the names of both after completion."""
    aws.s3.create_bucket(Bucket="templates")
    aws.s3.put_object(Bucket="templates", Key="inner.yml", Body=PARAMETER.encode())
    outer = aws.create("outer", NESTED, Tags=[{"Key": "a", "Value": "b"}], **more)
    aws.wait_until_stable("outer")
    (inner,) = [s for s in aws.cloudformation.describe_stacks()["Stacks"] if s.get("ParentId")]
    assert inner["ParentId"] == inner["RootId"] == outer
    assert inner["Tags"] == [{"Key": "a", "Value": "b"}]
    return "outer", inner["StackName"]


def test_a_nested_stack_is_updated_and_deleted_with_its_parent(aws: Aws) -> None:
    outer, inner = nested(aws)
    assert aws.status(inner) == aws.status(outer) == "CREATE_COMPLETE"
    aws.inject_faults(fail_resources=[{"stack": inner, "resource": "Second", "on": "update", "count": 1}])
    two = {"StackName": outer, "TemplateBody": NESTED, "Parameters": given(Value="two")}
    aws.cloudformation.update_stack(**two)
    assert aws.wait_until_stable(outer) == aws.status(inner) == "UPDATE_ROLLBACK_COMPLETE"
    aws.cloudformation.update_stack(**two)
    assert aws.wait_until_stable(outer) == aws.status(inner) == "UPDATE_COMPLETE"
    said = aws.cloudformation.describe_stacks(StackName=outer)["Stacks"][0]["Outputs"][0]["OutputValue"]
    assert said == "two/two"

    aws.inject_faults(fail_resources=[{"stack": inner, "resource": "First", "on": "delete", "count": 1}])
    aws.cloudformation.delete_stack(StackName=outer)
    assert aws.wait_until_stable(outer) == aws.status(inner) == "DELETE_FAILED"
    aws.cloudformation.delete_stack(StackName=outer)
    eventually(lambda: not aws.cloudformation.describe_stacks()["Stacks"])


def test_a_failed_nested_stack_rolls_back_with_its_parent(aws: Aws) -> None:
    aws.inject_faults(fail_resources=[{"resource": "Second", "on": "create", "reason": "no luck"}])
    aws.s3.create_bucket(Bucket="templates")
    aws.s3.put_object(Bucket="templates", Key="inner.yml", Body=PARAMETER.encode())
    aws.create("outer", NESTED)
    assert aws.wait_until_stable("outer") == "ROLLBACK_COMPLETE"
    events = aws.cloudformation.describe_stack_events(StackName="outer")["StackEvents"]
    (why,) = [e["ResourceStatusReason"] for e in events if e["ResourceStatus"] == "CREATE_FAILED"]
    assert "Second: no luck" in why
    assert len(aws.cloudformation.describe_stacks()["Stacks"]) == 1


def test_termination_protection_covers_nested_stacks(aws: Aws) -> None:
    outer, inner = nested(aws, EnableTerminationProtection=True)
    for name in (outer, inner):
        with expect_error("ValidationError", "TerminationProtection is enabled"):
            aws.cloudformation.delete_stack(StackName=name)
    assert aws.status(inner) == "CREATE_COMPLETE"
