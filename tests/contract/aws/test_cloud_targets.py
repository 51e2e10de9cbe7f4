"""Which account, region and rights each kind's environments get."""

import logging
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs

import boto3
import pytest
from cloud_kit import SandboxKit, cloud, clouds, named, settled, small

from deployer.aws.cloudformation import INLINE_LIMIT
from deployer.model.environments import Kind
from deployer.model.errors import DeployerError, PermanentError, TransientError
from deployer.model.targets import Target
from deployer.templates.release import Release

ROLE = "arn:aws:iam::210987654321:role/deployer"
EXTERNAL_ID = "hush-hush"


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return named(request.node.originalname)


# --- accounts and regions ----------------------------------------------------------------------------------------


def test_without_a_region_it_is_that_of_awss_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    found = clouds("http://127.0.0.1:9", *(Target(kind) for kind in Kind))

    assert {found.target(kind).regions for kind in Kind} == {("eu-central-1",)}
    assert found.at(Kind.STAGING).region == "eu-central-1"
    assert found.at(Kind.STAGING).stack_url("arn").startswith("https://eu-central-1.console.")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert clouds("http://127.0.0.1:9", Target(Kind.STAGING)).target(Kind.STAGING).regions == ("us-east-1",)


def test_each_kind_and_region_has_its_cloud_and_each_account_and_region_one_of_all() -> None:
    regions = ("us-east-1", "eu-west-1")
    found = clouds(
        "http://127.0.0.1:9",
        Target(Kind.DEVELOPMENT, regions=regions),
        Target(Kind.PRODUCTION, regions=("us-east-1",), role_arn=ROLE, external_id=EXTERNAL_ID),
    )

    assert found.at(Kind.DEVELOPMENT) is found.at(Kind.DEVELOPMENT, "us-east-1")
    assert found.at(Kind.DEVELOPMENT, "eu-west-1").region == "eu-west-1"
    assert found.at(Kind.DEVELOPMENT, "ap-south-1").region == "ap-south-1", "as an older record may have it"
    every = found.every()
    assert [each.region for each in every] == ["us-east-1", "eu-west-1", "us-east-1"]
    assert every[2] is found.at(Kind.PRODUCTION)
    assert len(set(map(id, every))) == 3


def test_a_region_is_asked_in_its_own_name(aws: SandboxKit) -> None:
    found = clouds(aws.url, Target(Kind.DEVELOPMENT, regions=("us-east-1", "eu-west-1"), artifact_bucket="b"))
    regions = [
        found.at(Kind.DEVELOPMENT, region)._aws.cloudformation.meta.region_name
        for region in ("us-east-1", "eu-west-1")
    ]

    assert regions == ["us-east-1", "eu-west-1"]


def test_a_large_template_goes_to_the_bucket_of_its_region(aws: SandboxKit, name: str) -> None:
    pattern = "artifacts-{account}-{region}"
    bucket = "artifacts-123456789012-us-east-1"
    aws.s3.create_bucket(Bucket=bucket)
    large = Release(small().template + " " * INLINE_LIMIT, {}, needs_token=False)

    cloud(aws.url, account="123456789012", artifact_bucket=pattern).create_stack(
        name, large, f"create-{name}"
    )

    assert settled(aws, name) == "CREATE_COMPLETE"
    assert aws.s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 1


# --- the rights of stacks ----------------------------------------------------------------------------------------


