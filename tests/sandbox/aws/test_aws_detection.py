"""What starts a pipeline of the simulated AWS by itself, and the triggers that AWS reports."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aws_harness import Aws, Receiver, Repository, eventually, expect_error
from botocore.exceptions import ClientError

from sandbox.aws.detection import matches_pattern

ACCOUNT = "123456789012"
CONNECTION = f"arn:aws:codeconnections:us-east-1:{ACCOUNT}:connection/x"
CONNECTED = {"ConnectionArn": CONNECTION, "FullRepositoryId": "acme/hello", "BranchName": "main"}
WITH_TOKEN = {"Owner": "acme", "Repo": "hello", "Branch": "main", "OAuthToken": "secret"}
OFF: dict[str, Any] = {"DetectChanges": False}
TAGS = [{"Tags": {"Includes": ["v*"], "Excludes": ["v0*"]}}]
BRANCHES = [{"Branches": {"Includes": ["main", "feature/*"]}}]


def pipeline(source: dict[str, Any], **properties: Any) -> dict[str, Any]:
    """A pipeline with a source and a stage that deploys a stack."""
    connected = "ConnectionArn" in source
    provider = "CodeStarSourceConnection" if connected else "GitHub"
    kind = {
        "Category": "Source",
        "Owner": "AWS" if connected else "ThirdParty",
        "Provider": provider,
        "Version": "1",
    }
    deploy = {"Category": "Deploy", "Owner": "AWS", "Provider": "CloudFormation", "Version": "1"}
    settings = {"ActionMode": "CREATE_UPDATE", "StackName": "application", "TemplatePath": "Tree::app.yml"}
    stages = [
        {
            "Name": "Source",
            "Actions": [
                {
                    "Name": "Checkout",
                    "ActionTypeId": kind,
                    "Configuration": source,
                    "OutputArtifacts": [{"Name": "Tree"}],
                }
            ],
        },
        {
            "Name": "Deploy",
            **properties.pop("stage", {}),
            "Actions": [
                {
                    "Name": "Stack",
                    "ActionTypeId": deploy,
                    "Configuration": settings,
                    "InputArtifacts": [{"Name": "Tree"}],
                }
            ],
        },
    ]
    role = f"arn:aws:iam::{ACCOUNT}:role/pipeline"
    store = {"Type": "S3", "Location": "artifacts"}
    whole = {"Name": "pipe", "RoleArn": role, "ArtifactStore": store, "Stages": stages, **properties}
    return {"Type": "AWS::CodePipeline::Pipeline", "Properties": whole}


def create(aws: Aws, resource: dict[str, Any], **more: Any) -> None:
    """Create the stack, wait for the end of the execution that its creation starts."""
    aws.s3.create_bucket(Bucket="artifacts")
    aws.create("stack", json.dumps({"Resources": {"Pipeline": resource, **more}}))
    assert aws.wait_until_stable("stack") == "CREATE_COMPLETE"
    assert aws.wait_until_ended()["status"] == "Succeeded"


def triggers(aws: Aws) -> list[tuple[str, str]]:
    """What started each execution, oldest first."""
    found = [each["trigger"] for each in reversed(aws.executions())]
    return [(each["triggerType"], each["triggerDetail"]) for each in found]


def built(aws: Aws) -> list[str]:
    """The commits of the executions, oldest first."""
    return [r["revisionId"] for each in reversed(aws.executions()) for r in each.get("sourceRevisions", [])]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CONNECTED, ("WebhookV2", CONNECTION)),
        ({**CONNECTED, "DetectChanges": True}, ("WebhookV2", CONNECTION)),
        (WITH_TOKEN, ("PollForSourceChanges", "Checkout")),
        ({**WITH_TOKEN, "PollForSourceChanges": True}, ("PollForSourceChanges", "Checkout")),
    ],
)
def test_a_push_starts_a_pipeline_unless_detection_is_switched_off(
    aws: Aws, repository: Repository, source: dict[str, Any], expected: tuple[str, str]
) -> None:
    create(aws, pipeline(source))
    sha = repository.commit({"note": "new"}, "a change")
    eventually(lambda: len(aws.executions()) == 2)
    assert triggers(aws)[1] == expected
    aws.wait_until_ended()
    assert built(aws)[1] == sha
    repository.commit({"note": "elsewhere"}, "a change of another branch", branch="other")
    repository.commit({"note": "newer"}, "another change")
    eventually(lambda: len(aws.executions()) == 3)


@pytest.mark.parametrize(
    "source",
    [{**CONNECTED, **OFF}, {**WITH_TOKEN, "PollForSourceChanges": False}],
    ids=["connection", "token"],
)
def test_a_pipeline_without_detection_does_not_start(
    aws: Aws, repository: Repository, source: dict[str, Any]
) -> None:
    create(aws, pipeline(source))
    watching = pipeline(CONNECTED, Name="watching")
    aws.create("second", json.dumps({"Resources": {"Pipeline": watching}}))
    eventually(lambda: aws.wait_until_stable("second") == "CREATE_COMPLETE")
    aws.wait_until_ended(pipeline="watching")
    repository.commit({"note": "new"}, "a change")
    eventually(lambda: len(aws.executions("watching")) == 2)
    assert len(aws.executions()) == 1


@pytest.mark.parametrize(
    ("push", "ref", "starts"),
    [
        (BRANCHES, "main", True),
        (BRANCHES, "feature/x", True),
        (BRANCHES, "other", False),
        (TAGS, "main", False),
        (TAGS, "tag v1", True),
        (TAGS, "tag v0.1", False),
        (TAGS, "tag x", False),
    ],
)
def test_triggers_decide_alone_what_starts_a_pipeline(
    aws: Aws, repository: Repository, push: list[dict[str, Any]], ref: str, starts: bool
) -> None:
    git = {"SourceActionName": "Checkout", "Push": push}
    trigger = {"ProviderType": "CodeStarSourceConnection", "GitConfiguration": git}
    create(aws, pipeline(CONNECTED, PipelineType="V2", Triggers=[trigger]))
    watching = pipeline(WITH_TOKEN | {"Branch": "last"}, Name="watching")
    aws.create("second", json.dumps({"Resources": {"Pipeline": watching}}))
    repository.commit({"note": "x"}, "x", branch="last")
    eventually(lambda: aws.wait_until_stable("second") == "CREATE_COMPLETE")
    if ref.startswith("tag "):
        repository.tag(ref.removeprefix("tag "))
    else:
        repository.commit({"note": ref}, "a change", branch=ref)
    if starts:
        eventually(lambda: len(aws.executions()) == 2)
        assert triggers(aws)[1] == ("WebhookV2", CONNECTION)
        return
    before = len(aws.executions("watching"))
    repository.commit({"note": "last"}, "a change that is detected later", branch="last")
    eventually(lambda: len(aws.executions("watching")) > before)
    assert len(aws.executions()) == 1


def test_a_webhook_of_the_template_starts_its_pipeline(aws: Aws, repository: Repository) -> None:
    hook = {
        "Type": "AWS::CodePipeline::Webhook",
        "DependsOn": "Pipeline",
        "Properties": {
            "Name": "hook",
            "TargetPipeline": "pipe",
            "TargetAction": "Checkout",
            "TargetPipelineVersion": 1,
            "Authentication": "GITHUB_HMAC",
            "AuthenticationConfiguration": {"SecretToken": "x"},
            "Filters": [{"JsonPath": "$.ref", "MatchEquals": "refs/heads/{Branch}"}],
            "RegisterWithThirdParty": True,
        },
    }
    create(aws, pipeline({**WITH_TOKEN, "PollForSourceChanges": False}), Hook=hook)
    repository.commit({"note": "new"}, "a change")
    eventually(lambda: len(aws.executions()) == 2)
    assert triggers(aws)[1] == ("Webhook", f"arn:aws:codepipeline:us-east-1:{ACCOUNT}:webhook:hook")


def test_a_rule_of_the_template_starts_its_pipeline(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    arn = f"arn:aws:codepipeline:us-east-1:{ACCOUNT}:pipe"
    pattern = {
        "source": ["aws.codepipeline"],
        "detail-type": ["CodePipeline Pipeline Execution State Change"],
        "detail": {"pipeline": ["other"], "state": ["SUCCEEDED"]},
    }
    rule = {
        "Type": "AWS::Events::Rule",
        "Properties": {
            "Name": "after",
            "EventPattern": pattern,
            "Targets": [{"Arn": arn, "Id": "pipe", "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/x"}],
        },
    }
    create(aws, pipeline({**CONNECTED, **OFF}), Rule=rule)
    other = pipeline({**CONNECTED, **OFF}, Name="other")
    aws.create("second", json.dumps({"Resources": {"Pipeline": other}}))
    eventually(lambda: len(aws.executions()) == 2)
    assert triggers(aws)[1] == ("CloudWatchEvent", f"arn:aws:events:us-east-1:{ACCOUNT}:rule/after")


def test_patterns_of_events_match_by_listed_values() -> None:
    event = {"source": "aws.codecommit", "detail": {"event": "referenceUpdated", "names": ["a", "b"]}}
    assert matches_pattern({"source": ["aws.codecommit", "x"], "detail": {"names": ["b"]}}, event)
    assert not matches_pattern({"source": ["x"]}, event)
    assert not matches_pattern({"detail": {"event": [{"prefix": "reference"}]}}, event)
    assert not matches_pattern({"missing": ["x"]}, event)


@pytest.mark.parametrize("restarts", [True, False])
def test_an_update_restarts_the_pipeline_only_if_its_property_says_so(
    aws: Aws,
    repository: Repository,  # noqa: ARG001
    restarts: bool,
) -> None:
    create(aws, pipeline({**CONNECTED, **OFF}, RestartExecutionOnUpdate=restarts))
    changed = pipeline(
        {**CONNECTED, **OFF}, RestartExecutionOnUpdate=restarts, ExecutionMode="QUEUED", PipelineType="V2"
    )
    aws.cloudformation.update_stack(
        StackName="stack", TemplateBody=json.dumps({"Resources": {"Pipeline": changed}})
    )
    assert aws.wait_until_stable("stack") == "UPDATE_COMPLETE"
    caller = f"arn:aws:iam::{ACCOUNT}:user/test"
    restarted = [("StartPipelineExecution", caller)] if restarts else []
    assert triggers(aws) == [("CreatePipeline", caller), *restarted]


def test_a_request_is_reported_with_its_caller(aws: Aws, repository: Repository) -> None:  # noqa: ARG001
    create(aws, pipeline({**CONNECTED, **OFF}))
    for name in ("ada", "ben"):
        person = aws.client("codepipeline", aws_access_key_id=name)
        person.start_pipeline_execution(name="pipe")
        identity = aws.client("sts", aws_access_key_id=name).get_caller_identity()
        assert identity["Arn"] == f"arn:aws:iam::{ACCOUNT}:user/{name}"
        assert triggers(aws)[-1] == ("StartPipelineExecution", identity["Arn"])
    role = f"arn:aws:iam::{ACCOUNT}:role/deployer"
    keys = aws.client("sts").assume_role(RoleArn=role, RoleSessionName="worker")["Credentials"]
    session = {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        "aws_session_token": keys["SessionToken"],
    }
    aws.client("codepipeline", **session).start_pipeline_execution(name="pipe")
    assumed = f"arn:aws:sts::{ACCOUNT}:assumed-role/deployer/worker"
    assert aws.client("sts", **session).get_caller_identity()["Arn"] == assumed
    assert triggers(aws)[-1] == ("StartPipelineExecution", assumed)


def test_a_stage_is_rolled_back_by_a_new_execution(aws: Aws, repository: Repository) -> None:
    create(aws, pipeline({**CONNECTED, **OFF}, PipelineType="V2"))
    (first,) = built(aws)
    target = aws.executions()[0]["pipelineExecutionId"]
    app = "Resources: {Second: {Type: AWS::SNS::Topic}}\n"
    repository.commit({"app.yml": app}, "another application")
    aws.codepipeline.start_pipeline_execution(name="pipe")
    assert aws.wait_until_ended()["status"] == "Succeeded"
    given = {"pipelineName": "pipe", "targetPipelineExecutionId": target}
    with expect_error("UnableToRollbackStageException", "Source"):
        aws.codepipeline.rollback_stage(stageName="Source", **given)
    person = aws.client("codepipeline", aws_access_key_id="ada")
    identity = person.rollback_stage(stageName="Deploy", **given)["pipelineExecutionId"]
    rolled = aws.wait_until_ended(identity)
    assert rolled["status"] == "Succeeded"
    assert (rolled["executionType"], rolled["rollbackMetadata"]["rollbackTargetPipelineExecutionId"]) == (
        "ROLLBACK",
        target,
    )
    assert triggers(aws)[-1] == ("ManualRollback", f"arn:aws:iam::{ACCOUNT}:user/ada")
    assert built(aws)[-1] == first
    resources = aws.cloudformation.describe_stack_resources(StackName="application")["StackResources"]
    left = [each["LogicalResourceId"] for each in resources if "DELETE" not in each["ResourceStatus"]]
    assert left == ["Site"]
    with expect_error("UnableToRollbackStageException", "Deploy"):
        aws.codepipeline.rollback_stage(
            pipelineName="pipe", stageName="Deploy", targetPipelineExecutionId=identity
        )


def test_a_failed_stage_is_rolled_back_by_aws_if_the_template_says_so(
    aws: Aws, repository: Repository
) -> None:
    stage = {"OnFailure": {"Result": "ROLLBACK"}}
    create(aws, pipeline({**CONNECTED, **OFF}, PipelineType="V2", stage=stage))
    repository.commit({"app.yml": "Resources: {}\n"}, "no resources")
    failed = aws.codepipeline.start_pipeline_execution(name="pipe")["pipelineExecutionId"]
    assert aws.wait_until_ended(failed)["status"] == "Failed"
    eventually(lambda: len(aws.executions()) == 3)
    assert triggers(aws)[-1] == ("AutomatedRollback", failed)
    assert aws.wait_until_ended()["status"] == "Succeeded"


def test_a_failed_stage_is_retried_in_the_same_execution(
    aws: Aws,
    repository: Repository,  # noqa: ARG001
    receiver: Receiver,
) -> None:
    create(aws, pipeline({**CONNECTED, **OFF}))
    aws.inject_faults(fail_actions=[{"pipeline": "pipe", "stage": "Deploy", "reason": "flaky", "count": 1}])
    failed = aws.codepipeline.start_pipeline_execution(name="pipe")["pipelineExecutionId"]
    assert aws.wait_until_ended(failed)["status"] == "Failed"
    given = {"pipelineName": "pipe", "pipelineExecutionId": failed, "retryMode": "FAILED_ACTIONS"}
    with pytest.raises(ClientError, match="cannot be retried"):
        aws.codepipeline.retry_stage_execution(stageName="Source", **given)
    answer = aws.codepipeline.retry_stage_execution(stageName="Deploy", **given)
    assert answer["pipelineExecutionId"] == failed
    assert aws.wait_until_ended(failed)["status"] == "Succeeded"
    states = receiver.event_states
    what = "CodePipeline Pipeline Execution State Change"
    eventually(
        lambda: states(what, **{"execution-id": failed}) == ["STARTED", "FAILED", "RESUMED", "SUCCEEDED"]
    )
    assert len(aws.executions()) == 2
