"""IAM's roles, and the stacks that have them: the port `RoleDirectory`."""

from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from deployer.adapters.aws import AwsClouds
from deployer.adapters.aws_client import pages, retried
from deployer.adapters.aws_errors import needed, says_missing, translated
from deployer.environments import Kind
from deployer.orphaned_roles import Role
from deployer.targets import Target

_DESCRIBED_AT_MOST = (
    100  # https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStackResources.html
)


class AwsRoles:
    """The port `RoleDirectory`.

    Args:
        clouds: has the clients of each target.
    """

    def __init__(self, clouds: AwsClouds) -> None:
        self._clouds = clouds

    def target(self, kind: Kind) -> Target:
        """See the port."""
        return self._clouds.target(kind)

    def roles(self, kind: Kind, path: str) -> Iterator[Role]:
        """See the port. A call for each thousand roles."""
        iam = self._clouds.clients(kind).iam
        with translated(f"listing the roles under {path}"):
            for page in pages(iam.list_roles, cursor="Marker", PathPrefix=path, MaxItems=1000):
                for role in needed(page, "Roles"):
                    created_at = needed(role, "CreateDate").timestamp()
                    yield Role(str(needed(role, "RoleName")), str(needed(role, "Arn")), created_at, {})

    def stack_of_role(self, kind: Kind, region: str, name: str) -> str:
        """See the port. One call; one more for each hundred resources of a stack that has a hundred."""
        cloudformation = self._clouds.clients(kind, region).cloudformation
        with translated(f"asking which stack has role {name}"):
            try:
                # of a resource of this id all resources of its stack are returned, the first hundred
                answer = retried(lambda: cloudformation.describe_stack_resources(PhysicalResourceId=name))
            except ClientError as error:
                if says_missing(error):
                    return ""
                raise
            found: list[Any] = needed(answer, "StackResources")
            if len(found) >= _DESCRIBED_AT_MOST:
                arn = str(needed(found[0], "StackId"))
                found_pages = pages(cloudformation.list_stack_resources, StackName=arn)
                listed = [each for page in found_pages for each in needed(page, "StackResourceSummaries")]
                found = [{**each, "StackId": arn} for each in listed]
            # another resource may have the role's name
            return next((str(needed(each, "StackId")) for each in found if _is_role(each, name)), "")

    def role_tags(self, kind: Kind, name: str) -> Mapping[str, str]:
        """See the port. One call."""
        iam = self._clouds.clients(kind).iam
        with translated(f"reading the tags of role {name}"):
            try:
                tags = needed(retried(lambda: iam.list_role_tags(RoleName=name, MaxItems=100)), "Tags")
            except ClientError as error:
                if says_missing(error):
                    return {}
                raise
            return {str(needed(tag, "Key")): str(needed(tag, "Value")) for tag in tags}


def _is_role(resource: Any, name: str) -> bool:
    return bool(
        needed(resource, "ResourceType") == "AWS::IAM::Role" and resource.get("PhysicalResourceId") == name
    )