def service_role(aws: SandboxKit, name: str) -> str:
    iam = boto3.client("iam", region_name="us-east-1", endpoint_url=aws.url)
    return str(iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"])


def role_of(aws: SandboxKit, name: str) -> str | None:
    client = boto3.client("cloudformation", region_name="us-east-1", endpoint_url=aws.url)
    return client.describe_stacks(StackName=name)["Stacks"][0].get("RoleARN")


def test_stacks_are_made_and_changed_with_the_targets_service_role(aws: SandboxKit, name: str) -> None:
    role = service_role(aws, name[:60])
    by_role = cloud(aws.url, service_role_arn=role)

    by_role.create_stack(name, small(), f"create-{name}")
    assert settled(aws, name) == "CREATE_COMPLETE"
    assert role_of(aws, name) == role

    other = f"{name}-2"
    aws.cloud.create_stack(other, small(), f"create-{other}")
    assert settled(aws, other) == "CREATE_COMPLETE"
    assert role_of(aws, other) is None
    changed = small(Other={"Type": "AWS::CloudFormation::WaitConditionHandle"})
    assert by_role.update_stack(other, changed, f"update-{other}")
    assert role_of(aws, other) == role


def test_a_rollback_goes_on_with_the_targets_service_role_where_the_stacks_own_has_gone(
    aws: SandboxKit, name: str
) -> None:
    roles = [service_role(aws, f"{name[:50]}-{number}") for number in range(2)]
    first, second = (cloud(aws.url, service_role_arn=role) for role in roles)
    first.create_stack(name, small(), f"create-{name}")
    assert settled(aws, name) == "CREATE_COMPLETE"
    with aws.simulator.scheduler.lock:
        stacks = next(iter(aws.simulator.regions)).stacks
        stacks.force_status(stacks.live[name], "UPDATE_ROLLBACK_FAILED")
    boto3.client("iam", region_name="us-east-1", endpoint_url=aws.url).delete_role(RoleName=f"{name[:50]}-0")

    with pytest.raises(PermanentError, match="invalid or cannot be assumed"):
        aws.cloud.continue_rollback(name, f"without-{name}")
    second.continue_rollback(name, f"recover-{name}")

    assert settled(aws, name) == "UPDATE_ROLLBACK_COMPLETE"
    assert role_of(aws, name) == roles[1]


# --- assumed roles -----------------------------------------------------------------------------------------------


def assuming(aws: SandboxKit, **options: Any) -> Any:
    return cloud(aws.url, role_arn=ROLE, external_id=EXTERNAL_ID, options=options)


def test_a_role_is_assumed_once_for_all_clients_and_again_before_its_credentials_end(aws: SandboxKit) -> None:
    counted = list[str]()
    other = assuming(aws, on_call=lambda: counted.append("a request"))

    with aws.calls() as calls:
        other.stack("nothing")
        other.executions("nothing")
        other.stack("nothing")
    assert calls == ["AssumeRole", "DescribeStacks", "ListPipelineExecutions", "DescribeStacks"]
    assert len(counted) == 4

    session = other._aws._session
    session.get_credentials()._expiry_time = datetime.now(UTC) + timedelta(minutes=5)
    with aws.calls() as calls:
        other.stack("nothing")
    assert calls == ["AssumeRole", "DescribeStacks"]


def test_what_is_done_in_a_role_is_done_with_its_credentials(aws: SandboxKit) -> None:
    other = assuming(aws)
    other.stack("nothing")

    used = other._aws.cloudformation._request_signer._credentials.get_frozen_credentials()
    assert used.access_key.startswith("ASIA")
    assert used.token


@pytest.mark.parametrize("code", ["AccessDenied", "RegionDisabledException", "ValidationError"])
def test_a_role_that_refuses_is_named_with_the_remedy_and_without_the_external_id(
    aws: SandboxKit, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    caplog.set_level(logging.INFO)
    words = f"User: arn:aws:iam::1:user/x may not sts:AssumeRole with {EXTERNAL_ID}"
    aws.simulator.faults.add(
        {"errors": {"operation": "AssumeRole", "error": code, "message": words, "count": 9}}
    )

    with aws.calls() as calls, pytest.raises(TransientError) as raised:
        assuming(aws).stack("nothing")

    assert calls == ["AssumeRole"]
    told = str(raised.value)
    assert told.startswith(f"assuming role {ROLE}: AWS refuses it (An error occurred ({code})")
    assert "let the role trust deployer's own role" in told
    assert EXTERNAL_ID not in told + caplog.text
    assert raised.value.__cause__ is None


def test_a_token_service_that_is_throttled_is_asked_again(aws: SandboxKit) -> None:
    aws.simulator.faults.add({"throttle": {"operation": "AssumeRole", "count": 1}})

    with aws.calls() as calls:
        assert assuming(aws).stack("nothing") is None
    assert calls == ["AssumeRole"] * 2 + ["DescribeStacks"]


def test_the_external_id_is_given_to_the_token_service() -> None:
    asked: list[dict[str, list[str]]] = []

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(403)
            self.end_headers()
            self.wfile.write(b"<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Service) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        for external_id in (EXTERNAL_ID, ""):
            with pytest.raises(DeployerError):
                cloud(url, role_arn=ROLE, external_id=external_id).stack("nothing")
        server.shutdown()
        thread.join()

    given = [{key: call.get(key) for key in ("RoleArn", "RoleSessionName", "ExternalId")} for call in asked]
    first = {"RoleArn": [ROLE], "RoleSessionName": ["deployer"], "ExternalId": [EXTERNAL_ID]}
    assert given == [first, {**first, "ExternalId": None}]
