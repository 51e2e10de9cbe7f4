"""What concerns the AWS adapter alone: faults of the far end, secrets, what calls it makes."""

import http.server
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from cloud_kit import HERE, TEMPLATE, SandboxKit, cloud, clouds, created, named, release, settled, small

from deployer.aws import buckets as aws_buckets
from deployer.aws import stack_failure, storage
from deployer.aws.clients import own_region
from deployer.aws.cloudformation import INLINE_LIMIT
from deployer.aws.execution_answers import commit_of_revisions, execution_from_summary, execution_with_stages
from deployer.model.environment_status import StageState
from deployer.model.environments import Kind
from deployer.model.errors import PermanentError, TransientError
from deployer.templates.release import Release


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return named(request.node.originalname)


# --- faults -----------------------------------------------------------------------------------------------------


def test_making_it_asks_nothing_and_needs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boto3.session, "Session", None)

    clouds("http://127.0.0.1:9").at(Kind.STAGING)


def test_throttling_is_waited_out(aws: SandboxKit) -> None:
    aws.simulator.faults.add({"throttle": {"operation": "DescribeStacks", "count": 2}})

    with aws.calls() as calls:
        assert cloud(aws.url).stack("nothing") is None  # its own, since botocore makes it slow from now on
    assert calls == ["DescribeStacks"] * 3


@pytest.mark.parametrize("code", ["RequestTimeoutException", "RequestAbortedException"])
def test_a_request_that_aws_did_not_carry_out_is_made_again(aws: SandboxKit, code: str) -> None:
    aws.simulator.faults.add({"errors": {"operation": "DescribeStacks", "error": code, "status": 400}})

    with aws.calls() as calls:
        assert aws.cloud.stack("nothing") is None
    assert calls == ["DescribeStacks"] * 2


def test_throttling_without_end_is_a_passing_fault(aws: SandboxKit) -> None:
    aws.simulator.faults.add({"throttle": {"operation": "DescribeStacks", "count": 99}})

    with aws.calls() as calls, pytest.raises(TransientError, match=r"^reading stack nothing: .*Throttling: "):
        cloud(aws.url).stack("nothing")
    assert len(calls) == 4


@pytest.mark.parametrize("drop", [True, False])
def test_orders_whose_answer_was_lost_are_not_given_twice(aws: SandboxKit, name: str, drop: bool) -> None:
    name = f"{name}-{drop}".lower()
    lost = {"mode": "after", **({"drop": True} if drop else {"status": 503})}
    sha = aws.commit()

    aws.simulator.faults.add({"errors": {"operation": "CreateStack", **lost}})
    arn = created(aws, name, sha)
    newer = release(name, aws.commit(), note="two")
    aws.simulator.faults.add({"errors": {"operation": "UpdateStack", **lost}})
    assert aws.cloud.update_stack(name, newer, f"update-{name}")
    assert settled(aws, name) == "UPDATE_COMPLETE"
    aws.simulator.faults.add({"errors": {"operation": "StartPipelineExecution", **lost}})
    aws.cloud.start(name, sha, f"start-{name}", HERE)
    assert len(aws.cloud.executions(name)) == 2
    aws.simulator.faults.add({"errors": {"operation": "DeleteStack", **lost}})
    aws.cloud.delete_stack(arn, f"delete-{name}")
    assert settled(aws, arn) == "DELETE_COMPLETE"


def test_an_update_finds_itself_at_work(aws: SandboxKit, name: str) -> None:
    created(aws, name, aws.commit())
    newer = release(name, aws.commit(), note="two")
    with aws.slowly():
        aws.cloud.update_stack(name, newer, f"update-{name}")
        # as where AWS has forgotten the token, and only tells that it is busy
        busy = {
            "operation": "UpdateStack",
            "message": f"Stack:{name} is in UPDATE_IN_PROGRESS state and can not",
        }
        aws.simulator.faults.add({"errors": {**busy, "error": "ValidationError"}})

        assert aws.cloud.update_stack(name, newer, f"update-{name}")


