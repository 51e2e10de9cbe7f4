"""The stacks of one account's region through CloudFormation."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore.exceptions import ClientError

from deployer.aws.clients import AwsClients, call_with_retries, read_pages
from deployer.aws.errors import (
    is_already_accepted,
    is_busy,
    is_name_taken,
    is_no_update,
    is_not_found,
    is_quota_exceeded,
    is_role_unusable,
    is_termination_protected,
    required_member,
    single_line,
    translate_errors,
)
from deployer.aws.sharing import RegionStatus
from deployer.aws.stack_failure import first_failure
from deployer.aws.stack_tags import update_stack_tags
from deployer.model.errors import PermanentError, ProtectedError, TransientError
from deployer.model.stacks import Failure, Resource, Stack
from deployer.model.targets import Target
from deployer.templates.evaluation.evaluator import SECRET_PARAMETER
from deployer.templates.parameters import SOURCE_REMEDY
from deployer.templates.release import Release

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.literals import CapabilityType

INLINE_LIMIT = 51_200  # bytes; CloudFormation reads a larger template from S3
_CAPABILITIES: Sequence["CapabilityType"] = (
    "CAPABILITY_IAM",
    "CAPABILITY_NAMED_IAM",
    "CAPABILITY_AUTO_EXPAND",
)
_EVENT_PAGES = 10  # of a hundred events each
_LISTING_MAX_WAIT = 20.0  # seconds; less than other workers wait for the worker that lists the stacks


class AwsStacks:
    """Implements the part of the port `CloudRegion` that concerns stacks.

    Args:
        target, clients, region_status, repository_token: see `AwsCloud`.
        store_template: stores a template that is too large for a request and returns its URL; called with the stack's
            name and the template.
    """

    def __init__(
        self,
        target: Target,
        clients: AwsClients,
        region_status: RegionStatus,
        store_template: Callable[[str, bytes], str],
        repository_token: Callable[[str], str] | None = None,
    ) -> None:
        self._target = target
        self._aws = clients
        self._region_status = region_status
        self._store_template = store_template
        self._repository_token = repository_token

    def stack(self, name: str) -> Stack | None:
        """See `CloudRegion.stack`. A deleted stack is found only by its ARN. One call."""
        with translate_errors(f"reading stack {name}"):
            try:
                answer = call_with_retries(lambda: self._aws.cloudformation.describe_stacks(StackName=name))
            except ClientError as error:
                if is_not_found(error):
                    return None
                raise
            found = required_member(answer, "Stacks")
            if not found:
                return None
            # a listing leaves the outputs out: those of all stacks may be large, and nobody reads them
            return replace(stack_from_description(found[0]), outputs=_outputs(found[0]))

    def stacks(self) -> Iterator[Stack]:
        """See `CloudRegion.stacks`: every stack with the tag `deployer:managed`.

        One call for each page; the pages contain all stacks of the region, also those without the tag. A listing that
        is read to its end is shared with the other workers, see `is_still_busy`.
        """
        return (stack for stack in self._list_stacks() if stack.tags.get("deployer:managed") == "true")

    def create_stack(self, name: str, release: Release, token: str) -> str:
        """Start the creation of a stack and return its ARN. One call; one more for a large template.

        Raises:
            PermanentError: AWS rejects the template or its parameters.
            QuotaError: the account cannot have another stack.
            TransientError: a stack of this name exists that was not created with this token.
        """
        request, secret = self._build_request(name, release, token)
        with translate_errors(f"creating stack {name}", secret):
            try:
                answer = call_with_retries(lambda: self._aws.cloudformation.create_stack(**request))
                arn = str(required_member(answer, "StackId"))
                self._region_status.add_to_counts(+1)
                return arn
            except ClientError as error:
                if is_quota_exceeded(error):
                    self._region_status.forget_counts()
                if not (is_name_taken(error) or is_already_accepted(error)):
                    raise
            existing = self.stack(name)
            if existing and (existing.tags == release.tags or self._is_token_in_events(existing.arn, token)):
                return existing.arn
            raise TransientError(
                f"creating stack {name}: another stack of this name exists, or was just deleted"
            )

    def update_stack(self, name: str, release: Release, token: str) -> bool:
        """Start the update of a stack. One call; one more for a large template.

        Returns:
            False if CloudFormation found nothing to update.

        Raises:
            PermanentError: AWS rejects the template or its parameters.
            TransientError: another operation is in progress, or the stack does not exist any more.
        """
        request, secret = self._build_request(name, release, token)
        with translate_errors(f"updating stack {name}", secret):
            try:
                call_with_retries(lambda: self._aws.cloudformation.update_stack(**request))
            except ClientError as error:
                if is_no_update(error):
                    return False
                if is_not_found(error):
                    raise TransientError(
                        f"updating stack {name}: the stack was deleted in the meantime"
                    ) from error
                # If the response to an earlier request was lost, the operation in progress is the one of this token.
                if not (
                    is_already_accepted(error) or (is_busy(error) and self._is_token_in_events(name, token))
                ):
                    raise
            return True

    def restore_tags(self, arn: str, tags: Mapping[str, str], token: str) -> None:
        """See `CloudRegion.restore_tags`. Two calls."""
        with translate_errors(f"restoring the tags of stack {arn}"):
            update_stack_tags(
                self._aws.cloudformation, arn, tags, token, _CAPABILITIES, self._target.service_role_arn
            )

    def continue_rollback(self, name: str, token: str) -> None:
        """Start or continue the rollback of an update that failed. Two calls.

        One more if CloudFormation cannot assume the stack's role: then the target's service role is used.

        Raises:
            TransientError: another operation is in progress, or the stack does not exist any more.
        """
        with translate_errors(f"rolling back stack {name}"):
            stack = self.stack(name)
            if stack is None:
                raise TransientError(f"rolling back stack {name}: the stack was deleted in the meantime")
            client = self._aws.cloudformation
            operation = (
                client.rollback_stack if stack.status == "UPDATE_FAILED" else client.continue_update_rollback
            )
            request: dict[str, Any] = {"StackName": stack.arn, "ClientRequestToken": token}
            try:
                self._call_with_role_fallback(operation, request)
            except ClientError as error:
                if not (
                    is_already_accepted(error) or (is_busy(error) and self._is_token_in_events(name, token))
                ):
                    raise

    def delete_stack(self, arn: str, token: str, *, retain: Sequence[str] = (), force: bool = False) -> None:
        """Start the deletion of a stack, unless it does not exist any more. One call.

        One more if CloudFormation cannot assume the stack's role: then the target's service role is used.

        Args:
            arn: the stack's ARN.
            token: the client request token.
            retain: logical ids of resources that are not deleted with the stack.
            force: whether to delete the stack although resources of it cannot be deleted.

        Raises:
            PermanentError: AWS rejects the deletion, or the target has no service role to delete the stack with.
            ProtectedError: the stack has termination protection.
        """
        request: dict[str, Any] = {"StackName": arn, "ClientRequestToken": token}
        if force:
            request["DeletionMode"] = "FORCE_DELETE_STACK"
        elif retain:
            request["RetainResources"] = list(retain)
        with translate_errors(f"deleting stack {arn}"):
            try:
                self._call_with_role_fallback(self._aws.cloudformation.delete_stack, request)
                self._region_status.add_to_counts(-1)
            except ClientError as error:
                if is_termination_protected(error):
                    raise ProtectedError(f"stack {arn} has termination protection") from error
                if not (is_already_accepted(error) or is_not_found(error)):
                    raise

    def protect(self, arn: str, *, on: bool) -> None:
        """Turn a stack's termination protection on or off, unless the stack does not exist any more. One call."""
        with translate_errors(f"{'protecting' if on else 'unprotecting'} stack {arn}"):
            try:
                call_with_retries(
                    lambda: self._aws.cloudformation.update_termination_protection(
                        StackName=arn, EnableTerminationProtection=on
                    )
                )
            except ClientError as error:
                if not is_not_found(error):
                    raise

    def resources(self, arn: str) -> list[Resource]:
        """See `CloudRegion.resources`: also of a deleted stack. One call for each hundred resources."""
        with translate_errors(f"listing the resources of stack {arn}"):
            try:
                return [
                    resource_from_summary(each)
                    for page in read_pages(self._aws.cloudformation.list_stack_resources, StackName=arn)
                    for each in required_member(page, "StackResourceSummaries")
                ]
            except ClientError as error:
                if is_not_found(error):
                    return []
                raise

    def is_still_busy(self, name: str, since: float) -> bool:
        """See `CloudRegion.is_still_busy`. No call, or one for each page of a new listing of all stacks."""
        return self._region_status.is_busy(name, since, lambda: list(self._list_stacks()))

    def failure(self, arn: str) -> Failure | None:
        """See `CloudRegion.failure`: why the stack's last operation failed. One call for each hundred events."""
        with translate_errors(f"reading the events of stack {arn}"):
            try:
                return first_failure(self._recent_events(arn))
            except ClientError as error:
                if is_not_found(error):
                    return None
                raise

    def stack_url(self, arn: str) -> str:
        """Return the URL of the stack in AWS's console. No call."""
        return (
            f"https://{self._aws.region}.console.aws.amazon.com/cloudformation/home?region={self._aws.region}"
            f"#/stacks/events?stackId={quote(arn, safe='')}"
        )

    def _call_with_role_fallback(self, operation: Callable[..., Any], request: Mapping[str, Any]) -> None:
        """Call an operation; if CloudFormation cannot assume the stack's role, again with the target's service role."""
        try:
            call_with_retries(lambda: operation(**request))
        except ClientError as error:
            if not (is_role_unusable(error) and self._target.service_role_arn):
                raise
            call_with_retries(lambda: operation(**request, RoleARN=self._target.service_role_arn))

    def _build_request(self, name: str, release: Release, token: str) -> tuple[dict[str, Any], str]:
        """Return the arguments of CreateStack or UpdateStack, and the secret among them (empty if there is none)."""
        secret, parameters = "", dict(release.parameters)
        if release.needs_token:
            if self._repository_token is None or not self._target.gives_token:
                raise PermanentError(f"the template declares {SECRET_PARAMETER}: {SOURCE_REMEDY}")
            owner, repo = parameters.get("RepoOwner"), parameters.get("RepoName")
            full_name = f"{owner}/{repo}" if owner and repo else release.tags["deployer:repository"]
            secret = parameters[SECRET_PARAMETER] = self._repository_token(full_name)
        request = {
            "StackName": name,
            "Parameters": [
                {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
            ],
            "Capabilities": list(_CAPABILITIES),
            "Tags": [{"Key": key, "Value": value} for key, value in release.tags.items()],
            "ClientRequestToken": token,
        }
        if self._target.service_role_arn:
            request["RoleARN"] = (
                self._target.service_role_arn
            )  # CloudFormation also uses this role for all later operations, including the deletion
        content = release.template.encode()
        if len(content) <= INLINE_LIMIT:
            return {**request, "TemplateBody": release.template}, secret
        return {**request, "TemplateURL": self._store_template(name, content)}, secret

    def _is_token_in_events(self, name: str, token: str) -> bool:
        """Whether one of the stack's latest hundred events has this client request token."""
        try:
            page = call_with_retries(lambda: self._aws.cloudformation.describe_stack_events(StackName=name))
        except ClientError as error:
            if is_not_found(error):
                return False
            raise
        return any(event.get("ClientRequestToken") == token for event in required_member(page, "StackEvents"))

    def _recent_events(self, arn: str) -> Iterator[Any]:
        """Yield the stack's latest events, at most a thousand, newest first."""
        found = read_pages(self._aws.cloudformation.describe_stack_events, StackName=arn)
        for _, page in zip(range(_EVENT_PAGES), found, strict=False):
            yield from required_member(page, "StackEvents")

    def _list_stacks(self) -> Iterator[Stack]:
        """Yield every existing stack of the region. After the last one, the listing is shared with other workers."""
        began, busy, count, number = self._region_status.now(), list[str](), 0, 0
        with translate_errors("listing the stacks"):
            listed = read_pages(self._aws.cloudformation.describe_stacks, _LISTING_MAX_WAIT)
            for number, page in enumerate(listed, 1):  # noqa: B007
                for stack in map(stack_from_description, required_member(page, "Stacks")):
                    if stack.status == "DELETE_COMPLETE":
                        continue
                    count += 1
                    if stack.status.endswith("_IN_PROGRESS"):
                        busy += [stack.name, stack.arn]
                    yield stack
        self._region_status.save_listing_summary(began, number, count, busy)


def stack_from_description(described: Any) -> Stack:
    """Return a stack from one entry of DescribeStacks."""
    changed = described.get("LastUpdatedTime") or described.get("CreationTime")
    return Stack(
        arn=str(required_member(described, "StackId")),
        name=str(required_member(described, "StackName")),
        status=str(required_member(described, "StackStatus")),
        tags={
            required_member(tag, "Key"): required_member(tag, "Value") for tag in described.get("Tags", [])
        },
        reason=single_line(described.get("StackStatusReason")),
        protected=bool(described.get("EnableTerminationProtection")),
        parent=str(described.get("ParentId") or ""),
        changed_at=changed.timestamp() if changed else 0,
        parameters=_parameters_hash(described.get("Parameters", [])),
        created_at=created.timestamp() if (created := described.get("CreationTime")) else 0,
    )


def _outputs(described: Any) -> dict[str, str]:
    """Return the values of a stack's outputs by their keys."""
    return {
        str(each["OutputKey"]): str(each["OutputValue"])
        for each in described.get("Outputs", [])
        if each.get("OutputKey") and each.get("OutputValue")
    }


def _parameters_hash(parameters: Iterable[Any]) -> str:
    """Return a hash that differs if parameters differ. AWS returns asterisks for NoEcho parameters."""
    values = sorted(
        (required_member(each, "ParameterKey"), each.get("ParameterValue", "")) for each in parameters
    )
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()[:16] if values else ""


def resource_from_summary(summary: Any) -> Resource:
    """Return a resource from one entry of ListStackResources."""
    return Resource(
        name=str(required_member(summary, "LogicalResourceId")),
        type=str(required_member(summary, "ResourceType")),
        id=str(summary.get("PhysicalResourceId") or ""),
        status=str(required_member(summary, "ResourceStatus")),
        reason=single_line(summary.get("ResourceStatusReason")),
    )
