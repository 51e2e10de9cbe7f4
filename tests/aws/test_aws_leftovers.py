"""What builds, images and StackSets leave in the simulated AWS after a teardown, compared with the receipt."""

import json
from typing import Any

import pytest
from aws_world import AwsWorld, Simulation, pipeline_template
from botocore.exceptions import ClientError

from tests.unit.world import environment

_X = "refs/heads/x"
_ENV = environment(_X)
_PROJECT = f"{_ENV.stack_name}-build"
_GROUP = f"/aws/codebuild/{_PROJECT}"
_BUILDSPEC = "version: 0.2\nphases: {build: {commands: ['true']}}\n"
_BUILD: dict[str, Any] = {
    "Type": "AWS::CodeBuild::Project",
    "Properties": {
        "Name": {"Fn::Sub": "${PipelineName}-build"},
        "ServiceRole": {"Fn::GetAtt": ["AppRole", "Arn"]},
        "Artifacts": {"Type": "CODEPIPELINE"},
        "Environment": {
            "Type": "LINUX_CONTAINER",
            "ComputeType": "BUILD_GENERAL1_SMALL",
            "Image": "aws/codebuild/standard:7.0",
        },
        "Source": {"Type": "CODEPIPELINE", "BuildSpec": _BUILDSPEC},
    },
}
_IMAGES: dict[str, Any] = {
    "Type": "AWS::ECR::Repository",
    "Properties": {"RepositoryName": {"Fn::Sub": "${PipelineName}-images"}},
}
_REPOSITORY = f"{_ENV.stack_name}-images"


def template(*stages: dict[str, Any], **resources: Any) -> str:
    """The template of the pipeline with more resources, and with more stages before its deployment."""
    document = json.loads(pipeline_template(**resources))
    document["Resources"]["Pipeline"]["Properties"]["Stages"][1:1] = stages
    return json.dumps(document)


def stage(name: str, category: str, provider: str, **configuration: Any) -> dict[str, Any]:
    kind = {"Owner": "AWS", "Version": "1", "Category": category, "Provider": provider}
    action = {"Name": name, "ActionTypeId": kind, "Configuration": configuration}
    return {"Name": name, "Actions": [{**action, "InputArtifacts": [{"Name": "Source"}]}]}


_BUILD_STAGE = stage("Build", "Build", "CodeBuild", ProjectName={"Ref": "Build"})


def deployed_world(simulation: Simulation, text: str) -> AwsWorld:
    simulation.reset()
    world = AwsWorld(simulation, simulation.with_service_role())
    world.create_commits(_X)
    world.push_commit(_X, 0, template=text)
    world.run()
    return world


def groups(simulation: Simulation) -> list[str]:
    return [each["logGroupName"] for each in simulation.client("logs").describe_log_groups()["logGroups"]]


def retained(world: AwsWorld) -> dict[str, str]:
    return {each.what: each.why for each in world.record(_ENV).status.receipt.retained}


def removed(world: AwsWorld) -> set[str]:
    return {each.what for each in world.record(_ENV).status.receipt.removed}


def delete_branch(world: AwsWorld) -> None:
    delivery = world.delete_ref(_X)
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert world.stack(_X) is None
    assert world.stack(_X, "-app") is None


# --- logs of builds -----------------------------------------------------------------------------------------


def test_the_log_group_of_a_build_is_deleted_with_its_project(simulation: Simulation) -> None:
    world = deployed_world(simulation, template(_BUILD_STAGE, Build=_BUILD))
    assert world.record(_ENV).status.outcome == "deployed"
    assert groups(simulation) == [_GROUP]
    delete_branch(world)
    assert groups(simulation) == []
    assert retained(world) == {}
    assert f"log group {_GROUP}" in removed(world)


def test_the_log_group_of_a_renamed_project_is_deleted_too(simulation: Simulation) -> None:
    world = deployed_world(simulation, template(_BUILD_STAGE, Build=_BUILD))
    properties = {**_BUILD["Properties"], "Name": {"Fn::Sub": "${PipelineName}-renamed"}}
    world.push_commit(_X, 1, template=template(_BUILD_STAGE, Build={**_BUILD, "Properties": properties}))
    world.run()
    assert groups(simulation) == [_GROUP, f"/aws/codebuild/{_ENV.stack_name}-renamed"]
    delete_branch(world)
    assert groups(simulation) == []
    assert retained(world) == {}


def test_a_log_group_that_is_older_than_the_project_is_listed_and_stays(simulation: Simulation) -> None:
    simulation.reset()
    simulation.client("logs").create_log_group(logGroupName=_GROUP)
    world = AwsWorld(simulation, simulation.with_service_role())
    world.create_commits(_X)
    world.push_commit(_X, 0, template=template(_BUILD_STAGE, Build=_BUILD))
    world.run()
    delete_branch(world)
    assert groups(simulation) == [_GROUP]
    assert retained(world) == {
        f"log group {_GROUP}": "it is older than the project, so another project wrote it"
    }


def test_a_log_group_that_the_template_retains_stays(simulation: Simulation) -> None:
    kept = {
        "Type": "AWS::Logs::LogGroup",
        "DeletionPolicy": "Retain",
        "Properties": {"LogGroupName": {"Fn::Sub": "/aws/codebuild/${PipelineName}-build"}},
    }
    world = deployed_world(simulation, template(_BUILD_STAGE, Build=_BUILD, Logs=kept))
    delete_branch(world)
    assert groups(simulation) == [_GROUP]
    assert list(retained(world)) == [f"AWS::Logs::LogGroup {_GROUP}"]


