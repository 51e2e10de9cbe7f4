"""Tests with real processes: the number of requests of a deployment, and the deletion of production."""

import re
from datetime import datetime
from typing import Any

import pytest
from life_kit import metric

from sandbox.installation import Installation, WorkingCopy, call, wait_for

# of a creation with events on: calls to AWS, without those that read the stages of an execution, and reads from GitHub
MOST_CALLS, MOST_READS = 6, 4
_STAGES = {"GetPipelineExecution", "ListActionExecutions", "ListPipelineExecutions"}
_DELETED = "refs/tags/v1 was deleted; production stays as it is"


def activity(here: Installation, repository: str) -> list[dict[str, Any]]:
    """What ended in a repository, newest first."""
    return list(here.api(f"activity?repository={repository}")["activity"])


def asked_of_github(here: Installation, since: int = 0) -> list[dict[str, Any]]:
    return list(call("GET", f"{here.github}/_sandbox/calls?since={since}").json)


def asked_of_aws(here: Installation, stack: str, until: float) -> list[dict[str, Any]]:
    """What deployer asked about one stack, or about the pipeline of that name."""
    named = re.compile(rf"{stack}$|arn:.*:stack/{stack}/")
    return [
        each
        for each in here.aws_calls()
        if "deployer" in each["user_agent"] and named.match(each["name"] or "") and each["time"] <= until
    ]


def counted_calls(here: Installation) -> dict[str, float]:
    """The calls that deployer has counted so far, by service."""
    return {
        to: sum(
            metric(here, f'deployer_calls_total{{for="{purpose}",to="{to}"}}')
            for purpose in ("deployment", "stages")
        )
        for to in ("aws", "github")
    }


def test_a_new_branch_costs_few_calls_and_each_is_counted(
    here: Installation, repository: str, copy: WorkingCopy
) -> None:
    here.settled("staging", copy.head, repository)
    before = asked_of_github(here)[-1]["seq"]
    counted = counted_calls(here)
    copy.branch("new")
    sha = copy.write("New", {})
    copy.push()
    found = here.settled("refs/heads/new", sha, repository)
    assert found["outcome"] == "deployed", found["reason"]

    # an event that comes after the end is looked at as well, and is no part of what the deployment cost
    ended = next(each for each in activity(here, repository) if each["environment"] == found["environment"])
    aws = asked_of_aws(here, found["id"], datetime.fromisoformat(ended["at"]).timestamp())
    github = [each for each in asked_of_github(here, before) if f"/repos/{repository}/" in each["path"]]
    operations = [each["operation"] for each in aws]
    assert 0 < sum(each not in _STAGES for each in operations) <= MOST_CALLS, operations
    assert 0 < sum(each["method"] == "GET" for each in github) <= MOST_READS, github
    # other repositories' tasks may be counted meanwhile, too
    grown = {to: number - counted[to] for to, number in counted_calls(here).items()}
    assert grown["aws"] >= len(aws)
    assert grown["github"] >= len(github)


def test_production_is_deleted_only_by_one_who_says_so(
    here: Installation, repository: str, copy: WorkingCopy
) -> None:
    copy.git("tag", "v1")
    copy.push("v1")
    production = here.settled("production", copy.head, repository)
    assert production["outcome"] == "deployed", production["reason"]
    name, stacks = production["id"], here.stacks()
    both = {name, f"{name}-app"}
    application, bucket = stacks[f"{name}-app"], stacks[f"{name}-app"]["outputs"]["BucketName"]
    assert stacks[name]["protected"]

    copy.push(":refs/tags/v1")
    wait_for(_DELETED, lambda: [each for each in activity(here, repository) if each["reason"] == _DELETED])
    assert here.cli("resync", repository, "--wait").returncode == 0
    with pytest.raises(RuntimeError, match=r"production .*--yes-really"):
        here.api(f"environments/{name}", "DELETE")
    refused = here.cli("delete", "--environment", "production", repository)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert name in refused.stderr
    assert f"{name}-app" in refused.stderr
    assert f"deployer delete --environment production {repository} --yes-really" in refused.stderr
    wait_for(
        "no work",
        lambda: repository not in [each["repository"] for each in here.api("lanes")["lanes"]],
    )
    assert {each: here.stacks()[each] for each in both} == {each: stacks[each] for each in both}

    done = here.cli("delete", "--environment", "production", "--yes-really", repository)
    assert done.returncode == 0, done.stderr
    here.deleted("production", repository)
    assert not here.stacks().keys() & both
    receipt = (here.environment("production", repository) or {})["receipt"]
    assert receipt["outcome"] == "partly"
    retained, *logs = receipt["retained"]
    assert (retained["what"], retained["id"]) == (f"AWS::S3::Bucket {bucket}", bucket)
    assert "not empty" in retained["why"]
    assert {each["why"] for each in logs} == {"deployer deletes the logs of builds in development only"}
    assert {each["id"].startswith(f"/aws/codebuild/{name}-") for each in logs} == {True}
    assert {each["id"] for each in receipt["removed"]} == {stacks[name]["id"], application["id"]}
    state = here.aws_state()
    assert state["buckets"][bucket] > 0
    assert [each["id"] for each in state["leftovers"] if each["stack"] in both] == [bucket]
