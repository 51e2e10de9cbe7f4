"""Executions that deployer did not start, in a production whose pipeline AWS and people start as well."""

from typing import Any

import boto3
import pytest

from deployer.redis_store.connection import connect
from sandbox.installation import Installation, WorkingCopy, wait_for

CONTEXT = "deployer/foreign-execution"


@pytest.fixture
def ada(here: Installation) -> Any:
    """CodePipeline as a person uses it."""
    keys = {"aws_access_key_id": "ada", "aws_secret_access_key": "x"}
    return boto3.client("codepipeline", endpoint_url=here.aws, region_name="us-east-1", **keys)


def release(here: Installation, repository: str, copy: WorkingCopy) -> tuple[str, str]:
    """Deploy production by a tag; return the name of its pipeline and the commit."""
    sha = copy.write("The release", {})
    copy.git("tag", "v1")
    copy.push("HEAD:main", "v1")
    production = here.settled("production", sha, repository)
    assert production["outcome"] == "deployed", production
    return str(production["id"]), sha


def wait_for_foreign(here: Installation, repository: str, trigger: str) -> dict[str, Any]:
    """Wait until production has a foreign execution of a trigger that has succeeded; return production."""

    def look() -> dict[str, Any]:
        found = here.environment("production", repository) or {}
        foreign = found.get("foreign_executions", [])
        has_ended = any((each["trigger"], each["status"]) == (trigger, "succeeded") for each in foreign)
        return found if has_ended else {}

    return wait_for(f"production of {repository} has an execution by {trigger}", look, 60)


def test_production_stays_the_tags_although_people_and_aws_start_its_pipeline(
    here: Installation, repository: str, copy: WorkingCopy, ada: Any
) -> None:
    name, sha = release(here, repository, copy)
    (own,) = here.executions(name)
    creation = here.executions(name, automatic=True)[0]
    assert (creation["trigger"], creation["status"]) == ("CreatePipeline", "Stopped")
    assert own["trigger_detail"].endswith(":user/sandbox")

    later = copy.write("On main only", {"site/later.txt": "later"})
    copy.push("HEAD:main")
    here.settled("staging", later, repository)
    started = ada.start_pipeline_execution(name=name)["pipelineExecutionId"]
    found = wait_for_foreign(here, repository, "StartPipelineExecution")
    assert (found["state"], found["outcome"], found["commit"], found["execution"]) == (
        "deployed",
        "deployed",
        sha,
        own["id"],
    )
    (foreign,) = found["foreign_executions"]
    assert (foreign["id"], foreign["commit"]) == (started, later)
    assert foreign["reason"] == f"execution {started[:8]} of {later[:12]} succeeded; user/ada started it"
    status = wait_for("the status is posted", lambda: here.statuses(sha, repository).get(CONTEXT), 30)
    assert status["state"] == "error"
    why = here.cli("why", repository, "production").stdout
    assert "not deployer's deployment" in why
    assert "(foreign execution)" in here.cli("status", repository).stdout

    ada.rollback_stage(pipelineName=name, stageName="Deploy", targetPipelineExecutionId=own["id"])
    found = wait_for_foreign(here, repository, "ManualRollback")
    assert [each["commit"] for each in found["foreign_executions"]] == [sha, later]

    definition = ada.get_pipeline(name=name)["pipeline"]
    source = definition["stages"][0]["actions"][0]
    source["configuration"]["DetectChanges"] = "true"
    ada.update_pipeline(pipeline=definition)
    merged = copy.write("Merged", {"site/merged.txt": "merged"})
    copy.push("HEAD:main")
    found = wait_for_foreign(here, repository, "WebhookV2")
    assert found["foreign_executions"][0]["commit"] == merged
    assert (found["commit"], found["execution"]) == (sha, own["id"])

    refused = here.cli("redeploy", repository, "production", "--wait")
    assert "AWS starts it when the source of Source changes" in refused.stderr
    source["configuration"]["DetectChanges"] = "false"
    ada.update_pipeline(pipeline=definition)
    done = here.cli("redeploy", repository, "production", "--wait")
    assert done.returncode == 0, done.stderr
    found = here.settled("production", sha, repository)
    assert (found["foreign_executions"], found["outcome"]) == ([], "deployed")
    assert here.executions(name)[-1]["sha"] == sha
    wait_for(
        "the status is corrected", lambda: here.statuses(sha, repository)[CONTEXT]["state"] == "success", 30
    )


def test_after_a_loss_of_redis_the_execution_of_deployers_role_is_adopted(
    here: Installation, repository: str, copy: WorkingCopy, ada: Any
) -> None:
    name, sha = release(here, repository, copy)
    (own,) = here.executions(name)
    ada.start_pipeline_execution(name=name)
    wait_for_foreign(here, repository, "StartPipelineExecution")
    with connect(here.env["DEPLOYER_REDIS_URL"]) as client:
        client.delete(*client.scan_iter(f"deployer:{{{repository.lower()}}}:*"))
    assert here.cli("resync", repository, "--wait").returncode == 0
    found = wait_for_foreign(here, repository, "StartPipelineExecution")
    assert (found["commit"], found["execution"]) == (sha, own["id"])
