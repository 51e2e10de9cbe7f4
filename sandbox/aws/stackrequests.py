"""The parameters of CloudFormation's requests, checked by the service's rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from sandbox.aws import storage
from sandbox.aws.protocol import AwsError
from sandbox.aws.stack import Plan, Stack
from sandbox.aws.stacks import Stacks
from sandbox.aws.template import Template, validation_error

LONGEST_BODY = 51_200
_LONGEST_OBJECT = 1_000_000
_MOST_TAGS = 50
_PAGE = 100
_NAME = re.compile(r"[a-zA-Z][-a-zA-Z0-9]*")
_TOKEN = re.compile(r"[a-zA-Z0-9][-a-zA-Z0-9]*")

Parameters = Mapping[str, Any]


def check_name(field: str, name: str) -> None:
    """Check the name of a stack or of a change set.

    Raises:
        AwsError: ValidationError.
    """
    if len(name) > 128 or not _NAME.fullmatch(name):
        raise _constraint_error(field, name, _NAME.pattern)


def check_token(token: str | None) -> None:
    """Check a client request token.

    Raises:
        AwsError: ValidationError.
    """
    if token is not None and (len(token) > 128 or not _TOKEN.fullmatch(token)):
        raise _constraint_error("clientRequestToken", token, _TOKEN.pattern)


def existing_stack(stacks: Stacks, given: Parameters) -> Stack:
    """The stack that a request names; a deleted stack is found by its ARN only."""
    stack = stacks.find(given.get("StackName", ""))
    if stack is None:
        raise validation_error(f"Stack [{given.get('StackName', '')}] does not exist")
    return stack


def live_stack(stacks: Stacks, given: Parameters) -> Stack:
    """The stack that a request names; a deleted stack is an error."""
    stack = existing_stack(stacks, given)
    if stack.status == "DELETE_COMPLETE":
        raise validation_error(f"Stack [{stack.name}] does not exist")
    return stack


def requested_plan(stacks: Stacks, given: Parameters, stack: Stack | None = None) -> Plan:
    """The template and the parameters of a request."""
    return Plan(requested_template(stacks, given, stack), _parameter_values(given, stack))


def requested_template(stacks: Stacks, given: Parameters, stack: Stack | None = None) -> Template:
    """The template of a request, from its body or from the simulated S3."""
    body, url = given.get("TemplateBody"), given.get("TemplateURL")
    if given.get("UsePreviousTemplate") and stack:
        return stack.plan.template
    if (body is None) == (url is None):
        raise validation_error("Either Template URL or Template Body must be specified.")
    if body is None:
        body = _fetch_template(str(url))
    elif len(body.encode()) > LONGEST_BODY:
        raise validation_error(
            f"1 validation error detected: Value '{body[:100]}...' at 'templateBody' failed to satisfy "
            f"constraint: Member must have length less than or equal to {LONGEST_BODY}"
        )
    return stacks.read_template(body)


def _parameter_values(given: Parameters, stack: Stack | None) -> dict[str, str]:
    values = {}
    for item in given.get("Parameters", []):
        key = item["ParameterKey"]
        if not item.get("UsePreviousValue"):
            values[key] = item.get("ParameterValue", "")
        elif stack is None or key not in stack.plan.parameters:
            raise validation_error(
                f"Invalid input for parameter key {key}. Cannot specify usePreviousValue as true"
            )
        else:
            values[key] = stack.plan.parameters[key]
    return values


def _constraint_error(field: str, value: str, pattern: str) -> AwsError:
    return validation_error(
        f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: "
        f"Member must satisfy regular expression pattern: {pattern} and have length less than or equal to 128"
    )


def requested_tags(given: Parameters) -> dict[str, str] | None:
    """The tags of a request; None if the request has no tags field."""
    if "Tags" not in given:
        return None
    found = {t["Key"]: t.get("Value", "") for t in given["Tags"]}
    if len(found) > _MOST_TAGS:
        raise validation_error(
            "1 validation error detected: Value at 'tags' failed to satisfy constraint: "
            f"Member must have length less than or equal to {_MOST_TAGS}"
        )
    if reserved := [k for k in found if k.lower().startswith("aws:")]:
        raise validation_error(
            f"aws: prefixed tag key names are not allowed for external use. ({reserved[0]})"
        )
    return found


def _fetch_template(url: str) -> str:
    """The text of a template in the simulated S3."""
    parts = urlsplit(url)
    path = unquote(parts.path).lstrip("/")
    host = parts.hostname or ""
    bucket, _, rest = host.partition(".s3")
    if rest and bucket:
        key = path
    else:
        bucket, _, key = path.partition("/")
    try:
        content, _ = storage.read_object(bucket, key)
    except storage.NoSuchObjectError as error:
        raise validation_error(f"S3 error: The specified key does not exist. ({error})") from error
    if len(content) > _LONGEST_OBJECT:
        raise validation_error(f"Template may not exceed {_LONGEST_OBJECT} bytes in size.")
    return content.decode()


def page_offset(token: str | None, kind: str) -> int | None:
    """The number in the token of a page."""
    if token is None:
        return None
    if not re.fullmatch(rf"{kind}\d+", token):
        raise validation_error("The NextToken is not valid")
    return int(token[len(kind) :])


def stack_page(stacks: list[Stack], token: str | None) -> tuple[list[Stack], str | None]:
    """A page of stacks, newest first, with the token of the next page.

    The token names the last stack of the page, so that new stacks do not shift later pages.
    """
    before = page_offset(token, "s")
    ordered = sorted(stacks, key=lambda s: s.number, reverse=True)
    rest = [s for s in ordered if before is None or s.number < before]
    shown = rest[:_PAGE]
    return shown, f"s{shown[-1].number}" if len(rest) > _PAGE else None
