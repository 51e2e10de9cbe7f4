"""AWS through boto3: the port `Cloud` on CloudFormation, CodePipeline and S3."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from botocore.exceptions import ClientError

from deployer.adapters import aws_pipelines as pipelines
from deployer.adapters import aws_stacks as stacks
from deployer.adapters.aws_answers import needed
from deployer.adapters.aws_client import (
    AwsClients,
    own_region,
    retried,
    says_busy,
    says_ended,
    says_missing,
    says_name_taken,
    says_no_room,
    says_no_update,
    says_protected,
    says_role_gone,
    says_token_known,
    translated,
)
from deployer.adapters.aws_sharing import RegionSurvey, Sharing
from deployer.environments import Kind
from deployer.errors import PermanentError, ProtectedError, TransientError
from deployer.parameters import SOURCE_REMEDY
from deployer.ports import Execution, Room
from deployer.release import Release
from deployer.resolving import SECRET_PARAMETER
from deployer.stacks import Failure, Resource, Stack
from deployer.targets import Target

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.literals import CapabilityType

log = logging.getLogger(__name__)

INLINE_LIMIT = 51_200  # bytes of a template that a request may hold; a larger one goes by S3
_CAPABILITIES: Sequence["CapabilityType"] = (
    "CAPABILITY_IAM",
    "CAPABILITY_NAMED_IAM",
    "CAPABILITY_AUTO_EXPAND",
)
_TEMPLATES = "deployer/templates"  # where they are in the artifact bucket
_DAY = 86400.0
_STACKS_LIMIT = 2000  # where an account tells none
_EXECUTIONS = 20
_REASON_LIMIT = 200  # of StopPipelineExecution
_EVENT_PAGES = 10  # a hundred events each
_LOOK_PATIENCE = 20.0  # seconds; within the time that others leave a look to whoever makes it
_JUST_READ_SECONDS = 10.0
_JUST_LISTED_SECONDS = 2.0


class AwsCloud:
    """The port `Cloud`. Making one calls nothing; clients are made when first used, in each process its own.

    Args:
        target: whose rights and artifact bucket are used.
        clients: of the target's account and the region.
        survey: what all workers know of these.
        repository_token: gives the value of a template's NoEcho parameter `RepoToken` for owner/repo; asked only
            where the template declares it. The value goes to CloudFormation and nowhere else.
    """

    def __init__(
        self,
        target: Target,
        clients: AwsClients,
        survey: RegionSurvey,
        repository_token: Callable[[str], str] | None = None,
    ) -> None:
        self._target = target
        self._aws = clients
        self._survey = survey
        self._bucket = target.bucket(clients.region)
        # S3 refuses a bucket of this name that is another account's, which would decide what is deployed
        self._owner: dict[str, Any] = {"ExpectedBucketOwner": of} if (of := target.account_id) else {}
        self._repository_token = repository_token
        # what the same task may use once more: when it was read, and that
        self._read: dict[str, tuple[float, Any]] = {}  # definition by pipeline
        self._names: dict[str, tuple[float, list[str]]] = {}  # of stages, by pipeline
        self._listed: dict[tuple[str, str], tuple[float, Any]] = {}  # summary by pipeline and execution

    @property
    def account(self) -> str:
        """The account's id, or `own` where the target does not tell it."""
        return _account(self._target)

    @property
    def region(self) -> str:
        """The region's name."""
        return self._aws.region

    # --- stacks ------------------------------------------------------------------------------------------------

    def check_reachable(self, seconds: float) -> None:
        """See `Cloud.check_reachable`. One call, which is not repeated."""
        self._aws.check_reachable(seconds)

    def stack(self, name: str) -> Stack | None:
        """The stack of this name or ARN; a deleted one is found by its ARN only. One call."""
        with translated(f"reading stack {name}"):
            try:
                answer = retried(lambda: self._aws.cloudformation.describe_stacks(StackName=name))
            except ClientError as error:
                if says_missing(error):
                    return None
                raise
            found = needed(answer, "Stacks")
            return stacks.read(found[0]) if found else None

    def stacks(self) -> Iterator[Stack]:
        """Every stack that bears `deployer:managed`. A call for each page: stacks of others count as well.

        Read to its end, it is a look that environments that wait may share.
        """
        return (stack for stack in self._look() if stack.tags.get("deployer:managed") == "true")

    def create_stack(self, name: str, release: Release, token: str) -> str:
        """Order a stack's creation and return its ARN. One call; one more for a large template.

        Raises:
            PermanentError: AWS refuses the template or its parameters.
            QuotaError: the account has no room for another stack.
            TransientError: a stack of this name came to be meanwhile that this order did not make.
        """
        request, secret = self._request(name, release, token)
        with translated(f"creating stack {name}", secret):
            try:
                answer = retried(lambda: self._aws.cloudformation.create_stack(**request))
                arn = str(needed(answer, "StackId"))
                self._survey.changed(+1)
                return arn
            except ClientError as error:
                if says_no_room(error):
                    self._survey.forget_counts()
                if not (says_name_taken(error) or says_token_known(error)):
                    raise
            existing = self.stack(name)
            if existing and (existing.tags == release.tags or self._ordered(existing.arn, token)):
                return existing.arn
            raise TransientError(f"creating stack {name}: another stack of this name exists or just vanished")

    def update_stack(self, name: str, release: Release, token: str) -> bool:
        """Order an update; False where CloudFormation sees nothing to update. One call; one more as above.

        Raises:
            PermanentError: AWS refuses the template or its parameters.
            TransientError: the stack is busy or has gone.
        """
        request, secret = self._request(name, release, token)
        with translated(f"updating stack {name}", secret):
            try:
                retried(lambda: self._aws.cloudformation.update_stack(**request))
            except ClientError as error:
                if says_no_update(error):
                    return False
                if says_missing(error):
                    raise TransientError(f"updating stack {name}: it has gone meanwhile") from error
                # an order whose answer was lost finds itself at work when it is repeated
                if not (says_token_known(error) or (says_busy(error) and self._ordered(name, token))):
                    raise
            return True

    def continue_rollback(self, name: str, token: str) -> None:
        """Order that what stopped half-way be rolled back, or that its rollback go on. Two calls.

        One more where the role that made the stack has gone: then it is the target's service role that does it.
        """
        with translated(f"rolling back stack {name}"):
            stack = self.stack(name)
            if stack is None:
                raise TransientError(f"rolling back stack {name}: it has gone meanwhile")
            client = self._aws.cloudformation
            order = (
                client.rollback_stack if stack.status == "UPDATE_FAILED" else client.continue_update_rollback
            )
            request: dict[str, Any] = {"StackName": stack.arn, "ClientRequestToken": token}
            try:
                self._with_a_role(order, request)
            except ClientError as error:
                if not (says_token_known(error) or (says_busy(error) and self._ordered(name, token))):
                    raise

    def delete_stack(self, arn: str, token: str, *, retain: Sequence[str] = (), force: bool = False) -> None:
        """Order a stack's deletion; one that has gone is left alone. One call.

        One more where the role that made the stack has gone: then it is deleted with the target's service role.

        Raises:
            PermanentError: AWS refuses it, or there is no role to delete it with.
            ProtectedError: it has termination protection.
        """
        request: dict[str, Any] = {"StackName": arn, "ClientRequestToken": token}
        if force:
            request["DeletionMode"] = "FORCE_DELETE_STACK"
        elif retain:
            request["RetainResources"] = list(retain)
        with translated(f"deleting stack {arn}"):
            try:
                self._with_a_role(self._aws.cloudformation.delete_stack, request)
                self._survey.changed(-1)
            except ClientError as error:
                if says_protected(error):
                    raise ProtectedError(f"stack {arn} has termination protection") from error
                if not (says_token_known(error) or says_missing(error)):
                    raise

    def _with_a_role(self, order: Callable[..., Any], request: Mapping[str, Any]) -> None:
        """Give an order; where the role that made the stack has gone, with the target's service role."""
        try:
            retried(lambda: order(**request))
        except ClientError as error:
            if not (says_role_gone(error) and self._target.service_role_arn):
                raise
            retried(lambda: order(**request, RoleARN=self._target.service_role_arn))

    def protect(self, arn: str, *, on: bool) -> None:
        """Turn a stack's termination protection on or off; one that has gone is left alone. One call."""
        with translated(f"{'protecting' if on else 'unprotecting'} stack {arn}"):
            try:
                retried(
                    lambda: self._aws.cloudformation.update_termination_protection(
                        StackName=arn, EnableTerminationProtection=on
                    )
                )
            except ClientError as error:
                if not says_missing(error):
                    raise

    def resources(self, arn: str) -> list[Resource]:
        """The stack's resources, of a deleted one too; empty if there is no such stack. A call a hundred."""
        with translated(f"listing the resources of stack {arn}"):
            try:
                return [
                    stacks.resource(each)
                    for page in stacks.pages(self._aws.cloudformation.list_stack_resources, StackName=arn)
                    for each in needed(page, "StackResourceSummaries")
                ]
            except ClientError as error:
                if says_missing(error):
                    return []
                raise

    def still_busy(self, name: str, since: float) -> bool:
        """Whether a shared look shows an operation at work; see the port. No call, or one for each page."""
        return self._survey.busy(name, since, lambda: list(self._look()))

    def room(self) -> Room:
        """How full the region is. No call while what was counted is less than an hour old; else three or more.

        What deployer makes and deletes meanwhile is added and subtracted.
        """
        with translated(f"counting what {self.region} holds"):
            stacks_now, stacks_at, _ = self._counted("stacks", lambda: sum(1 for _ in self._look()))
            limit, _, _ = self._counted("stacks_limit", self._stacks_limit)
            pipelines_now, pipelines_at, anew = self._counted("pipelines", self._count_pipelines)
        found = self._room(stacks_now, limit, pipelines_now, min(stacks_at, pipelines_at))
        if anew:
            self._survey.keep_last_count(found)
        return found

    def known_room(self) -> Room | None:
        """How full the region was when that was counted last, if that is less than a day ago. No call."""
        stacks_known, limit, pipelines_known = (
            self._survey.count(what, _DAY) for what in ("stacks", "stacks_limit", "pipelines")
        )
        if not (stacks_known and limit and pipelines_known):
            return None
        at = min(stacks_known[1], pipelines_known[1])
        return self._room(stacks_known[0], limit[0], pipelines_known[0], at)

    def _room(self, stacks_now: int, limit: int, pipelines_now: int, at: float) -> Room:
        account = _account(self._target)
        return Room(self.region, stacks_now, limit, pipelines_now, self._target.pipelines_limit, at, account)

    def probe_artifacts(self) -> None:
        """Write a small object into the artifact bucket. One call."""
        with translated(f"writing into {self._shown_bucket()}", artifacts=True):
            key = f"{_TEMPLATES}/probe.txt"
            body = b"deployer doctor"
            retried(lambda: self._aws.s3.put_object(Bucket=self._bucket, Key=key, Body=body, **self._owner))

    def failure(self, arn: str) -> Failure | None:
        """Why the stack's last operation failed; None if nothing failed. A call for a hundred events."""
        with translated(f"reading the events of stack {arn}"):
            try:
                return stacks.failure(self._events(arn))
            except ClientError as error:
                if says_missing(error):
                    return None
                raise

    def stack_url(self, arn: str) -> str:
        """The stack's page in AWS's console. No call."""
        return (
            f"https://{self.region}.console.aws.amazon.com/cloudformation/home?region={self.region}"
            f"#/stacks/events?stackId={quote(arn, safe='')}"
        )

    def empty_buckets(self, arn: str, guard: Callable[[], None] = lambda: None) -> bool:
        """Delete what the stack's buckets hold, every version, for about twenty seconds; whether all is empty.

        A bucket that the template says to retain is left as it is: its data is meant to outlive the stack.
        """
        deadline = time.monotonic() + stacks.EMPTYING_SECONDS
        with translated(f"emptying the buckets of stack {arn}"):
            try:
                names = stacks.buckets(self._aws.cloudformation, arn)
            except ClientError as error:
                if says_missing(error):
                    return True
                raise
            owner = arn.split(":")[4]  # a stack's buckets are of the stack's account
            return all(stacks.empty(self._aws.s3, bucket, owner, deadline, guard) for bucket in names)

    # --- pipelines -------------------------------------------------------------------------------------------

    def deployed_stacks(self, pipeline: str) -> list[str]:
        """Names of the stacks that the pipeline's CloudFormation actions make, last deployed first. One call."""
        with translated(f"reading pipeline {pipeline}"):
            definition = self._definition(pipeline)
            return pipelines.deployed_stacks(definition) if definition else []

    def stage_names(self, pipeline: str) -> list[str]:
        """The names of the pipeline's stages, in order. One call; none where the definition was just read."""
        at, read = self._names.get(pipeline, (0.0, []))
        if time.monotonic() - at < _JUST_READ_SECONDS:
            return read
        with translated(f"reading pipeline {pipeline}"):
            definition = self._definition(pipeline)
            return pipelines.stage_names(definition) if definition else []

    def executions(self, pipeline: str) -> list[Execution]:
        """The pipeline's newest executions, newest first, without stages. One call; one more with several sources."""

        @cache
        def definition() -> Any | None:
            return self._definition(pipeline)

        with translated(f"listing the executions of pipeline {pipeline}"):
            try:
                answer = retried(
                    lambda: self._aws.codepipeline.list_pipeline_executions(
                        pipelineName=pipeline, maxResults=_EXECUTIONS
                    )
                )
            except ClientError as error:
                if says_missing(error):
                    return []
                raise
            listed = needed(answer, "pipelineExecutionSummaries")
            now = time.monotonic()
            self._listed = {(pipeline, needed(one, "pipelineExecutionId")): (now, one) for one in listed}
            return [pipelines.summary(one, definition) for one in listed]

    def execution(self, pipeline: str, execution: str) -> Execution | None:
        """One execution with its stages, or None. Two calls, one where it was listed a moment ago.

        One more between two actions or with several sources.
        """
        with translated(f"reading execution {execution} of pipeline {pipeline}"):
            found = self._just_listed(pipeline, execution) or self._execution(pipeline, execution)
            if found is None:
                return None
            listed = stacks.pages(
                self._aws.codepipeline.list_action_executions,
                cursor="nextToken",
                pipelineName=pipeline,
                filter={"pipelineExecutionId": execution},
                maxResults=100,
            )
            try:
                details = [each for page in listed for each in needed(page, "actionExecutionDetails")]
            except ClientError as error:
                if says_missing(error):  # not listed yet, or gone meanwhile with its pipeline
                    return None
                raise
            return pipelines.whole(found, details, lambda: self._definition(pipeline))

    def start(self, pipeline: str, sha: str, token: str) -> str:
        """Start an execution pinned to a commit and return its id. Two calls; one where the definition was just read.

        Raises:
            PermanentError: there is no such pipeline, or nothing in it that a commit could be pinned on.
        """
        with translated(f"starting pipeline {pipeline}"):
            definition = self._just_read(pipeline) or self._definition(pipeline)
            if definition is None:
                raise PermanentError(
                    f"there is no pipeline {pipeline} though its stack stands: somebody deleted it, or the template"
                    " names it otherwise than by the parameter PipelineName; deployer delete and a push make it anew"
                )
            source = pipelines.source_action(definition)
            if source is None:
                raise PermanentError(f"pipeline {pipeline} has no source action that reads a git repository")
            answer = retried(
                lambda: self._aws.codepipeline.start_pipeline_execution(
                    name=pipeline,
                    clientRequestToken=token,
                    sourceRevisions=[
                        {"actionName": source, "revisionType": "COMMIT_ID", "revisionValue": sha}
                    ],
                )
            )
            return str(needed(answer, "pipelineExecutionId"))

    def stop(self, pipeline: str, execution: str, reason: str) -> None:
        """Stop an execution at once; one that has ended or gone is left alone. One call."""
        self._listed = {}
        with translated(f"stopping execution {execution} of pipeline {pipeline}"):
            try:
                retried(
                    lambda: self._aws.codepipeline.stop_pipeline_execution(
                        pipelineName=pipeline,
                        pipelineExecutionId=execution,
                        abandon=True,
                        reason=reason[:_REASON_LIMIT],
                    )
                )
            except ClientError as error:
                if not (says_ended(error) or says_missing(error)):
                    raise
                log.info("execution %s of %s had ended already", execution, pipeline)

    def execution_url(self, pipeline: str, execution: str) -> str:
        """The execution's page in AWS's console. No call."""
        region = self._aws.region
        return (
            f"https://{region}.console.aws.amazon.com/codesuite/codepipeline/pipelines/{pipeline}"
            f"/executions/{execution}/timeline?region={region}"
        )

    # --- common ------------------------------------------------------------------------------------------------

    def _request(self, name: str, release: Release, token: str) -> tuple[dict[str, Any], str]:
        """The parameters of a creation or update, and the secret among them."""
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
            request["RoleARN"] = self._target.service_role_arn  # it sticks to the stack, for its deletion too
        content = release.template.encode()
        if len(content) <= INLINE_LIMIT:
            return {**request, "TemplateBody": release.template}, secret
        return {**request, "TemplateURL": self._upload(name, content)}, secret

    def _upload(self, name: str, content: bytes) -> str:
        key = f"{_TEMPLATES}/{hashlib.sha256(content).hexdigest()}.template"
        with translated(f"storing the template of stack {name} in {self._shown_bucket()}", artifacts=True):
            retried(
                lambda: self._aws.s3.put_object(Bucket=self._bucket, Key=key, Body=content, **self._owner)
            )
        # CloudFormation reads path-style addresses too, whatever dots the bucket's name has
        return f"{self._aws.s3.meta.endpoint_url}/{self._bucket}/{key}"

    def _shown_bucket(self) -> str:
        owner = self._owner.get("ExpectedBucketOwner")
        return f"bucket {self._bucket}{f', which must be of account {owner}' if owner else ''}"

    def _ordered(self, name: str, token: str) -> bool:
        """Whether one of the stack's latest events came of this token."""
        try:
            page = retried(lambda: self._aws.cloudformation.describe_stack_events(StackName=name))
        except ClientError as error:
            if says_missing(error):
                return False
            raise
        return any(event.get("ClientRequestToken") == token for event in needed(page, "StackEvents"))

    def _events(self, arn: str) -> Iterator[Any]:
        """The stack's events, newest first; the latest thousand."""
        found = stacks.pages(self._aws.cloudformation.describe_stack_events, StackName=arn)
        for _, page in zip(range(_EVENT_PAGES), found, strict=False):
            yield from needed(page, "StackEvents")

    def _look(self) -> Iterator[Stack]:
        """Every stack that has not gone; once all are read, other workers know what was seen."""
        began, busy, count, number = self._survey.now(), list[str](), 0, 0
        with translated("listing the stacks"):
            listed = stacks.pages(self._aws.cloudformation.describe_stacks, _LOOK_PATIENCE)
            for number, page in enumerate(listed, 1):  # noqa: B007
                for stack in map(stacks.read, needed(page, "Stacks")):
                    if stack.status == "DELETE_COMPLETE":
                        continue
                    count += 1
                    if stack.status.endswith("_IN_PROGRESS"):
                        busy += [stack.name, stack.arn]
                    yield stack
        self._survey.looked(began, number, count, busy)

    def _counted(self, what: str, count: Callable[[], int]) -> tuple[int, float, bool]:
        """A number, when it was counted, and whether that was just now."""
        if known := self._survey.count(what):
            return (*known, False)
        began = self._survey.now()
        number = count()
        self._survey.counted(what, number, began)
        return number, began, True

    def _stacks_limit(self) -> int:
        answer = retried(self._aws.cloudformation.describe_account_limits)
        limits = {each.get("Name"): each.get("Value") for each in answer.get("AccountLimits", [])}
        return int(limits.get("StackLimit") or _STACKS_LIMIT)

    def _count_pipelines(self) -> int:
        listed = stacks.pages(self._aws.codepipeline.list_pipelines, cursor="nextToken", maxResults=1000)
        return sum(len(needed(page, "pipelines")) for page in listed)

    def _definition(self, pipeline: str) -> Any | None:
        try:
            answer = retried(lambda: self._aws.codepipeline.get_pipeline(name=pipeline))
        except ClientError as error:
            if says_missing(error):
                return None
            raise
        read = needed(answer, "pipeline")
        self._read = {pipeline: (time.monotonic(), read)}
        self._names = {pipeline: (time.monotonic(), pipelines.stage_names(read))}
        return read

    def _just_read(self, pipeline: str) -> Any | None:
        """The definition as the same task has read it a moment ago, once."""
        at, read = self._read.pop(pipeline, (0.0, None))
        return read if time.monotonic() - at < _JUST_READ_SECONDS else None

    def _just_listed(self, pipeline: str, execution: str) -> Any | None:
        """An execution's summary as the same task has read it a moment ago, once."""
        at, listed = self._listed.pop((pipeline, execution), (0.0, None))
        return listed if time.monotonic() - at < _JUST_LISTED_SECONDS else None

    def _execution(self, pipeline: str, execution: str) -> Any | None:
        try:
            answer = retried(
                lambda: self._aws.codepipeline.get_pipeline_execution(
                    pipelineName=pipeline, pipelineExecutionId=execution
                )
            )
        except ClientError as error:
            if says_missing(error):
                return None
            raise
        return needed(answer, "pipelineExecution")