@pytest.mark.parametrize(
    ("code", "expected", "text"),
    [
        ("ValidationError", PermanentError, "ValidationError: You may not"),
        ("AccessDenied", TransientError, r"deployer's role lacks a permission \(AccessDenied: You may not"),
        ("AccessDeniedException", TransientError, "deployer's role lacks a permission"),
        ("UnauthorizedOperation", TransientError, "deployer's role lacks a permission"),
        ("LimitExceededException", TransientError, "a quota of the AWS account is used up"),
        ("ServiceQuotaExceededException", TransientError, "a quota of the AWS account is used up"),
        ("InsufficientCapabilitiesException", PermanentError, "InsufficientCapabilities"),
        ("ExpiredToken", TransientError, "credentials"),
        ("InvalidClientTokenId", TransientError, "credentials"),
        ("RequestTimeTooSkewed", TransientError, "credentials"),
        ("OperationInProgressException", TransientError, "in progress"),
    ],
)
def test_errors_are_told_apart_by_what_helps(
    aws: SandboxKit, code: str, expected: type[Exception], text: str
) -> None:
    fault = {"operation": "CreateStack", "error": code, "message": "You may not,\nsays AWS"}
    aws.simulator.faults.add({"errors": fault})

    with aws.calls() as calls, pytest.raises(expected, match=text) as raised:
        aws.cloud.create_stack("refused", small(), "token-of-refused")
    assert calls == ["CreateStack"]
    assert "\n" not in str(raised.value)


def test_an_aws_that_is_away_is_a_passing_fault() -> None:
    with pytest.raises(TransientError, match="cannot be reached"):
        cloud("http://127.0.0.1:9").stop("pipe", "1", "")


