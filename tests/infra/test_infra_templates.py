"""Tests of the templates of `infra/`: AWS's limits, partitions, creation as stacks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from rendered import INFRA, INSTALLATION_ROLE, render, target

from deployer.model.environments import Kind
from deployer.model.targets import Target
from deployer.settings.targets import read_targets
from sandbox.aws import server
from sandbox.installation import wait_for

TEMPLATES = sorted(path.name for path in INFRA.glob("*.yml"))
URL = "https://deployer.example.org/webhooks/aws"
EXTERNAL_ID = "0123456789abcdef"


@pytest.mark.parametrize("kind", list(Kind))
def test_policies_are_within_iams_limits(kind: Kind) -> None:
    # https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: blanks do not count
    made = target(kind, AllowedRoles="arn:aws:iam::111122223333:role/shared/Reader")
    assert _length(made.document("Boundary")) <= 6_144
    inline = [each["PolicyDocument"] for each in made.resources["DeployerRole"]["Policies"]]
    assert sum(map(_length, inline)) <= 10_240


def test_every_statement_has_its_reason_in_the_documentation() -> None:
    told = (INFRA.parent / "docs/security.md").read_text()
    text = (INFRA / "target.yml").read_text()
    numbers = re.findall(r"^ +# (B\d+) ", text, re.MULTILINE)
    statements = target("development").document("Boundary")["Statement"]
    assert numbers == [f"B{number}" for number in range(1, len(statements) + 1)]
    assert re.findall(r"^\| (B\d+) \|", told, re.MULTILINE) == numbers
    sids = {sid for name in TEMPLATES for sid in re.findall(r"Sid: (\w+)", (INFRA / name).read_text())}
    assert {sid for sid in sids if f"`{sid}`" not in told} == set()


def test_no_arn_names_a_partition() -> None:
    made = [
        target("development", partition="aws-us-gov"),
        render("installation.yml", partition="aws-us-gov", TargetRoles=_role("development")),
        render("events.yml", partition="aws-us-gov", WebhookUrl=URL),
    ]
    given = {INSTALLATION_ROLE, _role("development")}
    for each in made:
        arns = set(re.findall(r'"(arn:aws:[^"]*)"', json.dumps(each.resources)))
        # what the parameters gave
        assert {
            arn for arn in arns if not arn.startswith(("arn:aws:codeconnections", "arn:aws:s3:::acme"))
        } <= given


def test_a_second_region_gets_a_bucket_and_no_roles() -> None:
    assert set(target("development", Roles="no").resources) == {"ArtifactBucket", "ArtifactBucketPolicy"}


@pytest.mark.parametrize(
    "action", ["iam:*", "sts:AssumeRole", "cloudformation:*", "*:*", "organizations:*", "s3"]
)
def test_branch_code_cannot_be_given_iam_by_a_parameter(action: str) -> None:
    with pytest.raises(Exception, match="Services"):
        target("development", Services=f"s3:*,{action}")


@pytest.mark.parametrize(
    "role", ["deployer-own/deployer-production", "deployer/production/*", "*", "d*", "deploy*", "*/Admin"]
)
def test_deployers_roles_cannot_be_allowed_by_a_parameter(role: str) -> None:
    with pytest.raises(Exception, match="AllowedRoles"):
        target("development", AllowedRoles=f"arn:aws:iam::111122223333:role/{role}")


def test_outputs_are_valid_settings() -> None:
    made = target("production")
    given = {
        "account": "111122223333",
        "regions": ["eu-west-1"],
        "role": made.arns["DeployerRole"],
        "external_id": EXTERNAL_ID,
        "service_role": made.arns["ServiceRole"],
        "permissions_boundary": made.arns["Boundary"],
        "artifact_bucket": "deployer-artifacts-production-{account}-{region}",
    }
    read = read_targets(json.dumps({"production": given}), Target(Kind.DEVELOPMENT))[Kind.PRODUCTION]
    assert read.bucket("eu-west-1") == made.resources["ArtifactBucket"]["BucketName"]
    assert read.permissions_boundary == made.resources["ServiceRole"]["PermissionsBoundary"]


@pytest.fixture
def url() -> Iterator[str]:
    """An empty simulated AWS, which is emptied again after the test because its state belongs to the process."""
    running = server.create(github_url="file:///nowhere", speed=100).start()
    running.simulator.reset()
    yield running.url
    running.simulator.reset()
    running.stop()


def test_an_installation_is_created_from_the_templates(url: str) -> None:
    clients = {name: _client(name, url) for name in ("cloudformation", "iam", "s3", "secretsmanager", "sqs")}
    clients["secretsmanager"].create_secret(Name="deployer/aws-event-key", SecretString="key")
    values = {
        "InstallationRole": _role(None),
        "ExternalId": EXTERNAL_ID,
        "ConnectionArns": "arn:aws:codeconnections:us-east-1:123456789012:connection/7f4b",
        "Repositories": "acme/*",
    }
    made = [
        _made(clients["cloudformation"], "installation.yml", TargetRoles=_role("staging")),
        _made(clients["cloudformation"], "events.yml", WebhookUrl=URL),
        *(_made(clients["cloudformation"], "target.yml", Kind=kind, **values) for kind in Kind),
    ]
    assert {stack["StackStatus"] for stack in made} == {"CREATE_COMPLETE"}
    outputs = {o["OutputKey"]: o["OutputValue"] for o in made[-1]["Outputs"]}
    role = clients["iam"].get_role(RoleName="deployer-production-service")["Role"]
    assert role["Arn"] == outputs["ServiceRole"]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == outputs["Boundary"]
    buckets = [bucket["Name"] for bucket in clients["s3"].list_buckets()["Buckets"]]
    assert sorted(buckets) == sorted(f"deployer-artifacts-{kind}-123456789012-us-east-1" for kind in Kind)
    assert clients["sqs"].get_queue_url(QueueName="deployer_undelivered")["QueueUrl"]


def _made(cloudformation: Any, template: str, **parameters: str) -> dict[str, Any]:
    name = "-".join(["deployer", template.removesuffix(".yml"), *filter(None, [parameters.get("Kind")])])
    cloudformation.create_stack(
        StackName=name,
        TemplateBody=(INFRA / template).read_text(),
        Parameters=[{"ParameterKey": k, "ParameterValue": v} for k, v in parameters.items()],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )

    def stack() -> dict[str, Any]:
        found: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
        return found

    wait_for(f"the end of {name}", lambda: not stack()["StackStatus"].endswith("_IN_PROGRESS"))
    return stack()


def _client(service: str, url: str) -> Any:
    return boto3.client(
        service,
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


def _role(kind: str | None) -> str:
    return f"arn:aws:iam::123456789012:role/deployer-own/deployer{f'-{kind}' if kind else ''}"


def _length(document: Any) -> int:
    return len(re.sub(r"\s", "", json.dumps(document)))
