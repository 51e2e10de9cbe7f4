"""AWS, as the Protocols `Cloud` (one region), `Clouds` and `Inventory` with the values that they return.

`deployer/aws/` and `deployer/redis_store/` implement the Protocols, and tests have doubles. An adapter translates every
error of AWS into `TransientError` (a repeat may succeed) or `PermanentError` (people must change something).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from deployer.model.environments import Kind, Repository
from deployer.model.records import StageState
from deployer.model.stacks import Failure, Resource, Stack
from deployer.model.targets import Target
from deployer.templates.release import Release

LISTING_PATIENCE = 5.0  # seconds of a task, for a listing of all stacks that another one makes


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a pipeline.

    Attributes:
        status: `running`, `succeeded`, `failed`, `stopped` or `superseded`.
        sha: the commit it builds; empty until its source stage has read it.
        automatic: it was started by the pipeline's creation, not by us.
        started_at: when it began (epoch seconds), in a list of executions; 0 elsewhere.
        stages: in order; only those it has reached.
    """

    id: str
    status: str
    sha: str = ""
    automatic: bool = False
    started_at: float = 0
    stages: Sequence[StageState] = field(default=())

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status != "running"


@dataclass(frozen=True, slots=True)
class Room:
    """How full an account's region is, as last counted.

    Attributes:
        region: the region.
        stacks, pipelines: how many there are, other people's too.
        stacks_limit, pipelines_limit: how many there may be.
        counted_at: when that was counted, in epoch seconds.
        account: the account's id, where that is known.
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
        """How many more environments there is room for."""
        return max(0, min(self.stacks_limit - self.stacks, self.pipelines_limit - self.pipelines))

    @property
    def nearly_full(self) -> bool:
        """Whether nine tenths of what there may be are there."""
        return self.stacks >= 0.9 * self.stacks_limit or self.pipelines >= 0.9 * self.pipelines_limit


class Cloud(Protocol):
    """CloudFormation, CodePipeline and the buckets of one account and region, with one target's rights."""

    @property
    def account(self) -> str:
        """The account's id, or `own` where the target does not tell it."""

    @property
    def region(self) -> str:
        """The region's name."""

    def check_reachable(self, seconds: float) -> None:
        """Ask CloudFormation in this region once, without deployer's credentials, whether it is there.

        Args:
            seconds: how long to wait for a connection, and as long again for an answer.

        Raises:
            TransientError: it does not answer, or answers with a server error.
        """

    def stack(self, name: str) -> Stack | None:
        """The stack of this name or ARN; a deleted one is found by its ARN only."""

    def stacks(self) -> Iterator[Stack]:
        """Every stack that bears `deployer:managed`, read page by page."""

    def create_stack(self, name: str, release: Release, token: str) -> str:
        """Order a stack's creation and return its ARN. Repeating it with the same token changes nothing."""

    def update_stack(self, name: str, release: Release, token: str) -> bool:
        """Order an update; False where CloudFormation sees nothing to update."""

    def continue_rollback(self, name: str, token: str) -> None:
        """Order that an update which stopped half-way be rolled back, or that its failed rollback go on."""

    def delete_stack(self, arn: str, token: str, *, retain: Sequence[str] = (), force: bool = False) -> None:
        """Order a stack's deletion.

        Args:
            arn: the stack.
            token: recognises a repeat.
            retain: logical ids of resources to leave behind; only a stack whose deletion failed takes any.
            force: leave behind whatever cannot be deleted; likewise.

        Raises:
            ProtectedError: the stack has termination protection.
        """

    def protect(self, arn: str, *, on: bool) -> None:
        """Turn a stack's termination protection on or off."""

    def resources(self, arn: str) -> list[Resource]:
        """The stack's resources, of a deleted one too (by its ARN); empty if there is no such stack."""

    def still_busy(self, name: str, since: float) -> bool:
        """Whether a look at all stacks that began after `since` shows an operation at work.

        Many environments that wait share one look, so it costs next to nothing. False says nothing: ask `stack`.

        Args:
            name: the stack's name or ARN.
            since: when it was last known to be at work, in epoch seconds: the last look at it, not its beginning.
        """

    def room(self) -> Room:
        """How full the region is. Counted now and then, not with every call."""

    def known_room(self) -> Room | None:
        """The same as far as it is known without a call; None if it was not counted lately."""

    def probe_artifacts(self) -> None:
        """Write a small object into the artifact bucket, where templates go that are too large for a request.

        Raises:
            TransientError: the bucket is not there, or takes nothing.
        """

    def failure(self, arn: str) -> Failure | None:
        """Why the stack's last operation failed: the first resource that failed, and its reason."""

    def stack_url(self, arn: str) -> str:
        """Where people can look at a stack."""

    def empty_buckets(self, arn: str, guard: Callable[[], None] = ...) -> bool:
        """Delete what the stack's buckets hold, every version, as far as a call of some seconds gets.

        Args:
            arn: the stack; one that has gone has nothing.
            guard: called before each batch of deletions; what it raises ends the call.

        Returns:
            Whether all is empty; where it is not, the next call goes on.
        """

    def deployed_stacks(self, pipeline: str) -> list[str]:
        """Names of the stacks that the pipeline's CloudFormation actions make; empty if it does not exist."""

    def stage_names(self, pipeline: str) -> list[str]:
        """The names of the pipeline's stages, in order; empty if it does not exist."""

    def executions(self, pipeline: str) -> list[Execution]:
        """The pipeline's newest executions, newest first, without stages; empty if it does not exist."""

    def execution(self, pipeline: str, execution: str) -> Execution | None:
        """One execution with its stages, or None if there is none."""

    def start(self, pipeline: str, sha: str, token: str) -> str:
        """Start an execution pinned to a commit and return its id. The same token gives the same execution."""

    def stop(self, pipeline: str, execution: str, reason: str) -> None:
        """Stop an execution at once; one that has ended is left alone."""

    def execution_url(self, pipeline: str, execution: str) -> str:
        """Where people can look at an execution."""


