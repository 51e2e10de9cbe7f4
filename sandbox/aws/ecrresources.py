"""The handler of ECR repositories."""

from __future__ import annotations

from typing import Any

from sandbox.aws import motostores
from sandbox.aws.motoresources import MotoHandler
from sandbox.aws.propertychecks import handler_error
from sandbox.aws.resources import Context, Resource


class RepositoryHandler(MotoHandler):
    """ECR repositories: a repository with images is deleted only with `EmptyOnDelete`."""

    def _physical_name(self, context: Context, logical_id: str, properties: dict[str, Any]) -> str:
        return super()._physical_name(context, logical_id, properties).lower()

    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        name = self._physical_name(context, logical_id, properties)
        if motostores.is_stored(kind, self.place, name):
            raise handler_error(
                f"Resource of type '{kind}' with identifier '{name}' already exists.", "AlreadyExists"
            )
        return super().create(context, logical_id, kind, properties)

    def delete(self, resource: Resource) -> None:
        if not self.exists(resource):
            return
        ecr, name = motostores.backend("ecr", self.place), resource.physical_id
        force = str(resource.properties.get("EmptyOnDelete", False)).lower() == "true"
        if ecr.repositories[name].images and not force:
            raise handler_error(
                f"The repository with name '{name}' in registry with id '{self.place.account}' cannot be deleted "
                "because it still contains images (Service: Ecr, Status Code: 400, Request ID: sandbox)",
                "GeneralServiceException",
            )
        ecr.delete_repository(name, force=True)
