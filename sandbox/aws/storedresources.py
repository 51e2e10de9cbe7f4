"""The handlers of resource types that the simulator stores without simulating their service."""

from __future__ import annotations

import secrets
import uuid
from typing import Any

from sandbox.aws.places import Place
from sandbox.aws.resources import Context, Handler, Resource, ResourceError, generated_name
from sandbox.aws.schemas import names_of, schema_of

_LONGEST_NAME = 63
# EventBridge's ARNs of these types end in a UUID; the schemas of other types check that.
_ARNS_WITH_ID = {
    "AWS::Events::ApiDestination": "api-destination",
    "AWS::Events::Connection": "connection",
}


class StoredHandler(Handler):
    """A type of the registry: its resources exist until they are deleted, and do nothing."""

    def __init__(self, place: Place, kind: str) -> None:
        super().__init__(place)
        self._kind = kind
        self._schema = schema_of(kind) or {}
        self._ids = set[str]()
        self._given = set(names_of(self._schema, "readOnlyProperties"))
        self._identifiers = names_of(self._schema, "primaryIdentifier")
        self._fixed = set(names_of(self._schema, "createOnlyProperties"))

    def needs_replacement(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        return any(old.get(name) != new.get(name) for name in self._fixed)

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        physical_id = self._new_id(context, logical_id, properties)
        if physical_id in self._ids:
            raise ResourceError(f"Resource of type '{kind}' with identifier '{physical_id}' already exists.")
        self._ids.add(physical_id)
        attributes = {name: self._attribute(name, physical_id) for name in self._given}
        return Resource(logical_id, kind, physical_id, properties, attributes)

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        resource.properties = properties
        return resource

    def delete(self, resource: Resource) -> None:
        self._ids.discard(resource.physical_id)

    def exists(self, resource: Resource) -> bool:
        return resource.physical_id in self._ids

    def import_existing(
        self, logical_id: str, kind: str, physical_id: str, properties: dict[str, Any]
    ) -> Resource:
        """Accept the import; the resource need not exist, because nothing but a stack creates one here."""
        self._ids.add(physical_id)
        return Resource(logical_id, kind, physical_id, properties)

    def _new_id(self, context: Context, logical_id: str, properties: dict[str, Any]) -> str:
        """The value of `Ref`: the type's identifiers, given by the template or made here as AWS does."""
        parts = []
        for name in self._identifiers or ["Id"]:
            if name not in self._given:
                named = properties.get(name)
                parts.append(str(named or generated_name(context.stack_name, logical_id, _LONGEST_NAME)))
            elif name.endswith("Arn"):
                parts.append(self._arn(generated_name(context.stack_name, logical_id, _LONGEST_NAME)))
            else:
                parts.append(f"{logical_id.lower()[:20]}-{secrets.token_hex(8)}")
        return "|".join(parts)

    def _attribute(self, name: str, physical_id: str) -> str:
        last = name.rpartition(".")[2]
        if name in self._identifiers and "|" not in physical_id:
            return physical_id
        if last.endswith("Arn"):
            return physical_id if physical_id.startswith("arn:") else self._arn(physical_id)
        return f"{physical_id}-{last.lower()}"

    def _arn(self, name: str) -> str:
        _, service, what = self._kind.lower().split("::")
        if self._kind in _ARNS_WITH_ID:
            what, name = _ARNS_WITH_ID[self._kind], f"{name}/{uuid.uuid5(uuid.NAMESPACE_OID, name)}"
        return self.place.arn(service, f"{what}/{name}")


class CustomResourceHandler(Handler):
    """Custom resources, which fail: their Lambda functions are not called."""

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        raise ResourceError(f"Not simulated: the custom resource {logical_id} ({kind}) is not created")

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:
        return self.create(context, resource.logical_id, resource.type, properties)

    def delete(self, resource: Resource) -> None:
        """Do nothing, because no custom resource is created."""

    def exists(self, resource: Resource) -> bool:  # noqa: ARG002
        """False, because no custom resource is created."""
        return False


class WaitHandleHandler(StoredHandler):
    """The handles of wait conditions, whose `Ref` is a URL."""

    def _new_id(self, context: Context, logical_id: str, properties: dict[str, Any]) -> str:  # noqa: ARG002
        host = f"cloudformation-waitcondition-{self.place.region}.s3.amazonaws.com"
        return f"https://{host}/{logical_id}-{uuid.uuid4()}"
