"""Events from GitHub or AWS as typed values."""

from dataclasses import dataclass

from deployer.model.environments import Repository
from deployer.model.refs import Ref


@dataclass(frozen=True, slots=True)
class Push:
    """A ref was created, moved or deleted on GitHub.

    Attributes:
        before: the commit or tag object before, all zeros if the ref was created.
        after: the commit or tag object after, all zeros if the ref was deleted.
        message: the head commit's message; empty if the event has none.
        pushed_at: when GitHub received the push (epoch seconds); 0 if the event does not say it.
        repository_id: GitHub's numeric id of the repository; 0 if the event does not say it.
        sender: the login of who pushed; empty if the event does not say it.
        commit: the commit that the ref points to (for an annotated tag not the tag object); empty if it was deleted.
        installation: GitHub's id of the GitHub App's installation; 0 if a webhook of no App sent the event.
    """

    delivery: str
    repository: Repository
    ref: Ref
    before: str
    after: str
    default_branch: str
    message: str = ""
    pushed_at: float = 0
    repository_id: int = 0
    commit: str = ""
    sender: str = ""
    installation: int = 0

    @property
    def deleted(self) -> bool:
        """Whether the push deleted the ref."""
        return not self.after.strip("0")  # 40 zeros, or 64 where commits have SHA-256 ids


@dataclass(frozen=True, slots=True)
class RepositoryChange:
    """Repositories were renamed, transferred, archived, deleted, or are no longer accessible.

    Attributes:
        about: the event and its action.
        repositories: the repositories to resync; the one that the event is about comes first.
        owner: if the event names no repository, the owner whose known repositories are resynced.
        word: `deleted` or `removed`, which GitHub's API cannot tell apart later; it answers both with "not found".
        installation: GitHub's id of the GitHub App's installation; 0 if a webhook of no App sent the event.
    """

    delivery: str
    about: str
    repositories: tuple[Repository, ...] = ()
    owner: str = ""
    word: str = ""
    installation: int = 0


@dataclass(frozen=True, slots=True)
class PullRequestChange:
    """A pull request was opened, reopened or closed, or the branch of an open one has moved.

    Attributes:
        action: `opened`, `reopened`, `synchronize` or `closed`.
        number: the pull request's number.
        head: the branch that is to be merged. If the pull request comes from a fork, it is the fork's.
        sha: the commit at the head of that branch.
        from_fork: whether that branch belongs to another repository, which may be deleted by now.
        default_branch: the short name of the default branch of `repository`.
        installation: GitHub's id of the GitHub App's installation; 0 if a webhook of no App sent the event.
    """

    delivery: str
    repository: Repository
    action: str
    number: int
    head: Ref
    sha: str
    from_fork: bool
    default_branch: str
    installation: int = 0

    @property
    def about(self) -> str:
        """The event and its action."""
        return f"pull_request {self.action}"


@dataclass(frozen=True, slots=True)
class Ping:
    """GitHub's test delivery for a new webhook."""

    delivery: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A delivery that requires no work.

    Attributes:
        reason: why it requires none.
        repository: None if the event names none.
        ref: what was pushed, if that is neither a branch nor a tag.
    """

    delivery: str
    reason: str
    repository: Repository | None = None
    ref: str = ""


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """CodePipeline or CloudFormation reports that a pipeline or stack changed.

    Attributes:
        stack_name: the name of the stack, which is also the pipeline's.
        about: what happened, such as `stage Build: SUCCEEDED`.
        execution: the pipeline execution, or None for a stack's event.
        account, region: of the pipeline or stack; empty if the event does not say it.
    """

    delivery: str
    stack_name: str
    about: str
    execution: str | None = None
    account: str = ""
    region: str = ""
