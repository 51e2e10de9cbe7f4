"""Where moto keeps the resources of each type, by which their existence is known after a stack has deleted them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any

from sandbox.aws.places import Place


def _bus_rules(events: Any) -> set[str]:
    return {name for bus in events.event_buses.values() for name in bus.rules}


STORES: dict[str, tuple[str, Callable[[Any], Collection[str]]]] = {
    "AWS::DynamoDB::Table": ("dynamodb", lambda backend: backend.tables),
    "AWS::ECR::Repository": ("ecr", lambda backend: backend.repositories),
    "AWS::Events::Rule": ("events", _bus_rules),
    "AWS::IAM::InstanceProfile": ("iam", lambda backend: backend.instance_profiles),
    # The policies that AWS manages belong to every account.
    "AWS::IAM::ManagedPolicy": (
        "iam",
        lambda backend: {arn for arn in backend.managed_policies if ":iam::aws:" not in arn},
    ),
    "AWS::IAM::Policy": ("iam", lambda backend: backend.inline_policies),
    "AWS::IAM::Role": ("iam", lambda backend: {r.name for r in backend.roles.values()}),
    "AWS::IAM::User": ("iam", lambda backend: backend.users),
    "AWS::KMS::Alias": ("kms", lambda backend: {a.alias_name for a in backend.list_aliases()}),
    "AWS::KMS::Key": (
        "kms",
        # A stack that deletes a key schedules its deletion, so a key that waits for it counts as deleted.
        lambda backend: {k.id for k in backend.keys.values() if k.key_state != "PendingDeletion"},
    ),
    "AWS::Lambda::Function": ("awslambda", lambda b: {f.function_name for f in b.list_functions()}),
    "AWS::Logs::LogGroup": ("logs", lambda backend: backend.groups),
    "AWS::SNS::Topic": ("sns", lambda backend: backend.topics),
    "AWS::SQS::Queue": ("sqs", lambda backend: {q.physical_resource_id for q in backend.queues.values()}),
    "AWS::SSM::Parameter": (
        "ssm",
        # moto's key for a name lacks a leading slash that is the only one.
        lambda backend: {
            versions[-1].name
            for name, versions in backend._parameters.items()
            if versions and not name.startswith("/aws/service/")
        },
    ),
}
_BACKENDS = {"awslambda": "lambda_backends"}
_GLOBAL = ("iam",)


def backend(service: str, place: Place) -> Any:
    """moto's backend of a service (by the name of its module) in a region."""
    # Imported on first use, because importing all of moto's models takes seconds.
    module = importlib.import_module(f"moto.{service}.models")
    every = getattr(module, _BACKENDS.get(service, f"{service}_backends"))
    return every[place.account]["aws" if service in _GLOBAL else place.region]


def is_stored(kind: str, place: Place, physical_id: str) -> bool:
    """Whether moto has a resource of this type and id."""
    service, held = STORES[kind]
    return physical_id in held(backend(service, place))


def existing_resources(place: Place) -> Iterator[tuple[str, str]]:
    """The type and the id of every resource of these types that exists in a region, or in its account if global."""
    for kind, (service, held) in STORES.items():
        if f"moto.{service}.models" in sys.modules:
            yield from ((kind, physical_id) for physical_id in held(backend(service, place)))
