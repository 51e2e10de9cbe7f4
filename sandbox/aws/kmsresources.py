"""The handlers of KMS keys with their aliases."""

from __future__ import annotations

import json
from typing import Any

from sandbox.aws import motostores
from sandbox.aws.motoresources import MotoHandler
from sandbox.aws.propertychecks import handler_error
from sandbox.aws.resources import Context, Resource


class KeyHandler(MotoHandler):
    """KMS keys, whose tags moto expects in the form of KMS's own API."""

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        tags = {**context.stack_tags, **{t["Key"]: t["Value"] for t in properties.get("Tags", [])}}
        policy = json.dumps(properties["KeyPolicy"]) if "KeyPolicy" in properties else None
        own = [{"TagKey": k, "TagValue": v} for k, v in tags.items()]
        resource = super().create(context, logical_id, kind, {**properties, "KeyPolicy": policy, "Tags": own})
        resource.properties = properties
        return resource

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        resource.model.policy = json.dumps(properties.get("KeyPolicy"))
        resource.model.description = properties.get("Description")
        resource.model.key_rotation_status = properties.get("EnableKeyRotation", False)
        resource.model.enabled = properties.get("Enabled", True)
        resource.properties = properties
        return resource

    def delete(self, resource: Resource) -> None:
        if self.exists(resource):
            days = int(resource.properties.get("PendingWindowInDays", 30))
            motostores.backend("kms", self.place).schedule_key_deletion(resource.physical_id, days)


class AliasHandler(MotoHandler):
    """KMS aliases: a name can be used once in a region, and the key must exist."""

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name, key = properties["AliasName"], self._check_key(properties["TargetKeyId"])
        if motostores.is_stored(kind, self.place, name):
            arn = self.place.arn("kms", name)
            raise handler_error(
                f"An alias with the name {arn} already exists (Service: Kms, Status Code: 400, Request ID: sandbox)",
                "AlreadyExists",
            )
        return super().create(context, logical_id, kind, {**properties, "TargetKeyId": key})

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:
        key = self._check_key(properties["TargetKeyId"])
        updated = super().update(context, resource, {**properties, "TargetKeyId": key})
        updated.properties = properties
        return updated

    def _check_key(self, key: str) -> str:
        """The id of a key that exists."""
        key_id = str(key).rpartition("/")[2]
        if key_id not in motostores.backend("kms", self.place).keys:
            arn = self.place.arn("kms", f"key/{key_id}")
            raise handler_error(
                f"Key '{arn}' does not exist (Service: Kms, Status Code: 400, Request ID: sandbox)",
                "NotFound",
            )
        return key_id
