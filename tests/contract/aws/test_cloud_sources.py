"""The commit is pinned on the source actions that read the repository, and no pipeline starts that reads another."""

import json
from pathlib import Path
from typing import Any

import boto3
import pytest
from cloud_kit import HERE, REPOSITORY, SandboxKit, commit, named, release, settled

from deployer.model.environments import Repository
from deployer.model.errors import PermanentError
from deployer.model.source_actions import SourceAction, SourceLocation, start_problem
from deployer.templates.release import Release

TOOLS = "acme/tools"
ELSEWHERE = SourceLocation(Repository.parse("acme/elsewhere"), "main")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return named(request.node.name)


@pytest.fixture
def tools(aws: SandboxKit) -> str:
    """The head of another repository."""
    ours: Path = aws._repository
    return commit(ours.with_name("tools.git"))


def with_sources(name: str, sha: str, *sources: dict[str, Any]) -> Release:
    """A release whose pipeline has these source actions, each with an artifact of its own name."""
    made = release(name, sha)
    template = json.loads(made.template)
    stages = template["Resources"]["Pipeline"]["Properties"]["Stages"]
    (declared,) = stages[0]["Actions"]
    stages[0]["Actions"] = [
        {
            **declared,
            "Name": each["Name"],
            "OutputArtifacts": [{"Name": each["Artifact"]}],
            "Configuration": {**declared["Configuration"], **each.get("Configuration", {})},
        }
        for each in sources
    ]
    return Release(json.dumps(template), made.parameters, needs_token=False, tags=made.tags)


APP = {"Name": "App", "Artifact": "Source"}
SIDE = {"Name": "Tools", "Artifact": "Tools", "Configuration": {"FullRepositoryId": TOOLS}}
TWIN = {"Name": "Twin", "Artifact": "Twin", "Configuration": {"FullRepositoryId": REPOSITORY}}


def created(aws: SandboxKit, name: str, *sources: dict[str, Any]) -> None:
    """Create the stack and wait for the execution that its creation starts."""
    arn = aws.cloud.create_stack(name, with_sources(name, aws.commit(), *sources), f"create-{name}")
    assert settled(aws, arn) == "CREATE_COMPLETE"
    aws.until(lambda: [e for e in aws.cloud.executions(name) if e.ended])


def revisions(aws: SandboxKit, name: str, execution: str) -> dict[str, str]:
    """The commit of each source action of an execution."""
    client = boto3.client("codepipeline", region_name="us-east-1", endpoint_url=aws.url)
    listed = client.list_pipeline_executions(pipelineName=name)["pipelineExecutionSummaries"]
    (found,) = [each for each in listed if each["pipelineExecutionId"] == execution]
    return {each["actionName"]: each["revisionId"] for each in found["sourceRevisions"]}


@pytest.mark.parametrize("order", [1, -1], ids=["tools first", "tools last"])
def test_every_source_of_this_repository_is_pinned_and_no_other(
    aws: SandboxKit, name: str, tools: str, order: int
) -> None:
    wanted = aws.commit()
    created(aws, name, *[SIDE, APP, TWIN][::order])

    started = aws.cloud.start(name, wanted, f"start-{name}", HERE)
    aws.until(lambda: aws.cloud.executions(name, HERE.repository)[0].ended)

    newest = aws.cloud.executions(name, HERE.repository)[0]
    assert (newest.id, newest.sha, newest.status) == (started, wanted, "succeeded")
    whole = aws.cloud.execution(name, started, HERE.repository)
    assert whole is not None
    assert whole.sha == wanted
    assert revisions(aws, name, started) == {"App": wanted, "Twin": wanted, "Tools": tools}
    assert aws.cloud.executions(name)[0].sha == "", "of several commits none counts without a repository"


@pytest.mark.parametrize(
    ("source", "location", "words"),
    [
        (APP, ELSEWHERE, "no source action reads acme/elsewhere"),
        (APP, SourceLocation(HERE.repository, "other"), "no source action reads acme/shop at other"),
        (
            {**APP, "Configuration": {"DetectChanges": True}},
            HERE,
            "AWS starts it when the source of App changes",
        ),
    ],
)
def test_what_is_known_only_from_the_definition_is_decided_before_the_start(
    aws: SandboxKit, name: str, source: dict[str, Any], location: SourceLocation, words: str
) -> None:
    created(aws, name, source)
    before = len(aws.cloud.executions(name))
    with (
        aws.calls() as calls,
        pytest.raises(PermanentError, match=rf"pipeline {name} is not started: {words}"),
    ):
        aws.cloud.start(name, aws.commit(), f"start-{name}", location)
    assert calls == ["GetPipeline"]
    assert len(aws.cloud.executions(name)) == before


CONNECTION = {"FullRepositoryId": REPOSITORY, "BranchName": "main", "DetectChanges": "false"}
V1 = {"Owner": "acme", "Repo": "shop", "Branch": "main", "PollForSourceChanges": "false"}


@pytest.mark.parametrize(
    ("actions", "branch", "words"),
    [
        ([("CodeStarSourceConnection", CONNECTION)], "main", ""),
        ([("CodeStarSourceConnection", CONNECTION)], "", ""),  # a tag: its commit is pinned
        ([("CodeStarSourceConnection", {**CONNECTION, "BranchName": "#{variables.Branch}"})], "main", ""),
        ([("GitHub", V1)], "main", ""),
        ([("GitHub", {**V1, "Repo": "other"})], "main", "no source action reads"),
        (
            [("CodeStarSourceConnection", CONNECTION)],
            "feature",
            "no source action reads acme/shop at feature",
        ),
        ([("CodeStarSourceConnection", CONNECTION), ("ECR", {})], "main", ""),
        ([("CodeStarSourceConnection", CONNECTION), ("S3", {})], "main", "write PollForSourceChanges: false"),
        ([("CodeCommit", {"PollForSourceChanges": "false"})], "main", "no source action reads"),
        (
            [("CodeStarSourceConnection", {**CONNECTION, "DetectChanges": "true"})],
            "main",
            "DetectChanges: false",
        ),
        ([], "main", "no source action reads"),
    ],
)
def test_why_a_pipeline_is_not_started(
    actions: list[tuple[str, dict[str, str]]], branch: str, words: str
) -> None:
    sources = [SourceAction(f"A{at}", provider, given) for at, (provider, given) in enumerate(actions)]
    location = SourceLocation(HERE.repository, branch)
    told = start_problem(sources, location, has_triggers=False)
    assert words in told
    assert bool(words) == bool(told)
    assert "remove" in start_problem(sources, location, has_triggers=True)
