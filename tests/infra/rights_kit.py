"""Builds rows of `role, action, resource, condition keys, allowed`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from rendered import ACCOUNT, REGION, target

from sandbox.aws.policies import Principal, Request, denied_by

KINDS = ("development", "staging", "production")
OTHERS = [(kind, other) for kind in KINDS for other in KINDS if kind != other]
ALLOWED, DENIED = True, False

Row = tuple[str, str, str, Mapping[str, Any], bool]

STACK = f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/hello-x-732a3cad0f/6f1c"
PIPELINE = f"arn:aws:codepipeline:{REGION}:{ACCOUNT}:hello-x-732a3cad0f"
PROJECT = f"arn:aws:codebuild:{REGION}:{ACCOUNT}:project/hello-x-732a3cad0f-build"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:hello"
IAM = f"arn:aws:iam::{ACCOUNT}"
SSM = f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter"
EVENTS = f"arn:aws:events:{REGION}:{ACCOUNT}"
ADMINISTRATOR = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}


def service_role(kind: str) -> str:
    return f"{IAM}:role/deployer-own/deployer-{kind}-service"


def branch_role(kind: str) -> str:
    """A role that a template of this kind has made."""
    return f"{IAM}:role/deployer/{kind}/hello-x-732a3cad0f-BuildRole-4K2"


def boundary(kind: str) -> str:
    return f"{IAM}:policy/deployer-own/deployer-{kind}-boundary"


def artifacts(kind: str) -> str:
    return f"arn:aws:s3:::deployer-artifacts-{kind}-{ACCOUNT}-{REGION}"


def tagged(kind: str) -> dict[str, str]:
    """The condition keys of a resource with deployer's tags."""
    return {
        "aws:ResourceTag/deployer:managed": "true",
        "aws:ResourceTag/deployer:environment": kind,
    }


def tagging(kind: str) -> dict[str, Any]:
    """The condition keys of a request that sets deployer's tags."""
    return {
        "aws:RequestTag/deployer:managed": "true",
        "aws:RequestTag/deployer:environment": kind,
        "aws:TagKeys": ["deployer:managed", "deployer:environment"],
    }


def working_as(role: str) -> dict[str, str]:
    return {"cloudformation:RoleArn": role}


def passed_to(service: str) -> dict[str, str]:
    return {"iam:PassedToService": f"{service}.amazonaws.com"}


def bounded_by(policy: str) -> dict[str, str]:
    return {"iam:PermissionsBoundary": policy}


@cache
def principal(role: str, kind: str) -> Principal:
    """Of a kind: `deployer` itself, the `service` role, or a `branch` role whose template asks for everything."""
    made = target(kind)
    if role == "branch":
        return Principal([ADMINISTRATOR], made.document("Boundary"))
    return made.principal({"deployer": "DeployerRole", "service": "ServiceRole"}[role])


def check(rows: list[Row], kind: str) -> None:
    """Check every row, and report all wrong rows together."""
    wrong = [
        f"{role} of {kind} {'may not' if allowed else 'may'} {action} on {resource} with {dict(context)}"
        for role, action, resource, context, allowed in rows
        if _may(role, kind, Request(action, resource, context)) != allowed
    ]
    assert not wrong, "\n".join(wrong)


def _may(role: str, kind: str, request: Request) -> bool:
    """Whether the role's policies allow it, and the policy of an artifact bucket does not deny it."""
    arn = {
        "deployer": f"{IAM}:role/deployer-own/deployer-{kind}",
        "service": service_role(kind),
        "branch": branch_role(kind),
    }[role]
    told = {"aws:PrincipalArn": arn, "aws:SecureTransport": "true", **request.context}
    owner = next((each for each in KINDS if request.resource.startswith(artifacts(each))), None)
    policy = target(owner).document("ArtifactBucketPolicy") if owner else None
    if policy and denied_by(policy, Request(request.action, request.resource, told)):
        return False
    return principal(role, kind).may(request)


def both(action: str, resource: str, context: Mapping[str, Any], allowed: bool) -> list[Row]:
    """A row for what branch code reaches: by its template, and by the roles that the template makes."""
    return [(role, action, resource, context, allowed) for role in ("service", "branch")]
