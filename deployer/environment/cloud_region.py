"""AWS, as the Protocols `CloudRegion` (one region), `Clouds` and `Inventory` with the values that they return.

`deployer/aws/` and `deployer/redis_store/` implement the Protocols, and tests have doubles. An adapter translates every
error of AWS into `TransientError` (a repeat may succeed) or `PermanentError` (people must change something).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from deployer.model.environment_status import StageState
from deployer.model.environments import Kind, Repository
from deployer.model.execution_trigger import UNKNOWN_TRIGGER, Starter, Trigger
from deployer.model.source_actions import SourceLocation
from deployer.model.stacks import Failure, Resource, Stack
from deployer.model.targets import Target
from deployer.templates.release import Release

STOPPED_ACTION_SECONDS = 60.0  # how long after its end a stopped action may still create its stack
LISTING_PATIENCE = 5.0  # seconds that a task waits for a listing of all stacks by another task


@dataclass(frozen=True, slots=True)
class StackAction:
    """One run of a pipeline's action that creates or updates a stack.

    Attributes:
        id: the id of the run.
        stack: the ARN of the stack if AWS reports it, otherwise the stack's name.
        region: the region of the stack; empty for the pipeline's own.
        account: the account of the action's role; empty for the pipeline's own.
        began_at: when the run began (epoch seconds).
        ended_at: when it ended (epoch seconds); 0 while it runs.
    """

    id: str
    stack: str
    region: str = ""
    account: str = ""
    began_at: float = 0
    ended_at: float = 0

    @property
    def stack_name(self) -> str:
        """The name of the stack."""
        return self.stack.split("/")[1] if self.stack.startswith("arn:") else self.stack

    def created_stack(self, stack: Stack) -> bool:
        """Whether a stack was created while this action ran. AWS may carry out the order of a run that was stopped."""
        latest = self.ended_at + STOPPED_ACTION_SECONDS if self.ended_at else stack.created_at
        return self.began_at <= stack.created_at <= latest


@dataclass(frozen=True, slots=True)
class Execution:
    """One execution of a pipeline.

    Attributes:
        status: `running`, `succeeded`, `failed`, `stopped`, `superseded`, or `cancelled` where the definition of its
            pipeline was changed while it ran.
        sha: the commit that it builds; empty until its source stage has read the commit.
        trigger: what started it.
        started_at: when it started (epoch seconds), in a list of executions; 0 elsewhere.
        stages: the stages that it has reached, in order.
        stack_actions: its runs of actions that create or update stacks, where its stages are known.
    """

    id: str
    status: str
    sha: str = ""
    trigger: Trigger = UNKNOWN_TRIGGER
    started_at: float = 0
    stages: Sequence[StageState] = field(default=())
    stack_actions: Sequence[StackAction] = field(default=())

    @property
    def ended(self) -> bool:
        """Whether the execution has ended."""
        return self.status != "running"

    @property
    def automatic(self) -> bool:
        """Whether the creation of the pipeline started the execution."""
        return self.trigger.starter is Starter.CREATION


@dataclass(frozen=True, slots=True)
class RegionCapacity:
    """The use of the quotas in one region of an account, as last counted.

    Attributes:
        region: the region.
        stacks, pipelines: how many exist, including those that deployer does not manage.
        stacks_limit, pipelines_limit: how many may exist.
        counted_at: the time of the count in epoch seconds.
        account: the id of the account; empty if it is unknown.
    """

    region: str
    stacks: int
    stacks_limit: int
    pipelines: int
    pipelines_limit: int
    counted_at: float = 0
    account: str = ""

    @property
    def free(self) -> int:
        """How many more environments fit."""
        return max(0, min(self.stacks_limit - self.stacks, self.pipelines_limit - self.pipelines))

    @property
    def nearly_full(self) -> bool:
        """Whether nine tenths of a quota are used."""
        return self.stacks >= 0.9 * self.stacks_limit or self.pipelines >= 0.9 * self.pipelines_limit


@dataclass(frozen=True, slots=True)
class BuildLogs:
    """The log group of a CodeBuild project that a stack created and that was deleted with the stack.

    Attributes:
        name: the log group's name.
        why_kept: why the log group is not the project's, or may not be read; empty if it is the project's.
    """

    name: str
    why_kept: str = ""


class CloudRegion(Protocol):
    """CloudFormation, CodePipeline and S3 in one region of an account, with the permissions of one target."""

    @property
    def account(self) -> str:
        """The id of the account, or `own` if the target does not name it."""

    @property
    def region(self) -> str:
        """The region's name."""

    def check_reachable(self, seconds: float) -> None:
        """Send CloudFormation one request without credentials, to find out whether it is available in this region.

        Args:
            seconds: how long to wait for a connection, and as long again for an answer.

        Raises:
            TransientError: CloudFormation does not answer, or answers with a server error.
        """

    def stack(self, name: str) -> Stack | None:
        """The stack with this name or ARN. A deleted stack is found only by its ARN."""

    def stacks(self) -> Iterator[Stack]:
        """Every stack with the tag `deployer:managed`, read page by page."""

    def create_stack(self, name: str, release: Release, token: str) -> str:
        """Order the creation of a stack and return its ARN. A repeat with the same token changes nothing."""

    def update_stack(self, name: str, release: Release, token: str) -> bool:
        """Order an update of a stack; returns False if CloudFormation finds nothing to update."""

    def restore_tags(self, arn: str, tags: Mapping[str, str], token: str) -> None:
        """Order an update that changes only a stack's tags: these are added, others stay.

        Raises:
            PermanentError: AWS rejects the update.
            TransientError: another operation is in progress, or the stack does not exist any more.
        """

    def continue_rollback(self, name: str, token: str) -> None:
        """Roll back an update that stopped half-way, or continue its failed rollback."""

    def delete_stack(self, arn: str, token: str, *, retain: Sequence[str] = (), force: bool = False) -> None:
        """Order the deletion of a stack.

        Args:
            arn: the stack.
            token: the idempotency token, by which AWS recognizes a repeat.
            retain: logical IDs of resources to leave; AWS allows them only for a stack whose deletion failed.
            force: leave every resource that cannot be deleted; allowed in the same case.

        Raises:
            ProtectedError: the stack has termination protection.
        """

    def protect(self, arn: str, *, on: bool) -> None:
        """Turn a stack's termination protection on or off."""

    def resources(self, arn: str) -> list[Resource]:
        """The resources of a stack, also of a deleted one; empty if there is no such stack."""

    def is_still_busy(self, name: str, since: float) -> bool:
        """Whether a listing of all stacks that began after `since` shows an operation on a stack in progress.

        Many waiting environments share one listing, so this is cheap. If the answer is False, read
        the stack itself, because the listing may lack it.

        Args:
            name: the stack's name or ARN.
            since: when the operation was last seen in progress, in epoch seconds.
        """

    def count_capacity(self) -> RegionCapacity:
        """Count the use of the region's quotas. A recent count is returned again."""

    def last_capacity(self) -> RegionCapacity | None:
        """The last count, without a call to AWS; None if there is no recent one."""

    def check_artifact_bucket(self) -> None:
        """Write a small object into the artifact bucket, which holds templates that are too large for a request.

        Raises:
            TransientError: the bucket does not exist, or refuses the object.
        """

    def failure(self, arn: str) -> Failure | None:
        """The first resource that failed in the stack's last operation, and the reason; None if nothing failed."""

    def stack_url(self, arn: str) -> str:
        """The address of a stack in the AWS console."""

    def empty_storage(self, arn: str, guard: Callable[[], None] = ...) -> bool:
        """Delete the images in the stack's ECR repositories and all object versions in its buckets, for some seconds.

        Args:
            arn: the stack; a deleted stack has no buckets and no repositories.
            guard: called before each batch of deletions; an exception that it raises ends the call.

        Returns:
            Whether all of them are empty. Otherwise the next call continues.

        Raises:
            PermanentError: AWS refuses to delete an object or an image.
        """

    def build_logs(self, arn: str) -> list[BuildLogs]:
        """The log groups that CodeBuild created for the projects of a deleted stack."""

    def delete_build_logs(self, name: str) -> str:
        """Delete such a log group; returns why AWS refuses it, and an empty text if the group is gone."""

    def deployed_stacks(self, pipeline: str) -> list[str]:
        """Names of the stacks that the pipeline's CloudFormation actions deploy; empty if there is no such pipeline."""

    def stack_actions(self, pipeline: str) -> list[StackAction]:
        """The runs of its actions that create or update stacks, newest first; empty if there is no pipeline."""

    def stack_sets(self, pipeline: str) -> list[str]:
        """Names of the StackSets that the pipeline's actions deploy; empty if there is no such pipeline."""

    def stage_names(self, pipeline: str) -> list[str]:
        """The names of the pipeline's stages, in order; empty if there is no such pipeline."""

    def executions(self, pipeline: str, repository: Repository | None = None) -> list[Execution]:
        """The pipeline's latest executions, newest first and without stages; empty if there is no such pipeline.

        Args:
            pipeline: its name.
            repository: whose commit an execution builds. Without it, an execution of several sources has no commit.
        """

    def execution(
        self, pipeline: str, execution: str, repository: Repository | None = None
    ) -> Execution | None:
        """One execution with its stages; None if there is no such execution. See `executions` for `repository`."""

    def start_problem(self, pipeline: str, location: SourceLocation) -> str:
        """Why `start` would reject the pipeline, with the remedy; empty if it would not, or without such a pipeline."""

    def start(self, pipeline: str, sha: str, token: str, location: SourceLocation) -> str:
        """Start an execution and return its id. A repeat with the same token returns the same execution.

        Args:
            pipeline: its name.
            sha: the commit. It is pinned on every source action that reads the location's repository.
            token: the idempotency token.
            location: what a source action of the pipeline must read.

        Raises:
            PermanentError: no source action reads it, or AWS starts the pipeline too.
        """

    def stop(self, pipeline: str, execution: str, reason: str) -> None:
        """Stop an execution at once. An execution that has ended stays unchanged."""

    def execution_url(self, pipeline: str, execution: str) -> str:
        """The address of an execution in the AWS console."""

    def principal(self) -> str:
        """The ARN of the role or user with which deployer calls AWS here.

        Raises:
            TransientError: AWS is unavailable, or deployer has no credentials.
        """


