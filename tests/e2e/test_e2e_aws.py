"""What a deployment costs in calls, and how production is deleted: through real processes."""

import re
from datetime import datetime
from typing import Any

import pytest

from sandbox.installation import Installation, WorkingCopy, call, wait_for

MOST_CALLS = (
    6  # of a creation with events on, to AWS and to GitHub each, besides those for the stages' statuses
)
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


def test_a_new_branch_costs_few_calls_and_each_is_counted(
    here: Installation, repository: str, copy: WorkingCopy
) -> None:
    here.settled("staging", copy.head, repository)
    before = asked_of_github(here)[-1]["seq"]
    copy.branch("new")
    sha = copy.write("New", {})
    copy.push()
    found = here.settled("refs/heads/new", sha, repository)
    assert found["outcome"] == "deployed", found["reason"]

    # an event that comes after the end is looked at as well, and is no part of what the deployment cost
    ended = next(each for each in activity(here, repository) if each["environment"] == found["environment"])
    aws = asked_of_aws(here, found["id"], datetime.fromisoformat(ended["at"]).timestamp())
    github = [each for each in asked_of_github(here, before) if f"/repos/{repository}/" in each["path"]]
    told = found["calls"]
    assert told["aws"] + told["aws_stages"] == len(aws), [each["operation"] for each in aws]
    assert told["github"] + told["github_stages"] == len(github), github
    assert 0 < told["aws"] <= MOST_CALLS
    assert 0 < told["github"] <= MOST_CALLS


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
        "nothing waits",
        lambda: repository not in [each["repository"] for each in here.api("lanes")["lanes"]],
    )
    assert {each: here.stacks()[each] for each in both} == {each: stacks[each] for each in both}

    done = here.cli("delete", "--environment", "production", "--yes-really", repository)
    assert done.returncode == 0, done.stderr
    here.deleted("production", repository)
    assert not here.stacks().keys() & both
    receipt = (here.environment("production", repository) or {})["receipt"]
    assert receipt["outcome"] == "partly"
    (retained,) = receipt["retained"]
    assert (retained["what"], retained["id"]) == (f"AWS::S3::Bucket {bucket}", bucket)
    assert "not empty" in retained["why"]
    assert {each["id"] for each in receipt["removed"]} == {stacks[name]["id"], application["id"]}
    state = here.aws_state()
    assert state["buckets"][bucket] > 0
    assert [each["id"] for each in state["leftovers"] if each["stack"] in both] == [bucket]
