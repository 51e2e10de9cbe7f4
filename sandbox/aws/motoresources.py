"""The handlers of resource types whose resources are stored in moto, where moto's APIs show them."""

from __future__ import annotations

import copy
import importlib
import json
from collections.abc import Callable
from typing import Any

from sandbox.aws import motostores, storage
from sandbox.aws.detection import Rules
from sandbox.aws.places import Place
from sandbox.aws.propertychecks import handler_error
from sandbox.aws.resources import Context, Handler, Resource, ResourceError, generated_name
from sandbox.aws.schemas import names_of, schema_of
from sandbox.aws.storedresources import StoredHandler

_ARNS = ("arn", "function_arn", "queue_arn", "table_arn")


class MotoHandler(Handler):
    """A type whose resources are stored in moto."""

    def __init__(
        self, place: Place, module: str, model: str, name_property: str | None = None, longest: int = 64
    ) -> None:
        super().__init__(place)
        self._module = module
        self._model = model
        self.name_property = name_property
        self._longest = longest

    def _model_class(self) -> Any:
        # Imported on first use, because importing all of moto's models takes seconds.
        return getattr(importlib.import_module(f"moto.{self._module}.models"), self._model)

    def _physical_name(self, context: Context, logical_id: str, properties: dict[str, Any]) -> str:
        named = properties.get(self.name_property) if self.name_property else None
        return str(named or generated_name(context.stack_name, logical_id, self._longest))

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = self._physical_name(context, logical_id, properties)
        document = self._policy_document(kind, name, properties)
        model = self._model_class().create_from_cloudformation_json(
            name, document, self.place.account, self.place.region
        )
        return Resource(logical_id, kind, str(model.physical_resource_id), properties, model=model, name=name)

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        document = self._policy_document(resource.type, resource.name, properties)
        model = self._model_class().update_from_cloudformation_json(
            resource.model, resource.name, document, self.place.account, self.place.region
        )
        resource.model = model or resource.model
        resource.properties = properties
        return resource

    def delete(self, resource: Resource) -> None:
        if not self.exists(resource):
            return
        if hasattr(self._model_class(), "delete") and not isinstance(self, ParameterHandler):
            # moto deletes these in the model, and its `delete_from_cloudformation_json` does nothing.
            resource.model.delete(self.place.account, self.place.region)
            return
        document = self._policy_document(resource.type, resource.name, resource.properties)
        self._model_class().delete_from_cloudformation_json(
            resource.physical_id, document, self.place.account, self.place.region
        )

    def exists(self, resource: Resource) -> bool:
        return motostores.is_stored(resource.type, self.place, resource.physical_id)

    def _policy_document(self, kind: str, name: str, properties: dict[str, Any]) -> dict[str, Any]:
        named = {self.name_property: name} if self.name_property else {}
        return {"Type": kind, "Properties": {**copy.deepcopy(properties), **named}}

    def attribute_value(self, resource: Resource, name: str) -> str:
        # moto's `get_cfn_attribute` imports all of moto, which takes seconds, so ARNs are read without it.
        arn = next((getattr(resource.model, each) for each in _ARNS if hasattr(resource.model, each)), None)
        if name == "Arn" and arn is not None:
            return str(arn)
        try:
            return str(resource.model.get_cfn_attribute(name))
        except Exception:  # noqa: BLE001 - moto raises several errors for a missing attribute
            return self._registry_attribute(resource, name)

    def _registry_attribute(self, resource: Resource, name: str) -> str:
        """An attribute that the registry has and moto has not."""
        if name not in names_of(schema_of(resource.type) or {}, "readOnlyProperties"):
            return super().attribute_value(resource, name)
        if name.endswith("Arn"):
            return str(getattr(resource.model, "arn", resource.physical_id))
        return resource.physical_id if name.endswith(("Id", "Name", "Url")) else f"{resource.name}-{name}"


class ParameterHandler(MotoHandler):
    """SSM parameters, with the attributes that moto does not have."""

    def attribute_value(self, resource: Resource, name: str) -> str:
        if name in ("Type", "Value"):
            return str(resource.properties[name])
        return super().attribute_value(resource, name)