class Clouds(Protocol):
    """AWS as the installation uses it: a cloud for each target and region."""

    def target(self, kind: Kind) -> Target:
        """Where environments of a kind live; its `regions` are never empty."""

    def at(self, kind: Kind, region: str = "") -> Cloud:
        """The cloud of a kind's target in a region, by default its first."""

    def every(self) -> Sequence[Cloud]:
        """One cloud for each account and region that any target uses."""

    def own_account(self) -> str:
        """The account of deployer's own credentials.

        Raises:
            TransientError: AWS is away, or there are no credentials.
        """


@dataclass(frozen=True, slots=True)
class Listed:
    """Stacks as a listing showed them that began then (epoch seconds).

    Attributes:
        regions: where it looked for the environments of each kind. Those of the settings: what was made in another one
            before it was taken out of them may stand there still. Without the kinds whose account is away.
        away: why an account could not be listed; empty where all could.
    """

    began: float
    stacks: Sequence[Stack]
    regions: Mapping[Kind, Collection[str]]
    away: str = ""


class Inventory(Protocol):
    """All stacks with deployer's tags in every account and region: one listing of each serves all who ask.

    What bears the tags of a kind of environment in an account where that kind does not live is none of them.
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
        """The stacks that bear a repository's tag, as listings showed them that began at `since` or later.

        Args:
            repository: whose.
            since: epoch seconds; where the last listing is older, a new one is made.
            patience: seconds to wait for one that somebody else makes.
            kind: asks only the regions of this kind's target. Elsewhere what was listed within the hour will do, or
                nothing, so that no other account or region needs to answer.
            partly: whether some accounts will do where others are away.

        Raises:
            ThrottledError: somebody else still makes one.
            TransientError: AWS is away.
        """

    def repositories(self, since: float, patience: float = ...) -> list[Repository]:
        """The repositories that any stack's tags name, likewise."""
