"""What CloudFormation can create: a handler for each resource type.

Types that moto knows are created in moto, so that its APIs show them; pipelines and build projects are the
simulator's own; a few types are accepted and do nothing.
"""

from __future__ import annotations

import copy
import importlib
import json
import secrets
import string
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sandbox.aws import storage
from sandbox.aws.events import ACCOUNT, REGION

_LETTERS = string.ascii_uppercase + string.digits


class ResourceError(Exception):
    """Why a resource could not be created, updated or deleted, in the service's words."""


@dataclass
class Resource:
    """A resource that exists: what `Ref` and `Fn::GetAtt` give, and how it was made."""

    logical_id: str
    type: str
    physical_id: str
    properties: dict[str, Any]
    attributes: dict[str, str] = field(default_factory=dict)
    model: Any = None
    deletion_policy: str = "Delete"
    name: str = ""


@dataclass(frozen=True)
class Context:
    """In which stack a resource is handled."""

    stack_name: str
    stack_tags: dict[str, str]


def generated_name(stack_name: str, logical_id: str, longest: int = 64) -> str:
    """A name as CloudFormation makes one up: stack, logical id and a random end."""
    end = "".join(secrets.choice(_LETTERS) for _ in range(12))
    room = longest - len(logical_id) - len(end) - 2
    return f"{stack_name[: max(room, 1)]}-{logical_id[: longest - 15]}-{end}"