@contextmanager
def answering(status: int, body: bytes) -> Iterator[str]:
    """A server between deployer and AWS that answers everything by itself."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (403, b"<html><body><h1>Forbidden by the proxy</h1></body></html>"),
        (404, b"<!DOCTYPE html><html><body>No<br>such page"),
        (407, b""),
        (200, b"<html><body><h1>Sign in</h1></body></html>"),
        (200, b'{"pipelineExecutionSummaries": [{"pipeli'),
        (200, b""),
    ],
)
@pytest.mark.parametrize("ask", ["stack", "executions", "deployed_stacks"])
def test_an_answer_that_is_not_of_aws_is_a_passing_fault(
    status: int, body: bytes, ask: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deployer.aws.clients._backoff", lambda _: 0)

    with (
        answering(status, body) as url,
        pytest.raises(TransientError, match=r"cannot be reached|response is invalid"),
    ):
        getattr(cloud(url), ask)("hello")


def test_missing_credentials_are_not_the_users_fault(
    aws: SandboxKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(variable)
    for variable in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(variable, os.devnull)

    with pytest.raises(TransientError, match="no usable AWS credentials"):
        cloud(aws.url).stack("x")


def test_a_template_that_aws_refuses_is_the_users_fault(aws: SandboxKit) -> None:
    with pytest.raises(PermanentError, match=r"^creating stack odd: ValidationError: "):
        aws.cloud.create_stack("odd", small(Odd={"Type": "AWS::No::Such"}), "token-of-odd")
    with pytest.raises(PermanentError, match=r"not\.a\.name"):
        aws.cloud.create_stack("not.a.name", small(), "token-of-no-name")


@pytest.mark.parametrize("bucket", ["no-such-bucket", "Not A Bucket"])
def test_an_artifact_bucket_that_is_not_there_is_not_the_users_fault(aws: SandboxKit, bucket: str) -> None:
    elsewhere = cloud(aws.url, artifact_bucket=bucket)
    large = Release("#" * (INLINE_LIMIT + 1), {}, needs_token=False)

    with pytest.raises(TransientError, match=rf"^writing to bucket {bucket}: "):
        elsewhere.check_artifact_bucket()
    aws.cloud.check_artifact_bucket()
    with pytest.raises(TransientError, match=rf"^storing the template of stack x in bucket {bucket}: "):
        elsewhere.create_stack("x", large, "token-of-x")


@pytest.mark.parametrize("reason", ["Access Denied", "The specified key does not exist."])
def test_a_template_that_cannot_be_fetched_from_there_is_not_the_users_fault(
    aws: SandboxKit, reason: str
) -> None:
    refusal = {"operation": "UpdateStack", "error": "ValidationError", "message": f"S3 error: {reason}"}
    aws.simulator.faults.add({"errors": refusal})

    with pytest.raises(TransientError, match="check deployer's artifact bucket"):
        aws.cloud.update_stack("x", small(), "token-of-x")


def test_only_a_stack_that_does_not_exist_is_missing(aws: SandboxKit, name: str) -> None:
    message = "Template error: parameter x of stack y does not exist"
    for operation in ("DescribeStacks", "UpdateStack"):
        refusal = {"operation": operation, "error": "ValidationError", "message": message}
        aws.simulator.faults.add({"errors": refusal})

    with pytest.raises(PermanentError, match=message):
        aws.cloud.stack(name)
    with pytest.raises(PermanentError, match=message):
        aws.cloud.update_stack(name, small(), "token")


# --- requests ---------------------------------------------------------------------------------------------------


def test_a_large_template_goes_by_the_artifact_bucket(aws: SandboxKit, name: str) -> None:
    large = {**TEMPLATE, "Metadata": {"Padding": "ü" * (INLINE_LIMIT // 2)}}
    parameters = {"PipelineName": name, "Note": "one"}
    text = json.dumps(large, ensure_ascii=False)
    assert len(text) < INLINE_LIMIT < len(text.encode())
    aws.commit()

    with aws.calls() as calls:
        aws.cloud.create_stack(name, Release(text, parameters, needs_token=False), f"create-{name}")

    assert calls == ["PutObject", "CreateStack"]
    assert settled(aws, name) == "CREATE_COMPLETE"


def test_the_repositorys_token_goes_to_cloudformation_alone(
    aws: SandboxKit, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    asked = list[str]()

    def token_of(full_name: str) -> str:
        asked.append(full_name)
        return "ghp_verysecret"

    knowing = cloud(aws.url, gives_token=True, options={"repository_token": token_of})
    template = {
        "Parameters": {
            **{key: {"Type": "String"} for key in ("RepoOwner", "RepoName")},
            "RepoToken": {"Type": "String", "NoEcho": True},
        },
        "Resources": {
            "Seen": {
                "Type": "AWS::SSM::Parameter",
                "Properties": {"Type": "String", "Value": {"Ref": "RepoToken"}},
            }
        },
    }
    parameters = {"RepoOwner": "Acme", "RepoName": "Shop"}

    knowing.create_stack(name, Release(json.dumps(template), parameters, needs_token=True), f"create-{name}")
    refusal = {
        "operation": "UpdateStack",
        "error": "ValidationError",
        "message": "Value 'ghp_verysecret' is odd",
    }
    aws.simulator.faults.add({"errors": refusal})
    with pytest.raises(PermanentError, match=r"Value '\*\*\*\*' is odd") as raised:
        knowing.update_stack(
            name, Release(json.dumps(template), parameters, needs_token=True), f"update-{name}"
        )

    assert settled(aws, name) == "CREATE_COMPLETE"
    assert asked == ["Acme/Shop"] * 2
    assert "verysecret" not in caplog.text
    assert raised.value.__cause__ is None
    ssm = boto3.client("ssm", region_name="us-east-1", endpoint_url=aws.url)
    values = [p["Value"] for p in ssm.get_parameters_by_path(Path="/", Recursive=True)["Parameters"]]
    names = [p["Name"] for p in ssm.describe_parameters()["Parameters"]]
    values += [ssm.get_parameter(Name=n)["Parameter"]["Value"] for n in names]
    assert "ghp_verysecret" in values


def test_what_the_operations_cost(aws: SandboxKit, name: str) -> None:
    asked, sha = aws.cloud, aws.commit()
    arn = created(aws, name, sha)
    newer = release(name, sha, note="two")
    (automatic,) = asked.executions(name)
    assert asked.execution(name, automatic.id) == asked.execution(name, automatic.id)
    costs: dict[str, tuple[Callable[[], object], list[str]]] = {
        "stack": (lambda: asked.stack(name), ["DescribeStacks"]),
        "executions": (lambda: asked.executions(name), ["ListPipelineExecutions"]),
        "execution just listed": (
            lambda: asked.execution(name, asked.executions(name)[0].id),
            ["ListPipelineExecutions", "ListActionExecutions"],
        ),
        "execution": (
            lambda: asked.execution(name, automatic.id),
            ["GetPipelineExecution", "ListActionExecutions"],
        ),
        "stage names": (lambda: asked.stage_names(name), ["GetPipeline"]),
        "deployed": (lambda: asked.deployed_stacks(name), ["GetPipeline"]),
        "stage names just after": (lambda: asked.stage_names(name), []),
        "start just after": (lambda: asked.start(name, sha, f"s-{name}", HERE), ["StartPipelineExecution"]),
        "start": (
            lambda: asked.start(name, sha, f"s-{name}", HERE),
            ["GetPipeline", "StartPipelineExecution"],
        ),
        "its commit is not read yet": (lambda: asked.executions(name), ["ListPipelineExecutions"]),
        "principal": (asked.principal, ["GetCallerIdentity"]),
        "principal again": (asked.principal, []),
        "url": (lambda: asked.execution_url(name, "1"), []),
        "update": (lambda: asked.update_stack(name, newer, f"u-{name}"), ["UpdateStack"]),
        "failure": (lambda: asked.failure(arn), ["DescribeStackEvents"]),
        "resources": (lambda: asked.resources(arn), ["ListStackResources"]),
        "protect": (lambda: asked.protect(arn, on=False), ["UpdateTerminationProtection"]),
    }
    for operation, (ask, expected) in costs.items():
        with aws.calls() as calls:
            ask()
        assert calls == expected, operation


@pytest.mark.parametrize("code", ["PipelineExecutionNotFoundException", "PipelineNotFoundException"])
def test_an_execution_whose_actions_are_not_known_is_none(aws: SandboxKit, name: str, code: str) -> None:
    name = f"{name}-{code}".lower()[:60]
    created(aws, name, aws.commit())
    (automatic,) = aws.cloud.executions(name)
    aws.simulator.faults.add({"errors": {"operation": "ListActionExecutions", "error": code}})

    assert aws.cloud.execution(name, automatic.id) is None


def test_what_was_listed_before_a_stop_is_not_believed_after_it(aws: SandboxKit, name: str) -> None:
    created(aws, name, aws.commit())
    with aws.slowly():
        started = aws.cloud.start(name, aws.commit(), f"start-{name}", HERE)
        assert aws.cloud.executions(name)[0].id == started
        aws.cloud.stop(name, started, "a newer commit came")

        found = aws.cloud.execution(name, started)
    assert found is not None
    assert found.status == "stopped"


def test_stacks_are_listed_beyond_the_first_page(aws: SandboxKit, name: str) -> None:
    names = {f"{name}-{number}" for number in range(101)}
    for one in names:
        aws.cloud.create_stack(one, small(), f"create-{one}")

    with aws.calls() as calls:
        assert names <= {stack.name for stack in aws.cloud.stacks()}
    assert len(calls) >= 2


def test_every_process_has_clients_of_its_own(aws: SandboxKit, monkeypatch: pytest.MonkeyPatch) -> None:
    clients = cloud(aws.url)._aws
    here = clients.cloudformation
    assert clients.cloudformation is here

    monkeypatch.setattr(os, "getpid", lambda: -1)

    assert clients.cloudformation is not here


# --- buckets ----------------------------------------------------------------------------------------------------


def test_a_bucket_is_emptied_of_everything(
    aws: SandboxKit, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aws_buckets, "_BATCH_SIZE", 2)
    arn = aws.cloud.create_stack(name, small(Files={"Type": "AWS::S3::Bucket"}), f"create-{name}")
    assert settled(aws, name) == "CREATE_COMPLETE"
    (bucket,) = (b["Name"] for b in aws.s3.list_buckets()["Buckets"] if b["Name"].startswith(name[:20]))
    for number in range(5):
        aws.s3.put_object(Bucket=bucket, Key=f"folder/{number}", Body=b"x")
    aws.s3.create_multipart_upload(Bucket=bucket, Key="never finished")

    assert aws.cloud.empty_storage(arn)

    assert "Contents" not in aws.s3.list_objects_v2(Bucket=bucket)
    assert "Uploads" not in aws.s3.list_multipart_uploads(Bucket=bucket)
    aws.s3.delete_bucket(Bucket=bucket)
    assert aws.cloud.empty_storage(arn)


@pytest.mark.parametrize("policy", ["Retain", "RetainExceptOnCreate"])
def test_a_bucket_that_is_to_be_kept_keeps_its_data(aws: SandboxKit, name: str, policy: str) -> None:
    name = f"{policy[6:]}x-{name}".lower().strip("-")[:60]
    kept = {"Type": "AWS::S3::Bucket", "DeletionPolicy": policy}
    arn = aws.cloud.create_stack(name, small(Files=kept), f"create-{name}")
    assert settled(aws, name) == "CREATE_COMPLETE"
    (bucket,) = (b["Name"] for b in aws.s3.list_buckets()["Buckets"] if b["Name"].startswith(name[:20]))
    aws.s3.put_object(Bucket=bucket, Key="precious", Body=b"x")

    assert aws.cloud.empty_storage(arn)
    assert aws.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


@pytest.mark.parametrize(
    ("template", "kept"),
    [
        ("Resources:\n  A: {Type: X, DeletionPolicy: Retain}\n  B: {Type: X, Name: !Sub 'x-${A}'}", {"A"}),
        (
            "Resources:\n  A:\n    DeletionPolicy: !If [Big, Retain, Delete]\n  B: {DeletionPolicy: Delete}",
            {"A"},
        ),
        ('{"Resources": {\t"A": {"DeletionPolicy": "Snapshot"}, "B": {}}}', {"A"}),
        ({"Resources": {"A": {"DeletionPolicy": "Retain"}, "B": {}}}, {"A"}),
        ("Resources: [", None),
        ("no template", None),
    ],
)
def test_what_a_template_keeps(template: Any, kept: set[str] | None) -> None:
    assert storage.retained_resources(template) == kept


# --- events and actions ------------------------------------------------------------------------------------------

ARN = "arn:aws:cloudformation:us-east-1:1:stack/s/1"


def event(resource: str, status: str, reason: str = "", token: str | None = "t") -> dict[str, Any]:
    own = resource == "s"
    return {
        "StackId": ARN,
        "StackName": "s",
        "LogicalResourceId": resource,
        "PhysicalResourceId": ARN if own else "",
        "ResourceType": "AWS::CloudFormation::Stack" if own else f"AWS::Test::{resource}",
        "ResourceStatus": status,
        "ResourceStatusReason": reason,
        **({"ClientRequestToken": token} if token else {}),
    }


@pytest.mark.parametrize(
    ("newest_last", "cause"),
    [
        ([event("s", "CREATE_IN_PROGRESS", "User Initiated"), event("s", "CREATE_COMPLETE")], ""),
        (
            [
                event("s", "UPDATE_IN_PROGRESS", "User Initiated", "old"),
                event("A", "UPDATE_FAILED", "of long ago", "old"),
                event("s", "UPDATE_IN_PROGRESS", "User Initiated"),
                event("B", "UPDATE_FAILED", "No such\n role"),
                event("C", "UPDATE_FAILED", "Resource update cancelled"),
                event("D", "UPDATE_FAILED", "a later one"),
                event(
                    "s", "UPDATE_ROLLBACK_IN_PROGRESS", "The following resource(s) failed to update: [B, D]."
                ),
                event("s", "UPDATE_ROLLBACK_COMPLETE"),
            ],
            "B (AWS::Test::B): No such role",
        ),
        (
            [
                event("A", "UPDATE_FAILED", "without a token, and of long ago", None),
                event("s", "UPDATE_IN_PROGRESS", "User Initiated", None),
                event("B", "UPDATE_FAILED", "", None),
                event("s", "UPDATE_ROLLBACK_COMPLETE", "", None),
            ],
            "B (AWS::Test::B): UPDATE_FAILED",
        ),
        (
            [
                event("s", "DELETE_IN_PROGRESS", "User Initiated"),
                event("s", "DELETE_FAILED", "Role arn:x is invalid or cannot be assumed"),
            ],
            "s: Role arn:x is invalid or cannot be assumed",
        ),
    ],
)
def test_the_cause_is_the_first_failure_of_the_last_operation(newest_last: list[Any], cause: str) -> None:
    assert str(stack_failure.first_failure(reversed(newest_last)) or "") == cause


def action(stage: str, name: str, status: str, minute: int, **result: Any) -> dict[str, Any]:
    return {
        "stageName": stage,
        "actionName": name,
        "status": status,
        "startTime": datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute),
        "output": {"executionResult": result},
    }


def whole(status: str, *actions: dict[str, Any]) -> list[StageState]:
    declared = [{"name": "Build", "actions": [{"name": "Lint"}, {"name": "Compile"}]}]
    found = {"pipelineExecutionId": "1", "status": status}
    execution = execution_with_stages(found, reversed(actions), lambda: {"stages": declared})
    return list(execution.stages)


def test_the_newest_attempt_of_an_action_counts() -> None:
    failed = {"errorDetails": {"message": "Build\n broke"}, "externalExecutionUrl": "https://logs.example/1"}
    first = [action("Build", "Lint", "Succeeded", 1), action("Build", "Compile", "Failed", 2, **failed)]

    assert whole("Failed", *first) == [StageState("Build", "failed", "Build broke", "https://logs.example/1")]
    again = action("Build", "Compile", "InProgress", 3)
    assert whole("InProgress", *first, again) == [StageState("Build", "running")]
    again = action("Build", "Compile", "Succeeded", 3)
    assert whole("Succeeded", *first, again) == [StageState("Build", "succeeded")]


def test_a_stage_between_two_actions_still_runs() -> None:
    first, second = action("Build", "Lint", "Succeeded", 1), action("Build", "Compile", "Succeeded", 2)

    assert whole("InProgress", first) == [StageState("Build", "running")]
    assert whole("InProgress", first, second) == [StageState("Build", "succeeded")]
    assert whole("Stopped", first, action("Build", "Compile", "Abandoned", 2)) == [
        StageState("Build", "stopped")
    ]


def test_a_reason_says_all_that_aws_says_once() -> None:
    told = {
        "externalExecutionSummary": "Build 7",
        "errorDetails": {"code": "JobFailed", "message": "It broke"},
    }
    (stage,) = whole("Failed", action("Build", "Lint", "Failed", 1, **told))
    assert stage.reason == "It broke (Build 7)"
    (stage,) = whole("Failed", action("Build", "Lint", "Failed", 1, externalExecutionSummary="It broke"))
    assert stage.reason == "It broke"


OURS, OTHERS = "a" * 40, "b" * 40


def source(
    name: str, artifact: str, repository: str = "acme/shop", provider: str = "CodeStarSourceConnection"
) -> dict[str, Any]:
    kind = {"category": "Source", "provider": provider}
    settings = {"FullRepositoryId": repository, "BranchName": "main", "DetectChanges": "false"}
    named = {"outputArtifacts": [{"name": artifact}]} if artifact else {}
    return {"name": name, "actionTypeId": kind, "configuration": settings, **named}


APP, CONFIG = source("App", "Code"), source("Config", "Settings", "acme/config")


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        ([APP, CONFIG], OURS),
        ([CONFIG, APP], OURS),
        ([source("Image", "Settings", provider="ECR"), APP, CONFIG], OURS),
        ([source("App", "Code", "Acme/SHOP"), CONFIG], OURS),
        ([CONFIG, source("Renamed", "Since")], ""),
        (None, ""),
    ],
)
def test_of_several_sources_the_one_counts_that_reads_the_repository(
    sources: list[Any] | None, expected: str
) -> None:
    definition = {"stages": [{"name": "Source", "actions": sources}]} if sources else None
    found = {"pipelineExecutionId": "1", "status": "Succeeded"}
    by_action = [{"actionName": "Config", "revisionId": OTHERS}, {"actionName": "App", "revisionId": OURS}]
    by_artifact = [{"name": "Settings", "revisionId": OTHERS}, {"name": "Code", "revisionId": OURS}]

    listed = execution_from_summary(
        {**found, "sourceRevisions": by_action}, lambda: definition, HERE.repository
    )
    whole = execution_with_stages(
        {**found, "artifactRevisions": by_artifact}, [], lambda: definition, HERE.repository
    )

    assert (listed.sha, whole.sha) == (expected, expected)


def test_a_commit_of_another_source_alone_is_not_the_commit_of_the_execution() -> None:
    definition = {"stages": [{"name": "Source", "actions": [CONFIG, APP]}]}
    first = [{"actionName": "Config", "revisionId": OTHERS}]  # App has not reported its commit yet

    assert commit_of_revisions(first, lambda: definition, HERE.repository) == ""


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/shop/commit/1",
        "https://github.com/Acme/Shop",
        "https://console.aws.amazon.com/connections/redirect?referenceType=COMMIT&FullRepositoryId=acme%2Fshop&Commit=1",
    ],
)
def test_a_commit_whose_address_names_the_repository_needs_no_definition(url: str) -> None:
    revisions = [
        {"actionName": "Image", "revisionId": "sha256:1"},
        {
            "actionName": "Config",
            "revisionId": OTHERS,
            "revisionUrl": "https://github.com/acme/shop-config/x",
        },
        {"actionName": "App", "revisionId": OURS, "revisionUrl": url},
    ]

    assert commit_of_revisions(revisions, lambda: pytest.fail("it was asked"), HERE.repository) == OURS
    assert commit_of_revisions([], lambda: pytest.fail("it was asked"), HERE.repository) == ""


def test_without_a_repository_only_a_single_commit_is_known() -> None:
    revisions = [{"actionName": "App", "revisionId": OURS}, {"actionName": "Config", "revisionId": OTHERS}]

    assert commit_of_revisions(revisions[:1], lambda: pytest.fail("it was asked")) == OURS
    assert commit_of_revisions(revisions, lambda: pytest.fail("it was asked")) == ""


def test_a_profile_that_is_not_there_is_no_unexpected_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(TransientError, match=r"no usable AWS credentials \(The config profile \(nobody\)"):
        own_region()


def test_whether_a_region_is_there_is_asked_once(aws: SandboxKit) -> None:
    aws.cloud.check_reachable(5)
    aws.simulator.faults.add({"errors": {"operation": "DescribeAccountLimits", "status": 503, "count": 1}})
    with pytest.raises(TransientError, match=r"^reaching us-east-1: AWS returned HTTP 503$"):
        aws.cloud.check_reachable(5)
    aws.cloud.check_reachable(5)


def test_the_outputs_of_a_stack_are_read_with_it_and_not_with_a_listing(aws: SandboxKit) -> None:
    name = named("outputs")
    template = {
        "Resources": {"Kept": {"Type": "AWS::CloudFormation::WaitConditionHandle"}},
        "Outputs": {"Url": {"Value": "https://x.example.com"}, "Stack": {"Value": {"Ref": "AWS::StackName"}}},
    }
    aws.cloud.create_stack(name, replace(small(), template=json.dumps(template)), f"create-{name}")
    assert settled(aws, name) == "CREATE_COMPLETE"
    found = aws.cloud.stack(name)
    assert found is not None
    assert found.outputs == {"Url": "https://x.example.com", "Stack": name}
    assert [each.outputs for each in aws.cloud.stacks() if each.name == name] == [{}]
