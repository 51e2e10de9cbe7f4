"""The actions of pipelines that wait, invoke, read other sources, use change sets, or are not simulated."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import pytest
from aws_harness import (
    APPLICATION,
    BUCKET,
    REPOSITORY,
    Aws,
    Repository,
    eventually,
    expect_error,
    load_models,
)

from sandbox.aws import server

SOURCE: dict[str, Any] = {
    "name": "Read",
    "actionTypeId": {
        "category": "Source",
        "owner": "AWS",
        "provider": "CodeStarSourceConnection",
        "version": "1",
    },
    "configuration": {
        "ConnectionArn": "arn:aws:codeconnections:us-east-1:123456789012:connection/x",
        "FullRepositoryId": "acme/hello",
        "BranchName": "main",
        "DetectChanges": "false",
    },
    "outputArtifacts": [{"name": "Tree"}],
}


@pytest.fixture(scope="module", autouse=True)
def models() -> None:
    load_models("AWS::IAM::Role", "AWS::Lambda::Function", "AWS::Logs::LogGroup", "AWS::ECR::Repository")


def action(name: str, kind: str, order: int = 1, **configuration: str) -> dict[str, Any]:
    category, _, provider = kind.partition("/")
    takes = category in ("Deploy", "Build")
    return {
        "name": name,
        "actionTypeId": {"category": category, "owner": "AWS", "provider": provider, "version": "1"},
        "configuration": configuration,
        "inputArtifacts": [{"name": "Tree"}] if takes else [],
        "runOrder": order,
    }


APPROVAL = action("Ask", "Approval/Manual")


def source(provider: str, **configuration: str) -> dict[str, Any]:
    kind = {"category": "Source", "owner": "AWS", "provider": provider, "version": "1"}
    return {**SOURCE, "actionTypeId": kind, "configuration": configuration}


def create(aws: Aws, *actions: dict[str, Any], read: dict[str, Any] = SOURCE) -> None:
    """Create a pipeline with one source and one stage, by the API."""
    aws.s3.create_bucket(Bucket="artifacts")
    aws.codepipeline.create_pipeline(
        pipeline={
            "name": "pipe",
            "roleArn": "arn:aws:iam::123456789012:role/pipe",
            "artifactStore": {"type": "S3", "location": "artifacts"},
            "stages": [{"name": "Source", "actions": [read]}, {"name": "Go", "actions": list(actions)}],
        }
    )


def approve(aws: Aws, status: str = "Approved") -> None:
    """Wait until the approval asks, and answer it."""

    def token() -> Any:
        states = aws.stages()["Go"]["actionStates"]
        return (
            next((s for s in states if s["actionName"] == "Ask"), {}).get("latestExecution", {}).get("token")
        )

    aws.codepipeline.put_approval_result(
        pipelineName="pipe",
        stageName="Go",
        actionName="Ask",
        token=eventually(token),
        result={"summary": "seen", "status": status},
    )


def error_of(aws: Aws, name: str) -> dict[str, str]:
    return dict(aws.action(name)["output"]["executionResult"]["errorDetails"])


# ---- change sets


def change_set(mode: str, order: int, **more: str) -> dict[str, Any]:
    settings = {"ActionMode": mode, "StackName": "pipe-app", "ChangeSetName": "next", **more}
    return action(mode, "Deploy/CloudFormation", order, **settings)


PAIR = (
    change_set(
        "CHANGE_SET_REPLACE", 1, TemplatePath="Tree::app.yml", TemplateConfiguration="Tree::stack.json"
    ),
    {**APPROVAL, "runOrder": 2},
    change_set("CHANGE_SET_EXECUTE", 3),
)


def test_a_change_set_waits_for_its_approval_in_a_stack_without_tags(
    aws: Aws, repository: Repository
) -> None:
    repository.commit({"stack.json": '{"Tags": {"team": "web"}}'}, "tags")
    create(aws, *PAIR)

    eventually(lambda: aws.stages()["Go"]["actionStates"][1].get("latestExecution", {}).get("token"))

    waiting = aws.cloudformation.describe_stacks(StackName="pipe-app")["Stacks"][0]
    assert (waiting["StackStatus"], waiting["Tags"]) == ("REVIEW_IN_PROGRESS", [])
    assert (
        aws.action("CHANGE_SET_REPLACE")["output"]["executionResult"]["externalExecutionId"]
        == waiting["StackId"]
    )
    approve(aws)
    assert aws.wait_until_ended()["status"] == "Succeeded", aws.stages()
    made = aws.cloudformation.describe_stacks(StackName="pipe-app")["Stacks"][0]
    assert (made["StackStatus"], made["StackId"]) == ("CREATE_COMPLETE", waiting["StackId"])
    assert made["Tags"] == [{"Key": "team", "Value": "web"}]


def test_a_change_set_without_changes_fails_neither_action(aws: Aws, repository: Repository) -> None:
    repository.commit({"stack.json": "{}"}, "no tags")
    create(aws, PAIR[0], PAIR[2])
    assert aws.wait_until_ended()["status"] == "Succeeded", aws.stages()

    again = aws.codepipeline.start_pipeline_execution(name="pipe")["pipelineExecutionId"]

    assert aws.wait_until_ended(again)["status"] == "Succeeded", aws.stages()
    assert aws.status("pipe-app") == "CREATE_COMPLETE"
    repository.commit({"app.yml": APPLICATION + "  Another: {Value: more}\n"}, "another output")
    changed = aws.codepipeline.start_pipeline_execution(name="pipe")["pipelineExecutionId"]
    assert aws.wait_until_ended(changed)["status"] == "Succeeded", aws.stages()
    assert aws.status("pipe-app") == "UPDATE_COMPLETE"


def test_a_change_set_that_does_not_exist_is_not_executed(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    create(aws, PAIR[2])

    assert aws.wait_until_ended()["status"] == "Failed"
    assert error_of(aws, "CHANGE_SET_EXECUTE")["message"] == "ChangeSet [next] does not exist"


# ---- approvals


def test_a_rejected_approval_fails_the_execution(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    create(aws, APPROVAL)

    approve(aws, "Rejected")

    assert aws.wait_until_ended()["status"] == "Failed"
    assert error_of(aws, "Ask") == {"code": "ApprovalRejected", "message": "seen"}


def test_an_approval_that_nobody_answers_fails_after_seven_days(
    repository: Repository,  # noqa: ARG001
    repositories: Any,
) -> None:
    # At this speed seven days take three seconds, and a week-end one.
    fast = server.create(github_url=f"file://{repositories}", speed=200_000).start()
    try:
        quick = Aws(fast)
        create(quick, APPROVAL)

        execution = quick.wait_until_ended()

        assert execution["status"] == "Failed"
        run = quick.action("Ask")
        waited = (run["lastUpdateTime"] - run["startTime"]).total_seconds() * 200_000
        assert waited >= 7 * 86_400
        assert error_of(quick, "Ask")["code"] == "TimedOut"
    finally:
        fast.stop()


# ---- Lambda

FUNCTION = """\
import boto3, json
def main(event, context):
    job = event["CodePipeline.job"]
    given = json.loads(job["data"]["actionConfiguration"]["configuration"]["UserParameters"])
    client = boto3.client("codepipeline")
    if given["ends"] == "well":
        client.put_job_success_result(jobId=job["id"], outputVariables={"Said": given["ends"]})
    elif given["ends"] == "badly":
        client.put_job_failure_result(jobId=job["id"], failureDetails={"type": "JobFailed", "message": "no luck"})
    else:
        raise SystemExit(3)
