"""GitHub, as the Protocol `CodeHost` with the values that it returns.

`deployer/github/` implements the Protocol, and tests have doubles. The adapter translates every error of GitHub into
`TransientError` (a repeat may succeed) or `PermanentError` (people must change something).
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from deployer.model.environments import Repository
from deployer.model.refs import Ref


@dataclass(frozen=True, slots=True)
class Head:
    """The object to which a ref points.

    Attributes:
        object: the object itself: a commit, or the tag object of an annotated tag.
        sha: the commit, also of an annotated tag.
        message: the message of that commit.
        at: when a tag was made (epoch seconds): the time of the tag object, or else of the commit; 0 if unknown.
    """

    object: str
    sha: str
    message: str = ""
    at: float = 0


@dataclass(frozen=True, slots=True)
class Status:
    """A commit status. The adapter shortens texts to GitHub's limits."""

    context: str
    state: str  # pending, success, failure or error
    description: str
    url: str = ""


@dataclass(frozen=True, slots=True)
class PullRequestHead:
    """The commit that an open pull request is about to merge.

    Attributes:
        number: the pull request's number.
        branch: its branch. If the pull request comes from a fork, it is the fork's.
        sha: the commit.
        from_fork: whether the branch belongs to another repository.
    """

    number: int
    branch: Ref
    sha: str
    from_fork: bool


@dataclass(frozen=True, slots=True)
class RepositoryFacts:
    """GitHub's description of a repository.

    Attributes:
        id: the id, which stays when the repository is renamed or transferred.
        full_name: the present `owner/name`; it differs from the requested name if the repository was renamed.
        refs: every branch and tag, or the requested one if it exists, with the object to which it points.
        made: when each tag was made, as in `Head.at`.
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
    """One attempt of GitHub to deliver to a webhook.

    Attributes:
        id: the id of the attempt.
        hook: the id of the webhook; 0 for the webhook of a GitHub App.
        guid: the id of the delivery, the same for each attempt.
        ok: whether the answer was a 2xx.
        delivered_at: the time of the attempt in epoch seconds.
        refused: whether the answer was 401, which means that the webhook has another secret than deployer.
        organization: the login of the organization that owns the webhook; empty if a repository or an App owns it.
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
    """The relation of a commit to a base: GitHub's words for a comparison, and one for unrelated histories."""

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
    """The protection of a repository's default branch and tags, as far as deployer may read it.

    Attributes:
        branch: the short name of the default branch.
        branch_protected: whether a branch protection or ruleset applies to it; None if that cannot be read.
        tags_protected: whether an active ruleset applies to tags; None if that cannot be read.
        unread: why something cannot be read; empty if everything can.
        required: the contexts of the statuses that the default branch requires.
    """

    branch: str
    branch_protected: bool | None
    tags_protected: bool | None
    unread: str = ""
    required: tuple[str, ...] = ()


