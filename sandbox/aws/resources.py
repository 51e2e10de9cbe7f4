"""What CloudFormation can create: the resources themselves and how a type of them is handled."""

from __future__ import annotations

import secrets
import string
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from sandbox.aws.clock import Process
from sandbox.aws.places import Place

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

    stack_id: str
    stack_name: str
    stack_tags: dict[str, str]
    role_arn: str | None


def generated_name(stack_name: str, logical_id: str, longest: int = 64) -> str:
    """A name as CloudFormation makes one up: stack, logical id and a random end."""
    end = "".join(secrets.choice(_LETTERS) for _ in range(12))
    room = longest - len(logical_id) - len(end) - 2
    return f"{stack_name[: max(room, 1)]}-{logical_id[: longest - 15]}-{end}"


class Handler(ABC):
    """Creates, updates and deletes the resources of one type."""

    name_property: str | None = None

    def __init__(self, place: Place) -> None:
        self.place = place

    def needs_replacement(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
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

    def import_existing(
        self, logical_id: str, kind: str, physical_id: str, properties: dict[str, Any]
    ) -> Resource:
        """Take over a resource that exists; `ResourceError` when there is none."""
        resource = Resource(logical_id, kind, physical_id, properties, name=physical_id)
        if not self.exists(resource):
            raise ResourceError(f"Resource of type '{kind}' with identifier '{physical_id}' was not found.")
        return resource

    def wait_until_done(self, resource: Resource) -> Process:  # noqa: ARG002
        """Wait until what was begun with a resource is done; `ResourceError` when it failed."""
        yield from ()

    def exists(self, resource: Resource) -> bool:  # noqa: ARG002
        """Whether a resource is there; where that cannot be told, it is believed to be."""
        return True

    def attribute_value(self, resource: Resource, name: str) -> str:
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
        return Resource(logical_id, kind, name, properties, {"Arn": self.place.arn("sandbox", name)})

    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:  # noqa: ARG002
        resource.properties = properties
        return resource

    def delete(self, resource: Resource) -> None:
        """Nothing was made, so nothing is left."""

    def exists(self, resource: Resource) -> bool:  # noqa: ARG002
        """Nothing was made."""
        return False

    def import_existing(
        self, logical_id: str, kind: str, physical_id: str, properties: dict[str, Any]
    ) -> Resource:
        """What does nothing can be taken over without being there."""
        return Resource(logical_id, kind, physical_id, properties)
