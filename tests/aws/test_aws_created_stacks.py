"""Stacks without deployer's tags in the simulated AWS: created by an action or a change set, or self-updated."""

import json
from typing import Any

import pytest
from aws_world import BUCKET, TEMPLATE, AwsWorld, Simulation

from deployer.model.environments import Kind
from deployer.model.targets import Target
from tests.unit.world import environment

_X = "refs/heads/x"
_ENV = environment(_X)
_APP = f"{_ENV.stack_name}-app"
_NOTHING: dict[str, list[str]] = {"stacks": [], "pipelines": [], "roles": [], "leftovers": []}
_ROLE = {"Fn::GetAtt": ["AppRole", "Arn"]}
_THEIRS = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}


def action(
    mode: str, *, name: str = "App", order: int = 1, stack: Any = None, role: bool = True, **more: str
) -> dict[str, Any]:
    """A CloudFormation action, without tags unless `more` has a TemplateConfiguration."""
    configuration: dict[str, Any] = {
        "ActionMode": mode,
        "StackName": stack or {"Fn::Sub": "${PipelineName}-app"},
        **({"RoleArn": _ROLE} if role else {}),
        **({} if mode == "CHANGE_SET_EXECUTE" else {"TemplatePath": "Source::app.json"}),
        **more,
    }
    kind = {"Category": "Deploy", "Owner": "AWS", "Provider": "CloudFormation", "Version": "1"}
    return {
        "Name": name, "RunOrder": order, "ActionTypeId": kind, "Configuration": configuration,
        "InputArtifacts": [{"Name": "Source"}],
    }  # fmt: skip


def self_update(**more: str) -> dict[str, Any]:
    return action(
        "CREATE_UPDATE", name="Self", stack={"Ref": "PipelineName"}, role=False,
        TemplatePath="Source::self.json", Capabilities="CAPABILITY_IAM", **more,
    )  # fmt: skip


TAGGED = {"TemplateConfiguration": "Source::stack.json"}
FOREIGN = {"TemplateConfiguration": "Source::own.json"}
GATE = {
    "Name": "Gate",
    "RunOrder": 2,
    "ActionTypeId": {"Category": "Approval", "Owner": "AWS", "Provider": "Manual", "Version": "1"},
}
CHANGE_SET = {"ChangeSetName": "next"}
PAIR = [
    action("CHANGE_SET_REPLACE", name="Prepare", **TAGGED, **CHANGE_SET),
    GATE,
    action("CHANGE_SET_EXECUTE", name="Apply", order=3, role=False, **CHANGE_SET),
]


def pipeline(*stages: list[dict[str, Any]]) -> str:
    """A template whose pipeline has these stages after its source."""
    template = json.loads(json.dumps(TEMPLATE))
    properties = template["Resources"]["Pipeline"]["Properties"]
    later = [{"Name": f"Stage{number}", "Actions": actions} for number, actions in enumerate(stages, 1)]
    properties["Stages"] = [properties["Stages"][0], *later]
    return json.dumps(template)


def deployed(
    simulation: Simulation, *stages: list[dict[str, Any]], role: bool = True, until: Any = None
) -> AwsWorld:
    """A world with a branch whose pipeline has these stages; it is deployed, or has come to where `until` is true."""
    simulation.reset()
    template = pipeline(*stages)
    world = AwsWorld(simulation, *([simulation.with_service_role()] if role else []))
    own = json.dumps({"Tags": {"team": "a"}})
    world.create_commits(_X, files={"self.json": template, "own.json": own})
    world.push_commit(_X, 0, template=template)
    if until:
        world.run_until(lambda: until(world))
    else:
        world.run()
        record = world.record(_ENV)
        assert record.status.outcome == "deployed", record.status.reason
    return world


def stack_of(world: AwsWorld, name: str) -> Any:
    return next((each for each in world.simulation.state["stacks"] if each["name"] == name), None)


def taken_down(world: AwsWorld) -> tuple[str, str]:
    """Delete the branch; return the outcome and its reason."""
    delivery = world.delete_ref(_X)
    world.run()
    return world.outcome(delivery)


def order_of_deletion(world: AwsWorld) -> list[str]:
    return [each["name"] for each in world.simulation.state["deleted_stacks"]]


def assert_nothing_left(world: AwsWorld, result: tuple[str, str]) -> None:
    assert result == ("deleted", "its pipeline and all that it deployed are gone")
    assert world.simulation.resources_of(_ENV) == _NOTHING
    assert world.simulation.state["stacks"] == []
    assert world.record(_ENV).status.receipt.retained == []


