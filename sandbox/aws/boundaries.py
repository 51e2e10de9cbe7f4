"""The permissions boundary of a pipeline's role, as IAM applies it to requests that create or change stacks.

Other policies of the role are not evaluated: the simulator lets every role do what its boundary allows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sandbox.aws import identity
from sandbox.aws.places import Place
from sandbox.aws.policies import Principal, Request, UnknownError
from sandbox.aws.protocol import AwsError
from sandbox.aws.stack import Stack

_EVERYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}


def check_stack_request(
    place: Place,
    role_arn: str,
    action: str,
    name: str,
    stack: Stack | None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Check that the boundary of a role allows a request about a stack. A role without a boundary may do everything.

    Args:
        place: the region of the stack.
        role_arn: the role that makes the request.
        action: the name of the request, such as `CreateStack`.
        name: the name of the stack.
        stack: the stack, if it exists.
        tags: the tags of the request; None if it has no tags.

    Raises:
        AwsError: AccessDenied.
    """
    boundary = identity.boundary_of_role(role_arn)
    if boundary is None:
        return
    resource = stack.id if stack else place.arn("cloudformation", f"stack/{name}/*")
    context: dict[str, Any] = {f"aws:ResourceTag/{k}": v for k, v in (stack.tags if stack else {}).items()}
    if tags:
        context |= {f"aws:RequestTag/{key}": value for key, value in tags.items()}
        context["aws:TagKeys"] = list(tags)
    needed = [action, *(["TagResource"] if tags else [])]
    principal = Principal([_EVERYTHING], json.loads(boundary))
    for each in needed:
        try:
            allowed = principal.may(Request(f"cloudformation:{each}", resource, context))
        except UnknownError as error:
            raise AwsError(
                "AccessDenied",
                f"The simulator cannot evaluate the permissions boundary of {role_arn}: {error}",
                403,
            ) from error
        if not allowed:
            raise AwsError(
                "AccessDenied",
                f"{role_arn} is not authorized to perform: cloudformation:{each} on resource: {resource}"
                f" because no permissions boundary allows the cloudformation:{each} action",
                403,
            )
