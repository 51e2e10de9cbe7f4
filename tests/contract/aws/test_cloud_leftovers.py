"""Which log groups and images a teardown may delete, and how AWS may answer."""

import time
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber

from deployer.aws.build_logs import resource_history
from deployer.aws.images import delete_images
from deployer.aws.pipeline_definition import deployed_stack_sets
from deployer.model.errors import PermanentError

ARN = "arn:aws:cloudformation:eu-west-1:123456789012:stack/hello/1"
WHERE = {"repositoryName": "images", "registryId": "123456789012"}


# --- projects -----------------------------------------------------------------------------------------------


def event(
    status: str, identity: str = "build", kind: str = "CodeBuild::Project", at: int = 0
) -> dict[str, Any]:
    return {
        "PhysicalResourceId": identity,
        "ResourceType": f"AWS::{kind}",
        "ResourceStatus": status,
        "Timestamp": datetime.fromtimestamp(at, UTC),
    }


@pytest.mark.parametrize(
    ("statuses", "own"),
    [
        (["CREATE_IN_PROGRESS", "CREATE_COMPLETE", "DELETE_IN_PROGRESS", "DELETE_COMPLETE"], True),
        (["CREATE_COMPLETE", "UPDATE_COMPLETE", "DELETE_COMPLETE"], True),
        (["CREATE_COMPLETE", "DELETE_FAILED", "DELETE_COMPLETE"], True),
        (["UPDATE_COMPLETE", "DELETE_COMPLETE"], True),  # the update replaced a project by this one
        (["CREATE_COMPLETE", "DELETE_SKIPPED"], False),  # the template retains it
        (["CREATE_COMPLETE", "DELETE_FAILED"], False),
        (["CREATE_COMPLETE", "DELETE_COMPLETE", "CREATE_COMPLETE"], False),  # it exists again
        (["CREATE_FAILED", "DELETE_COMPLETE"], False),  # another stack has a project of this name
        (["IMPORT_COMPLETE", "DELETE_COMPLETE"], False),  # it was somebody else's before
        (["DELETE_COMPLETE"], False),
    ],
)
def test_the_projects_that_a_stack_created_and_deleted(statuses: list[str], own: bool) -> None:
    events = [event(status, at=at) for at, status in enumerate(statuses, 1)]
    history = resource_history(reversed(events), own=ARN)
    assert ("build" in history.created & history.deleted) is own
    assert history.began_at == {"build": 1.0}


def test_a_history_names_no_other_types_and_not_the_stack_itself() -> None:
    events = [
        event("CREATE_COMPLETE", ARN, "CloudFormation::Stack"),
        event("CREATE_COMPLETE", "topic", "SNS::Topic"),
        event("CREATE_COMPLETE", ""),
        event("CREATE_COMPLETE", "/aws/codebuild/build", "Logs::LogGroup"),
    ]
    assert resource_history(events, own=ARN).types == {"/aws/codebuild/build": "AWS::Logs::LogGroup"}


# --- images -------------------------------------------------------------------------------------------------


class _Ecr:
    """An ECR client with one repository; botocore's stub refuses a response without images, which ECR gives.

    Args:
        refusals: for each deletion, the failure code by digest.
    """

    def __init__(self, digests: list[str], *refusals: dict[str, str]) -> None:
        self.digests, self._refusals = digests, list(refusals)

    def list_images(self, **query: Any) -> dict[str, Any]:
        assert query == {**WHERE, "maxResults": 1000}
        ids = [{"imageDigest": each, "imageTag": tag} for each in self.digests for tag in ("a", "b")]
        return {"imageIds": ids}

    def batch_delete_image(self, **request: Any) -> dict[str, Any]:
        assert request == {**WHERE, "imageIds": [{"imageDigest": each} for each in self.digests]}
        refused = self._refusals.pop(0) if self._refusals else {}
        self.digests = [
            each for each in self.digests if refused.get(each, "ImageNotFound") != "ImageNotFound"
        ]
        failures = [
            {"imageId": {"imageDigest": each}, "failureCode": code, "failureReason": "why"}
            for each, code in refused.items()
        ]
        return {"failures": failures}


def deleted(digests: list[str], *refusals: dict[str, str]) -> bool:
    ecr = _Ecr(digests, *refusals)
    done = delete_images(ecr, "images", "123456789012", time.monotonic() + 60, lambda: None)
    assert not ecr.digests
    return done


def test_images_that_an_index_names_are_deleted_after_the_index() -> None:
    assert deleted(["index", "child"], {"child": "ImageReferencedByManifestList"})


def test_an_image_that_somebody_else_deleted_meanwhile_is_no_failure() -> None:
    assert deleted(["a"], {"a": "ImageNotFound"})


def test_images_that_ecr_refuses_to_delete() -> None:
    with pytest.raises(PermanentError, match="repository images: 2 images cannot be deleted: KmsError: why"):
        deleted(["a", "b"], {"a": "KmsError", "b": "KmsError"})


@pytest.mark.parametrize(
    ("code", "result"), [("RepositoryNotFoundException", True), ("AccessDeniedException", False)]
)
def test_a_repository_that_is_gone_or_refused(code: str, result: bool) -> None:
    client = boto3.client("ecr", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x")
    with Stubber(client) as stub:
        stub.add_client_error("list_images", code)
        if result:
            assert delete_images(client, "images", "123456789012", time.monotonic() + 60, lambda: None)
        else:
            with pytest.raises(PermanentError, match="its images cannot be deleted"):
                delete_images(client, "images", "123456789012", time.monotonic() + 60, lambda: None)


# --- StackSets ----------------------------------------------------------------------------------------------


def test_the_stack_sets_of_a_definition() -> None:
    def action(provider: str, **configuration: str) -> dict[str, Any]:
        return {"actionTypeId": {"category": "Deploy", "provider": provider}, "configuration": configuration}

    stages = [
        {
            "actions": [
                action("CloudFormation", StackName="app"),
                action("CloudFormationStackSet", StackSetName="a"),
            ]
        },
        {"actions": [action("CloudFormationStackInstances", StackSetName="a")]},
        {"actions": [action("CloudFormationStackSet", StackSetName="b"), action("S3", BucketName="c")]},
    ]
    assert deployed_stack_sets({"stages": stages}) == ["a", "b"]
