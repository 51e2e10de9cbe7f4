"""The handlers of the resource types that the simulator itself provides: pipelines, build projects."""

from __future__ import annotations

import json
from typing import Any

from sandbox.aws import identity
from sandbox.aws.executions import Pipelines
from sandbox.aws.places import Place
from sandbox.aws.protocol import AwsError
from sandbox.aws.resources import Context, Handler, Resource, ResourceError, generated_name


class ProjectHandler(Handler):
    """CodeBuild projects: stored here; build actions read them."""

    name_property = "Name"

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        self.projects: dict[str, dict[str, Any]] = {}

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = str(properties.get("Name") or generated_name(context.stack_name, logical_id, 150))
        arn = self.place.arn("codebuild", f"project/{name}")
        if name in self.projects:
            raise ResourceError(f"Project already exists: {arn}")
        self.projects[name] = properties
        return Resource(logical_id, kind, name, properties, {"Arn": arn})

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        self.projects[resource.physical_id] = resource.properties = properties
        return resource

    def delete(self, resource: Resource) -> None:
        self.projects.pop(resource.physical_id, None)

    def exists(self, resource: Resource) -> bool:
        return resource.physical_id in self.projects


class _CodePipelineHandler(Handler):
    """Resources of the simulated CodePipeline."""

    name_property = "Name"

    def __init__(self, place: Place, pipelines: Pipelines) -> None:
        super().__init__(place)
        self._pipelines = pipelines


class PipelineHandler(_CodePipelineHandler):
    """CodePipeline pipelines: created in the simulated CodePipeline."""

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = str(properties.get("Name") or generated_name(context.stack_name, logical_id, 100))
        own = {t["Key"]: t["Value"] for t in properties.get("Tags", [])}
        try:
            version = self._pipelines.create(
                _pipeline_definition(name, properties), {**context.stack_tags, **own}, self._caller(context)
            )
        except AwsError as error:
            if error.code != "LimitExceededException":
                raise
            raise ResourceError(
                f"{error} (Service: AWSCodePipeline; Status Code: 400; Error Code: {error.code}; "
                "Request ID: sandbox; Proxy: null)"
            ) from error
        return Resource(logical_id, kind, name, properties, {"Version": str(version)})

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:
        restart = _plain_value(properties.get("RestartExecutionOnUpdate", False)) == "true"
        version = self._pipelines.update(
            _pipeline_definition(resource.physical_id, properties), self._caller(context) if restart else ""
        )
        resource.properties, resource.attributes = properties, {"Version": str(version)}
        return resource

    def delete(self, resource: Resource) -> None:
        self._pipelines.delete(resource.physical_id)

    def exists(self, resource: Resource) -> bool:
        return resource.physical_id in self._pipelines.all

    def _caller(self, context: Context) -> str:
        """Who calls CodePipeline: CloudFormation with the stack's role, or else in the name of its own caller."""
        if context.role_arn:
            return identity.session_arn(context.role_arn, "AWSCloudFormation")
        unknown = f"arn:aws:iam::{self.place.account}:user/sandbox"
        return self._pipelines.callers.get(context.stack_name, unknown)


class WebhookHandler(_CodePipelineHandler):
    """CodePipeline's webhooks: a push that passes their filters starts their pipeline."""

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = str(properties.get("Name") or generated_name(context.stack_name, logical_id, 100))
        if name in self._pipelines.webhooks:
            raise ResourceError(f"Webhook already exists: {name}")
        self._pipelines.webhooks[name] = properties
        self._pipelines.watch()
        url = f"https://webhooks.domain.com/trigger?t={name}"
        return Resource(logical_id, kind, self._arn(name), properties, {"Url": url}, name=name)

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        self._pipelines.webhooks[resource.name] = resource.properties = properties
        self._pipelines.watch()
        return resource

    def delete(self, resource: Resource) -> None:
        self._pipelines.webhooks.pop(resource.name, None)

    def exists(self, resource: Resource) -> bool:
        return resource.name in self._pipelines.webhooks

    def _arn(self, name: str) -> str:
        return self.place.arn("codepipeline", f"webhook:{name}")


def _pipeline_definition(name: str, properties: dict[str, Any]) -> dict[str, Any]:
    """The pipeline structure of CodePipeline's API, made from CloudFormation's properties."""
    lowered: dict[str, Any] = _lower_first_letter(
        {k: v for k, v in properties.items() if k in _PIPELINE_KEYS}
    )
    lowered["name"] = name
    for stage in lowered["stages"]:
        for action in stage["actions"]:
            action["configuration"] = {k: _plain_value(v) for k, v in action.get("configuration", {}).items()}
            action["runOrder"] = int(action.get("runOrder", 1))
            action["actionTypeId"]["version"] = str(action["actionTypeId"].get("version", "1"))
            action.setdefault("inputArtifacts", [])
            action.setdefault("outputArtifacts", [])
    return lowered


_PIPELINE_KEYS = (
    "RoleArn",
    "ArtifactStore",
    "Stages",
    "PipelineType",
    "ExecutionMode",
    "Variables",
    "Triggers",
)


def _plain_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _lower_first_letter(value: Any) -> Any:
    if isinstance(value, list):
        return [_lower_first_letter(v) for v in value]
    if isinstance(value, dict):
        return {
            k[:1].lower() + k[1:]: v if k == "Configuration" else _lower_first_letter(v)
            for k, v in value.items()
        }
    return value
