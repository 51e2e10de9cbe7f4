"""What the AWS adapter makes of answers that lack a member, are not AWS's, or hold a word that this version lacks."""

import copy
import http.server
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from cloud_kit import HERE, cloud, clouds

from deployer.aws import clients as aws_client
from deployer.aws import cloudformation as aws_stacks
from deployer.aws import codepipeline as aws_pipelines
from deployer.aws import errors as aws_errors
from deployer.aws import roles as aws_roles
from deployer.aws.cloud import AwsCloud
from deployer.model.environments import Kind
from deployer.model.errors import PermanentError, TransientError, UnknownStatusError
from deployer.templates.release import Release

ARN = "arn:aws:cloudformation:us-east-1:123456789012:stack/x/1"
SHA = "a" * 40
THEN = datetime(2026, 1, 1, tzinfo=UTC)
STACK = {
    "StackId": ARN,
    "StackName": "x",
    "StackStatus": "CREATE_COMPLETE",
    "StackStatusReason": "",
    "CreationTime": THEN,
    "LastUpdatedTime": THEN,
    "Tags": [{"Key": "deployer:managed", "Value": "true"}],
    "Parameters": [{"ParameterKey": "A", "ParameterValue": "1"}],
    "EnableTerminationProtection": True,
    "ParentId": "",
}
RESOURCE = {
    "LogicalResourceId": "Files",
    "ResourceType": "AWS::S3::Bucket",
    "PhysicalResourceId": "files",
    "ResourceStatus": "CREATE_COMPLETE",
    "ResourceStatusReason": "",
}
EVENT = {
    "StackId": ARN,
    "StackName": "x",
    "LogicalResourceId": "Files",
    "PhysicalResourceId": "files",
    "ResourceType": "AWS::S3::Bucket",
    "ResourceStatus": "CREATE_FAILED",
    "ResourceStatusReason": "no",
    "ClientRequestToken": "t",
}
ACTION = {
    "name": "Checkout",
    "runOrder": 1,
    "actionTypeId": {"category": "Source", "provider": "GitHub"},
    "configuration": {"Owner": "acme", "Repo": "shop", "Branch": "main", "PollForSourceChanges": "false"},
    "outputArtifacts": [{"name": "Source"}],
}
DEPLOYS = {
    "name": "App",
    "actionTypeId": {"category": "Deploy", "provider": "CloudFormation"},
    "configuration": {"StackName": "x-app", "ActionMode": "CREATE_UPDATE"},
}
STAGES = [{"name": "Source", "actions": [ACTION]}, {"name": "Deploy", "actions": [DEPLOYS]}]
PIPELINE = {"pipeline": {"stages": STAGES}}
REVISIONS = [
    {"actionName": "Checkout", "name": "Source", "revisionId": SHA},
    {"actionName": "Other", "name": "Else", "revisionId": "b" * 40},
]
EXECUTION = {"pipelineExecutionId": "1", "status": "InProgress", "trigger": {"triggerType": "CreatePipeline"}}
DETAIL = {
    "stageName": "Source",
    "actionName": "Checkout",
    "status": "Succeeded",
    "startTime": THEN,
    "output": {"executionResult": {"externalExecutionUrl": "", "errorDetails": {"message": ""}}},
}
ROLE = {"RoleName": "r", "Arn": "arn:aws:iam::123456789012:role/r", "CreateDate": THEN}
OWNED = {**RESOURCE, "StackId": ARN, "ResourceType": "AWS::IAM::Role", "PhysicalResourceId": "r"}
ODD_TIME = (
    b"<R><DescribeStacksResult><Stacks><member><CreationTime>soon</CreationTime></member></Stacks>"
    b"</DescribeStacksResult></R>"
)
RELEASE = Release("{}", {}, needs_token=False, tags={})
SOURCES = {"get_pipeline": PIPELINE}
OF_ACTION = {"actionTypeId", "actionTypeId.category", "actionTypeId.provider"}
OF_STAGES = {"pipeline", "pipeline.stages", "pipeline.stages.name"}


