"""Executions of the simulated CodePipeline: start, stages, stop, events."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import pytest
from aws_harness import BUILDSPEC, Aws, Receiver, Repository, eventually

PIPELINE_EVENTS = "CodePipeline Pipeline Execution State Change"
ACTION_EVENTS = "CodePipeline Action Execution State Change"


def start(aws: Aws, request: str = "t", **more: Any) -> str:
    answer = aws.codepipeline.start_pipeline_execution(name="pipe", clientRequestToken=request, **more)
    return str(answer["pipelineExecutionId"])


def pinned(sha: str) -> list[dict[str, str]]:
    return [{"actionName": "Checkout", "revisionType": "COMMIT_ID", "revisionValue": sha}]


def page(aws: Aws) -> str:
    outputs = aws.cloudformation.describe_stacks(StackName="pipe-app")["Stacks"][0]["Outputs"]
    bucket = next(o["OutputValue"] for o in outputs if o["OutputKey"] == "BucketName")
    return aws.get(f"/{bucket}/index.html")[1]


def test_a_branch_is_deployed_from_its_stack_to_its_page(
    aws: Aws, repository: Repository, receiver: Receiver
) -> None:
    sha = repository.commit({"note": "one"}, "a note")

    aws.create_pipeline()
    execution = aws.wait_until_ended()

    assert execution["status"] == "Succeeded", aws.stages()
    assert execution["trigger"]["triggerType"] == "CreatePipeline"
    assert [r["revisionId"] for r in execution["artifactRevisions"]] == [sha]
    assert execution["artifactRevisions"][0]["revisionSummary"] == "a note"
    assert page(aws) == f"<h1>hello main {sha}</h1>\n"
    outputs = aws.cloudformation.describe_stacks(StackName="pipe-app")["Stacks"][0]["Outputs"]
    values = {o["OutputKey"]: o["OutputValue"] for o in outputs}
    assert values["Greeting"] == "made"
    listed = aws.s3.list_objects_v2(Bucket=values["BucketName"])["Contents"]
    assert [o["Key"] for o in listed] == ["index.html"]
    kind = aws.s3.head_object(Bucket=values["BucketName"], Key="index.html")["ContentType"]
    assert kind.startswith("text/html")
    eventually(lambda: receiver.event_states(PIPELINE_EVENTS) == ["STARTED", "SUCCEEDED"])
    assert receiver.event_states(ACTION_EVENTS, action="Compile") == ["STARTED", "SUCCEEDED"]
    assert {e["detail"]["execution-id"] for e in receiver.events if e["source"] == "aws.codepipeline"} == {
        execution["pipelineExecutionId"]
    }
    status, overview = aws.get("/")
    assert status == 200
    assert "pipe-app" in overview
    assert sha[:7] in overview


def test_no_stage_runs_after_a_failed_build(aws: Aws, repository: Repository, receiver: Receiver) -> None:
    aws.create_pipeline()
    first = aws.wait_until_ended()
    repository.commit({"fail": ""}, "break it")

    failed = aws.wait_until_ended(start(aws))

    assert failed["status"] == "Failed"
    stages = aws.stages()
    assert stages["Build"]["latestExecution"]["status"] == "Failed"
    action = stages["Build"]["actionStates"][0]["latestExecution"]
    assert action["errorDetails"]["message"] == (
        "Build terminated with state: FAILED. Phase: POST_BUILD, Code: COMMAND_EXECUTION_ERROR, "
        "Message: Error while executing command: test -f fail && exit 7 || true. Reason: exit status 7"
    )
    # A stage that this execution did not reach shows its previous run.
    assert stages["Deploy"]["latestExecution"]["pipelineExecutionId"] == first["pipelineExecutionId"]
    log = aws.get(action["externalExecutionUrl"].removeprefix(aws.url))[1]
    assert "python 3" in log
    assert "Running command mkdir -p site" in log
    eventually(lambda: receiver.event_states(PIPELINE_EVENTS)[-1:] == ["FAILED"])
    aws.codepipeline.list_pipelines()


def test_a_commit_that_is_on_no_branch_can_be_pinned(aws: Aws, repository: Repository) -> None:
    aws.create_pipeline()
    assert aws.wait_until_ended()["status"] == "Succeeded"
    repository.tag("v1")
    dropped = repository.commit({"note": "gone"}, "to be dropped")
    assert aws.wait_until_ended(start(aws, "seen"))["status"] == "Succeeded"
    repository.drop_last_commit()

    execution = aws.wait_until_ended(start(aws, "again", sourceRevisions=pinned(dropped)))

    assert execution["status"] == "Succeeded", aws.stages()
    assert execution["artifactRevisions"][0]["revisionId"] == dropped
    unknown = aws.wait_until_ended(start(aws, "unknown", sourceRevisions=pinned("0" * 40)))
    assert unknown["status"] == "Failed"
    assert "No commit" in aws.action("Checkout")["output"]["executionResult"]["errorDetails"]["message"]


def test_a_missing_branch_fails_the_source(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    aws.create_pipeline(branch="nowhere")
    assert aws.wait_until_ended()["status"] == "Failed"
    assert (
        "No Branch [nowhere]"
        in aws.action("Checkout")["output"]["executionResult"]["errorDetails"]["message"]
    )


def test_the_same_token_starts_one_execution(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    aws.create_pipeline()
    aws.wait_until_ended()
    first = start(aws, "same")
    assert start(aws, "same") == first
    assert start(aws, "other") != first
    assert len(aws.executions()) == 3
    aws.wait_until_ended(first)
    assert start(aws, "same") == first


def test_a_newer_execution_supersedes_waiting_ones(
    aws: Aws, repository: Repository, receiver: Receiver
) -> None:
    repository.commit({"buildspec.yml": BUILDSPEC.replace("mkdir -p site", "mkdir -p site; sleep 1")}, "slow")
    aws.create_pipeline()
    eventually(lambda: aws.stages()["Build"].get("latestExecution"))
    waiting = start(aws, "1")
    eventually(lambda: aws.stages()["Build"].get("inboundExecution"))
    newest = start(aws, "2")

    assert aws.wait_until_ended(newest)["status"] == "Succeeded"

    assert aws.execution(waiting)["status"] == "Superseded"
    assert [e["status"] for e in aws.executions()] == ["Succeeded", "Superseded", "Succeeded"]
    states = eventually(lambda: receiver.event_states(PIPELINE_EVENTS, **{"execution-id": waiting})[1:])
    assert states == ["SUPERSEDED"]


def test_queued_executions_run_one_after_the_other(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    aws.create_pipeline(Mode="QUEUED")
    for token in "ab":
        start(aws, token)
    eventually(lambda: [e["status"] for e in aws.executions()] == ["Succeeded"] * 3)


def test_an_execution_is_stopped_after_its_action_or_immediately(aws: Aws, repository: Repository) -> None:
    repository.commit({"buildspec.yml": BUILDSPEC.replace("mkdir -p site", "mkdir -p site; sleep 1")}, "slow")
    aws.create_pipeline()
    first = aws.executions()[0]["pipelineExecutionId"]
    eventually(lambda: aws.stages()["Build"].get("latestExecution"))

    aws.codepipeline.stop_pipeline_execution(pipelineName="pipe", pipelineExecutionId=first, reason="enough")
    assert aws.execution(first)["status"] == "Stopping"
    with pytest.raises(aws.codepipeline.exceptions.DuplicatedStopRequestException):
        aws.codepipeline.stop_pipeline_execution(pipelineName="pipe", pipelineExecutionId=first)
    assert aws.wait_until_ended(first)["status"] == "Stopped"
    assert aws.stages()["Build"]["actionStates"][0]["latestExecution"]["status"] == "Succeeded"
    assert aws.executions()[0]["stopTrigger"] == {"reason": "enough"}
    assert "latestExecution" not in aws.stages()["Deploy"]

    second = start(aws)
    eventually(lambda: aws.stages()["Build"]["latestExecution"]["status"] == "InProgress")
    aws.codepipeline.stop_pipeline_execution(pipelineName="pipe", pipelineExecutionId=second, abandon=True)
    assert aws.execution(second)["status"] == "Stopped"
    assert aws.stages()["Build"]["actionStates"][0]["latestExecution"]["status"] == "Abandoned"
    with pytest.raises(aws.codepipeline.exceptions.PipelineExecutionNotStoppableException):
        aws.codepipeline.stop_pipeline_execution(pipelineName="pipe", pipelineExecutionId=second)


def test_a_changed_definition_cancels_running_executions(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    aws.create_pipeline(Approval="yes")
    running = aws.executions()[0]["pipelineExecutionId"]
    eventually(lambda: aws.stages()["Approve"].get("latestExecution"))
    definition = aws.codepipeline.get_pipeline(name="pipe")["pipeline"]
    assert definition["version"] == 1

    template = aws.cloudformation.get_template(StackName="pipe")["TemplateBody"]
    aws.cloudformation.update_stack(
        StackName="pipe",
        TemplateBody=template,
        Capabilities=["CAPABILITY_IAM"],
        Parameters=[
            {"ParameterKey": "Branch", "UsePreviousValue": True},
            {"ParameterKey": "Approval", "ParameterValue": "no"},
        ],
    )

    assert aws.wait_until_stable("pipe") == "UPDATE_COMPLETE"
    assert aws.execution(running)["status"] == "Cancelled"
    assert len(aws.executions()) == 1
    assert aws.codepipeline.get_pipeline(name="pipe")["pipeline"]["version"] == 2
    assert "Approve" not in aws.stages()


def test_a_stage_waits_for_an_approval(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    aws.create_pipeline(Approval="yes")

    def token() -> str | None:
        return aws.stages()["Approve"]["actionStates"][0].get("latestExecution", {}).get("token")

    given = {"pipelineName": "pipe", "stageName": "Approve", "actionName": "Ask"}
    approved = {"summary": "fine", "status": "Approved"}
    first = eventually(token)
    with pytest.raises(aws.codepipeline.exceptions.InvalidApprovalTokenException):
        aws.codepipeline.put_approval_result(
            **given, token="00000000-0000-0000-0000-000000000000", result=approved
        )
    aws.codepipeline.put_approval_result(**given, token=first, result=approved)
    assert aws.wait_until_ended()["status"] == "Succeeded"

    second = start(aws)
    rejected = {"summary": "not this", "status": "Rejected"}
    aws.codepipeline.put_approval_result(**given, token=eventually(token), result=rejected)
    assert aws.wait_until_ended(second)["status"] == "Failed"


def test_the_deletion_of_a_stack_deletes_its_pipeline(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    aws.create_pipeline()
    aws.cloudformation.delete_stack(StackName="pipe")
    eventually(
        lambda: not [s for s in aws.cloudformation.describe_stacks()["Stacks"] if s["StackName"] == "pipe"]
    )
    with pytest.raises(aws.codepipeline.exceptions.PipelineNotFoundException, match="'pipe'"):
        aws.codepipeline.get_pipeline_state(name="pipe")
    assert aws.codepipeline.list_pipelines()["pipelines"] == []


def test_a_build_has_its_own_variables_and_none_of_the_host(
    aws: Aws, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.client("ssm").put_parameter(Name="/word", Value="stored", Type="SecureString")
    monkeypatch.setenv("DEPLOYER_API_TOKEN", "host")
    monkeypatch.setenv("AWS_PROFILE", "host")
    spec = """\
