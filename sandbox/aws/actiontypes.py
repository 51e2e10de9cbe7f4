"""The action types of CodePipeline, with the checks that CreatePipeline makes of an action's declaration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.aws.protocol import AwsError

_LONGEST_VALUE = 1000
_MOST_KEYS = 50


@dataclass(frozen=True)
class ActionType:
    """An action type: the keys of its configuration, and how many artifacts it takes and makes.

    Attributes:
        simulated: whether the simulator performs the action; otherwise the action fails when it runs.
    """

    category: str
    owner: str
    provider: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    inputs: tuple[int, int] = (0, 5)
    outputs: tuple[int, int] = (0, 5)
    simulated: bool = False


_BUILD_KEYS = (
    "BatchEnabled",
    "BuildspecOverride",
    "CombineArtifacts",
    "ComputeTypeOverride",
    "EnvironmentTypeOverride",
    "EnvironmentVariables",
    "ImageOverride",
    "PrimarySource",
)
_SCHEDULE_KEYS = ("FailureTolerancePercentage", "MaxConcurrentPercentage")
_STACK_KEYS = (
    "Capabilities",
    "ChangeSetName",
    "OutputFileName",
    "ParameterOverrides",
    "RoleArn",
    "TemplateConfiguration",
    "TemplatePath",
)
_STACK_SET_KEYS = (
    "AdministrationRoleArn",
    "CallAs",
    "Capabilities",
    "DeploymentTargets",
    "Description",
    "ExecutionRoleName",
    "OrganizationsAutoDeployment",
    "Parameters",
    "PermissionModel",
    "Regions",
    *_SCHEDULE_KEYS,
)


def _source(
    provider: str, required: tuple[str, ...], optional: tuple[str, ...], owner: str = "AWS"
) -> ActionType:
    return ActionType("Source", owner, provider, required, optional, (0, 0), (1, 1), simulated=True)


def _deployment(
    provider: str,
    required: tuple[str, ...],
    optional: tuple[str, ...] = (),
    *,
    inputs: tuple[int, int] = (1, 1),
    outputs: tuple[int, int] = (0, 0),
    simulated: bool = False,
) -> ActionType:
    return ActionType("Deploy", "AWS", provider, required, optional, inputs, outputs, simulated)


ACTION_TYPES = (
    _source(
        "CodeStarSourceConnection",
        ("ConnectionArn", "FullRepositoryId", "BranchName"),
        ("DetectChanges", "OutputArtifactFormat"),
    ),
    _source("GitHub", ("Owner", "Repo", "Branch", "OAuthToken"), ("PollForSourceChanges",), "ThirdParty"),
    _source("CodeCommit", ("RepositoryName", "BranchName"), ("OutputArtifactFormat", "PollForSourceChanges")),
    _source("S3", ("S3Bucket", "S3ObjectKey"), ("AllowOverrideForS3ObjectKey", "PollForSourceChanges")),
    _source("ECR", ("RepositoryName",), ("ImageTag",)),
    ActionType("Build", "AWS", "CodeBuild", ("ProjectName",), _BUILD_KEYS, (1, 5), simulated=True),
    ActionType("Test", "AWS", "CodeBuild", ("ProjectName",), _BUILD_KEYS, (1, 5), simulated=True),
    ActionType("Build", "AWS", "ECRBuildAndPublish", ("ECRRepositoryName",), ("*",), (1, 1)),
    ActionType("Build", "Custom", "Jenkins"),
    ActionType("Test", "Custom", "Jenkins"),
    ActionType(
        "Test", "AWS", "DeviceFarm", ("AppType", "DevicePoolArn", "ProjectId"), ("*",), (1, 1), (0, 0)
    ),
    _deployment(
        "CloudFormation",
        ("ActionMode", "StackName"),
        _STACK_KEYS,
        inputs=(0, 10),
        outputs=(0, 1),
        simulated=True,
    ),
    _deployment(
        "CloudFormationStackSet",
        ("StackSetName", "TemplatePath"),
        _STACK_SET_KEYS,
        inputs=(1, 10),
        outputs=(0, 1),
    ),
    _deployment(
        "CloudFormationStackInstances",
        ("StackSetName", "DeploymentTargets", "Regions"),
        ("CallAs", "ParameterOverrides", *_SCHEDULE_KEYS),
        inputs=(0, 10),
        outputs=(0, 1),
    ),
    _deployment(
        "S3",
        ("BucketName", "Extract"),
        ("CacheControl", "CannedACL", "KMSEncryptionKeyARN", "ObjectKey"),
        simulated=True,
    ),
    _deployment("CodeDeploy", ("ApplicationName", "DeploymentGroupName")),
    _deployment("CodeDeployToECS", ("ApplicationName", "DeploymentGroupName"), ("*",), inputs=(1, 5)),
    _deployment("ECS", ("ClusterName", "ServiceName"), ("DeploymentTimeout", "FileName")),
    _deployment("EKS", ("ClusterName",), ("*",)),
    _deployment("EC2", ("InstanceTagKey", "InstanceType"), ("*",)),
    _deployment("ElasticBeanstalk", ("ApplicationName", "EnvironmentName")),
    _deployment("Lambda", ("FunctionName",), ("*",)),
    _deployment("OpsWorks", ("App", "Stack"), ("Layer",)),
    _deployment("ServiceCatalog", ("ProductId",), ("*",)),
    _deployment(
        "AppConfig",
        ("Application", "ConfigurationProfile", "Environment", "InputArtifactConfigurationPath"),
        ("DeploymentStrategy",),
    ),
    ActionType(
        "Deploy",
        "ThirdParty",
        "AlexaSkillsKit",
        ("ClientId", "ClientSecret", "RefreshToken", "SkillId"),
        inputs=(1, 2),
        outputs=(0, 0),
    ),
    ActionType(
        "Approval",
        "AWS",
        "Manual",
        optional=("CustomData", "ExternalEntityLink", "NotificationArn"),
        inputs=(0, 0),
        outputs=(0, 0),
        simulated=True,
    ),
    ActionType("Invoke", "AWS", "Lambda", ("FunctionName",), ("UserParameters",), simulated=True),
    ActionType(
        "Invoke",
        "AWS",
        "StepFunctions",
        ("StateMachineArn",),
        ("ExecutionNamePrefix", "Input", "InputType"),
        (0, 1),
        (0, 1),
    ),
    ActionType(
        "Invoke", "AWS", "CodePipeline", ("PipelineName",), ("SourceRevisions", "Variables"), (0, 0), (0, 0)
    ),
    ActionType("Invoke", "AWS", "InspectorScan", ("InspectorRunMode",), ("*",), (1, 1), (1, 1)),
    ActionType("Compute", "AWS", "Commands", (), ("EnvironmentVariables",), (1, 10), (0, 1)),
)
_BY_KEY = {(t.category, t.owner, t.provider): t for t in ACTION_TYPES}


def is_simulated(kind: Mapping[str, Any]) -> bool:
    """Whether the simulator performs actions of this type; `kind` is an action's `actionTypeId`."""
    found = _BY_KEY.get((kind["category"], kind["owner"], kind["provider"]))
    return found is not None and found.simulated


