"""Resources of stacks, with the interface of the handlers of resource types."""

from __future__ import annotations

import secrets
import string
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from sandbox.aws.clock import Process
from sandbox.aws.places import Place
from sandbox.aws.protocol import AwsError

_LETTERS = string.ascii_uppercase + string.digits


class ResourceError(Exception):
    """A resource could not be created, updated or deleted; the message is the service's."""


def failure_reason(error: Exception) -> str:
    """The reason of a resource's failure, which an error of the simulator or of moto gives."""
    if isinstance(error, ResourceError | AwsError):
        return str(error)
    return str(getattr(error, "message", None) or error or repr(error))


@dataclass
class Resource:
    """An existing resource: its values for `Ref` and `Fn::GetAtt`, and the properties it was created with."""

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
    """The stack of a resource that a handler works on."""

    stack_id: str
    stack_name: str
    stack_tags: dict[str, str]
    role_arn: str | None


def generated_name(stack_name: str, logical_id: str, longest: int = 64) -> str:
    """A name in the form that CloudFormation generates: stack, logical id and random characters."""
    end = "".join(secrets.choice(_LETTERS) for _ in range(12))
    room = longest - len(logical_id) - len(end) - 2
    return f"{stack_name[: max(room, 1)]}-{logical_id[: longest - 15]}-{end}"


class Handler(ABC):
    """Creates, updates and deletes the resources of one type.

    Each method raises ResourceError if the operation fails.
    """

    name_property: str | None = None

    def __init__(self, place: Place) -> None:
        self.place = place

    def needs_replacement(self, old: dict[str, Any], new: dict[str, Any]) -> bool:
        """Whether the change of properties requires replacement."""
        return self.name_property is not None and old.get(self.name_property) != new.get(self.name_property)

    @abstractmethod
    def create(self, context: Context, logical_id: str, kind: str, properties: dict[str, Any]) -> Resource:
        """Create a resource."""

    @abstractmethod
    def update(self, context: Context, resource: Resource, properties: dict[str, Any]) -> Resource:
        """Update a resource without replacement."""

    @abstractmethod
    def delete(self, resource: Resource) -> None:
        """Delete a resource."""

    def import_existing(
        self, logical_id: str, kind: str, physical_id: str, properties: dict[str, Any]
    ) -> Resource:
        """Import an existing resource."""
        resource = Resource(logical_id, kind, physical_id, properties, name=physical_id)
        if not self.exists(resource):
            raise ResourceError(f"Resource of type '{kind}' with identifier '{physical_id}' was not found.")
        return resource

    def wait_until_done(self, resource: Resource) -> Process:  # noqa: ARG002
        """Wait until the operation on a resource has ended."""
        yield from ()

    @abstractmethod
    def exists(self, resource: Resource) -> bool:
        """Whether a resource still exists."""

    def attribute_value(self, resource: Resource, name: str) -> str:
        """The value for `Fn::GetAtt`."""
        try:
            return resource.attributes[name]
        except KeyError:
            message = f"Requested attribute {name} does not exist in schema for {resource.type}"
            raise ResourceError(message) from None