"""


def invoke(aws: Aws, ends: str, runtime: str = "python3.12") -> dict[str, Any]:
    trust = {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = {"AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [trust]}}
    function = {
        "FunctionName": "check",
        "Runtime": runtime,
        "Handler": "index.main",
        "Code": {"ZipFile": FUNCTION},
    }
    resources = {
        "R": {"Type": "AWS::IAM::Role", "Properties": role},
        "F": {
            "Type": "AWS::Lambda::Function",
            "Properties": {**function, "Role": {"Fn::GetAtt": ["R", "Arn"]}},
        },
    }
    aws.create("function", json.dumps({"Resources": resources}), Capabilities=["CAPABILITY_IAM"])
    assert aws.wait_until_stable("function") == "CREATE_COMPLETE"
    create(
        aws, action("Call", "Invoke/Lambda", FunctionName="check", UserParameters=json.dumps({"ends": ends}))
    )
    aws.wait_until_ended()
    return aws.action("Call")


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ("badly", "no luck"),
        ("silently", "The AWS Lambda function check failed to return a result. Check the function"),
    ],
)
def test_a_function_fails_its_action(aws: Aws, repository: Repository, ends: str, message: str) -> None:  # noqa: ARG001
    assert invoke(aws, ends)["status"] == "Failed"
    assert error_of(aws, "Call")["message"].startswith(message)


def test_a_function_ends_its_job(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    run = invoke(aws, "well")

    assert (run["status"], run["output"]["outputVariables"]) == ("Succeeded", {"Said": "well"})
    (left,) = json.loads(aws.get("/_sandbox/state")[1])["unmanaged"]
    assert (left["type"], left["id"]) == ("AWS::Logs::LogGroup", "/aws/lambda/check")


def test_a_function_of_another_runtime_is_not_simulated(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    assert invoke(aws, "well", "nodejs20.x")["status"] == "Failed"
    assert error_of(aws, "Call")["message"].startswith(
        "Not simulated: the function check of the runtime nodejs20.x"
    )


# ---- other sources


def archive(**files: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        for name, content in files.items():
            made.writestr(name.replace("_", "."), content)
    return buffer.getvalue()


def put_archive(aws: Aws, *, versioned: bool = True, **files: str) -> str:
    if "sources" not in [b["Name"] for b in aws.s3.list_buckets()["Buckets"]]:
        aws.s3.create_bucket(Bucket="sources")
    if versioned:
        aws.s3.put_bucket_versioning(Bucket="sources", VersioningConfiguration={"Status": "Enabled"})
    put = aws.s3.put_object(Bucket="sources", Key="app.zip", Body=archive(**files))
    return str(put.get("VersionId"))


DEPLOY = action(
    "Stack",
    "Deploy/CloudFormation",
    ActionMode="CREATE_UPDATE",
    StackName="pipe-app",
    TemplatePath="Tree::app.yml",
)
S3_SOURCE = source("S3", S3Bucket="sources", S3ObjectKey="app.zip")


def test_a_source_in_a_bucket_is_read_at_its_version(aws: Aws) -> None:
    first = put_archive(aws, app_yml=BUCKET)
    put_archive(aws, app_yml="Resources: {}")
    create(aws, DEPLOY, read=S3_SOURCE)
    assert aws.wait_until_ended()["status"] == "Failed"

    pin = [{"actionName": "Read", "revisionType": "S3_OBJECT_VERSION_ID", "revisionValue": first}]
    pinned = aws.codepipeline.start_pipeline_execution(name="pipe", sourceRevisions=pin)[
        "pipelineExecutionId"
    ]

    execution = aws.wait_until_ended(pinned)
    assert execution["status"] == "Succeeded", aws.stages()
    assert execution["artifactRevisions"][0]["revisionId"] == first
    with expect_error("ValidationException", "Revision type COMMIT_ID is not valid"):
        aws.codepipeline.start_pipeline_execution(
            name="pipe", sourceRevisions=[{**pin[0], "revisionType": "COMMIT_ID"}]
        )


def test_a_source_bucket_must_have_versioning(aws: Aws) -> None:
    put_archive(aws, versioned=False, app_yml=BUCKET)
    create(aws, DEPLOY, read=S3_SOURCE)

    assert aws.wait_until_ended()["status"] == "Failed"
    assert "must have versioning enabled" in error_of(aws, "Read")["message"]


def test_a_source_in_codecommit_is_a_repository_below_its_own_owner(
    aws: Aws,
    repository: Repository,  # noqa: ARG001
    repositories: Any,
) -> None:
    (repositories / "codecommit").mkdir()
    (repositories / f"{REPOSITORY}.git").rename(repositories / "codecommit" / "legacy.git")
    read = source("CodeCommit", RepositoryName="legacy", BranchName="main", PollForSourceChanges="false")
    create(aws, DEPLOY, read=read)

    execution = aws.wait_until_ended()

    assert execution["status"] == "Succeeded", aws.stages()
    assert execution["artifactRevisions"][0]["revisionSummary"] == "the first"


def test_a_source_in_ecr_describes_its_image(aws: Aws) -> None:
    ecr = aws.client("ecr")
    ecr.create_repository(repositoryName="web")
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "layers": [],
    }
    image = ecr.put_image(repositoryName="web", imageManifest=json.dumps(manifest), imageTag="latest")[
        "image"
    ]
    create(aws, APPROVAL, read=source("ECR", RepositoryName="web"))

    eventually(lambda: aws.stages()["Go"].get("latestExecution"))

    digest = image["imageId"]["imageDigest"]
    assert aws.executions()[0]["sourceRevisions"][0]["revisionId"] == digest
    assert aws.action("Read")["output"]["outputVariables"]["ImageURI"].endswith(f"/web@{digest}")


# ---- not simulated


@pytest.mark.parametrize(
    ("kind", "configuration"),
    [
        ("Deploy/CodeDeploy", {"ApplicationName": "a", "DeploymentGroupName": "g"}),
        ("Deploy/ECS", {"ClusterName": "c", "ServiceName": "s"}),
        ("Deploy/CloudFormationStackSet", {"StackSetName": "everywhere", "TemplatePath": "Tree::app.yml"}),
        ("Invoke/StepFunctions", {"StateMachineArn": "arn:aws:states:us-east-1:123456789012:stateMachine:x"}),
    ],
)
def test_an_action_that_is_not_simulated_fails_and_says_so(
    aws: Aws,
    repository: Repository,  # noqa: ARG001
    kind: str,
    configuration: dict[str, str],
) -> None:
    create(aws, action("Other", kind, **configuration))

    assert aws.wait_until_ended()["status"] == "Failed"
    category, _, provider = kind.partition("/")
    assert error_of(aws, "Other")["message"].startswith(
        f"Not simulated: {category} actions of the provider {provider}"
    )


def test_a_pipeline_is_not_created_with_an_incomplete_action(aws: Aws) -> None:
    with expect_error(
        "InvalidActionDeclarationException",
        "Action configuration for action 'Other' is missing required configuration 'ServiceName'",
    ):
        create(aws, action("Other", "Deploy/ECS", ClusterName="c"))


def test_a_pipeline_has_at_most_100_characters(aws: Aws) -> None:
    with expect_error("ValidationException", "at 'pipeline.name' .* length less than or equal to 100"):
        aws.codepipeline.create_pipeline(
            pipeline={
                "name": "p" * 101,
                "roleArn": "arn:aws:iam::123456789012:role/pipe",
                "artifactStore": {"type": "S3", "location": "artifacts"},
                "stages": [{"name": "Source", "actions": [SOURCE]}, {"name": "Go", "actions": [APPROVAL]}],
            }
        )