class Handler(ABC):
    """Creates, updates and deletes the resources of one type."""

    name_property: str | None = None

    def replaces(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        """Whether the change needs a new resource in place of the old one."""
        return self.name_property is not None and old.get(self.name_property) != new.get(self.name_property)

    @abstractmethod
    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        """Create a resource; `ResourceError` when that fails."""

    @abstractmethod
    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:
        """Change a resource in place."""

    @abstractmethod
    def delete(self, resource: Resource) -> None:
        """Delete a resource."""

    def attribute(self, resource: Resource, name: str) -> str:
        """What `Fn::GetAtt` gives."""
        try:
            return resource.attributes[name]
        except KeyError:
            message = f"Requested attribute {name} does not exist in schema for {resource.type}"
            raise ResourceError(message) from None


class InertHandler(Handler):
    """Accepts a type and does nothing."""

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = generated_name(context.stack_name, logical_id)
        return Resource(
            logical_id, kind, name, properties, {"Arn": f"arn:aws:sandbox:{REGION}:{ACCOUNT}:{name}"}
        )

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        resource.properties = properties
        return resource

    def delete(self, resource: Resource) -> None:
        """Nothing was made, so nothing is left."""


class MotoHandler(Handler):
    """A type whose resources live in moto."""

    def __init__(self, module: str, model: str, name_property: str | None = None, longest: int = 64) -> None:
        self._module = module
        self._model = model
        self.name_property = name_property
        self._longest = longest

    def _class(self) -> Any:
        # Imported when first needed: all of moto's models together take seconds.
        return getattr(importlib.import_module(f"moto.{self._module}.models"), self._model)

    def _name(self, context: Context, logical_id: str, properties: dict[str, Any]) -> str:
        named = properties.get(self.name_property) if self.name_property else None
        return str(named or generated_name(context.stack_name, logical_id, self._longest))

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = self._name(context, logical_id, properties)
        document = self._document(kind, name, properties)
        model = self._class().create_from_cloudformation_json(name, document, ACCOUNT, REGION)
        return Resource(logical_id, kind, str(model.physical_resource_id), properties, model=model, name=name)

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        document = self._document(resource.type, resource.name, properties)
        model = self._class().update_from_cloudformation_json(
            resource.model, resource.name, document, ACCOUNT, REGION
        )
        resource.model = model or resource.model
        resource.properties = properties
        return resource

    def delete(self, resource: Resource) -> None:
        document = self._document(resource.type, resource.name, resource.properties)
        self._class().delete_from_cloudformation_json(resource.physical_id, document, ACCOUNT, REGION)

    def _document(self, kind: str, name: str, properties: dict[str, Any]) -> dict[str, Any]:
        named = {self.name_property: name} if self.name_property else {}
        return {"Type": kind, "Properties": {**copy.deepcopy(properties), **named}}

    def attribute(self, resource: Resource, name: str) -> str:
        try:
            return str(resource.model.get_cfn_attribute(name))
        except Exception:  # noqa: BLE001 - moto has several ways to say that there is no such attribute
            return super().attribute(resource, name)


class ParameterHandler(MotoHandler):
    """SSM parameters, with the attributes that moto does not give."""

    def attribute(self, resource: Resource, name: str) -> str:
        if name in ("Type", "Value"):
            return str(resource.properties[name])
        return super().attribute(resource, name)


class RoleHandler(MotoHandler):
    """IAM roles; moto keeps their inline policies' documents as they come, IAM gives them as text."""

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        resource = super().create(context, logical_id, kind, properties)
        self._put_policies(resource)
        return resource

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        resource.properties = properties
        self._put_policies(resource)
        return resource

    @staticmethod
    def _put_policies(resource: Resource) -> None:
        resource.model.policies = {
            p["PolicyName"]: json.dumps(p["PolicyDocument"]) for p in resource.properties.get("Policies", [])
        }
        document = resource.properties.get("AssumeRolePolicyDocument")
        resource.model.assume_role_policy_document = json.dumps(document)


class BucketHandler(MotoHandler):
    """S3 buckets: a name is taken once, and only an empty bucket can be deleted."""

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = self._name(context, logical_id, properties).lower()
        if name in storage.buckets():
            raise ResourceError(f"{name} already exists")
        resource = super().create(context, logical_id, kind, {**properties, "BucketName": name})
        resource.properties = properties
        resource.attributes = {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{REGION}.amazonaws.com",
            "WebsiteURL": f"http://{name}.s3-website-{REGION}.amazonaws.com",
        }
        return self._version(resource)

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        resource.properties = properties
        return self._version(resource)

    def delete(self, resource: Resource) -> None:
        if not storage.empty(resource.physical_id):
            raise ResourceError(
                "Resource handler returned message: "
                '"The bucket you tried to delete is not empty (Service: S3, Status Code: 409)" '
                "(RequestToken: sandbox, HandlerErrorCode: GeneralServiceException)"
            )
        if resource.physical_id in storage.buckets():
            super().delete(resource)

    def attribute(self, resource: Resource, name: str) -> str:
        return Handler.attribute(self, resource, name)

    @staticmethod
    def _version(resource: Resource) -> Resource:
        if versioning := resource.properties.get("VersioningConfiguration"):
            resource.model.versioning_status = versioning.get("Status")
        return resource


class BucketPolicyHandler(InertHandler):
    """Bucket policies: kept, not enforced, since the simulator lets everybody read."""

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        if properties.get("Bucket") not in storage.buckets():
            raise ResourceError("The specified bucket does not exist")
        return super().create(context, logical_id, kind, properties)


class ProjectHandler(Handler):
    """CodeBuild projects: kept here, read by the pipelines' build actions."""

    name_property = "Name"

    def __init__(self) -> None:
        self.projects: dict[str, dict[str, Any]] = {}

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = str(properties.get("Name") or generated_name(context.stack_name, logical_id, 150))
        arn = f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/{name}"
        if name in self.projects:
            raise ResourceError(f"Project already exists: {arn}")
        self.projects[name] = properties
        return Resource(logical_id, kind, name, properties, {"Arn": arn})

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        self.projects[resource.physical_id] = resource.properties = properties
        return resource

    def delete(self, resource: Resource) -> None:
        self.projects.pop(resource.physical_id, None)


class PipelineHandler(Handler):
    """CodePipeline pipelines: handed to the simulator's own CodePipeline."""

    name_property = "Name"

    def __init__(
        self,
        create: Callable[[dict[str, Any], dict[str, str]], int],
        update: Callable[[dict[str, Any], bool], int],
        delete: Callable[[str], None],
    ) -> None:
        self._create = create
        self._update = update
        self._delete = delete

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = str(properties.get("Name") or generated_name(context.stack_name, logical_id, 100))
        own = {t["Key"]: t["Value"] for t in properties.get("Tags", [])}
        version = self._create(_definition(name, properties), {**context.stack_tags, **own})
        return Resource(logical_id, kind, name, properties, {"Version": str(version)})

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        restart = _plain(properties.get("RestartExecutionOnUpdate", False)) == "true"
        version = self._update(_definition(resource.physical_id, properties), restart)
        resource.properties, resource.attributes = properties, {"Version": str(version)}
        return resource

    def delete(self, resource: Resource) -> None:
        self._delete(resource.physical_id)


def _definition(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """The pipeline structure of CodePipeline's API from CloudFormation's properties."""
    lowered: dict[str, Any] = _lowered({k: v for k, v in properties.items() if k in _PIPELINE_KEYS})
    lowered["name"] = name
    for stage in lowered["stages"]:
        for action in stage["actions"]:
            action["configuration"] = {k: _plain(v) for k, v in action.get("configuration", {}).items()}
            action["runOrder"] = int(action.get("runOrder", 1))
            action["actionTypeId"]["version"] = str(action["actionTypeId"].get("version", "1"))
            action.setdefault("inputArtifacts", [])
            action.setdefault("outputArtifacts", [])
    return lowered


_PIPELINE_KEYS = ("RoleArn", "ArtifactStore", "Stages", "PipelineType", "ExecutionMode", "Variables")


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _lowered(value: Any) -> Any:
    if isinstance(value, list):
        return [_lowered(v) for v in value]
    if isinstance(value, dict):
        return {k[:1].lower() + k[1:]: v if k == "Configuration" else _lowered(v) for k, v in value.items()}
    return value


_MOTO_TYPES: dict[str, tuple[str, str, str | None]] = {
    "AWS::DynamoDB::Table": ("dynamodb", "Table", "TableName"),
    "AWS::Events::Rule": ("events", "Rule", "Name"),
    "AWS::IAM::InstanceProfile": ("iam", "InstanceProfile", "InstanceProfileName"),
    "AWS::IAM::ManagedPolicy": ("iam", "ManagedPolicy", "ManagedPolicyName"),
    "AWS::IAM::Policy": ("iam", "InlinePolicy", None),
    "AWS::IAM::User": ("iam", "User", "UserName"),
    "AWS::KMS::Key": ("kms", "Key", None),
    "AWS::Lambda::Function": ("awslambda", "LambdaFunction", "FunctionName"),
    "AWS::Logs::LogGroup": ("logs", "LogGroup", "LogGroupName"),
    "AWS::SNS::Topic": ("sns", "Topic", "TopicName"),
    "AWS::SQS::Queue": ("sqs", "Queue", "QueueName"),
}

_INERT_TYPES = (
    "AWS::CloudFormation::WaitCondition",
    "AWS::CloudFormation::WaitConditionHandle",
    "AWS::CloudFront::Distribution",
    "AWS::CloudFront::OriginAccessControl",
    "AWS::CodePipeline::CustomActionType",
    "AWS::CodePipeline::Webhook",
    "AWS::CodeConnections::Connection",
    "AWS::CodeStarConnections::Connection",
    "AWS::CodeStarNotifications::NotificationRule",
    "AWS::KMS::Alias",
    "AWS::Lambda::Permission",
    "AWS::SNS::Subscription",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
)


def handlers(pipelines: PipelineHandler, projects: ProjectHandler) -> dict[str, Handler]:
    """Every known resource type with its handler."""
    inert = InertHandler()
    return {
        **dict.fromkeys(_INERT_TYPES, inert),
        **{kind: MotoHandler(*where) for kind, where in _MOTO_TYPES.items()},
        "AWS::IAM::Role": RoleHandler("iam", "Role", "RoleName"),
        "AWS::SSM::Parameter": ParameterHandler("ssm", "Parameter", "Name"),
        "AWS::S3::Bucket": BucketHandler("s3", "FakeBucket", "BucketName", 63),
        "AWS::S3::BucketPolicy": BucketPolicyHandler(),
        "AWS::CodeBuild::Project": projects,
        "AWS::CodePipeline::Pipeline": pipelines,
    }