# --- without tags -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [None, {"Fn::Sub": "${PipelineName}-#{S.BranchName}"}], ids=["a name", "a name with a variable"]
)
def test_an_untagged_stack_that_the_pipeline_created_goes_with_the_branch(
    simulation: Simulation, name: Any
) -> None:
    """Its role exists only as long as the pipeline's stack does."""
    stages = [action("CREATE_UPDATE", stack=name)]
    template = json.loads(pipeline(stages))
    template["Resources"]["Pipeline"]["Properties"]["Stages"][0]["Actions"][0]["Namespace"] = "S"
    simulation.reset()
    world = AwsWorld(simulation)
    world.create_commits(_X)
    world.push_commit(_X, 0, template=json.dumps(template))
    world.run()
    assert world.record(_ENV).status.outcome == "deployed", world.record(_ENV).status.reason
    (made,) = (each for each in simulation.state["stacks"] if each["name"] != _ENV.stack_name)
    assert made["tags"] == {}
    assert_nothing_left(world, taken_down(world))


@pytest.mark.parametrize("role", [True, False], ids=["service role", "no service role"])
def test_an_untagged_stack_whose_role_is_gone(simulation: Simulation, role: bool) -> None:
    """The pipeline's stack was deleted by a person: the kind's role deletes the application, or the report has it."""
    world = deployed(simulation, [action("CREATE_UPDATE")], role=role)
    world.simulation.client("cloudformation").delete_stack(StackName=_ENV.stack_name)
    world.run_until(lambda: stack_of(world, _ENV.stack_name) is None)
    outcome, reason = taken_down(world)
    assert outcome == "deleted"
    if role:
        assert stack_of(world, _APP) is None
        return
    assert stack_of(world, _APP) is not None
    assert "cannot be assumed" in reason
    assert [each.what for each in world.record(_ENV).status.receipt.retained] == [f"stack {_APP}"]


def test_an_older_stack_that_an_action_updates_stays_and_is_reported(simulation: Simulation) -> None:
    simulation.reset()
    world = AwsWorld(simulation, simulation.with_service_role())
    client = simulation.client("cloudformation")
    client.create_stack(
        StackName="theirs", TemplateBody=json.dumps(_THEIRS), Tags=[{"Key": "team", "Value": "b"}]
    )
    world.run_until(lambda: stack_of(world, "theirs")["status"] == "CREATE_COMPLETE")
    before = stack_of(world, "theirs")
    # the name is built from a parameter, so that the check of templates does not see one stack for every branch
    template = json.loads(pipeline([action("CREATE_UPDATE", stack={"Ref": "Theirs"}, role=False)]))
    template["Parameters"]["Theirs"] = {"Type": "AWS::SSM::Parameter::Value<String>"}
    simulation.client("ssm").put_parameter(Name="/theirs", Value="theirs", Type="String")
    world.create_commits(_X)
    values = json.dumps({"development": {"Theirs": "/theirs"}})
    world.push_commit(_X, 0, template=json.dumps(template), files={"pipeline.parameters.json": values})
    world.run()
    record = world.record(_ENV)
    assert record.status.outcome == "deployed", record.status.reason
    outcome, _ = taken_down(world)
    assert outcome == "deleted"
    after = stack_of(world, "theirs")
    assert (after["id"], after["tags"]) == (before["id"], {"team": "b"})
    (left,) = world.record(_ENV).status.receipt.retained
    assert (left.what, left.id) == ("stack theirs", before["id"])
    assert "its pipeline did not create it" in left.why


# --- change sets ------------------------------------------------------------------------------------------------


def waits_for_approval(world: AwsWorld) -> bool:
    name = _ENV.stack_name
    pipelines = {each["name"] for each in world.simulation.state["pipelines"]}
    if name not in pipelines:
        return False
    client = world.simulation.client("codepipeline")
    stages = client.get_pipeline_state(name=name)["stageStates"]
    gates = [each for stage in stages for each in stage["actionStates"] if each["actionName"] == "Gate"]
    return any("token" in each.get("latestExecution", {}) for each in gates)


def test_a_change_set_that_waits_for_approval_goes_with_its_stack(simulation: Simulation) -> None:
    world = deployed(simulation, PAIR, until=waits_for_approval)
    assert stack_of(world, _APP)["status"] == "REVIEW_IN_PROGRESS"
    assert stack_of(world, _APP)["tags"] == {}
    assert_nothing_left(world, taken_down(world))


def test_a_change_set_that_was_approved_goes_with_its_stack(simulation: Simulation) -> None:
    world = deployed(simulation, PAIR, until=waits_for_approval)
    client = simulation.client("codepipeline")
    (gate,) = (
        each
        for stage in client.get_pipeline_state(name=_ENV.stack_name)["stageStates"]
        for each in stage["actionStates"]
        if each["actionName"] == "Gate"
    )
    client.put_approval_result(
        pipelineName=_ENV.stack_name, stageName="Stage1", actionName="Gate",
        result={"summary": "", "status": "Approved"}, token=gate["latestExecution"]["token"],
    )  # fmt: skip
    world.run()
    assert world.record(_ENV).status.outcome == "deployed", world.record(_ENV).status.reason
    assert stack_of(world, _APP)["status"] == "CREATE_COMPLETE"
    assert_nothing_left(world, taken_down(world))