@pytest.mark.parametrize("operation", ["DescribeLogGroups", "DeleteLogGroup"])
def test_a_log_group_that_may_not_be_deleted_is_listed(simulation: Simulation, operation: str) -> None:
    world = deployed_world(simulation, template(_BUILD_STAGE, Build=_BUILD))
    denied = {
        "operation": operation,
        "error": "AccessDeniedException",
        "message": "not authorized",
        "count": 9,
    }
    simulation.simulator.faults.add({"errors": denied})
    delete_branch(world)
    simulation.simulator.faults.clear()
    assert groups(simulation) == [_GROUP]
    (why,) = retained(world).values()
    assert "AccessDeniedException" in why


def test_a_failing_service_of_logs_delays_the_teardown_and_loses_nothing(simulation: Simulation) -> None:
    world = deployed_world(simulation, template(_BUILD_STAGE, Build=_BUILD))
    for operation in ("DescribeLogGroups", "DeleteLogGroup"):
        simulation.simulator.faults.add({"errors": {"operation": operation, "mode": "after", "count": 5}})
    delete_branch(world)
    assert groups(simulation) == []


# --- images -------------------------------------------------------------------------------------------------


def push_images(simulation: Simulation, number: int) -> None:
    client = simulation.client("ecr")
    for each in range(number):
        config = {"digest": f"sha256:{each:064x}"}
        kind = "application/vnd.docker.distribution.manifest.v2+json"
        layers = [{"mediaType": kind, "size": 1, "digest": config["digest"]}]
        manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers})
        client.put_image(repositoryName=_REPOSITORY, imageManifest=manifest, imageTag=f"v{each}")


def image_count(simulation: Simulation) -> int | None:
    """The number of images in the repository; None if it does not exist."""
    try:
        listed = simulation.client("ecr").list_images(repositoryName=_REPOSITORY, maxResults=1000)
    except ClientError:
        return None
    return len({each["imageDigest"] for each in listed["imageIds"]})


def test_images_are_deleted_before_the_stack_of_their_repository(simulation: Simulation) -> None:
    world = deployed_world(simulation, template(Images=_IMAGES))
    push_images(simulation, 105)  # more than one batch
    delete_branch(world)
    assert image_count(simulation) is None
    assert retained(world) == {}
    assert f"image repository {_REPOSITORY}" in removed(world)


def test_images_that_may_not_be_deleted_are_listed(simulation: Simulation) -> None:
    world = deployed_world(simulation, template(Images=_IMAGES))
    push_images(simulation, 2)
    denied = {"operation": "BatchDeleteImage", "error": "AccessDeniedException", "count": 9}
    simulation.simulator.faults.add({"errors": denied})
    delete_branch(world)
    assert image_count(simulation) == 2
    ((what, why),) = retained(world).items()
    assert what == f"AWS::ECR::Repository {_REPOSITORY}"
    assert "still contains images" in why


def test_images_that_a_template_retains_stay(simulation: Simulation) -> None:
    world = deployed_world(simulation, template(Images={**_IMAGES, "DeletionPolicy": "Retain"}))
    push_images(simulation, 2)
    delete_branch(world)
    assert image_count(simulation) == 2
    assert list(retained(world)) == [f"AWS::ECR::Repository {_REPOSITORY}"]


# --- StackSets ----------------------------------------------------------------------------------------------


def test_a_stack_set_of_the_pipeline_is_listed(simulation: Simulation) -> None:
    everywhere = stage(
        "Everywhere",
        "Deploy",
        "CloudFormationStackSet",
        StackSetName="everywhere",
        TemplatePath="Source::app.json",
        DeploymentTargets="123456789012",
        Regions="us-east-1",
    )
    world = deployed_world(simulation, template(everywhere))
    delivery = world.delete_ref(_X)
    world.run()
    assert world.outcome(delivery)[0] == "deleted"
    assert world.stack(_X) is None
    assert list(retained(world)) == ["StackSet everywhere"]


# --- wanted again -------------------------------------------------------------------------------------------


def test_a_branch_that_is_restored_after_its_teardown_stopped(simulation: Simulation) -> None:
    """The push fails with the reason as long as the stack cannot be deleted; afterwards the pipeline runs again."""
    simulation.reset()
    world = AwsWorld(simulation, simulation.with_service_role())
    world.create_commits(_X)
    files = {"deployer.yml": "teardown: {on_failure: stop}"}
    world.push_commit(_X, 0, files=files)
    world.run()
    order = {"stack": f"{_ENV.stack_name}-app", "resource": "Note", "on": "delete", "reason": "in use"}
    simulation.simulator.faults.add({"fail_resources": {**order, "count": 99}})
    delivery = world.delete_ref(_X)
    world.run()
    assert world.outcome(delivery)[0] == "failed"

    delivery = world.push_commit(_X, 0, files=files)
    world.run()
    outcome, reason = world.outcome(delivery)
    application = world.stack(_X, "-app")
    assert application is not None
    assert (outcome, application["status"]) == ("failed", "DELETE_FAILED")
    assert "in use" in reason

    simulation.simulator.faults.clear()
    world.redeploy(_ENV)
    world.run()
    application = world.stack(_X, "-app")
    assert application is not None
    assert (world.record(_ENV).status.outcome, application["status"]) == ("deployed", "CREATE_COMPLETE")
    assert [status for _, status in world.execution_results(_X)].count("Succeeded") == 2