class ManagedPolicyHandler(MotoHandler):
    """Managed policies: IAM deletes none that is attached, so CloudFormation detaches those that it attached."""

    def delete(self, resource: Resource) -> None:
        if not self.exists(resource):
            return
        iam, arn = motostores.backend("iam", self.place), resource.physical_id
        for key, detach in (
            ("Roles", iam.detach_role_policy),
            ("Users", iam.detach_user_policy),
            ("Groups", iam.detach_group_policy),
        ):
            for name in resource.properties.get(key, []):
                detach(arn, name)
        if iam.managed_policies[arn].attachment_count:
            raise handler_error(
                "Cannot delete a policy attached to entities. (Service: Iam, Status Code: 409, Request ID: sandbox)",
                "ResourceConflict",
            )
        iam.delete_policy(arn)


class RuleHandler(MotoHandler):
    """EventBridge rules: those whose target is a pipeline start it.

    CloudFormation deletes a rule with its targets, moto only a rule without targets.
    """

    def __init__(self, place: Place, rules: Rules) -> None:
        super().__init__(place, "events", "Rule", "Name")
        self._rules = rules

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        resource = super().create(context, logical_id, kind, properties)
        self._rules.put(resource.name, properties)
        return resource

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:
        self._rules.put(resource.name, properties)
        return super().update(context, resource, properties)

    def delete(self, resource: Resource) -> None:
        self._rules.remove(resource.name)
        resource.model.targets.clear()
        super().delete(resource)


class RoleHandler(MotoHandler):
    """IAM roles: IAM returns the documents of inline policies as text, moto as they were put."""

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
    """S3 buckets: a name can be used once, and only an empty bucket can be deleted.

    Args:
        place: the region.
        address: returns the URL of the simulator, which serves every bucket as a website.
    """

    def __init__(self, place: Place, address: Callable[[], str]) -> None:
        super().__init__(place, "s3", "FakeBucket", "BucketName", 63)
        self._address = address

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = self._physical_name(context, logical_id, properties).lower()
        if name in storage.bucket_names():
            raise ResourceError(f"{name} already exists")
        resource = super().create(context, logical_id, kind, {**properties, "BucketName": name})
        resource.properties = properties
        return self._with_versioning(self._with_attributes(resource))

    def import_existing(
        self, logical_id: str, kind: str, physical_id: str, properties: dict[str, Any]
    ) -> Resource:
        resource = super().import_existing(logical_id, kind, physical_id, properties)
        resource.model = storage.bucket(physical_id)
        return self._with_versioning(self._with_attributes(resource))

    def exists(self, resource: Resource) -> bool:
        return resource.physical_id in storage.bucket_names()

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        resource.properties = properties
        return self._with_versioning(resource)

    def delete(self, resource: Resource) -> None:
        if not storage.is_empty(resource.physical_id):
            raise ResourceError(
                "Resource handler returned message: "
                '"The bucket you tried to delete is not empty (Service: S3, Status Code: 409)" '
                "(RequestToken: sandbox, HandlerErrorCode: GeneralServiceException)"
            )
        if resource.physical_id in storage.bucket_names():
            super().delete(resource)

    def attribute_value(self, resource: Resource, name: str) -> str:
        return Handler.attribute_value(self, resource, name)

    def _with_attributes(self, resource: Resource) -> Resource:
        name, region, address = resource.physical_id, self.place.region, self._address()
        resource.attributes = {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{region}.amazonaws.com",
            "WebsiteURL": f"{address}/{name}"
            if address
            else f"http://{name}.s3-website-{region}.amazonaws.com",
        }
        return resource

    @staticmethod
    def _with_versioning(resource: Resource) -> Resource:
        if versioning := resource.properties.get("VersioningConfiguration"):
            resource.model.versioning_status = versioning.get("Status")
        return resource


class BucketPolicyHandler(StoredHandler):
    """Bucket policies: stored but not enforced, because the simulator lets everybody read."""

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        if properties.get("Bucket") not in storage.bucket_names():
            raise ResourceError("The specified bucket does not exist")
        return super().create(context, logical_id, kind, properties)