# --- self-updates -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_the_own_stack_of_a_self_updating_pipeline_goes_last(simulation: Simulation, first: bool) -> None:
    stages = [[self_update()], [action("CREATE_UPDATE", **TAGGED)]]
    world = deployed(simulation, *(stages if first else reversed(stages)), role=False)
    assert_nothing_left(world, taken_down(world))
    assert order_of_deletion(world) == [_APP, _ENV.stack_name]


def test_a_self_update_with_other_tags_keeps_deployers_tags(simulation: Simulation) -> None:
    world = deployed(simulation, [action("CREATE_UPDATE", **TAGGED)], [self_update(**FOREIGN)], role=False)
    world.run_until(lambda: _ENV.owns(stack_of(world, _ENV.stack_name)["tags"]))
    world.run_until(lambda: stack_of(world, _ENV.stack_name)["status"] == "UPDATE_COMPLETE")
    stack = stack_of(world, _ENV.stack_name)
    assert stack["tags"]["team"] == "a"
    assert stack["tags"]["deployer:commit"] == world.commits[_X][0]
    world.push_commit(_X, 1, template=pipeline([action("CREATE_UPDATE", **TAGGED)], [self_update(**FOREIGN)]))
    world.run()
    assert world.record(_ENV).status.outcome == "deployed", world.record(_ENV).status.reason
    assert_nothing_left(world, taken_down(world))


def test_a_branch_is_deleted_while_its_stack_lacks_deployers_tags(simulation: Simulation) -> None:
    def lost_tags(world: AwsWorld) -> bool:
        stack = stack_of(world, _ENV.stack_name)
        return bool(stack) and stack["tags"] == {"team": "a"}

    world = deployed(
        simulation, [self_update(**FOREIGN)], [action("CREATE_UPDATE", **TAGGED), {**GATE}], role=False,
        until=lambda world: lost_tags(world) and waits_for_approval(world),
    )  # fmt: skip
    assert_nothing_left(world, taken_down(world))


# --- with a permissions boundary --------------------------------------------------------------------------------


def bounded_world(
    simulation: Simulation, *stages: list[dict[str, Any]], checked: bool = True
) -> tuple[AwsWorld, str]:
    """A world whose roles have a boundary like that of infra/target.yml."""
    simulation.reset()
    tag = "deployer:environment"
    document = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["cloudformation:Create*", "cloudformation:TagResource"],
                "Resource": "*",
                "Condition": {"StringEquals": {f"aws:RequestTag/{tag}": "development"}},
            },
            {
                "Effect": "Allow",
                "Action": ["cloudformation:*Stack", "cloudformation:*ChangeSet"],
                "Resource": "*",
                "Condition": {
                    "StringEquals": {f"aws:ResourceTag/{tag}": "development"},
                    "ForAnyValue:StringEqualsIfExists": {"aws:TagKeys": tag},
                },
            },
        ],
    }
    made = simulation.client("iam").create_policy(PolicyName="boundary", PolicyDocument=json.dumps(document))
    boundary = made["Policy"]["Arn"]
    template = json.loads(pipeline(*stages))
    template["Resources"]["AppRole"]["Properties"]["PermissionsBoundary"] = boundary
    target = Target(
        Kind.DEVELOPMENT, regions=("us-east-1",), artifact_bucket=BUCKET,
        permissions_boundary=boundary if checked else "",
    )  # fmt: skip
    world = AwsWorld(simulation, target)
    text = json.dumps(template)
    own = json.dumps({"Tags": {"team": "a"}})
    world.create_commits(_X, files={"self.json": text, "own.json": own})
    delivery = world.push_commit(_X, 0, template=text)
    world.run()
    return world, delivery


def test_a_push_that_would_create_an_untagged_stack_is_rejected(simulation: Simulation) -> None:
    world, delivery = bounded_world(simulation, [action("CREATE_UPDATE")])
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert "deploy/pipeline.yml:1: action App creates a stack without deployer's tags" in reason
    assert simulation.state["stacks"] == []


def test_aws_refuses_an_untagged_stack_under_the_boundary(simulation: Simulation) -> None:
    """The check of templates is switched off: it says what AWS would say."""
    world, delivery = bounded_world(simulation, [action("CREATE_UPDATE")], checked=False)
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert "not authorized to perform: cloudformation:CreateStack" in reason
    assert stack_of(world, _APP) is None


def test_the_boundary_keeps_a_self_update_from_removing_deployers_tags(simulation: Simulation) -> None:
    world, delivery = bounded_world(simulation, [action("CREATE_UPDATE", **TAGGED)], [self_update(**FOREIGN)])
    outcome, reason = world.outcome(delivery)
    assert outcome == "failed"
    assert "not authorized to perform: cloudformation:UpdateStack" in reason
    assert _ENV.owns(stack_of(world, _ENV.stack_name)["tags"])
    assert_nothing_left(world, taken_down(world))


def test_a_self_update_that_keeps_the_tags_works_under_the_boundary(simulation: Simulation) -> None:
    world, delivery = bounded_world(simulation, [self_update()], [action("CREATE_UPDATE", **TAGGED)])
    assert world.outcome(delivery)[0] == "deployed", world.outcome(delivery)
    assert_nothing_left(world, taken_down(world))
