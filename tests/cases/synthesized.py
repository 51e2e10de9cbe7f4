"""The pipeline that CDK synthesized, as it is after a person followed deployer's remedies."""

import json
from typing import Any

_PIPELINE, _SYNTH = "Pipeline9850B417", "PipelineBuildSynthCdkBuildProject6BEFA8E6"
_SELF_UPDATE = "PipelineUpdatePipelineSelfMutation"
_APPLICATION = "assembly-Dev/DevAppF437F5B9.template.json"
# the sandbox has no Node, so the synthesized application is in the repository
SYNTHESIZED_FILES = {
    f"cdk.out/{_APPLICATION}": json.dumps({"Resources": {"Data": {"Type": "AWS::S3::Bucket"}}})
}
_BUILD = {
    "version": "0.2",
    "phases": {"build": {"commands": ["test -d cdk.out"]}},
    "artifacts": {"base-directory": "cdk.out", "files": "**/*"},
}


def follow_the_remedies(text: str) -> str:
    """Change the program's output as the remedies say.

    These are `triggerOnPush: false`, `selfMutation: false`, `restartExecutionOnUpdate: false`, parameters for
    repository and branch, and a name of the application's stack that is made of the pipeline's.
    """
    template: dict[str, Any] = json.loads(text)
    template["Parameters"].update(
        {name: {"Type": "String"} for name in ("RepoOwner", "RepoName", "RepoBranch")}
    )
    resources = template["Resources"]
    for name in [name for name in resources if name.startswith(_SELF_UPDATE)]:
        del resources[name]
    for name in [name for name, each in resources.items() if each["Type"] == "AWS::IAM::Policy"]:
        document = resources[name]["Properties"]["PolicyDocument"]
        document["Statement"] = [
            each for each in document["Statement"] if _SELF_UPDATE not in json.dumps(each)
        ]
    pipeline = resources[_PIPELINE]["Properties"]
    pipeline["RestartExecutionOnUpdate"] = False
    pipeline["Stages"] = [each for each in pipeline["Stages"] if each["Name"] != "UpdatePipeline"]
    source = pipeline["Stages"][0]["Actions"][0]["Configuration"]
    source["FullRepositoryId"] = {"Fn::Sub": "${RepoOwner}/${RepoName}"}
    source["BranchName"] = {"Ref": "RepoBranch"}
    source["DetectChanges"] = False
    for action in pipeline["Stages"][-1]["Actions"]:
        if "StackName" in action.get("Configuration", {}):
            action["Configuration"]["StackName"] = {"Fn::Sub": "${PipelineName}-Dev-App"}
    resources[_SYNTH]["Properties"]["Source"]["BuildSpec"] = json.dumps(_BUILD, indent=2)
    return json.dumps(template, indent=1)