version: 0.2
env:
  parameter-store: {WORD: /word}
phases:
  build:
    commands:
      - |
        env | sort > env.txt
        pwd > cwd.txt
      - test "$(cat cwd.txt)" = "$CODEBUILD_SRC_DIR"
      - aws_url=$AWS_ENDPOINT_URL; echo "$WORD $CODEBUILD_BUILD_ID" > index.html
artifacts: {files: [index.html, env.txt], discard-paths: yes}
"""
    repository.commit({"buildspec.yml": spec}, "look around")
    aws.create_pipeline()
    build = eventually(lambda: aws.stages()["Build"].get("latestExecution"))
    assert build
    ended = aws.wait_until_ended()
    # The deployment uses the variable RESULT, which this build does not export.
    assert ended["status"] == "Failed"
    assert "#{Build.RESULT}" in aws.action("Stack")["output"]["executionResult"]["errorDetails"]["message"]
    site = aws.action("Compile")["output"]["outputArtifacts"][0]["s3location"]
    archive = aws.s3.get_object(Bucket=site["bucket"], Key=site["key"])["Body"].read()
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        seen = files.read("env.txt").decode()
        assert files.read("index.html").decode().startswith("stored pipe-build:")
    assert "host" not in [line.partition("=")[2] for line in seen.splitlines()]
    assert "CODEBUILD_RESOLVED_SOURCE_VERSION=" in seen
    assert f"AWS_ENDPOINT_URL={aws.url}" in seen


def test_a_build_without_buildspec_or_artifacts_fails_with_a_reason(aws: Aws, repository: Repository) -> None:
    repository.commit({"buildspec.yml": "version: 0.2\nphases: {build: {commands: [exit 3]}}\n"}, "exit")
    aws.create_pipeline()
    aws.wait_until_ended()

    def message() -> str:
        return str(aws.action("Compile")["output"]["executionResult"]["errorDetails"]["message"])

    assert "Error while executing command: exit 3. Reason: exit status 3" in message()
    repository.commit({"buildspec.yml": "version: 0.2\nphases: {}\nartifacts: {files: [none.txt]}\n"}, "none")
    aws.wait_until_ended(start(aws, "1"))
    assert "no matching artifact paths found for none.txt" in message()
    repository.commit({"buildspec.yml": "phases: {"}, "malformed")
    aws.wait_until_ended(start(aws, "2"))
    assert "YAML_FILE_ERROR" in message()


def test_background_processes_of_a_build_are_killed(aws: Aws, repository: Repository, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    spec = BUILDSPEC.replace("mkdir -p site", f"mkdir -p site; sleep 300 & echo $! > {pid}")
    repository.commit({"buildspec.yml": spec}, "a daemon")
    aws.create_pipeline()
    assert aws.wait_until_ended()["status"] == "Succeeded"
    eventually(lambda: not Path(f"/proc/{pid.read_text().strip()}").exists())


def test_a_failed_application_stack_names_the_reason(aws: Aws, repository: Repository) -> None:
    app = "Resources: {Site: {Type: AWS::S3::Bucket, Properties: {BucketName: taken}}}"
    repository.commit({"app.yml": app}, "a name that is taken")
    aws.s3.create_bucket(Bucket="taken")
    aws.create_pipeline()
    assert aws.wait_until_ended()["status"] == "Failed"
    message = aws.action("Stack")["output"]["executionResult"]["errorDetails"]["message"]
    assert "do not exist in the template" in message
    app = "Parameters: {Greeting: {Type: String}}\n" + app
    repository.commit({"app.yml": app}, "a name that is taken")
    aws.wait_until_ended(start(aws))
    message = aws.action("Stack")["output"]["executionResult"]["errorDetails"]["message"]
    assert "ROLLBACK_COMPLETE" in message
    assert "Site: taken already exists" in message
