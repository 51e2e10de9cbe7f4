"""What the steps need of GitHub and AWS, as Protocols.

`deployer/github/` and `deployer/aws/` implement them; tests have doubles.

Errors are the core's own: an adapter translates what its provider raises into `TransientError` (worth another
try) or `PermanentError` (people must change something), and nothing else.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from deployer.model.environments import Kind, Repository
from deployer.model.records import (
    StageState,
)
from deployer.model.refs import Ref
from deployer.model.stacks import Failure, Resource, Stack
from deployer.model.targets import Target
from deployer.templates.release import Release

# --- GitHub -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Head:
    """Where a ref stands.

    Attributes:
        object: what the ref itself points to: a commit, or the tag object of an annotated tag.
        sha: the commit, peeled.
        message: that commit's message.
        at: of a tag, when it was made (epoch seconds): the tag object's time, or else the commit's; 0 if unknown.
    """

    object: str
    sha: str
    message: str = ""
    at: float = 0


@dataclass(frozen=True, slots=True)
class Status:
    """A commit status; the adapter keeps to GitHub's lengths."""

    context: str
    state: str  # pending, success, failure or error
    description: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """What GitHub says of a repository as a whole.

    Attributes:
        id: stays when it is renamed or transferred.
        full_name: `owner/name` as it is now; another one than was asked for if it has moved.
        refs: every branch and tag, or the one that was asked for if it is there, with the object it points to.
        made: when each of the tags was made, as `Head.at` has it.
    """

    id: int
    full_name: str
    default_branch: str
    archived: bool = False
    private: bool = False
    refs: Mapping[Ref, str] = field(default_factory=dict)
    made: Mapping[Ref, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HookDelivery:
    """One attempt of GitHub at delivering to a webhook.

    Attributes:
        id: the attempt's; `hook` is the webhook's, 0 for an App's own.
        guid: the delivery's, the same for each attempt.
        ok: whether it was answered with a 2xx.
        delivered_at: when, in epoch seconds.
        refused: whether it was answered with 401: the webhook's secret is not ours.
        organization: the login of the organization whose webhook it is; empty for a repository's own and an App's.
    """

    id: int
    hook: int
    guid: str
    event: str
    ok: bool
    delivered_at: float
    refused: bool = False
    organization: str = ""


class Relation(StrEnum):
    """How a commit stands to a base, in the words of GitHub's comparison, and one for histories that never met."""

    IDENTICAL = "identical"
    BEHIND = "behind"  # the base contains it
    AHEAD = "ahead"
    DIVERGED = "diverged"
    UNRELATED = "unrelated"

    @property
    def contained(self) -> bool:
        """Whether the base contains the commit."""
        return self in {Relation.IDENTICAL, Relation.BEHIND}


@dataclass(frozen=True, slots=True)
class Protection:
    """What keeps people from moving a repository's default branch and tags, as far as deployer may read it.

    Attributes:
        branch: the default branch's short name.
        branch_protected: whether a branch protection or ruleset holds for it; None where that cannot be read.
        tags_protected: whether an active ruleset is about tags; None where that cannot be read.
        unread: why something cannot be read; empty where all can.
    """

    branch: str
    branch_protected: bool | None
    tags_protected: bool | None
    unread: str = ""


class Host(Protocol):
    """GitHub."""

    @property
    def is_app(self) -> bool:
        """Whether one webhook, that of a GitHub App, tells of every repository."""

    def webhook_organization(self, repository: Repository, url: str) -> str:
        """The login of the organization whose webhook tells of a repository, where it has no webhook of its own.

        Args:
            repository: which one.
            url: the webhook's address, which must be the same to the character.

        Returns:
            An empty text where the webhook is the repository's own, or a GitHub App's.

        Raises:
            RightsError: deployer may not see the webhooks.
            NotFoundError: there is no such webhook.
        """

    def deliveries(
        self, repository: Repository, url: str, since: float, others: Collection[int] = ()
    ) -> list[HookDelivery]:
        """The attempts at delivering to the webhook with this address, newest first; an App's are of all repositories.

        Args:
            repository: whose webhook; or whose deliveries, where only its organization has such a webhook.
            url: the webhook's address, which must be the same to the character; empty where it is not known.
            since: older attempts are left out; epoch seconds.
            others: GitHub's ids of further repositories whose attempts count if the webhook is the organization's.

        Raises:
            RightsError: deployer may not see them.
            NotFoundError: there is no such webhook.
        """

    def payload(self, repository: Repository, delivery: HookDelivery) -> dict[str, Any]:
        """What was delivered."""

    def redeliver(self, repository: Repository, delivery: HookDelivery) -> None:
        """Have it delivered once more, under the same guid.

        Raises:
            PermanentError: GitHub will not, since it is too old or deployer has no right to it.
        """

    def comment(self, repository: Repository, branch: Ref, sha: str, text: str) -> list[str]:
        """Say something where people look at a branch: on its open pull requests, or on a commit where there is none.

        What deployer has said there before, under the same first line, is replaced.

        Args:
            repository: where.
            branch: whose pull requests.
            sha: the commit.
            text: Markdown, whose first line is told apart by nobody else's.

        Returns:
            What `change_comment` knows the comments by.

        Raises:
            RightsError: deployer may not.
        """

    def change_comment(self, repository: Repository, comment: str, text: str) -> None:
        """Replace what a comment says.

        Raises:
            RightsError: deployer may not, or it is gone.
        """

    def install_hook(self, repository: Repository, url: str, secret: str, events: Sequence[str]) -> str:
        """See that a webhook delivers JSON to this address; says whether it was `created`, `updated` or `unchanged`.

        Its secret is set in any case: GitHub does not tell whether it is the same.

        Raises:
            RightsError: deployer may not manage webhooks there.
        """

    def facts(self, repository: Repository, only: Ref | None = None) -> Facts | None:
        """What GitHub says of a repository, its refs included; a former name is followed.

        None where it is not there or cannot be seen, two things that GitHub does not tell apart. Its refs are all that
        there are, or it is an error: what stands without its branch is deleted.

        Args:
            repository: which.
            only: the one ref that it is asked for, which spares the walk through all; no other is then told of.

        Raises:
            RightsError: deployer may not see all of it.
        """

    def default_branch(self, repository: Repository) -> str:
        """The default branch's short name."""

    def head(self, repository: Repository, ref: Ref) -> Head | None:
        """Where a ref stands now, or None if there is no such ref."""

    def check_reachable(self, seconds: float) -> None:
        """Ask GitHub once, without credentials, whether it is there.

        Args:
            seconds: how long to wait for a connection, and as long again for an answer.

        Raises:
            TransientError: it does not answer, or answers with a server error.
        """

    def commit(self, repository: Repository, prefix: str) -> str:
        """The full id of a commit.

        Args:
            repository: whose commit.
            prefix: the full id or its first hexadecimal digits, in lower case. The name of a branch or tag that looks
                like an id does not count.

        Raises:
            NotFoundError: no commit has this id, or several have; GitHub does not say which of the two.
            PermanentError: the repository is not found.
        """

    def files(self, repository: Repository, sha: str, folder: str) -> dict[str, bytes]:
        """Name to content of the usable files right in a folder at a commit; empty where there is no such folder.

        Raises:
            UnreadableError: one of them, or the folder, is a symbolic link, a submodule or the like, or is too large.
            PermanentError: there is no such commit.
        """

    def regular_files(self, repository: Repository, sha: str, folder: str, stem: str) -> dict[str, bytes]:
        """Name to content of the files in a folder at a commit whose name is the stem and a suffix.

        Empty where there is no such file or folder, and an error where something is there that is no regular file:
        whoever reads rules there must not take a symbolic link for "no rules".

        Raises:
            UnreadableError: one of them, or the folder, is a symbolic link, a submodule or the like, or is too large.
            PermanentError: there is no such commit.
        """

    def ancestry(self, repository: Repository, base: str, commit: str) -> Relation:
        """How a commit stands to a base.

        Args:
            repository: where both are.
            base: a full commit id; a name is refused, since a tag and a branch may share one.
            commit: a full commit id.

        Raises:
            PayloadError: one of them is no full commit id.
            TransientError: GitHub cannot tell now; that is never an answer.
        """

    def protected_branches(self, repository: Repository) -> Mapping[Ref, str]:
        """The branches that a branch protection or a ruleset protects now, and where each stands.

        Raises:
            PermanentError: there are more than can be looked at.
        """

    def post(self, repository: Repository, sha: str, status: Status) -> None:
        """Set a commit status."""

    def changed(self, repository: Repository, before: str, after: str) -> list[str] | None:
        """Paths of the files in which a commit differs from an earlier one; None where that cannot be told.

        So it is where the later one does not descend from the earlier, and where there are very many.
        """


LISTING_PATIENCE = 5.0  # seconds of a task, for a listing of all stacks that another one makes

# --- AWS --------------------------------------------------------------------------------------------------------


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
