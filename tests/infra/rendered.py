"""Evaluates the templates of `infra/` and returns their policies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sandbox.aws.intrinsics import Resolver
from sandbox.aws.policies import Document, Principal
from sandbox.aws.template import Template

INFRA = Path(__file__).parents[2] / "infra"
ACCOUNT = "111122223333"
REGION = "eu-west-1"
INSTALLATION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/deployer-own/deployer"
CONNECTION = f"arn:aws:codeconnections:{REGION}:{ACCOUNT}:connection/7f4b"
EXTERNAL_ID = "0123456789abcdef"
REPOSITORIES = "acme/*"
PROTECTED = "arn:aws:s3:::acme-customers*"


@dataclass(frozen=True)
class Rendered:
    """One template's resources, as CloudFormation would make them."""

    resources: Mapping[str, Any]
    arns: Mapping[str, str]

    def document(self, name: str) -> Document:
        """The policy of a managed or a resource's policy."""
        found: Document = self.resources[name]["PolicyDocument"]
        return found

    def trust(self, name: str) -> Document:
        """The trust policy of a role."""
        found: Document = self.resources[name]["AssumeRolePolicyDocument"]
        return found

    def principal(self, name: str) -> Principal:
        """A role, with the policies that the template gives it."""
        role = self.resources[name]
        attached = [self._policy(arn) for arn in role.get("ManagedPolicyArns", [])]
        inline = [each["PolicyDocument"] for each in role.get("Policies", [])]
        boundary = role.get("PermissionsBoundary")
        return Principal([*attached, *inline], self._policy(boundary) if boundary else None)

    def _policy(self, arn: str) -> Document:
        return self.document(next(name for name, known in self.arns.items() if known == arn))


@cache
def render(template: str, *, partition: str = "aws", **parameters: str) -> Rendered:
    """Evaluate a template's functions; a reference that it makes wrongly is an error."""
    # a secret stays a reference: there is none here
    text = (INFRA / template).read_text().replace("{{resolve:", "{{unresolved:")
    read = Template(text, lambda _kind: True)
    values = {
        "AWS::AccountId": ACCOUNT,
        "AWS::Partition": partition,
        "AWS::Region": REGION,
        "AWS::URLSuffix": "amazonaws.com",
        **read.check_parameters(parameters),
    }
    arns: dict[str, str] = {}
    resolver = Resolver(read, values, lambda name: arns[name], lambda name, _attribute: arns[name], str)
    made = {name: read.resources[name] for name in read.order if resolver.is_active(read.resources[name])}
    resources = {}
    for name, each in made.items():
        resources[name] = resolver.evaluate(each["Properties"])
        arns[name] = _arn(partition, each["Type"], name, resources[name])
    return Rendered(resources, arns)


def target(kind: str, **parameters: str) -> Rendered:
    """`target.yml` for a kind of environment."""
    given = {
        "InstallationRole": INSTALLATION_ROLE,
        "ExternalId": EXTERNAL_ID,
        "ConnectionArns": CONNECTION,
        "Repositories": REPOSITORIES,
        "ProtectedResources": PROTECTED,
    }
    return render("target.yml", **{"Kind": kind, **given, **parameters})


_NAMING = ("RoleName", "ManagedPolicyName", "BucketName", "Name", "QueueName", "InstanceProfileName")


def _arn(partition: str, kind: str, logical_id: str, properties: Mapping[str, Any]) -> str:
    path = properties.get("Path", "/")
    name = next((properties[key] for key in _NAMING if key in properties), logical_id)
    return {
        "AWS::IAM::Role": f"arn:{partition}:iam::{ACCOUNT}:role{path}{name}",
        "AWS::IAM::ManagedPolicy": f"arn:{partition}:iam::{ACCOUNT}:policy{path}{name}",
        "AWS::IAM::InstanceProfile": f"arn:{partition}:iam::{ACCOUNT}:instance-profile{path}{name}",
        "AWS::S3::Bucket": f"arn:{partition}:s3:::{name}",
        "AWS::SQS::Queue": f"arn:{partition}:sqs:{REGION}:{ACCOUNT}:{name}",
        "AWS::Events::Rule": f"arn:{partition}:events:{REGION}:{ACCOUNT}:rule/{name}",
        "AWS::Events::ApiDestination": f"arn:{partition}:events:{REGION}:{ACCOUNT}:api-destination/{name}/1",
    }.get(kind, f"arn:{partition}:other:::{name}")