class AwsClouds:
    """The port `Clouds`.

    Args:
        targets: the target of every kind.
        sharing: what all workers share about the accounts and regions.
        repository_token: as `AwsCloud` takes it.
        on_call: told of every request that is sent to AWS, repeats too.
        endpoint_url: another address for all of AWS; None for AWS's own variables.
    """

    def __init__(
        self,
        targets: Mapping[Kind, Target],
        sharing: Sharing,
        *,
        repository_token: Callable[[str], str] | None = None,
        on_call: Callable[[], None] | None = None,
        endpoint_url: str | None = None,
    ) -> None:
        self._targets = targets
        self._sharing = sharing
        self._repository_token = repository_token
        self._on_call = on_call
        self._endpoint_url = endpoint_url
        self._clients: dict[tuple[str, str, str], AwsClients] = {}
        self._made: dict[tuple[Kind, str], AwsCloud] = {}

    def target(self, kind: Kind) -> Target:
        """Where environments of a kind live; where no region is said, AWS's own variables do."""
        target = self._targets[kind]
        return target if target.regions else replace(target, regions=(self._own_region,))

    def at(self, kind: Kind, region: str = "") -> AwsCloud:
        """The cloud of a kind's target in a region, by default its first."""
        target = self.target(kind)
        region = region or target.regions[0]
        if (kind, region) not in self._made:
            survey = self._sharing.region_survey(_account(target), region)
            clients = self._clients_of(target, region)
            self._made[kind, region] = AwsCloud(target, clients, survey, self._repository_token)
        return self._made[kind, region]

    def every(self) -> Sequence[AwsCloud]:
        """One cloud for each account and region that any target uses."""
        found: dict[tuple[str, str], AwsCloud] = {}
        for kind in self._targets:
            target = self.target(kind)
            for region in target.regions:
                found.setdefault((_account(target), region), self.at(kind, region))
        return list(found.values())

    def clients(self, kind: Kind, region: str = "") -> AwsClients:
        """The clients with the rights of a kind's target in a region, by default its first."""
        target = self.target(kind)
        return self._clients_of(target, region or target.regions[0])

    def own_account(self) -> str:
        """The account of deployer's own credentials. One call, which needs no right."""
        own = replace(self.target(Kind.DEVELOPMENT), role_arn="", external_id="")
        sts = self._clients_of(own, self._own_region).sts
        with translated("asking AWS which account deployer is in"):
            return str(needed(retried(sts.get_caller_identity), "Account"))

    @cached_property
    def _own_region(self) -> str:
        return own_region()

    def _clients_of(self, target: Target, region: str) -> AwsClients:
        key = (target.role_arn, target.external_id, region)
        if key not in self._clients:
            self._clients[key] = AwsClients(
                region,
                self._endpoint_url,
                role_arn=target.role_arn,
                external_id=target.external_id,
                throttle=self._sharing.rate_limit(_account(target), region),
                on_call=self._on_call,
            )
        return self._clients[key]


def _account(target: Target) -> str:
    """The account, as far as the target tells it: quotas and rates are an account's."""
    return target.account_id or "own"
