"""The update of a stack that changes only its tags."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from deployer.aws.clients import call_with_retries
from deployer.aws.errors import is_already_accepted, is_no_update, required_member

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_cloudformation.literals import CapabilityType


def update_stack_tags(
    client: "CloudFormationClient",
    arn: str,
    tags: Mapping[str, str],
    token: str,
    capabilities: Sequence["CapabilityType"],
    role_arn: str,
) -> None:
    """Order an update that adds tags to a stack; its template, its parameters and its other tags stay. Two calls.

    Args:
        client: CloudFormation.
        arn: the stack's ARN.
        tags: the tags to add.
        token: the client request token.
        capabilities: the capabilities that the stack's template may need.
        role_arn: the role that CloudFormation uses; empty for the one that the stack has.

    Raises:
        ClientError: AWS refuses the update.
    """
    described = required_member(call_with_retries(lambda: client.describe_stacks(StackName=arn)), "Stacks")[0]
    present = {
        required_member(each, "Key"): required_member(each, "Value") for each in described.get("Tags", [])
    }
    request: dict[str, Any] = {
        "StackName": arn,
        "UsePreviousTemplate": True,
        "Parameters": [
            {"ParameterKey": required_member(each, "ParameterKey"), "UsePreviousValue": True}
            for each in described.get("Parameters", [])
        ],
        "Capabilities": list(capabilities),
        "Tags": [{"Key": key, "Value": value} for key, value in {**present, **tags}.items()],
        "ClientRequestToken": token,
        **({"RoleARN": role_arn} if role_arn else {}),
    }
    try:
        call_with_retries(lambda: client.update_stack(**request))
    except ClientError as error:
        if not (is_no_update(error) or is_already_accepted(error)):
            raise
