"""Tests that deployer's role allows exactly the calls that the code makes."""

from __future__ import annotations

import ast
import inspect
from functools import cache
from typing import Any

import boto3
import pytest
from botocore import xform_name
from rendered import render, target

from deployer.aws import buckets as aws_buckets
from deployer.aws import build_logs as aws_build_logs
from deployer.aws import clients as aws_client
from deployer.aws import cloud as aws
from deployer.aws import cloudformation as aws_stacks
from deployer.aws import codepipeline as aws_pipelines
from deployer.aws import images as aws_images
from deployer.aws import roles as aws_roles
from deployer.aws import secrets as aws_secrets
from deployer.aws import storage as aws_storage

SERVICES = ("cloudformation", "codepipeline", "ecr", "iam", "logs", "s3", "secretsmanager", "ssm", "sts")

# operations whose actions have other names
ACTIONS = {
    "s3:DeleteObjects": {"s3:DeleteObject", "s3:DeleteObjectVersion"},
    "s3:ListMultipartUploads": {"s3:ListBucketMultipartUploads"},
    "s3:ListObjectVersions": {"s3:ListBucketVersions"},
}
# what AWS asks for beside an operation's own action
BESIDES = {
    # with tags, with RoleARN, with TemplateURL
    "cloudformation:CreateStack": {"cloudformation:TagResource", "iam:PassRole", "s3:GetObject"},
    "cloudformation:UpdateStack": {"cloudformation:UntagResource"},
}


def test_the_target_roles_allow_what_the_adapter_calls_and_no_more() -> None:
    needed = _called(
        aws,
        aws_buckets,
        aws_build_logs,
        aws_client,
        aws_images,
        aws_pipelines,
        aws_roles,
        aws_stacks,
        aws_storage,
    )
    # calls with the installation's own role; the second needs no permission
    needed -= {"sts:AssumeRole", "sts:GetCallerIdentity"}
    assert _granted(target("development").resources["DeployerRole"]["Policies"]) == needed
    emptying = {
        "ecr:BatchDeleteImage",
        "ecr:ListImages",
        "logs:DeleteLogGroup",
        "s3:AbortMultipartUpload",
        "s3:DeleteObject",
        "s3:DeleteObjectVersion",
        "s3:ListBucketMultipartUploads",
        "s3:ListBucketVersions",
    }
    for kind in ("staging", "production"):
        assert _granted(target(kind).resources["DeployerRole"]["Policies"]) == needed - emptying


def test_the_installations_role_allows_what_settings_need_and_to_become_a_target() -> None:
    made = render(
        "installation.yml", TargetRoles="arn:aws:iam::111122223333:role/deployer-own/deployer-staging"
    )
    document = [{"PolicyDocument": made.document("Policy")}]
    # `deployer secrets set` uses the permissions of the person who runs it
    assert _granted(document) == _called(aws_secrets.read_secret) | {"sts:AssumeRole"}


@pytest.mark.parametrize("template", ["installation.yml", "events.yml"])
def test_no_role_of_deployers_own_has_a_pattern_for_an_action(template: str) -> None:
    needs = {
        "installation.yml": {"TargetRoles": "arn:aws:iam::111122223333:role/deployer-own/deployer-staging"},
        "events.yml": {"WebhookUrl": "https://deployer.example.org/webhooks/aws"},
    }
    made = render(template, **needs[template])
    documents = [each.get("PolicyDocument") for each in made.resources.values()]
    assert not [each for each in documents if each and "*" in str(_granted([{"PolicyDocument": each}]))]


def _granted(policies: list[dict[str, Any]]) -> set[str]:
    actions: set[str] = set()
    for policy in policies:
        for statement in policy["PolicyDocument"]["Statement"]:
            given = statement["Action"] if statement["Effect"] == "Allow" else []
            actions |= {given} if isinstance(given, str) else set(given)
    return actions


def _called(*places: Any) -> set[str]:
    """The actions of every operation that a module or function names as a client's method."""
    called: set[str] = set()
    for place in places:
        for node in ast.walk(ast.parse(inspect.getsource(place))):
            if isinstance(node, ast.Attribute) and node.attr in _operations():
                operation = _operations()[node.attr]
                called |= ACTIONS.get(operation, {operation}) | BESIDES.get(operation, set())
    assert called
    return called


@cache
def _operations() -> dict[str, str]:
    """A client's method -> its operation as `service:Name`."""
    found: dict[str, str] = {}
    for service in SERVICES:
        model = boto3.client(service, region_name="us-east-1").meta.service_model
        for name in model.operation_names:
            # a name that two services have would be taken for the wrong one's
            taken = found.get(xform_name(name), "")
            found[xform_name(name)] = f"{taken}{' or ' if taken else ''}{service}:{name}"
    return found
