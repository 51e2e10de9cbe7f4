"""A pipeline in the style of CDK: switched as deployer needs it, and as CDK synthesizes it by default."""

import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.installation import Installation, WorkingCopy, wait_for

# by hand: CodePipeline with triggerOnPush: false, selfMutation: false, useChangeSets: false, and a pipeline of its own
# as codePipeline, so that RestartExecutionOnUpdate is off
TEMPLATE = Path(__file__).parent / "cdk" / "pipeline.json"
APPLICATION = {"Resources": {"DataBucketE3889A50": {"Type": "AWS::S3::Bucket"}}}
_NAME = "cdk-team/shop"


@pytest.fixture
def cdk_copy(here: Installation, tmp_path: Path) -> WorkingCopy:
    """A repository with the output of CDK."""
    here.repository(_NAME, sample=False)
    copy = here.clone(tmp_path / "cdk", _NAME)
    copy.git("checkout", "-q", "-B", "main")
    copy.write("First", {"README.md": "CDK\n"})
    copy.push("HEAD:main")
    return copy


def _changed(change: dict[str, Any]) -> str:
    """The template with other settings of the source and of the application's stack."""
    template = json.loads(TEMPLATE.read_text())
    stages = template["Resources"]["Pipeline9850B417"]["Properties"]["Stages"]
    stages[2]["Actions"][0]["Configuration"].update(change)
    return json.dumps(template, indent=1)


def test_a_pipeline_of_cdk_deploys_and_goes(here: Installation, cdk_copy: WorkingCopy) -> None:
    cdk_copy.branch("feature/cdk")
    files = {
        "deploy/pipeline.json": TEMPLATE.read_text(),
        "app/DevApp.template.json": json.dumps(APPLICATION),
    }
    sha = cdk_copy.write("CDK", files)
    checked = here.cli("validate", str(cdk_copy.directory))
    assert "error" not in checked.stdout
    cdk_copy.push()
    record = here.settled("refs/heads/feature/cdk", sha, _NAME)
    assert record["outcome"] == "deployed", record
    mine = [name for name in here.stacks() if name.startswith("shop-feature-cdk")]
    assert len(mine) == 2
    cdk_copy.git("push", "-q", "origin", ":feature/cdk")
    here.deleted("refs/heads/feature/cdk", _NAME)

    def is_gone() -> bool:
        return not [name for name in here.stacks() if name.startswith("shop-feature-cdk")]

    wait_for("no stack of the branch", is_gone)


def test_a_stack_of_one_name_gets_a_remedy_of_cdk(here: Installation, cdk_copy: WorkingCopy) -> None:
    cdk_copy.branch("feature/one-stack")
    sha = cdk_copy.write("CDK", {"deploy/pipeline.json": _changed({"StackName": "Dev-App"})})
    cdk_copy.push()
    record = here.settled("refs/heads/feature/one-stack", sha, _NAME)
    assert record["outcome"] == "failed"
    assert "every branch would deploy to the same stack, 'Dev-App'" in record["reason"]
    assert (
        "Stages.2.Actions.0.Configuration.StackName', Fn.sub('${PipelineName}-Dev-App')" in record["reason"]
    )