def start_or_reject(aws: AwsCloud) -> None:
    """Start an execution; a pipeline whose source lacks a setting is rejected."""
    with suppress(PermanentError):
        aws.start("x", SHA, "t", HERE)


# call -> how it is made, AWS's answers by operation, and the members (by dotted path) without which it is no answer
Ask = Callable[[AwsCloud], object]
CALLS: dict[str, tuple[Ask, dict[str, Any], set[str]]] = {
    "stack": (
        lambda aws: aws.stack("x"),
        {"describe_stacks": {"Stacks": [STACK]}},
        {
            "Stacks",
            *(f"Stacks.{each}" for each in ("StackId", "StackName", "StackStatus")),
            *(f"Stacks.{each}" for each in ("Tags.Key", "Tags.Value", "Parameters.ParameterKey")),
        },
    ),
    "stacks": (
        lambda aws: list(aws.stacks()),
        {"describe_stacks": {"Stacks": [{**STACK, "Parameters": []}], "NextToken": ""}},
        {"Stacks", *(f"Stacks.{each}" for each in ("StackId", "StackName", "StackStatus"))}
        | {"Stacks.Tags.Key", "Stacks.Tags.Value"},
    ),
    "create_stack": (
        lambda aws: aws.create_stack("x", RELEASE, "t"),
        {"create_stack": {"StackId": ARN}},
        {"StackId"},
    ),
    "update_stack": (
        lambda aws: aws.update_stack("x", RELEASE, "t"),
        {"update_stack": {"StackId": ARN}},
        set(),
    ),
    "delete_stack": (lambda aws: aws.delete_stack(ARN, "t"), {"delete_stack": {}}, set()),
    "resources": (
        lambda aws: aws.resources(ARN),
        {"list_stack_resources": {"StackResourceSummaries": [RESOURCE]}},
        {
            "StackResourceSummaries",
            *(
                f"StackResourceSummaries.{each}"
                for each in ("LogicalResourceId", "ResourceType", "ResourceStatus")
            ),
        },
    ),
    "failure": (
        lambda aws: aws.failure(ARN),
        {"describe_stack_events": {"StackEvents": [EVENT]}},
        {"StackEvents", "StackEvents.StackId", "StackEvents.LogicalResourceId"},
    ),
    "room": (
        lambda aws: aws.count_capacity(),
        {
            "describe_stacks": {"Stacks": []},
            "describe_account_limits": {"AccountLimits": [{"Name": "StackLimit", "Value": 7}]},
            "list_pipelines": {"pipelines": [{"name": "x"}]},
        },
        {"Stacks", "pipelines"},
    ),
    "deployed_stacks": (
        lambda aws: aws.deployed_stacks("x"),
        SOURCES,
        OF_STAGES | {"pipeline.stages.actions", *(f"pipeline.stages.actions.{each}" for each in OF_ACTION)},
    ),
    "stage_names": (lambda aws: aws.stage_names("x"), SOURCES, OF_STAGES),
    "executions": (
        lambda aws: aws.executions("x", HERE.repository),
        {
            "list_pipeline_executions": {
                "pipelineExecutionSummaries": [{**EXECUTION, "sourceRevisions": REVISIONS}]
            },
            "get_pipeline": {"pipeline": {"stages": STAGES[:1]}},
        },
        {
            "pipelineExecutionSummaries",
            "pipelineExecutionSummaries.pipelineExecutionId",
            "pipelineExecutionSummaries.status",
            *OF_STAGES,
            "pipeline.stages.actions",
            "pipeline.stages.actions.name",
            "pipeline.stages.actions.outputArtifacts.name",
            *(f"pipeline.stages.actions.{each}" for each in OF_ACTION),
        },
    ),
    "execution": (
        lambda aws: aws.execution("x", "1"),
        {
            "get_pipeline_execution": {
                "pipelineExecution": {**EXECUTION, "artifactRevisions": REVISIONS[:1]}
            },
            "list_action_executions": {"actionExecutionDetails": [DETAIL]},
            "get_pipeline": {"pipeline": {"stages": STAGES[:1]}},
        },
        {
            *("pipelineExecution", "pipelineExecution.pipelineExecutionId", "pipelineExecution.status"),
            "actionExecutionDetails",
            *(f"actionExecutionDetails.{each}" for each in ("stageName", "actionName", "status")),
            *OF_STAGES,
            "pipeline.stages.actions",
        },
    ),
    "start": (
        start_or_reject,
        {**SOURCES, "start_pipeline_execution": {"pipelineExecutionId": "1"}},
        OF_STAGES
        | {"pipelineExecutionId", "pipeline.stages.actions"}
        | {f"pipeline.stages.actions.{each}" for each in (*OF_ACTION, "name", "outputArtifacts.name")},
    ),
    "empty_storage": (
        lambda aws: aws.empty_storage(ARN),
        {
            "list_stack_resources": {"StackResourceSummaries": [RESOURCE]},
            "get_template": {"TemplateBody": {"Resources": {"Files": {"Type": "AWS::S3::Bucket"}}}},
            "list_object_versions": [
                {"Name": "files", "Versions": [{"Key": "k", "VersionId": "1"}]},
                {"Name": "files"},
            ],
            "delete_objects": {"Errors": []},
            "list_multipart_uploads": [
                {"Bucket": "files", "Uploads": [{"Key": "k", "UploadId": "1"}]},
                {"Bucket": "files"},
            ],
            "abort_multipart_upload": {},
        },
        {
            "StackResourceSummaries",
            *(
                f"StackResourceSummaries.{each}"
                for each in ("LogicalResourceId", "ResourceType", "ResourceStatus")
            ),
            *("TemplateBody", "Name", "Versions.Key", "Versions.VersionId"),
            *("Bucket", "Uploads.Key", "Uploads.UploadId"),
        },
    ),
    "empty_storage of images": (
        lambda aws: aws.empty_storage(ARN),
        {
            "list_stack_resources": {
                "StackResourceSummaries": [{**RESOURCE, "ResourceType": "AWS::ECR::Repository"}]
            },
            "get_template": {"TemplateBody": {"Resources": {"Files": {"Type": "AWS::ECR::Repository"}}}},
            "list_images": [{"imageIds": [{"imageDigest": "sha256:1"}]}, {"imageIds": []}],
            "batch_delete_image": {"imageIds": [], "failures": []},
        },
        {"imageIds", "imageIds.imageDigest", "TemplateBody", "StackResourceSummaries"}
        | {
            f"StackResourceSummaries.{each}"
            for each in ("LogicalResourceId", "ResourceType", "ResourceStatus")
        },
    ),
    "build_logs": (
        lambda aws: aws.build_logs(ARN),
        {
            "describe_stack_events": {
                "StackEvents": [
                    {
                        "PhysicalResourceId": "build",
                        "ResourceType": "AWS::CodeBuild::Project",
                        "ResourceStatus": status,
                        "Timestamp": datetime(2026, 1, 1, tzinfo=UTC),
                    }
                    for status in ("DELETE_COMPLETE", "CREATE_COMPLETE")
                ]
            },
            "describe_log_groups": {
                "logGroups": [{"logGroupName": "/aws/codebuild/build", "creationTime": 9e15}]
            },
        },
        {"StackEvents", "StackEvents.Timestamp", "logGroups"},
    ),
    "stack_sets": (
        lambda aws: aws.stack_sets("x"),
        {"get_pipeline": {"pipeline": {"stages": STAGES[:1]}}},
        OF_STAGES | {"pipeline.stages.actions"} | {f"pipeline.stages.actions.{each}" for each in OF_ACTION},
    ),
}


