"""The IAM roles of a target's account through IAM: implements the port `RoleDirectory`."""

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from deployer.aws.clients import call_with_retries, read_pages
from deployer.aws.cloud import AwsClouds
from deployer.aws.errors import is_not_found, required_member, translate_errors
from deployer.model.environments import Kind
from deployer.model.targets import Target
from deployer.resync.orphaned_roles import Role

_DESCRIBED_AT_MOST = (
    100  # https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStackResources.html
)


class AwsRoles:
    """Implements the port `RoleDirectory`.

    Args:
        clouds: creates the clients of each target.
    """

    def __init__(self, clouds: AwsClouds) -> None:
        self._clouds = clouds

    def target(self, kind: Kind) -> Target:
        """See `RoleDirectory.target`."""
        return self._clouds.target(kind)

    def roles(self, kind: Kind, path: str) -> Iterator[Role]:
        """See `RoleDirectory.roles`. One call for each thousand roles."""
        iam = self._clouds.clients(kind).iam
        with translate_errors(f"listing the roles under {path}"):
            for page in read_pages(iam.list_roles, cursor="Marker", PathPrefix=path, MaxItems=1000):
                for role in required_member(page, "Roles"):
                    created_at = required_member(role, "CreateDate").timestamp()
                    yield Role(
                        str(required_member(role, "RoleName")),
                        str(required_member(role, "Arn")),
                        created_at,
                        {},
                    )

    def stack_of_role(self, kind: Kind, region: str, name: str) -> str:
        """See `RoleDirectory.stack_of_role`. One call; one more for each hundred resources of a large stack."""
        cloudformation = self._clouds.clients(kind, region).cloudformation
        with translate_errors(f"asking which stack has role {name}"):
            try:
                # AWS returns all resources of the stack that has a resource with this id, but at most a hundred.
                answer = call_with_retries(
                    lambda: cloudformation.describe_stack_resources(PhysicalResourceId=name)
                )
            except ClientError as error:
                if is_not_found(error):
                    return ""
                raise
            found: list[Any] = required_member(answer, "StackResources")
            if len(found) >= _DESCRIBED_AT_MOST:
                arn = str(required_member(found[0], "StackId"))
                found_pages = read_pages(cloudformation.list_stack_resources, StackName=arn)
                listed = [
                    each for page in found_pages for each in required_member(page, "StackResourceSummaries")
                ]
                found = [{**each, "StackId": arn} for each in listed]
            # a resource of another type may have the same id
            return next((str(required_member(each, "StackId")) for each in found if _is_role(each, name)), "")

    def role_tags(self, kind: Kind, name: str) -> Mapping[str, str]:
        """See `RoleDirectory.role_tags`. One call."""
        iam = self._clouds.clients(kind).iam
        with translate_errors(f"reading the tags of role {name}"):
            try:
                tags = required_member(
                    call_with_retries(lambda: iam.list_role_tags(RoleName=name, MaxItems=100)), "Tags"
                )
            except ClientError as error:
                if is_not_found(error):
                    return {}
                raise
            return {str(required_member(tag, "Key")): str(required_member(tag, "Value")) for tag in tags}


def _is_role(resource: Any, name: str) -> bool:
    return bool(
        required_member(resource, "ResourceType") == "AWS::IAM::Role"
        and resource.get("PhysicalResourceId") == name
    )
