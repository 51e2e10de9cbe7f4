"""A pipeline in the style of CDK: it deploys with the settings that deployer needs, and is rejected in CDK's words."""

import json
from pathlib import Path
from typing import Any

import pytest
from aws_world import AwsWorld, Simulation

from tests.unit.world import environment

# By hand: CodePipeline with triggerOnPush: false, selfMutation: false, useChangeSets: false, and a pipeline of its own
# as codePipeline, so that RestartExecutionOnUpdate is off.
TEMPLATE = Path(__file__).parent / "cdk" / "pipeline.json"
_X = "refs/heads/x"
_CONNECTION = "arn:aws:codestar-connections:us-east-1:123456789012:connection/example"


@pytest.fixture
def world(simulation: Simulation) -> AwsWorld:
    simulation.reset()
    world = AwsWorld(simulation)
    world.create_commits(_X)
    return world


def _changed(stage: int, settings: dict[str, Any]) -> str:
    """The template with other settings of the first action in a stage, and with the connection of these tests."""
    template = json.loads(TEMPLATE.read_text())
    template["Parameters"]["ConnectionArn"]["Default"] = _CONNECTION
    stages = template["Resources"]["Pipeline9850B417"]["Properties"]["Stages"]
    stages[stage]["Actions"][0]["Configuration"].update(settings)
    return json.dumps(template, indent=1)


def test_a_pipeline_of_cdk_deploys_and_goes(world: AwsWorld, simulation: Simulation) -> None:
    delivery = world.push_commit(_X, 0, template=_changed(0, {}))
    world.run()
    assert world.outcome(delivery)[0] == "deployed", world.outcome(delivery)
    assert world.execution_results(_X)[-1] == (world.commits[_X][0], "Succeeded")
    application = world.stack(_X, "-app")
    assert application
    assert application["status"] == "CREATE_COMPLETE"
    deletion = world.delete_ref(_X)
    world.run()
    assert world.outcome(deletion)[0] == "deleted"
    assert simulation.state["stacks"] == []
    assert simulation.resources_of(environment(_X))["pipelines"] == []


@pytest.mark.parametrize(
    ("stage", "settings", "words"),
    [
        (0, {"DetectChanges": True}, "triggerOnPush: false in CDK"),
        (
            2,
            {"StackName": "Dev-App"},
            "addPropertyOverride('Stages.2.Actions.0.Configuration.StackName', Fn.sub('${PipelineName}-Dev-App'))",
        ),
    ],
)
def test_a_pipeline_of_cdk_is_rejected_in_the_words_of_cdk(
    world: AwsWorld, simulation: Simulation, stage: int, settings: dict[str, Any], words: str
) -> None:
    delivery = world.push_commit(_X, 0, template=_changed(stage, settings))
    world.run()
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert words in reason
    assert simulation.state["stacks"] == []