class _Service:
    """A client that gives each operation's answer; of several the last one again and again."""

    def __init__(self, answers: dict[str, Any]) -> None:
        self._left = {
            name: list(each) if isinstance(each, list) else [each] for name, each in answers.items()
        }

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(**_: object) -> Any:
            left = self._left[operation]
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, Exception):
                raise answer
            return copy.deepcopy(answer)

        return call


def answered(answers: dict[str, Any]) -> AwsCloud:
    """A cloud whose AWS answers so."""
    made, service = cloud("http://127.0.0.1:9"), _Service(answers)
    made._aws = SimpleNamespace(  # type: ignore[assignment]
        region="us-east-1",
        cloudformation=service,
        codepipeline=service,
        s3=service,
        ecr=service,
        logs=service,
    )
    return made


def lacking(answers: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The answers once without each of their members, with the dotted path of that member."""

    def places(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        listed = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, inner in listed:
            yield (*path, key)
            yield from places(inner, (*path, key))

    for path in [each for each in places(answers, ()) if len(each) > 1 and isinstance(each[-1], str)]:
        without = copy.deepcopy(answers)
        holder = without
        for step in path[:-1]:
            holder = holder[step]
        del holder[path[-1]]
        yield ".".join(step for step in path[1:] if isinstance(step, str)), without


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_without_a_member_is_an_answer_or_a_passing_fault(name: str) -> None:
    ask, answers, needed = CALLS[name]
    ask(answered(answers))
    refused = set()
    for path, without in lacking(answers):
        try:
            ask(answered(without))
        except TransientError as error:
            assert f"invalid: it has no {path.rpartition('.')[2]}" in str(error)  # noqa: PT017
            refused.add(path)
    assert refused == needed


ROLE_CALLS: dict[str, tuple[Callable[[aws_roles.AwsRoles], object], dict[str, Any], set[str]]] = {
    "roles": (
        lambda roles: list(roles.roles(Kind.DEVELOPMENT, "/")),
        {"list_roles": {"Roles": [ROLE], "IsTruncated": False}},
        {"Roles", *(f"Roles.{each}" for each in ROLE)},
    ),
    "stack_of_role": (
        lambda roles: roles.stack_of_role(Kind.DEVELOPMENT, "us-east-1", "r"),
        {"describe_stack_resources": {"StackResources": [OWNED]}},
        {"StackResources", "StackResources.StackId", "StackResources.ResourceType"},
    ),
    "role_tags": (
        lambda roles: roles.role_tags(Kind.DEVELOPMENT, "r"),
        {"list_role_tags": {"Tags": [{"Key": "k", "Value": "v"}]}},
        {"Tags", "Tags.Key", "Tags.Value"},
    ),
}


@pytest.mark.parametrize("name", ROLE_CALLS)
def test_an_answer_of_iam_without_a_member_likewise(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ask, answers, needed = ROLE_CALLS[name]
    every = clouds("http://127.0.0.1:9")
    refused = set()
    for path, without in [("", answers), *lacking(answers)]:
        service = _Service(without)
        clients = SimpleNamespace(iam=service, cloudformation=service)
        monkeypatch.setattr(every, "clients", lambda *_, given=clients: given)
        try:
            ask(aws_roles.AwsRoles(every))
        except TransientError:
            refused.add(path)
    assert refused == needed


# --- answers of something else -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proxy() -> Iterator[tuple[AwsCloud, list[bytes]]]:
    """A cloud whose AWS is a server that answers every request with status 200 and the one body in the list."""
    body = [b""]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            self.send_header("Content-Length", str(len(body[0])))
            self.end_headers()
            self.wfile.write(body[0])

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield cloud(f"http://127.0.0.1:{server.server_port}"), body
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("ask", "body"),
    [
        ("executions", b"[]"),
        ("executions", b"null"),
        ("executions", b'"x"'),
        ("executions", b'{"pipelineExecutionSummaries": "x"}'),
        ("executions", b'{"pipelineExecutionSummaries": [1]}'),
        ("executions", b'{"pipelineExecutionSummaries": [{"status": "Failed", "startTime": "soon"}]}'),
        ("stage_names", b'{"pipeline": []}'),
        ("stack", b"<a/>"),
        ("stack", ODD_TIME),
    ],
)
def test_json_or_xml_that_is_not_aws_is_a_passing_fault(
    proxy: tuple[AwsCloud, list[bytes]], ask: str, body: bytes
) -> None:
    aws, answer = proxy
    answer[0] = body
    with pytest.raises(TransientError, match=r"^\w+ing .* x: AWS's response is invalid"):
        getattr(aws, ask)("x")


def test_a_region_where_something_else_answers_is_a_passing_fault(
    proxy: tuple[AwsCloud, list[bytes]],
) -> None:
    aws, answer = proxy
    answer[0] = b"<a/>"
    with pytest.raises(TransientError, match=r"^reaching us-east-1: "):
        aws.check_reachable(5)


@pytest.mark.parametrize("bug", [KeyError("StackId"), TypeError("x"), AttributeError("x"), ValueError("x")])
def test_a_bug_of_our_own_is_no_fault_of_aws(monkeypatch: pytest.MonkeyPatch, bug: Exception) -> None:
    def read(_described: object) -> object:
        raise bug

    monkeypatch.setattr(aws_stacks, "stack_from_description", read)
    with pytest.raises(type(bug)):
        answered({"describe_stacks": {"Stacks": [STACK]}}).stack("x")


def test_a_page_that_names_itself_as_the_next_one_ends() -> None:
    endless = {"StackResourceSummaries": [], "NextToken": "again"}
    with pytest.raises(TransientError, match="NextToken"):
        answered({"list_stack_resources": endless}).resources(ARN)


# --- waits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("1e999", 600.0),
        ("inf", 600.0),
        ("86400", 600.0),
        ("-5", 0.0),
        ("-inf", 0.0),
        ("nan", None),
        ("soon", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None),
        ("", None),
    ],
)
def test_what_an_answer_asks_to_wait_is_bounded(header: str, seconds: float | None) -> None:
    answer = {"HTTPStatusCode": 503, "HTTPHeaders": {"retry-after": header}}
    error = ClientError({"Error": {"Code": "SlowDown"}, "ResponseMetadata": answer}, "DescribeStacks")  # type: ignore[typeddict-item]
    with pytest.raises(TransientError) as raised, aws_errors.translate_errors("reading"):
        raise error
    assert raised.value.retry_after == seconds


# --- words that AWS adds some day --------------------------------------------------------------------------------


def test_an_unknown_status_of_the_execution_that_is_followed_is_no_guess() -> None:
    answers = copy.deepcopy(CALLS["execution"][1])
    answers["get_pipeline_execution"]["pipelineExecution"]["status"] = "Paused"
    with pytest.raises(UnknownStatusError, match="execution 1 has the status Paused"):
        answered(answers).execution("x", "1")


def test_an_unknown_status_of_an_execution_in_a_listing_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listed = [
        {**EXECUTION, "status": "Succeeded"},
        {**EXECUTION, "pipelineExecutionId": "2", "status": "Paused"},
    ]
    with caplog.at_level(logging.WARNING):
        found = answered({"list_pipeline_executions": {"pipelineExecutionSummaries": listed}}).executions("x")
    assert [(each.id, each.status) for each in found] == [("1", "succeeded"), ("2", "running")]
    assert "execution 2 has the status Paused" in caplog.text


@pytest.mark.parametrize(
    ("execution", "stage"),
    [("InProgress", "running"), ("Succeeded", "succeeded"), ("Failed", "stopped"), ("Stopped", "stopped")],
)
def test_an_action_of_unknown_status_is_shown_as_its_execution(execution: str, stage: str) -> None:
    details = [{**DETAIL, "status": "Skipped"}]
    found = aws_pipelines.execution_with_stages(
        {**EXECUTION, "status": execution}, details, lambda: {"stages": STAGES}
    )
    assert [each.status for each in found.stages] == [stage]


# --- an order whose answer was lost, and that is given once more --------------------------------------------------


def refusal(code: str, message: str = "") -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Any")


LOST = EndpointConnectionError(endpoint_url="https://x")
KNOWN_TOKEN = refusal("TokenAlreadyExistsException")
TAKEN = refusal("AlreadyExistsException", "Stack [x] already exists")
AT_WORK = refusal("ValidationError", f"Stack:{ARN} is in UPDATE_IN_PROGRESS state and can not be updated.")
ROLLED_BACK = refusal(
    "ValidationError", f"Stack [{ARN}] is in UPDATE_ROLLBACK_COMPLETE state and cannot continue"
)
GONE = refusal("ValidationError", "Stack [x] does not exist")
OURS = {"describe_stack_events": {"StackEvents": [EVENT]}}
OTHERS = {"describe_stack_events": {"StackEvents": [{**EVENT, "ClientRequestToken": "another"}]}}
TAGGED = {"describe_stacks": {"Stacks": [{**STACK, "Tags": []}]}}
FOREIGN = {"describe_stacks": {"Stacks": [STACK]}}
HALF_WAY = {"describe_stacks": {"Stacks": [{**STACK, "StackStatus": "UPDATE_ROLLBACK_FAILED"}]}}


def create(aws: AwsCloud) -> object:
    return aws.create_stack("x", RELEASE, "t")


def update(aws: AwsCloud) -> object:
    return aws.update_stack("x", RELEASE, "t")


@pytest.mark.parametrize(
    ("order", "operation", "second", "more", "result"),
    [
        (create, "create_stack", TAKEN, {**TAGGED, **OTHERS}, ARN),
        (create, "create_stack", KNOWN_TOKEN, {**FOREIGN, **OURS}, ARN),
        (create, "create_stack", TAKEN, {**FOREIGN, **OTHERS}, TransientError),
        (create, "create_stack", TAKEN, {"describe_stacks": GONE}, TransientError),
        (update, "update_stack", KNOWN_TOKEN, {}, True),
        (update, "update_stack", AT_WORK, OURS, True),
        (update, "update_stack", AT_WORK, OTHERS, TransientError),
        (update, "update_stack", GONE, {}, TransientError),
        (update, "update_stack", refusal("ValidationError", "No updates are to be performed."), {}, False),
        (lambda aws: aws.delete_stack(ARN, "t"), "delete_stack", KNOWN_TOKEN, {}, None),
        (lambda aws: aws.delete_stack(ARN, "t"), "delete_stack", GONE, {}, None),
        (
            lambda aws: aws.continue_rollback("x", "t"),
            "continue_update_rollback",
            KNOWN_TOKEN,
            HALF_WAY,
            None,
        ),
        (
            lambda aws: aws.continue_rollback("x", "t"),
            "continue_update_rollback",
            ROLLED_BACK,
            {**HALF_WAY, **OURS},
            None,
        ),
        (
            lambda aws: aws.continue_rollback("x", "t"),
            "continue_update_rollback",
            AT_WORK,
            {**HALF_WAY, **OTHERS},
            TransientError,
        ),
        (lambda aws: aws.protect(ARN, on=True), "update_termination_protection", {}, {}, None),
        (
            lambda aws: aws.start("x", SHA, "t", HERE),
            "start_pipeline_execution",
            {"pipelineExecutionId": "1"},
            SOURCES,
            "1",
        ),
        (
            lambda aws: aws.stop("x", "1", "why"),
            "stop_pipeline_execution",
            refusal("DuplicatedStopRequestException"),
            {},
            None,
        ),
        (
            lambda aws: aws.stop("x", "1", "why"),
            "stop_pipeline_execution",
            refusal("PipelineExecutionNotStoppableException"),
            {},
            None,
        ),
    ],
)
def test_an_order_that_is_repeated_is_one(
    monkeypatch: pytest.MonkeyPatch,
    order: Ask,
    operation: str,
    second: object,
    more: dict[str, Any],
    result: object,
) -> None:
    monkeypatch.setattr(aws_client, "_backoff", lambda _: 0)
    aws = answered({operation: [LOST, second], **more})
    if result is TransientError:
        with pytest.raises(TransientError):
            order(aws)
    else:
        assert order(aws) == result


def test_a_wait_that_is_no_number_ends_no_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_client, "_backoff", lambda _: 0)
    throttled = refusal("Throttling")
    throttled.response["ResponseMetadata"] = {"HTTPHeaders": {"retry-after": "nan"}}  # type: ignore[typeddict-item]
    assert answered({"describe_stacks": [throttled, {"Stacks": []}]}).stack("x") is None
