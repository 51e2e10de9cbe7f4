"""The right source action: the pushed commit is deployed from it, and a pipeline without one starts nothing."""

import json
import subprocess
from typing import Any

import pytest
from aws_world import AwsWorld, Simulation, pipeline_template

from deployer.model.environments import Environment
from tests.unit.world import HELLO, environment

_X = "refs/heads/x"
_TOOLS = "acme/tools"


@pytest.fixture
def world(simulation: Simulation) -> AwsWorld:
    simulation.reset()
    world = AwsWorld(simulation)
    world.create_commits(_X)
    return world


@pytest.fixture(scope="module", autouse=True)
def tools(simulation: Simulation) -> None:
    """Another repository with one commit on its branch `main`."""
    bare = simulation.repository.with_name("tools.git")
    subprocess.run(["git", "init", "-q", "--bare", str(bare)], check=True)
    stream = "commit refs/heads/main\ncommitter Ada <ada@x> 1 +0000\ndata 1\nx\nM 644 inline a\ndata 1\nx\n"
    subprocess.run(["git", "fast-import", "--quiet"], cwd=bare, input=stream.encode(), check=True)


def template(*, change: dict[str, Any] | None = None, side: bool = False) -> str:
    """The pipeline with other settings of its source, perhaps with the tools repository before it."""
    content: dict[str, Any] = json.loads(pipeline_template())
    if {"Ref": "Setting"} in (change or {}).values():
        content["Parameters"]["Setting"] = {
            "Type": "AWS::SSM::Parameter::Value<String>",
            "Default": "setting",
        }
    actions = content["Resources"]["Pipeline"]["Properties"]["Stages"][0]["Actions"]
    (own,) = actions
    own["Configuration"].update(change or {})
    if side:
        settings = {**own["Configuration"], "FullRepositoryId": _TOOLS, "BranchName": "main"}
        actions.insert(
            0, {**own, "Name": "Tools", "OutputArtifacts": [{"Name": "Tools"}], "Configuration": settings}
        )
    return json.dumps(content, indent=1)


def executions(simulation: Simulation, of: Environment) -> list[dict[str, Any]]:
    """The executions of an environment's pipeline, oldest first, each with the commit of each source action."""
    client = simulation.client("codepipeline")
    listed = client.list_pipeline_executions(pipelineName=of.stack_name)["pipelineExecutionSummaries"]
    return [
        {
            "trigger": each["trigger"]["triggerType"],
            "status": each["status"],
            **{revision["actionName"]: revision["revisionId"] for revision in each["sourceRevisions"]},
        }
        for each in reversed(listed)
    ]


def test_the_commit_is_pinned_on_the_source_of_this_repository_though_another_comes_first(
    world: AwsWorld, simulation: Simulation
) -> None:
    world.push_commit(_X, 0, template=template(side=True))
    world.run()
    delivery = world.push_commit(_X, 1, template=template(side=True))
    world.push_commit(_X, 2, template=template(side=True))
    world.run()
    wanted = world.commits[_X][2]
    assert world.outcome(delivery)[0] in {"deployed", "superseded"}
    record = world.record(environment(_X))
    assert (record.status.state, record.spec.commit) == ("deployed", wanted)
    newest = executions(simulation, environment(_X))[-1]
    assert (newest["trigger"], newest["status"], newest["Checkout"]) == (
        "StartPipelineExecution",
        "Succeeded",
        wanted,
    )
    head = subprocess.run(
        ["git", "rev-parse", "main"],
        cwd=simulation.repository.with_name("tools.git"),
        capture_output=True,
        check=True,
    )
    assert newest["Tools"] == head.stdout.decode().strip()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"FullRepositoryId": _TOOLS},
            "no source action reads this repository: FullRepositoryId is 'acme/tools'",
        ),
        ({"BranchName": "main"}, "no source action reads this repository at the environment's branch"),
        ({"DetectChanges": True}, "AWS starts the pipeline when the source of Checkout changes"),
    ],
)
def test_a_push_of_a_wrong_pipeline_creates_nothing(
    world: AwsWorld, simulation: Simulation, change: dict[str, Any], words: str
) -> None:
    delivery = world.push_commit(_X, 0, template=template(change=change))
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert reason.startswith("deploy/pipeline.yml:")
    assert words in reason
    assert simulation.state["stacks"] == []


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("FullRepositoryId", _TOOLS, f"no source action reads {HELLO}; add one"),
        ("BranchName", "main", f"no source action reads {HELLO} at x"),
        (
            "DetectChanges",
            "true",
            "AWS starts it when the source of Checkout changes; write DetectChanges: false",
        ),
        ("FullRepositoryId", HELLO.full_name, ""),
    ],
)
def test_a_value_that_only_aws_knows_is_decided_before_the_start(
    world: AwsWorld, simulation: Simulation, key: str, value: str, words: str
) -> None:
    simulation.client("ssm").put_parameter(Name="setting", Value=value, Type="String")
    delivery = world.push_commit(_X, 0, template=template(change={key: {"Ref": "Setting"}}))
    world.run()
    outcome, reason = world.outcome(delivery)
    assert (outcome == "failed", words in reason) == (bool(words), True), reason
    started = [
        each for each in executions(simulation, environment(_X)) if each["trigger"] != "CreatePipeline"
    ]
    assert not (words and started)