def revision_type(kind: Mapping[str, Any]) -> str:
    """The type of the revisions to which StartPipelineExecution can pin a source action."""
    return {"S3": "S3_OBJECT_VERSION_ID", "ECR": "IMAGE_DIGEST"}.get(kind["provider"], "COMMIT_ID")


def check_action(action: Mapping[str, Any], region: str) -> None:
    """Check the type, the configuration and the number of artifacts of an action.

    Raises:
        AwsError: InvalidActionDeclarationException.
    """
    kind, name = action["actionTypeId"], action["name"]
    found = _BY_KEY.get((kind.get("category"), kind.get("owner"), kind.get("provider")))
    if found is None or str(kind.get("version", "1")) != "1":
        raise AwsError(
            "InvalidActionDeclarationException",
            f"ActionType (Category: '{kind.get('category')}', Provider: '{kind.get('provider')}', Owner: "
            f"'{kind.get('owner')}', Version: '{kind.get('version')}') in action '{name}' is not available in "
            f"region {region.upper().replace('-', '_')}",
        )
    for problem in _declaration_errors(found, action, name):
        raise AwsError("InvalidActionDeclarationException", problem)


def _declaration_errors(kind: ActionType, action: Mapping[str, Any], name: str) -> Iterator[str]:
    settings = action.get("configuration") or {}
    subject = f"Action configuration for action '{name}'"
    for key in kind.required:
        if not settings.get(key):
            yield f"{subject} is missing required configuration '{key}'"
    if "*" not in kind.optional and kind.owner != "Custom":
        for key in settings:
            if key not in (*kind.required, *kind.optional):
                yield f"{subject} contains unknown configuration '{key}'"
    if len(settings) > _MOST_KEYS:
        yield f"{subject} has more than {_MOST_KEYS} keys"
    for key, value in settings.items():
        if len(str(value)) > _LONGEST_VALUE:
            yield f"{subject} has a value of more than {_LONGEST_VALUE} characters for '{key}'"
    if kind.provider == "Commands" and not action.get("commands"):
        yield f"Action {name} must have a non-empty commands field"
    yield from _count_errors(kind, action, name)


def _count_errors(kind: ActionType, action: Mapping[str, Any], name: str) -> Iterator[str]:
    for what, (least, most) in (("input", kind.inputs), ("output", kind.outputs)):
        count = len(action.get(f"{what}Artifacts") or [])
        if count < least:
            yield f"Action {name} declares {count} {what} artifacts which is less than the minimum count ({least})"
        if count > most:
            yield f"Action {name} declares {count} {what} artifacts which is more than the maximum count ({most})"
