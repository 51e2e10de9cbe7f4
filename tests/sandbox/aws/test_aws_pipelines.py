"""Pipelines of the simulated CodePipeline: they start, build, deploy, stop, and tell of it."""

from __future__ import annotations

import re

import pytest
from aws_harness import Aws, Receiver, Repository, eventually
from botocore.exceptions import ClientError


def test_a_branch_goes_from_its_stack_to_a_page_in_the_browser(
    aws: Aws, repository: Repository, receiver: Receiver
) -> None:
    sha = repository.commit({"note": "one"}, "a note")

    aws.create_pipeline()
    execution = aws.ended()

    assert execution["status"] == "Succeeded", aws.stages()
    assert execution["trigger"]["triggerType"] == "CreatePipeline"
    assert [r["revisionId"] for r in execution["artifactRevisions"]] == [sha]
    assert execution["artifactRevisions"][0]["revisionSummary"] == "a note"
    outputs = aws.cloudformation.describe_stacks(StackName="pipe-app")["Stacks"][0]["Outputs"]
    values = {o["OutputKey"]: o["OutputValue"] for o in outputs}
    assert values["Greeting"] == "made"
    assert aws.get(f"/{values['BucketName']}/index.html") == (200, f"<h1>hello main {sha}</h1>\n")
    assert aws.get(f"/{values['BucketName']}/")[0] == 200
    eventually(lambda: "SUCCEEDED" in receiver.states("CodePipeline Pipeline Execution State Change"))