class Clouds(Protocol):
    """AWS as the installation uses it: one `CloudRegion` for each target and region."""

    def target(self, kind: Kind) -> Target:
        """The target of a kind of environments. Its `regions` are never empty."""

    def at(self, kind: Kind, region: str = "") -> CloudRegion:
        """The `CloudRegion` of a kind's target in a region, by default in the target's first region."""

    def every(self) -> Sequence[CloudRegion]:
        """One `CloudRegion` for each account and region that any target uses."""

    def own_account(self) -> str:
        """The account of deployer's own credentials.

        Raises:
            TransientError: AWS is unavailable, or deployer has no credentials.
        """


@dataclass(frozen=True, slots=True)
class Listed:
    """The result of a listing of stacks.

    Attributes:
        began: when the listing began, in epoch seconds.
        stacks: the stacks.
        regions: the regions that were listed for each kind of environments: those of the settings. A stack in a region
            that was removed from the settings may still exist. Kinds whose account is unavailable are missing.
        away: why an account could not be listed; empty if every account was listed.
    """

    began: float
    stacks: Sequence[Stack]
    regions: Mapping[Kind, Collection[str]]
    away: str = ""


class Inventory(Protocol):
    """All stacks with deployer's tags in every account and region. One listing of each serves every caller.

    A stack with the tags of a kind of environments is left out in an account that is not the target of that kind.
    """

    def stacks(
        self,
        repository: Repository,
        since: float,
        patience: float = ...,
        kind: Kind | None = ...,
        *,
        partly: bool = ...,
    ) -> Listed:
        """The stacks with a repository's tag, from listings that began at `since` or later.

        Args:
            repository: the repository.
            since: epoch seconds; if the last listing is older, a new one is made.
            patience: seconds to wait for a listing that another caller makes.
            kind: list only the regions of this kind's target. For other regions a listing of the last hour is used, or
                none, so that no other account or region needs to answer.
            partly: whether to return some accounts if others are unavailable.

        Raises:
            ThrottledError: another caller still makes a listing.
            TransientError: AWS is unavailable.
        """

    def repositories(self, since: float, patience: float = ...) -> list[Repository]:
        """The repositories that the tags of any stack name, from listings that began at `since` or later."""