class CodeHost(Protocol):
    """GitHub."""

    @property
    def is_app(self) -> bool:
        """Whether one webhook, that of a GitHub App, delivers the events of every repository."""

    def webhook_organization(self, repository: Repository, url: str) -> str:
        """The login of the organization whose webhook delivers a repository's events.

        Args:
            repository: the repository.
            url: the webhook's address, which must match exactly.

        Returns:
            An empty text if the webhook belongs to the repository itself or to a GitHub App.

        Raises:
            RightsError: deployer may not read the webhooks.
            NotFoundError: there is no such webhook.
        """

    def deliveries(
        self, repository: Repository, url: str, since: float, others: Collection[int] = ()
    ) -> list[HookDelivery]:
        """The attempts to deliver to a webhook, newest first. Those of an App are about all repositories.

        Args:
            repository: the repository whose webhook, or whose organization's webhook, has this address.
            url: the webhook's address, which must match exactly; empty if it is unknown.
            since: epoch seconds; older attempts are left out.
            others: GitHub's ids of further repositories whose attempts count if the webhook is the organization's.

        Raises:
            RightsError: deployer may not read them.
            NotFoundError: there is no such webhook.
        """

    def payload(self, repository: Repository, delivery: HookDelivery) -> dict[str, Any]:
        """The payload that was delivered."""

    def redeliver(self, repository: Repository, delivery: HookDelivery) -> None:
        """Request another attempt with the same guid.

        Raises:
            PermanentError: GitHub refuses, because the delivery is too old or deployer lacks the permission.
        """

    def comment(self, repository: Repository, branch: Ref, sha: str, text: str) -> list[str]:
        """Comment on the open pull requests of a branch, or on a commit if the branch has none.

        The text replaces deployer's earlier comment with the same first line.

        Args:
            repository: the repository.
            branch: the branch of the pull requests.
            sha: the commit.
            text: Markdown. Its first line identifies the comment, so nobody else may use such a line.

        Returns:
            The ids of the comments for `change_comment`.

        Raises:
            RightsError: deployer may not comment.
        """

    def change_comment(self, repository: Repository, comment: str, text: str) -> None:
        """Replace the text of a comment.

        Raises:
            RightsError: deployer may not change it, or it does not exist any more.
        """

    def open_pull_requests(self, repository: Repository) -> list[PullRequestHead]:
        """The heads of the open pull requests, the newest first; not all of more than 500.

        Raises:
            RightsError: deployer may not read them.
        """

    def comment_on_pulls(self, repository: Repository, branch: Ref, text: str, *, ended: bool) -> None:
        """Let each pull request of a branch have exactly one comment of deployer with this text.

        An open pull request gets the comment, or its comment is edited. Of several the oldest stays.
        The comment of a closed pull request is edited only if the environment has ended, and only once: a later
        environment of the same branch does not concern it.

        Args:
            repository: the repository.
            branch: the branch of the pull requests; one of a fork with the same name does not count.
            text: Markdown.
            ended: whether the text says that the environment has ended.

        Raises:
            RightsError: deployer may not comment.
        """

    def open_pulls(self, repository: Repository, branch: Ref) -> list[int]:
        """The numbers of the open pull requests of a branch, without those of forks; not all of many.

        Raises:
            RightsError: deployer may not read them.
        """

    def install_hook(self, repository: Repository, url: str, secret: str, events: Sequence[str]) -> str:
        """Create or correct a webhook that delivers JSON to an address.

        The secret is set in any case, because GitHub does not say whether it is the same.

        Returns:
            `created`, `updated` or `unchanged`.

        Raises:
            RightsError: deployer may not manage the repository's webhooks.
        """

    def facts(self, repository: Repository, only: Ref | None = None) -> RepositoryFacts | None:
        """Read a repository with its refs. A former name leads to the renamed repository.

        An incomplete list of refs is an error, because environments whose branch is missing are deleted.

        Args:
            repository: the repository.
            only: the only ref that the caller needs. It saves reading the whole list of refs, and no other ref is
                returned.

        Returns:
            None if GitHub answers "not found": it does not exist, or deployer may not see it.

        Raises:
            RightsError: deployer may not read all of it.
        """

    def why_hidden(self, repository: Repository) -> str:
        """Why `facts` returns None, with the link to the page on which people change that; empty if that is unknown.

        The GitHub App's installation may be suspended, or the App may not be installed on the repository.
        """

    def default_branch(self, repository: Repository) -> str:
        """The short name of the default branch."""

    def head(self, repository: Repository, ref: Ref) -> Head | None:
        """The object to which a ref points now; None if there is no such ref."""

    def check_reachable(self, seconds: float) -> None:
        """Send one request without credentials, to find out whether GitHub is available.

        Args:
            seconds: how long to wait for a connection, and as long again for an answer.

        Raises:
            TransientError: GitHub does not answer, or answers with a server error.
        """

    def commit(self, repository: Repository, prefix: str) -> str:
        """The full id of a commit.

        Args:
            repository: the repository of the commit.
            prefix: the full id or its first hexadecimal digits, in lower case. The name of a branch or tag that looks
                like an id does not count.

        Raises:
            NotFoundError: no commit has this id, or several have; GitHub does not say which of the two.
            PermanentError: the repository is not found.
        """

    def files(self, repository: Repository, sha: str, folder: str) -> dict[str, bytes]:
        """Name to content of the recognized files in a folder at a commit; empty if the folder does not exist.

        Raises:
            UnreadableError: a file or the folder is a symbolic link, a submodule or the like, or is too large.
            PermanentError: there is no such commit.
        """

    def regular_files(self, repository: Repository, sha: str, folder: str, stem: str) -> dict[str, bytes]:
        """Name to content of the files in a folder at a commit whose name is the stem and a suffix.

        The result is empty if no such file exists. An entry that is not a regular file is an error: a caller that reads
        rules must not mistake a symbolic link for "no rules".

        Raises:
            UnreadableError: a file or the folder is a symbolic link, a submodule or the like, or is too large.
            PermanentError: there is no such commit.
        """

    def ancestry(self, repository: Repository, base: str, commit: str) -> Relation:
        """The relation of a commit to a base.

        Args:
            repository: the repository of both.
            base: a full commit id; a name is refused, because a tag and a branch may have the same name.
            commit: a full commit id.

        Raises:
            PayloadError: one of them is not a full commit id.
            TransientError: GitHub cannot compare them now. That never counts as an answer.
        """

    def protected_branches(self, repository: Repository) -> Mapping[Ref, str]:
        """The branches that a branch protection or a ruleset protects now, with their commits.

        Raises:
            PermanentError: there are more than can be read.
        """

    def post_commit_status(self, repository: Repository, sha: str, status: Status) -> None:
        """Set a commit status."""

    def changed_paths(self, repository: Repository, before: str, after: str) -> list[str] | None:
        """The paths of the files in which a commit differs from an earlier one.

        Returns:
            None if GitHub cannot say: the later commit does not descend from the earlier one, or too many files differ.
        """
