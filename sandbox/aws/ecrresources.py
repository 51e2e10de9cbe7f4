"""The handler of ECR repositories."""

from __future__ import annotations

from typing import Any

from sandbox.aws.motoresources import MotoHandler
from sandbox.aws.resources import Context, Resource, ResourceError


class RepositoryHandler(MotoHandler):
    """ECR repositories: a repository with images is deleted only with `EmptyOnDelete`."""

    def _physical_name(self, context: Context, logical_id: str, properties: dict[str, object]) -> str:
        return super()._physical_name(context, logical_id, properties).lower()

    def delete(self, resource: Resource) -> None:
        ecr, name = self._backend(), resource.physical_id
        if name not in ecr.repositories:
            return
        force = str(resource.properties.get("EmptyOnDelete", False)).lower() == "true"
        if ecr.repositories[name].images and not force:
            raise ResourceError(
                f"The repository with name '{name}' in registry with id '{self.place.account}' cannot be deleted "
                "because it still contains images (Service: Ecr, Status Code: 400)"
            )
        ecr.delete_repository(name, force=True)

    def exists(self, resource: Resource) -> bool:
        return resource.physical_id in self._backend().repositories

    def _backend(self) -> Any:
        # Imported on first use, because importing moto's models takes seconds.
        from moto.ecr.models import ecr_backends

        return ecr_backends[self.place.account][self.place.region]
